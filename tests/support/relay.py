"""A TCP relay before a PostgreSQL server, which can be cut, lost, slow, or made to hang."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

from sqlalchemy import URL, make_url

_CHUNK = 65_536
_TCP_REPAIR = 19
"""Linux's option by which a socket ends without a word to the other end; needs CAP_NET_ADMIN."""


class Relay:
    """Forwards every connection to the server of `url`. `url_of`: the same database through it.

    A hanging relay takes connections and bytes and lets none through, as a network that has lost
    its way; a slow one lets all through, late; a cut one closes what is open and what comes. What
    is lost ends at one side only, as where a host has died or a router has forgotten: neither end
    is told, and new connections are as good as ever.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._cut = False
        self._delay = 0.0
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._lost: set[asyncio.StreamWriter] = set()
        self.port = 0

    @staticmethod
    def can_lose() -> bool:
        """Whether this machine lets a process end a connection without a word."""
        with socket.socket() as one:
            try:
                one.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            except OSError:
                return False
        return True

    def url_of(self) -> str:
        query = {k: v for k, v in self._target.query.items() if k != "host"}
        through: URL = self._target.set(host="127.0.0.1", port=self.port, query=query)
        return through.render_as_string(hide_password=False)

    def hang(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.clear)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._close_all)

    def slow(self, delay: float) -> None:
        """Each piece that either end sends comes `delay` seconds later."""
        self._delay = delay

    def lose(self) -> None:
        """The clients' connections are gone, without a word to either end; what a client sends, or
        the kernel asks to see whether it is still there, is told so. OSError: see `can_lose`."""
        asyncio.run_coroutine_threadsafe(self._forget_all(), self._loop).result(10)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        self._cut = False
        self._delay = 0.0
        self._flows.set()

    def _close_all(self) -> None:
        self._cut = True
        for pair in self._pairs.items():
            self._abort(*pair)

    async def _forget_all(self) -> None:
        for client, server in self._pairs.items():
            if client.transport.is_closing():
                continue
            client.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            self._lost |= {client, server}
            client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        host, port = self._target.query.get("host"), self._target.port or 5432
        try:
            if isinstance(host, str) and host.startswith("/"):
                server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                server = await asyncio.open_connection(self._target.host, port)
        except OSError:  # the server is down
            writer.transport.abort()
            return
        self._pairs[writer] = server[1]
        try:
            await asyncio.gather(self._pump(reader, server[1]), self._pump(server[0], writer))
        except OSError:
            pass  # an end has gone, and with it the connection
        finally:
            del self._pairs[writer]
            self._abort(writer, server[1])

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flows.wait()
                if sink not in self._lost:
                    sink.write(chunk)
                    await sink.drain()
        self._abort(sink)

    def _abort(self, *ends: asyncio.StreamWriter) -> None:
        for end in ends:
            if end not in self._lost:
                end.transport.abort()

    async def _listen(self, ready: threading.Event) -> None:
        self._flows.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await self._stop.wait()
        self._flows.set()
        for end in self._lost:
            end.transport.abort()
        self._close_all()

    def _run(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(ready))
        if left := asyncio.all_tasks(self._loop):  # which end with their connections
            self._loop.run_until_complete(asyncio.wait(left, timeout=5))
        self._loop.close()

    @contextlib.contextmanager
    def running(self) -> Iterator["Relay"]:
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
