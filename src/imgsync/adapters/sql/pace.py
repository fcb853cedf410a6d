"""The pace of credentials, kept where all processes that use them find it.

It is worth a few seconds, so it costs no flush to the disk: SQLite has a file of its own for it,
as a worker's transactions would wait for the disk under the lock of the other; PostgreSQL has an
unlogged table, which no migration has to know.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from imgsync.adapters.sql.database import Database, make_private
from imgsync.adapters.sql.threads import Threads
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.pace import PaceStore, Step, T
from imgsync.uptime import uptime

_BUSY_SECONDS = 1.5
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLE = "CREATE TABLE IF NOT EXISTS paces (name TEXT PRIMARY KEY, state TEXT NOT NULL)"
_UNLOGGED = _TABLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE")


def pace_store(database: Database) -> PaceStore:
    """Where the pace is kept for those that share a database."""
    file = database.engine.url.database
    if database.dialect == "sqlite" and file is not None:
        return FilePaces(Path(f"{file}-pace"))
    return DatabasePaces(database)


class FilePaces:
    """Implements `PaceStore` for the processes of this host: an SQLite file without durability.

    Time is that since the host was started, which all its processes share.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = uptime) -> None:
        self._path = path
        self._clock = clock
        self._threads = Threads(1)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    async def change(self, key: str, step: Step[T]) -> T:
        return await self._threads.run(partial(self._change, key, step))

    async def close(self) -> None:
        await self._threads.run(self._shut)
        self._threads.close()

    def _change(self, key: str, step: Step[T]) -> T:
        try:
            connection = self._open()
            with _transaction(connection):
                row = connection.execute("SELECT state FROM paces WHERE name = ?", (key,))
                found = row.fetchone()
                text, result = step(found[0] if found else None, self._clock())
                connection.execute("REPLACE INTO paces VALUES (?, ?)", (key, text))
        except (sqlite3.Error, OSError) as error:
            self._shut()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                self._remove()
            raise StoreError(f"Cannot use {self._path}: {error}") from error
        return result

    def _remove(self) -> None:
        """A process that was killed in the midst of a write, or the power, has left the file such
        that nobody could ever use it again: the next makes it anew."""
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._file:  # else another has made it anew already
                self._path.unlink()

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._file != _identity(self._path):  # it was removed: others make it anew
            self._shut()
        if self._connection is None:
            make_private(self._path)
            self._file = _identity(self._path)
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            # Not a write-ahead log: its two files more gain nothing for one short row.
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_TABLE)
        return self._connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class DatabasePaces:
    """Implements `PaceStore` for all hosts of a PostgreSQL database, by its time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made = False

    async def change(self, key: str, step: Step[T]) -> T:
        if not self._made:
            await self._database.run(lambda connection: connection.exec_driver_sql(_UNLOGGED))
            self._made = True
        try:
            return await self._database.run(partial(_change_row, key, step), alone=True)
        except StoreError:
            self._made = False  # it may have been dropped
            raise

    async def close(self) -> None:
        """The database is closed by whoever opened it."""


def _change_row(key: str, step: Step[T], connection: Connection) -> T:
    run = connection.exec_driver_sql
    query = "SELECT state FROM paces WHERE name = %s FOR UPDATE"
    found = run(query, (key,)).scalar()
    if found is None:
        run("INSERT INTO paces VALUES (%s, '') ON CONFLICT DO NOTHING", (key,))
        found = run(query, (key,)).scalar_one()
    # Once the row is ours: waiting for it takes time.
    now = run("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
    text, result = step(found or None, now)
    run("UPDATE paces SET state = %s WHERE name = %s", (text, key))
    return result
