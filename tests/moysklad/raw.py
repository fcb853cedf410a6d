"""A server on 127.0.0.1 that answers bytes as they are given, and notes what it received."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[["Received"], AsyncIterator[bytes]]
"""The bytes of one answer, status line included; the connection closes where they lack a length."""


@dataclass
class Received:
    """One request; `body` grows while it comes, `complete` once Content-Length bytes are there."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)

    @property
    def complete(self) -> bool:
        return len(self.body) == int(self.headers.get("content-length", "0"))


@dataclass
class RawServer:
    """`answers` holds the answers to a path, the last of which stays; `requests` what came."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, *answers: Answer | bytes) -> None:
        self.answers[path] = [a if callable(a) else plain(a) for a in answers]

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if task := asyncio.current_task():
            self.handlers.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        request = Received(method, path, headers)
        self.requests.append(request)
        while not request.complete:
            data = await reader.read(65536)
            if not data:
                return False
            request.body += data
        waiting = self.answers[path.partition("?")[0]]
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        first = b""
        async for data in answer(request):
            first = first or data
            writer.write(data)
            await writer.drain()
        head_end = first.partition(b"\r\n\r\n")[0].lower()
        return b"content-length" in head_end or b"chunked" in head_end


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    served = RawServer()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for handler in served.handlers:
            handler.cancel()
        await asyncio.gather(*served.handlers, return_exceptions=True)


def plain(data: bytes) -> Answer:
    async def answer(_: Received) -> AsyncIterator[bytes]:
        yield data

    return answer


def response(
    body: bytes = b"", status: int = 200, *, length: int | None = -1, **headers: str
) -> bytes:
    """An answer; `length`: its Content-Length, the true one by default, None for none."""
    lines = [f"HTTP/1.1 {status} x"]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_response(value: Any, status: int = 200, **headers: str) -> bytes:
    return response(json.dumps(value).encode(), status, length=-1, **headers)


def gzipped(body: bytes, status: int = 200) -> bytes:
    return response(gzip.compress(body, mtime=0), status, Content_Encoding="gzip")


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Answer:
    """The head, then the piece for ever."""

    async def answer(_: Received) -> AsyncIterator[bytes]:
        yield head
        while True:
            yield piece
            await asyncio.sleep(pause)

    return answer
