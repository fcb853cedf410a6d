"""A TCP relay before a PostgreSQL server, which can be cut or made to hang."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from sqlalchemy import URL, make_url

_CHUNK = 65_536


class Relay:
    """Forwards every connection to the server of `url`. `url_of`: the same database through it.

    A hanging relay takes connections and bytes and lets none through, as a network that has lost
    its way; a cut one closes what is open and what comes.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._cut = False
        self.port = 0

    def url_of(self) -> str:
        query = {k: v for k, v in self._target.query.items() if k != "host"}
        through: URL = self._target.set(host="127.0.0.1", port=self.port, query=query)
        return through.render_as_string(hide_password=False)

    def hang(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.clear)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._close_all)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        self._cut = False
        self._flows.set()

    def _close_all(self) -> None:
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

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
        ends = {writer, server[1]}
        self._writers |= ends
        try:
            await asyncio.gather(self._pump(reader, server[1]), self._pump(server[0], writer))
        except OSError:
            pass  # an end has gone, and with it the connection
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK):
                await self._flows.wait()
                sink.write(chunk)
                await sink.drain()
        sink.transport.abort()

    async def _listen(self, ready: threading.Event) -> None:
        self._flows.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await self._stop.wait()
        self._flows.set()
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
