"""One HTTP request and its answer: counts bytes, adds headers, and cuts the connection.

Plain ASGI, where the rest is Starlette's: no class of Starlette knows when the last bytes of an
answer go out, and BaseHTTPMiddleware passes them on by a task of its own, later than that. An HTTP
server refuses what a fault must do: a length that lies, a half answer that looks whole, two
answers to one request. These go past it, to the connection.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moysklad_emulator.answers import error_answer
from moysklad_emulator.connections import Connections
from moysklad_emulator.errors import injected_error
from moysklad_emulator.faults import WITHOUT_BODY, Fault, Faults, Where
from moysklad_emulator.wire import Answer

_DRAIN_FACTOR = 4
_UNSENT_BYTES = 1_000_000
_HOLD_POLL_SECONDS = 0.005


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
        headers: "AddedHeaders",
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
        self._fault: Fault | None = None
        self._holds: Callable[[int], bool] = lambda _: False
        self._start: Message = {}
        self._body = bytearray()

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
        self._holds = fault.holds
        await self._while_held()
        if fault.drop_connection:
            await self._drop()
        elif fault.never:
            await self._drain()
            await self._wait_for_disconnect()
        elif fault.raw is not None:
            await self._send_raw(fault.raw)
        else:
            return await self._answer_with(fault)
        return True

    async def _answer_with(self, fault: Fault) -> bool:
        self._fault, self._cut_after = fault, fault.drop_after_bytes
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

    async def _while_held(self) -> None:
        # It is another thread that releases, which cannot wake this loop.
        while self._holds(self.bytes_in):  # noqa: ASYNC110
            await asyncio.sleep(_HOLD_POLL_SECONDS)

    async def receive(self) -> Message:
        await self._while_held()
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
        if self._fault is not None and self._fault.shapes_answer:
            await self._collect(message, self._fault)
        elif message["type"] == "http.response.start":
            await self._send_start(message)
        elif self._cut_after is None:
            await self._send_body(message)
        else:
            await self._send_cut_body(message, self._cut_after)

    async def _send_start(self, message: Message) -> None:
        # A client that still sends does not see the answer: read what an error has left unread.
        await self._drain()
        self.status = message["status"]
        headers = self._all_headers(message)
        if self._cut_after == 0:
            await self._drop()
            return
        if self.method == "HEAD" or headers.get("content-length") == "0":
            self._end()  # a client has the whole answer with its headers
        await self._send({**message, "headers": headers.raw})

    def _all_headers(self, start: Message) -> MutableHeaders:
        """The answer's headers: of the application, of the gate, of the fault."""
        headers = MutableHeaders(raw=list(start.get("headers", ())))
        headers.update(self._headers(self.scope))
        if self._fault is not None:
            headers.update({n: _in_latin_1(value) for n, value in self._fault.headers.items()})
        return headers

    async def _collect(self, message: Message, fault: Fault) -> None:
        """Keeps an answer until it is whole, then sends it in the fault's shape."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        await self._drain()
        headers = dict(self._all_headers(self._start).items())
        answer = Answer(self._start["status"], headers, bytes(self._body)).changed_by(fault)
        self.status = answer.status
        await self._send_shaped(answer, fault)

    async def _send_shaped(self, answer: Answer, fault: Fault) -> None:
        self._dropped = True  # nothing more goes through the HTTP protocol
        client = self.scope["client"]
        if not fault.endless and fault.bytes_per_second is None:
            self._end()
        for _ in range(2 if fault.twice else 1):
            self._connections.write(client, answer.head(fault))
            if self.method != "HEAD":
                await self._send_parts(answer, fault)
        self._end()
        if fault.twice:
            self._connections.close_when_spoken_to(client)
        else:
            self._connections.close(client)

    async def _send_parts(self, answer: Answer, fault: Fault) -> None:
        client, limit = self.scope["client"], fault.drop_after_bytes
        for part in answer.parts(fault):
            data = part if limit is None else part[: max(0, limit - self.bytes_out)]
            if not self._connections.write(client, data):
                return
            self.bytes_out += len(data)
            if limit is not None and self.bytes_out >= limit:
                return
            await self._keep_pace(fault.bytes_per_second)

    async def _keep_pace(self, bytes_per_second: float | None) -> None:
        """Waits between two parts, and for a client that reads slowly."""
        await asyncio.sleep(0 if bytes_per_second is None else 1 / bytes_per_second)
        # The transport tells its buffer's size, but only a protocol of its own when it shrinks.
        while self._connections.unsent(self.scope["client"]) > _UNSENT_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _send_raw(self, data: bytes) -> None:
        await self._drain()
        self._dropped = True
        self._end()
        self._connections.write(self.scope["client"], data)
        self._connections.close(self.scope["client"])

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


AddedHeaders = Callable[[Scope], Mapping[str, str]]
"""Headers that an answer to a request gets beside its own, as they are when it begins."""


class ExchangeMiddleware:
    """Makes an `Exchange` of every request, which those within find in its state.

    It has to stand outside of Starlette's handlers of errors, whose answers count too. Knows HTTP
    alone: the server has neither websockets nor a lifespan.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        connections: Connections,
        drain_limit: int,
        on_end: Callable[[Exchange], None],
        headers: AddedHeaders = lambda _: {},
    ) -> None:
        self._app = app
        self._connections = connections
        self._drain_limit = drain_limit
        self._on_end = on_end
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(
            scope,
            receive,
            send,
            self._connections,
            drain_limit=self._drain_limit,
            on_end=self._on_end,
            headers=self._headers,
        )
        scope.setdefault("state", {})["exchange"] = exchange
        await exchange.conclude(exchange.run(self._app))


class FaultMiddleware:
    """Lets a request meet its fault, if there is one, instead of or before its endpoint."""

    def __init__(self, app: ASGIApp, *, faults: Faults, where: Where) -> None:
        self._app = app
        self._faults = faults
        self._where: Where = where

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["state"]["exchange"]
        fault = self._faults.take(self._where, exchange.method, exchange.path)
        if fault is None or not await exchange.inject(fault):
            await self._app(scope, receive, send)


def _in_latin_1(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")


def _fault_response(status: int, fault: Fault) -> Response:
    if status in WITHOUT_BODY:
        return Response(status_code=status)
    if fault.code is None:
        return Response(f"{status}\n", status, media_type="text/plain")
    return error_answer(injected_error(status, fault.code))
