"""Connections to the engine's PostgreSQL, transactions, and what their faults mean."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import DeadlockDetected, DiskFull, SerializationFailure, UniqueViolation
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from imgsync.adapters.procrastinate.schema import make_schema
from imgsync.domain.errors import ImgsyncError, NoRoomError, StoreError, StoreUrlError

_T = TypeVar("_T")

SCHEME = "procrastinate"
_MOST_CONNECTIONS = 8
_CONFLICT_TRIES = 10
_LONGEST_PAUSE_SECONDS = 0.02
_TRUSTED_IDLE_SECONDS = 1.0
_SHORTEST_SHOWN_SECRET = 4
_PATIENCE = {
    "connect_timeout": "10",
    "tcp_user_timeout": "30000",
    "options": "-c lock_timeout=20s -c statement_timeout=30s"
    " -c idle_in_transaction_session_timeout=8s",
}
"""A server that hangs must not keep a worker from stopping, nor a process that is stopped in a
transaction keep its rows from others: it is ended well before they give up waiting. The URL's query
may say otherwise."""

_LONGEST_SECONDS = 45.0
"""A call is given up after it: past the server's own limits, it is the network that hangs."""

_LOOKS_SECONDS = 0.1


class Connection(AsyncConnection[DictRow]):
    """One whose work can be broken off at once.

    psycopg would ask the server to stop and wait for both to answer, for up to 10 seconds; whoever
    confirms a lease has less. The server ends the transaction once it finds its client gone.
    """

    broken_off = False

    async def wait(self, gen: PQGen[_T], *limits: Any, **named: Any) -> _T:
        if not limits:
            named.setdefault("interval", _LOOKS_SECONDS)
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, *limits, **named)
        except asyncio.CancelledError:
            self.broken_off = True
            self.pgconn.finish()
            raise


class Connections:
    """Few connections, made when they are needed, for one event loop at a time.

    Not psycopg's pool: one whose server cannot be reached waits, and does not say why.
    """

    def __init__(self, url: str) -> None:
        self._conninfo, self._secret, self.shown = _parsed(url)
        self._idle: list[tuple[Connection, float]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._making = asyncio.Lock()
        self._made = False
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Runs `work` in a transaction, and again where another host was first."""

        async def in_transaction(connection: Connection) -> _T:
            async with connection.transaction():
                return await work(connection)

        return await self.run_alone(in_transaction)

    async def run_alone(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The same for `work` of one statement, which is a transaction of its own."""
        for left in reversed(range(_CONFLICT_TRIES)):
            try:
                async with asyncio.timeout(_LONGEST_SECONDS), self._connection() as connection:
                    return await work(connection)
            except (UniqueViolation, DeadlockDetected, SerializationFailure) as error:
                if not left:
                    raise self._failure(error) from error
                # Not all at the same moment again.
                await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311
            except (psycopg.Error, OSError) as error:
                raise self._failure(error) from error
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """A call after it raises a StoreError."""
        self._closed = True
        await self._close_idle()

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop()[0].close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._closed:
            raise StoreError(f"The queue {self.shown} is closed")
        self._use_this_loop()
        async with self._places:
            connection = await self._open()
            try:
                yield connection
            finally:
                usable = connection.info.transaction_status is TransactionStatus.IDLE
                if usable and not self._closed:
                    self._idle.append((connection, time.monotonic()))
                else:
                    if connection.broken and not connection.broken_off:
                        await self._close_idle()  # which have lost their server too
                    await connection.close()

    def _use_this_loop(self) -> None:
        """A program may run one loop after another; a connection belongs to one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            for connection, _ in self._idle:
                connection.pgconn.finish()
            self._idle.clear()
            self._places = asyncio.Semaphore(_MOST_CONNECTIONS)
            self._making = asyncio.Lock()
            self._loop = loop

    async def _open(self) -> Connection:
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < _TRUSTED_IDLE_SECONDS or await _answers(connection):
                return connection
            await connection.close()
        made = await Connection.connect(self._conninfo, autocommit=True, row_factory=dict_row)
        try:
            async with self._making:
                if not self._made:
                    await make_schema(made)
                    self._made = True
        except BaseException:
            await made.close()
            raise
        return made

    def _failure(self, error: psycopg.Error | OSError) -> ImgsyncError:
        silent = isinstance(error, TimeoutError)
        line = "it does not answer" if silent else " ".join(str(error).split())
        if len(self._secret) >= _SHORTEST_SHOWN_SECRET:
            line = line.replace(self._secret, "***")
        if isinstance(error, DiskFull):
            return NoRoomError(f"No room for the queue {self.shown}: {line}")
        return StoreError(f"Cannot use the queue {self.shown}: {line}")


async def _answers(connection: Connection) -> bool:
    try:
        await connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _parsed(url: str) -> tuple[str, str, str]:
    """What psycopg connects by, the password, and the URL that may be shown.

    The text of a URL that cannot be parsed is never shown, as nobody knows where its password is.
    """
    wrong = StoreUrlError(
        f"the URL is not of the form {SCHEME}://USER:PASSWORD@HOST:PORT/DATABASE"
        " (in a password, '@' and '/' are written %40 and %2F)"
    )
    rest = url.partition(":")[2]
    try:
        known = conninfo_to_dict(f"postgresql:{rest}")
    except psycopg.Error:
        raise wrong from None
    host, port, name = (f"{known.get(field) or ''}" for field in ("host", "port", "dbname"))
    # Of a password with a '@' or a '/' in it, a part would be taken for one of these.
    misread = "@" in host + name or (not port.replace(",", "0").isdecimal() and port)
    if misread or not rest.startswith("//"):
        raise wrong
    user = f"{known['user']}@" if known.get("user") else ""
    at = "" if host.startswith("/") else f"{host}:{port}" if port else host
    options = f"{_PATIENCE['options']} {known.get('options') or ''}"  # of two, the later counts
    conninfo = make_conninfo("", **{**_PATIENCE, **known, "options": options})
    return conninfo, f"{known.get('password') or ''}", f"{SCHEME}://{user}{at}/{name}"
