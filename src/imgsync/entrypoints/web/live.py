"""Tells the pages that are open when they may show something else, by server-sent events.

An event carries nothing but that something has changed: what it is, the page asks for anew, so that
a listener is told no more than it may see.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from imgsync.domain.errors import ImgsyncError
from imgsync.entrypoints.web import sessions
from imgsync.entrypoints.web.login import COOKIE

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.web")
LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 30.0
"""After looks that failed."""
HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 600.0
"""Then the browser asks anew, so that what nobody reads any more ends."""
MOST_LISTENERS = 100
_AGAIN_MS = 3000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(slots=True)
class Watch:
    """What all listeners share: one look at what there is each second, none while nobody
    listens. It keeps the last alone, so a listener that does not read holds up nobody."""

    look: Callable[[], Awaitable[str]]
    seconds: float = LOOK_SECONDS
    seen: str | None = None
    _listeners: int = 0
    _looking: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def listeners(self) -> int:
        return self._listeners

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self._listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                looking, self._looking, self.seen = self._looking, None, None
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def changed(self, told: str | None) -> str:
        """What is seen, once it is another than `told`."""
        while self.seen is None or self.seen == told:
            await self._changed.wait()
        return self.seen

    async def _look(self) -> None:
        wait = self.seconds
        while True:
            try:
                seen = await self.look()
            except ImgsyncError as error:
                wait = min(wait * 2, LONGEST_LOOK_SECONDS)
                _log.debug("open pages learn nothing for %.0f s: %s", wait, error)
            except Exception:
                wait = LONGEST_LOOK_SECONDS
                _log.exception("open pages learn nothing for %.0f s", wait)
            else:
                wait = self.seconds
                if seen != self.seen:
                    self.seen = seen
                    # Whoever waits is woken; who comes later waits for the next.
                    self._changed, was = asyncio.Event(), self._changed
                    was.set()
            await asyncio.sleep(wait)


def routes(container: "Container") -> list[BaseRoute]:
    async def look() -> str:
        return f"{await container.overview().fingerprint()} {container.syncing().moves}"

    watch = Watch(look)

    async def live(request: Request) -> Response:
        if watch.listeners >= MOST_LISTENERS:
            # Of all answers this one alone tells a browser not to ask again.
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        told = request.headers.get("last-event-id")
        stopping: asyncio.Event | None = getattr(request.app.state, "stopping", None)
        events = stream(container, watch, request.cookies.get(COOKIE), told, stopping)
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)

    return [Route("/live", live)]


async def stream(
    container: "Container",
    watch: Watch,
    cookie: str | None,
    told: str | None,
    stopping: asyncio.Event | None,
) -> AsyncGenerator[str, None]:
    """What a browser reads. It ends when the server stops, when the session does, and by itself."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + LONGEST_SECONDS
    yield f"retry: {_AGAIN_MS}\n\n"
    async with watch.listening():
        if watch.listeners > MOST_LISTENERS:  # of several that came at once
            return
        while loop.time() < ends:
            change = asyncio.ensure_future(watch.changed(told))
            stop = asyncio.ensure_future(stopping.wait() if stopping else asyncio.Event().wait())
            try:
                await asyncio.wait(
                    (change, stop),
                    timeout=HEARTBEAT_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if stop.done():
                    return
                if not change.done():
                    if not await _may_stay(container, cookie):
                        return
                    yield ": nothing new\n\n"
                    continue
                told = change.result()
            finally:
                change.cancel()
                stop.cancel()
            yield f"id: {told}\nevent: changed\ndata: changed\n\n"


async def _may_stay(container: "Container", cookie: str | None) -> bool:
    """Whether whoever listens would still be let in."""
    try:
        gate = await sessions.gate(container.web_secrets(), cookie)
    except ImgsyncError:
        return False
    return gate.password_hash is None or gate.session(cookie) is not None
