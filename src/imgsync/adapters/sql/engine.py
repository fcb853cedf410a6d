"""Database connections: SQLite by default, PostgreSQL for several hosts."""

import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from imgsync.adapters.sql.transactions import READS, DatabaseError

_BUSY_SECONDS = 30.0
_SQLITE_HEADER = b"SQLite format 3\x00"
_PATIENCE = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "options": "-c lock_timeout=10s -c statement_timeout=30s"
    " -c idle_in_transaction_session_timeout=30s",
}
"""A server that hangs must not keep a worker from stopping, nor a process that is stopped in a
transaction keep its rows from others; the URL's query may say otherwise."""


def create_engine_for(url: str) -> Engine:
    """Engine for ``sqlite:///file`` or ``postgresql://…``.

    DatabaseError for any other URL, or where the driver is missing. An SQLite file is made with
    its folder, readable by its owner only, as it holds tokens.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError("database_url is not a database URL") from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql" | "postgres":
            return _postgresql(parsed)
        case other:
            raise DatabaseError(f"database_url: '{other}' is neither sqlite nor postgresql")


def _sqlite(url: URL) -> Engine:
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        raise DatabaseError("database_url: an SQLite queue needs a file, such as sqlite:///q.db")
    path = Path(name).expanduser()
    _check_file(path)
    _make_private(path)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    limits = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=limits
        )
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"PostgreSQL needs the package '{error.name}': pip install 'imgsync[postgresql]'"
        ) from error


def _check_file(path: Path) -> None:
    """DatabaseError for what is there and is no SQLite database; nothing is touched before."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DatabaseError(f"The database {path} is {_kind(mode)}, not a file")
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_HEADER))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DatabaseError(f"Cannot read the database file {path}: {error.strerror}") from error
    if head and head != _SQLITE_HEADER:
        raise DatabaseError(f"The file {path} is not a database of SQLite; it was left as it is")


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_one, name in kinds if is_one(mode)), "a device")


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        present = path.stat()
        if present.st_mode & 0o077 and present.st_uid == os.geteuid():
            path.chmod(0o600)
    except OSError as error:
        raise DatabaseError(f"Cannot make the database file {path}: {error.strerror}") from error


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
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
