"""A database: SQLite by default, PostgreSQL for several hosts; its threads, transactions, time."""

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from imgsync.adapters.sql.migrations import HEAD
from imgsync.adapters.sql.schema import noted_revision, upgrade
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.domain.errors import ImgsyncError, NoRoomError, StoreError, StoreUrlError
from imgsync.domain.ports.clock import Clock

_T = TypeVar("_T")
_Job = Callable[[], Callable[[], None]]
"""Does something and returns what tells its outcome."""

_MOST_THREADS = 12
_TRIES = 10
_READS = "imgsync_reads"
"""Execution option of a transaction that writes nothing."""

_NOW = {
    # As DateTime is stored: six digits, so that times compare as text.
    "sqlite": text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now') || '000' AS now"),
    # Not now(): that is the start of the transaction, which may have waited for a lock.
    "postgresql": text("SELECT clock_timestamp() AS now"),
}
_FULL_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_FULL_POSTGRESQL = "53100"
_DEADLOCK = "40P01"
_BUSY_SECONDS = 30.0
_SQLITE_HEADER = b"SQLite format 3\x00"
_PATIENCE = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "options": "-c lock_timeout=20s -c statement_timeout=30s"
    " -c idle_in_transaction_session_timeout=8s",
}
"""A server that hangs must not keep a worker from stopping, nor a process that is stopped in a
transaction keep its rows from others: it is ended well before they give up waiting. The URL's query
may say otherwise."""


class Database:
    """A database whose transactions run in threads of their own, one hop for each.

    SQLAlchemy's asyncio would hop for every statement on SQLite. The threads are daemons, so that
    a database that hangs keeps no process from ending, as asyncio's own threads would.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._threads = Threads(_MOST_THREADS)

    @classmethod
    def open(cls, url: str) -> "Database":
        """The database at a URL of `create_engine_for`, its tables made, or brought up to date.

        Not async, as it is done once, before anything else. Processes that start at once wait for
        one another. One query where nothing is to be done. StoreError for a database that cannot
        be used, or whose revision this version does not know.
        """
        engine = create_engine_for(url)
        try:
            create_schema(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    async def run(self, work: Callable[[Connection], _T], *, reads: bool = False) -> _T:
        """The result of `work` in a transaction; again where another host was first with a key.

        Cancelled, it leaves the transaction alone, which is committed or not. One that only `reads`
        takes no lock of SQLite's: a process stopped in the midst of it keeps nobody waiting.
        StoreError, or NoRoomError where the disk is full; what else `work` raises comes as it is.
        """
        return await self._threads.run(partial(self._run, work, reads))

    async def put(self, table: Table, values: Mapping[str, Any]) -> None:
        """Writes the whole row, replacing the one with its primary key."""
        statement = self.upsert(table, values)
        await self.run(lambda connection: connection.execute(statement))

    def upsert(self, table: Table, values: Mapping[str, Any]) -> Executable:
        """What `put` does, for a transaction that does more."""
        insert = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        keys = [column.name for column in table.primary_key]
        new = insert(table).values(values)
        return new.on_conflict_do_update(
            index_elements=keys,
            set_={name: new.excluded[name] for name in values if name not in keys},
        )

    def close(self) -> None:
        """Ends the threads that are idle and lets go of the connections."""
        self._threads.close()
        self.engine.dispose()

    def _run(self, work: Callable[[Connection], _T], reads: bool) -> _T:
        for left in reversed(range(_TRIES)):
            try:
                with self.engine.execution_options(**{_READS: reads}).begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if not left or not _is_conflict(error):
                    raise failure(self.engine, error) from error
        raise AssertionError("unreachable")


class DatabaseClock:
    """Implements the port `StoreClock`; each call asks the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        return await self._database.run(now_of, reads=True)


class Threads:
    """At most so many daemon threads, each made when the others are busy."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._change = threading.Lock()
        self._made = 0
        self._closed = False

    async def run(self, work: Callable[[], _T]) -> _T:
        result: Future[_T] = Future()

        def job() -> Callable[[], None]:
            if not result.set_running_or_notify_cancel():
                return lambda: None
            try:
                return partial(result.set_result, work())
            except BaseException as error:
                return partial(result.set_exception, error)

        self._submit(job)
        return await asyncio.wrap_future(result)

    def close(self) -> None:
        with self._change:
            self._closed = True
            for _ in range(self._made):
                self._jobs.put(None)

    def _submit(self, job: _Job) -> None:
        with self._change:
            if self._closed:
                raise StoreError("The database is closed")
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and self._left:
                self._left -= 1
                self._made += 1
                threading.Thread(target=self._work, name="database", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            tell = job()
            # Before it is told: whoever waits for it may come at once with the next.
            self._idle.release()
            tell()
            del job, tell  # with what they hold, while this waits for the next


def create_schema(engine: Engine) -> None:
    """Makes the tables, or brings those of an earlier version up to date."""
    if _revision(engine) == HEAD:
        return
    try:
        with engine.begin() as connection:
            upgrade(connection)
    except SQLAlchemyError as error:
        raise failure(engine, error) from error


def _revision(engine: Engine) -> str | None:
    try:
        with engine.execution_options(**{_READS: True}).begin() as connection:
            return noted_revision(connection)
    except SQLAlchemyError as error:
        no_such_table = engine.dialect.name == "sqlite" or isinstance(error, ProgrammingError)
        if not no_such_table:
            raise failure(engine, error) from error
        return None  # what else it may be on SQLite shows in what follows


def now_of(connection: Connection, clock: Clock | None = None) -> datetime:
    """The database's time, which all hosts share; that of `clock` in tests."""
    if clock is not None:
        return clock.now()
    query = _NOW[connection.dialect.name].columns(now=UtcDateTime)
    now: datetime = connection.execute(query).scalar_one()
    return now


def failure(engine: Engine, error: SQLAlchemyError) -> ImgsyncError:
    """The error of the domain for one of the database."""
    reason = getattr(error, "orig", None) or error
    line = " ".join(str(reason).split())
    # The query of a URL may hold a password too.
    shown = engine.url.set(query={}).render_as_string(hide_password=True)
    if _is_full(reason):
        return NoRoomError(f"No room for the database {shown}: {line}")
    if isinstance(error, IntegrityError):
        return StoreError(f"The database {shown} refuses the change: {line}")
    return StoreError(f"Cannot use the database {shown}: {line}")


def _is_full(reason: BaseException) -> bool:
    if isinstance(reason, sqlite3.Error):
        return getattr(reason, "sqlite_errorcode", None) in _FULL_SQLITE
    return getattr(reason, "sqlstate", None) == _FULL_POSTGRESQL


def _is_conflict(error: SQLAlchemyError) -> bool:
    """Whether another host was in the way, as with the same keys in another order."""
    deadlock = getattr(getattr(error, "orig", None), "sqlstate", None) == _DEADLOCK
    return deadlock or isinstance(error, IntegrityError)


def create_engine_for(url: str) -> Engine:
    """Engine for ``sqlite:///file`` or ``postgresql://…``.

    StoreUrlError for any other URL, StoreError where the driver is missing. An SQLite file is
    made with its folder, readable by its owner only, as it holds tokens.
    """
    try:
        parsed = make_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                return _sqlite(parsed)
            case "postgresql" | "postgres":
                return _postgresql(parsed)
            case other:
                raise StoreUrlError(f"'{other}' is neither sqlite nor postgresql")
    except (ArgumentError, ValueError):  # of a URL that is none, or of a value in its query
        raise StoreUrlError("not a database URL") from None


def _sqlite(url: URL) -> Engine:
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or url.host or url.username:
        raise StoreUrlError("an SQLite database needs a file, such as sqlite:///q.db")
    path = Path(name).expanduser()
    _check_file(path)
    make_private(path)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    # Of a password with a '@' in it, the rest would be taken for one of these, and shown.
    if "@" in f"{url.host}{url.database}":
        raise StoreUrlError(
            "not a database URL (in a password, '@' and '/' are written %40 and %2F)"
        )
    limits = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    if own := url.normalized_query.get("options"):
        # Of two values of a parameter the later counts: the URL's, and ours where it has none.
        limits["options"] = " ".join((str(_PATIENCE["options"]), *own))
        url = url.difference_update_query(["options"])
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=limits
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the package '{error.name}': pip install 'imgsync[postgresql]'"
        ) from error


def _check_file(path: Path) -> None:
    """StoreError for what is there and is no SQLite database; nothing is touched before."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise StoreError(f"The database {path} is {_kind(mode)}, not a file")
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_HEADER))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(f"Cannot read the database file {path}: {error.strerror}") from error
    if head and head != _SQLITE_HEADER:
        raise StoreError(f"The file {path} is not a database of SQLite; it was left as it is")


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_one, name in kinds if is_one(mode)), "a device")


def make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        present = path.stat()
        if present.st_mode & 0o077 and present.st_uid == os.geteuid():
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"Cannot make the database file {path}: {error.strerror}") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _use_write_ahead_log(cursor: Any) -> None:
    """Waits for others that start at the same time: SQLite's own time-out does not cover this."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """Takes the write lock at once: a lock that is upgraded later would fail, not wait."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
