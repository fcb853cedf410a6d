"""One HTTP request and its answer: counts bytes, adds headers, and cuts the connection."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgsync.adapters.emulator.answers import error_answer
from imgsync.adapters.emulator.connections import Connections
from imgsync.adapters.emulator.errors import injected_error
from imgsync.adapters.emulator.faults import Fault

_DRAIN_FACTOR = 4


class Exchange:
    """Wraps ASGI's receive and send.

    `on_end` is called once, before the last bytes of the answer go out, so that a client that has
    the answer sees its effects (counters, free slots).
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        connections: Connections,
        *,
        drain_limit: int,
        on_end: Callable[["Exchange"], None],
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.scope = scope
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self._receive = receive
        self._send = send
        self._connections = connections
        self._drain_limit = drain_limit * _DRAIN_FACTOR
        self._on_end = on_end
        self._headers = headers
        self._body_received = False
        self._ended = False
        self._dropped = False
        self._cut_after: int | None = None

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    async def run(self, app: ASGIApp) -> None:
        """Lets `app` (or a response) answer."""
        await app(self.scope, self.receive, self.send)

    async def inject(self, fault: Fault) -> bool:
        """Carries out a fault; True where that was the whole answer."""
        await asyncio.sleep(fault.delay)
        if fault.drop_connection:
            await self._drop()
            return True
        self._cut_after = fault.drop_after_bytes
        if fault.status is None:
            return False
        await self.run(_fault_response(fault.status, fault))
        return True

    async def conclude(self, work: Awaitable[None]) -> None:
        """Awaits `work`; that the client leaves or the server stops meanwhile is no error."""
        with contextlib.suppress(ClientDisconnect, asyncio.CancelledError):
            try:
                await work
            finally:
                self._end()
            if self._dropped:
                await self._wait_for_disconnect()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            self._body_received = not message.get("more_body", False)
        else:
            self._body_received = True
        return message

    async def send(self, message: Message) -> None:
        if self._dropped:
            return
        if message["type"] == "http.response.start":
            await self._send_start(message)
        elif self._cut_after is None:
            await self._send_body(message)
        else:
            await self._send_cut_body(message, self._cut_after)

    async def _send_start(self, message: Message) -> None:
        # A client that still sends does not see the answer: read what an error has left unread.
        await self._drain()
        extra = [(k.lower().encode(), v.encode()) for k, v in self._headers().items()]
        self.status = message["status"]
        start = {**message, "headers": [*message.get("headers", ()), *extra]}
        if self._cut_after == 0:
            await self._drop()
            return
        if self.method == "HEAD" or (b"content-length", b"0") in start["headers"]:
            self._end()  # a client has the whole answer with its headers
        await self._send(start)

    async def _send_body(self, message: Message) -> None:
        if self.method != "HEAD":
            self.bytes_out += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._end()
        await self._send(message)

    async def _send_cut_body(self, message: Message, left: int) -> None:
        body = message.get("body", b"")
        self._cut_after = left - len(body)
        if self._cut_after > 0:
            await self._send_body(message)
            return
        await self._send_body({**message, "body": body[:left], "more_body": True})
        self._dropped = True
        self._end()
        self._connections.close(self.scope["client"])

    async def _drop(self) -> None:
        self._dropped = True
        self._end()
        self._connections.abort(self.scope["client"])

    async def _drain(self) -> None:
        while not self._body_received and self.bytes_in < self._drain_limit:
            await self.receive()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)


def _fault_response(status: int, fault: Fault) -> Response:
    if fault.code is None:
        return Response(f"{status}\n", status, fault.headers, "text/plain")
    error = injected_error(status, fault.code)
    error.headers = dict(fault.headers)
    return error_answer(error)
