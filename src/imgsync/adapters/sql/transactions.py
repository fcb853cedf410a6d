"""Transactions: their errors, and the database's time."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from imgsync.adapters.sql.types import UtcDateTime
from imgsync.domain.errors import ImgsyncError, NoRoomError
from imgsync.domain.ports.clock import Clock

_NOW = {
    # As DateTime is stored: six digits, so that times compare as text.
    "sqlite": text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now') || '000' AS now"),
    # Not now(): that is the start of the transaction, which may have waited for a lock.
    "postgresql": text("SELECT clock_timestamp() AS now"),
}
READS = "imgsync_reads"
"""Execution option of a transaction that writes nothing."""

_FULL_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_FULL_POSTGRESQL = "53100"


class DatabaseError(ImgsyncError):
    """The database cannot be used; the text never shows its password."""

    retryable = True


@contextmanager
def transaction(engine: Engine, *, reads: bool = False) -> Iterator[Connection]:
    """A transaction whose faults are DatabaseError, or NoRoomError where the disk is full.

    An IntegrityError comes as it is: it is the statement's, not the database's. One that only
    `reads` takes no lock of SQLite's: a process stopped in the midst of it keeps nobody waiting.
    """
    try:
        with engine.execution_options(**{READS: reads}).begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise failure(engine, error) from error


def failure(engine: Engine, error: SQLAlchemyError) -> ImgsyncError:
    """The error of the domain for one of the database."""
    reason = getattr(error, "orig", None) or error
    line = " ".join(str(reason).split())
    # The query of a URL may hold a password too.
    shown = engine.url.set(query={}).render_as_string(hide_password=True)
    if _is_full(reason):
        return NoRoomError(f"No room for the database {shown}: {line}")
    return DatabaseError(f"Cannot use the database {shown}: {line}")


def now_of(connection: Connection, clock: Clock | None = None) -> datetime:
    """The database's time, which all hosts share; that of `clock` in tests."""
    if clock is not None:
        return clock.now()
    query = _NOW[connection.dialect.name].columns(now=UtcDateTime)
    now: datetime = connection.execute(query).scalar_one()
    return now


def _is_full(reason: BaseException) -> bool:
    if isinstance(reason, sqlite3.Error):
        return getattr(reason, "sqlite_errorcode", None) in _FULL_SQLITE
    return getattr(reason, "sqlstate", None) == _FULL_POSTGRESQL
