"""uvicorn as a part of a process that does more, in a thread of its own."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.domain.webhooks import RECEPTION_PATH
from imgsync.entrypoints.web.serving import app_of

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MOST_CONNECTIONS = 1000
_CROWDED = 500
"""Connections from which on those that ask for nothing make room for others: a process may have no
more than 1,024 files open by default."""

_ARRIVING_SECONDS = 30.0
"""Within which a request has to arrive, so that nobody holds a connection by sending slowly."""

_CLOSING_SECONDS = 3
_TURN_SECONDS = 0.00025
"""After which a thread that computes lets the next one go on. Who takes a webhook, and who stores
its event, waits for a turn after each call of the system and each statement, a dozen times for one
request: by Python's own 5 ms that is many times as long as all that it does, and by 1 ms still is.
What is computed takes no longer by it."""


class _Server(uvicorn.Server):
    """Leaves the signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Keeps strangers from holding all connections, which webhooks need. Of uvicorn's two it is the
    one that bounds the headers of a request."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= _CROWDED:
            idle = [one for one in self.connections if isinstance(one, _Protocol) and one._is_idle]
            if idle:
                min(idle, key=lambda one: one._since).transport.abort()
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def _is_idle(self) -> bool:
        return self.conn.their_state is h11.IDLE and not self.transport.is_closing()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_ARRIVING_SECONDS, self._late)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        # Whoever has an answer already, and is idle since, is ended by the server anyway.
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.transport.abort()


@dataclass(frozen=True, slots=True)
class Apart:
    """ASGI application for a loop of its own: what webhooks bring is taken there, whatever keeps
    the loop of the process busy. All else is answered in that one, where the parts of the program
    that pages need are at home."""

    app: ASGIApp
    home: asyncio.AbstractEventLoop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "POST" and scope["path"].startswith(RECEPTION_PATH):
            await self.app(scope, receive, send)
            return
        here = asyncio.get_running_loop()
        crossing = _done_in(here, receive), _done_in(here, send)
        await _done_in(self.home, self.app)(scope, *crossing)


def _done_in(
    loop: asyncio.AbstractEventLoop, function: Callable[_P, Awaitable[_T]]
) -> Callable[_P, Awaitable[_T]]:
    """The same for callers in another loop; cancelled, it is cancelled there."""

    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await function(*args, **kwargs)

    async def crossed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(call(*args, **kwargs), loop)
        )

    return crossed


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _TURN_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@dataclass(frozen=True, slots=True)
class WebPart:
    """The web server on a socket that listens already, which stays open. While it runs,
    `app.state.stopping` is the event that tells long answers to end, and `app.state.home` the loop
    in which all but webhooks is answered."""

    container: "Container"
    listening: socket.socket

    async def run(self, stop: asyncio.Event) -> None:
        app = app_of(self.container)
        app.state.stopping = stop
        app.state.home = asyncio.get_running_loop()
        # Made here, as two threads that ask for one at once would make two.
        container = self.container
        container.event_store(), container.web_secrets(), container.accounts()
        container.plugins(), container.meter()
        proxies = container.config().web_proxies
        server = _Server(
            uvicorn.Config(
                Apart(app, app.state.home),
                interface="asgi3",
                http=_Protocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        # A copy, as uvicorn closes what it has served, and may be begun again.
        sockets = [self.listening.dup()]

        async def stopped() -> None:
            await stop.wait()
            server.should_exit = True

        watching = asyncio.create_task(stopped())
        serving = asyncio.create_task(
            in_daemon_thread(lambda: asyncio.run(server.serve(sockets))), name="the thread"
        )
        try:
            with _short_turns():
                await asyncio.shield(serving)
        finally:
            if not serving.done():
                server.should_exit = server.force_exit = True
                await asyncio.wait((serving,), timeout=_CLOSING_SECONDS)
            await container.syncing().stop()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
