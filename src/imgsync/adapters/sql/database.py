"""A database: SQLite by default, PostgreSQL for several hosts; its threads, transactions, time."""

import os
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path
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
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from imgsync.adapters.sql.access import obstacle
from imgsync.adapters.sql.migrations import HEAD
from imgsync.adapters.sql.schema import noted_revision, upgrade
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.adapters.sql.threads import Call, Tell, Threads
from imgsync.domain.errors import ImgsyncError, NoRoomError, StoreError, StoreUrlError
from imgsync.domain.ports.clock import Clock

_T = TypeVar("_T")

_MOST_THREADS = 12
_MOST_WRITERS = {"sqlite": 1, "postgresql": 3}
"""Threads that write at once: SQLite has one write lock; on PostgreSQL calls that wait for a row of
another host must not keep all others waiting."""

_MOST_TOGETHER = 200
"""Calls in one transaction."""

_TRIES = 10
_GROUP_TRIES = 3
_IN_TRANSACTION, _IN_ERROR = 2, 3
"""States of a connection as libpq numbers them."""

_TIME = "imgsync_time"
"""Where a connection keeps the server's time while a transaction is young."""

_YOUNG_SECONDS = 0.2
_READS = "imgsync_reads"
"""Execution option of a transaction that writes nothing."""

# Not now(): that is the start of the transaction, which may have waited for a lock.
_NOW = text("SELECT clock_timestamp() AS now").columns(now=UtcDateTime)
_FULL_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_FORBIDDEN_SQLITE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_PRIMARY = 0xFF
"""Of an extended code of SQLite, the code that it is a kind of."""
_FULL_POSTGRESQL = "53100"
_DEADLOCK = "40P01"
_BUSY_SECONDS = 30.0
_POOL: dict[str, Any] = {"pool_size": _MOST_THREADS, "pool_use_lifo": True}
"""The connection used last is next, as it has its statements prepared."""

_SQLITE_HEADER = b"SQLite format 3\x00"
_PATIENCE = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    # Who waits for an answer sends nothing: only the kernel's question tells that nobody is there.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    # No statement is long enough for it to pay that the server compiles it.
    "options": "-c jit=off -c lock_timeout=20s -c statement_timeout=30s"
    " -c idle_in_transaction_session_timeout=8s",
}
"""A server that hangs must not keep a worker from stopping, nor a process that is stopped in a
transaction keep its rows from others: it is ended well before they give up waiting. The URL's query
may say otherwise."""


class Database:
    """A database whose transactions run in threads of their own, one hop for each.

    SQLAlchemy's asyncio would hop for every statement on SQLite. Writing calls that wait at the
    same time share a transaction. The threads are daemons, so that
    a database that hangs keeps no process from ending, as asyncio's own threads would.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_READS: True})
        self._threads = Threads(_MOST_THREADS)
        self._change = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._writers = 0

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

    async def run(
        self, work: Callable[[Connection], _T], *, reads: bool = False, alone: bool = False
    ) -> _T:
        """The result of `work` in a transaction; it is called again where another host was first
        with a key, or where the connection breaks before the commit.

        Calls that write and wait at the same time share a transaction, so that the disk is waited
        for once. An error of one of them is its alone; none is told as done before the commit, and
        where that fails, all have failed. One that is to be `alone` on PostgreSQL shares none, as
        it takes locks that others wait for.

        Cancelled, it leaves the transaction alone, which is committed or not. One that only `reads`
        takes no lock of SQLite's: a process stopped in the midst of it keeps nobody waiting.
        StoreError, or NoRoomError where the disk is full; what else `work` raises comes as it is.
        """
        if reads or (alone and self.dialect != "sqlite"):
            return await self._threads.run(partial(self._run, work, reads))
        self._threads.check()
        call = Call(work)
        self._waiting.append(call)
        # Later: what is ready in the loop at this moment comes into the same transaction.
        call.loop.call_soon(self._start_writer)
        result: _T = await call.future
        return result

    def run_now(self, work: Callable[[Connection], _T], *, reads: bool = False) -> _T:
        """As `run`, in this thread: for what is done once, before anything else."""
        return self._run(work, reads)

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
        """Ends the threads that are idle and lets go of the connections: of those that are in use,
        as a call may be that was cancelled, once they come back."""
        self._threads.close()
        event.listen(self.engine, "checkin", _close_late)
        self.engine.dispose()

    def _run(self, work: Callable[[Connection], _T], reads: bool = False) -> _T:
        for left in reversed(range(_TRIES)):
            try:
                return self._transaction(work, reads)
            except _BrokenError as broken:
                again = _is_conflict(broken.error) or broken.is_lost
                if not left or not again:
                    raise failure(self.engine, broken.error) from broken.error
        raise AssertionError("unreachable")

    def _transaction(self, work: Callable[[Connection], _T], reads: bool = False) -> _T:
        """_BrokenError for each error of the database; others come as they are."""
        stage = _Stage.BEGIN
        try:
            with (self._reader if reads else self.engine).begin() as connection:
                connection.info.pop(_TIME, None)
                stage = _Stage.WORK
                try:
                    result = work(connection)
                except BaseException:
                    _check_alive(connection, _IN_ERROR)
                    raise
                _check_alive(connection, _IN_TRANSACTION, _IN_ERROR)
                _check_whole(connection)
                stage = _Stage.COMMIT
            return result
        except SQLAlchemyError as error:
            raise _BrokenError(stage, error) from error

    def _start_writer(self) -> None:
        with self._change:
            if not self._waiting or self._writers >= _MOST_WRITERS[self.dialect]:
                return  # one that is at work will see it
            self._writers += 1
        try:
            self._threads.submit(self._write)
        except StoreError as error:
            with self._change:
                self._writers -= 1
                calls = self._next_group()
            for call in calls:
                call.end(error=error)
            Call.tell(calls)

    def _next_group(self) -> list[Call]:
        most = min(len(self._waiting), _MOST_TOGETHER)
        calls = [self._waiting.popleft() for _ in range(most)]
        return [call for call in calls if not call.future.cancelled()]

    def _write(self) -> Tell:
        """Writes group after group, until none waits."""
        while True:
            with self._change:
                if not self._waiting:
                    self._writers -= 1
                    return lambda: None
                calls = self._next_group()
            if len(calls) > 1:
                self._write_together(calls)
            for call in calls:
                if not call.done:
                    call.do(partial(self._run, call.work))
            Call.tell(calls)
            del calls  # with what they hold

    def _write_together(self, calls: Sequence[Call]) -> None:
        """Ends the calls, but not those that are to be done by themselves.

        First without savepoints, as they cost two statements for each call. Where one fails, all
        are rolled back, and done again with savepoints.
        """
        way = _one_by_one
        for _ in range(_GROUP_TRIES):
            ended: list[_Ended] = []
            try:
                self._transaction(partial(way, calls, ended))
            except _BrokenError as broken:
                if broken.is_lost:
                    continue  # the next connection is made anew
                if broken.stage is _Stage.WORK:
                    if way is _guarded:
                        return  # SQLite has rolled back all, as it does where the disk is full
                    way = _guarded
                    continue
                ended = [(call, None, broken.error) for call in calls]
            except BaseException:
                way = _guarded
                continue
            for call, result, error in ended:
                if isinstance(error, SQLAlchemyError):
                    reason = failure(self.engine, error)
                    reason.__cause__ = error
                    error = reason
                call.end(result, error)
            return


_Ended = tuple[Call, Any, BaseException | None]


def _one_by_one(calls: Sequence[Call], ended: list[_Ended], connection: Connection) -> None:
    ended += [(call, call.work(connection), None) for call in calls]


def _guarded(calls: Sequence[Call], ended: list[_Ended], connection: Connection) -> None:
    """Each behind a savepoint; without an end, those that another host was in the way of, which
    may wait for what this transaction holds."""
    for call in calls:
        savepoint = connection.begin_nested()
        try:
            result = call.work(connection)
        except BaseException as error:
            if connection.invalidated:
                raise
            savepoint.rollback()
            if not isinstance(error, SQLAlchemyError) or not _is_conflict(error):
                ended.append((call, None, error))
        else:
            savepoint.commit()
            ended.append((call, result, None))


class _Stage(Enum):
    BEGIN = auto()
    WORK = auto()
    COMMIT = auto()


class _BrokenError(Exception):
    """A transaction that came to this stage."""

    def __init__(self, stage: _Stage, error: SQLAlchemyError) -> None:
        super().__init__(stage)
        self.stage = stage
        self.error = error

    @property
    def is_lost(self) -> bool:
        """Whether the connection broke when certainly nothing was committed."""
        dead = isinstance(self.error, DBAPIError) and self.error.connection_invalidated
        return (dead or isinstance(self.error, _LostError)) and self.stage is not _Stage.COMMIT


class _LostError(SQLAlchemyError):
    """The server has ended the connection."""


def _check_alive(connection: Connection, *alive: int) -> None:
    """_LostError where the server has ended the connection, unless its state is `alive`.

    psycopg does not always say so: of a statement whose answer it was, it may tell nothing, as of
    an UPDATE that found no row. What follows from that is no answer of the database.
    """
    if _state(connection) in (None, *alive):
        return
    with suppress(SQLAlchemyError):
        if connection.exec_driver_sql("SELECT 1").scalar() == 1:
            return
    if not connection.invalidated:
        connection.invalidate()
    raise _LostError("the server has ended the connection")


def _state(connection: Connection) -> int | None:
    """As libpq has it; None where that tells nothing."""
    if connection.dialect.name == "sqlite" or connection.invalidated:
        return None
    state: int = connection.connection.dbapi_connection.pgconn.transaction_status  # type: ignore[union-attr]
    return state


def _check_whole(connection: Connection) -> None:
    """SQLAlchemyError where a statement has failed, whatever became of its error: a COMMIT would
    roll back all that was done, and PostgreSQL would call that a success."""
    if _state(connection) == _IN_ERROR:
        raise SQLAlchemyError("a statement of the transaction failed, and nobody said so")


class DatabaseClock:
    """Implements the port `StoreClock`; each call asks the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        return await self._database.run(now_of, reads=True)


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
    if connection.dialect.name == "sqlite":  # whose time is this host's, to the millisecond
        here = datetime.now(UTC)
        return here.replace(microsecond=here.microsecond // 1000 * 1000)
    asked = time.monotonic()
    known: tuple[float, datetime] | None = connection.info.get(_TIME)
    if known is not None and asked - known[0] < _YOUNG_SECONDS:
        return known[1]  # asked by another call of this transaction
    now: datetime = connection.execute(_NOW).scalar_one()
    connection.info[_TIME] = asked, now
    return now


_ASKS = "Is the server running "
_AGAIN = "connection failed: "


def failure(engine: Engine, error: SQLAlchemyError) -> ImgsyncError:
    """The error of the domain for one of the database."""
    reason = getattr(error, "orig", None) or error
    line = plain_line(reason)
    # The query of a URL may hold a password too.
    shown = engine.url.set(query={}).render_as_string(hide_password=True)
    if _is_full(reason):
        return NoRoomError(f"No room for the database {shown}: {line}")
    if isinstance(error, IntegrityError):
        return StoreError(f"The database {shown} refuses the change: {line}")
    why = obstacle(Path(engine.url.database or "")) if _is_forbidden(reason) else None
    return StoreError(f"Cannot use the database {shown}: {line}" + (f"; {why}" if why else ""))


def plain_line(reason: BaseException) -> str:
    """What a database said, in one line without what its client asks and repeats."""
    lines = [line.strip() for line in str(reason).splitlines()]
    said = " ".join(line for line in lines if not line.startswith(_ASKS))
    return " ".join(said.removeprefix(_AGAIN).split())


def _is_forbidden(reason: BaseException) -> bool:
    """Whether SQLite may not use the file, or one beside it."""
    code = getattr(reason, "sqlite_errorcode", None)
    return code is not None and code & _PRIMARY in _FORBIDDEN_SQLITE


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


def _close_late(_: object, record: ConnectionPoolEntry) -> None:
    """The pool that it comes back to is gone, and closes nothing any more."""
    record.close()


def _sqlite(url: URL) -> Engine:
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or url.host or url.username:
        raise StoreUrlError("an SQLite database needs a file, such as sqlite:///q.db")
    path = Path(name).expanduser()
    check_sqlite_file(path)
    make_private(path)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
        **_POOL,
    )
    event.listen(engine, "connect", partial(_prepare_sqlite, path))
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
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args=limits,
            **_POOL,
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the package '{error.name}': pip install 'imgsync[postgresql]'"
        ) from error


def check_sqlite_file(path: Path) -> None:
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
        why = obstacle(path) or error.strerror
        raise StoreError(f"Cannot read the database file {path}: {why}") from error
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
        why = obstacle(path) or error.strerror
        raise StoreError(f"Cannot write the database file {path}: {why}") from error


def _prepare_sqlite(path: Path, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own
    cursor = connection.cursor()
    _use_write_ahead_log(cursor, path)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _use_write_ahead_log(cursor: Any, path: Path) -> None:
    """Waits for others that start at the same time: SQLite's own time-out does not cover this."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            is_late = time.monotonic() > deadline
            if is_late or _is_full(error) or (_is_forbidden(error) and obstacle(path)):
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """Takes the write lock at once: a lock that is upgraded later would fail, not wait."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
