"""Rows of tables that other programs write, so that nothing in them is taken for granted: those of
sync_queue as tasks.

Every column is asked for as plain bytes or text, which no driver can fail to decode, and read here.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, Row, Text, cast, extract

from imgsync.adapters.sql.tables import UtcDateTime, sync_queue
from imgsync.domain.tasks import Task, TaskStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEEPEST = 100
_SHOWN = 200


class _DamageError(Exception):
    """A value that cannot be read; the text says why."""


def raw_columns(connection: Connection) -> Sequence[ColumnElement[Any]]:
    """What `task_of` wants selected."""
    return raw_columns_of(connection.dialect.name)


@cache
def raw_columns_of(dialect: str, alias: str | None = None) -> Sequence[ColumnElement[Any]]:
    return raw_of(dialect, sync_queue.c if alias is None else sync_queue.alias(alias).c)


def raw_of(dialect: str, columns: Iterable[Column[Any]]) -> Sequence[ColumnElement[Any]]:
    """What a `Reader` wants selected."""
    return tuple(
        (column if column.primary_key else raw(dialect, column)).label(column.name)
        for column in columns
    )


def raw(dialect: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A value as a `Reader` wants it."""
    if dialect == "sqlite":
        return cast(column, LargeBinary)
    if isinstance(column.type, UtcDateTime):
        # Seconds since 1970: no time of the server is out of their range.
        return cast(extract("epoch", column), Text)
    return cast(column, Text)


class Reader:
    """Reads the values of one row and notes the first that is damaged."""

    def __init__(self, row: Row[Any]) -> None:
        self._row = row
        self.damage: str | None = None

    def text(self, name: str) -> str | None:
        value = self._value(name)
        return None if value is None else value.decode("utf-8", "backslashreplace")

    def number(self, name: str) -> int:
        shown = self._shown(name)
        try:
            number = int(shown)
        except ValueError:
            self._note(f"{name} is {shown}, not a whole number")
            return 0
        if abs(number) >= 2**31:
            self._note(f"{name} is {shown}, which is out of range")
            return 0
        return number

    def flag(self, name: str) -> bool:
        return self.text(name) in ("1", "true")

    def time(self, name: str) -> datetime:
        found = self.time_or_none(name)
        if found is None:
            self._note(f"{name} is {self._shown(name)}, not a time that can be used")
            return EPOCH
        return found

    def time_or_none(self, name: str) -> datetime | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            if isinstance(getattr(self._row, name), bytes):
                moment = datetime.fromisoformat(text)
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
            return EPOCH + timedelta(microseconds=int(Decimal(text) * 1_000_000))
        except (ValueError, OverflowError, InvalidOperation):
            return None

    def json(self, name: str) -> Any:
        value = self._value(name)
        try:
            return _decoded(value)
        except _DamageError as error:
            self._note(f"{name} {error}")
            return None if value is None else value[:_SHOWN].decode("utf-8", "backslashreplace")

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.json(name)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(found)
        self._note(f"{name} is no list of texts")
        return ()

    def _value(self, name: str) -> bytes | None:
        value: bytes | str | None = getattr(self._row, name)
        return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value

    def _shown(self, name: str) -> str:
        value = self._value(name)
        if value is None:
            return "NULL"
        return ascii(value.decode("utf-8", "replace")[:_SHOWN])[1:-1]

    def _note(self, text: str) -> None:
        self.damage = self.damage or text


def task_of(row: Row[Any], **claimed: Any) -> Task:
    """The task in a whole row of `raw_columns`; `claimed`: what a claim has changed in it since."""
    read = Reader(row)
    status = read.text("status")
    values: dict[str, Any] = {
        "id": row.id,
        "payload": read.json("payload"),
        "status": TaskStatus(status) if status in set(TaskStatus) else TaskStatus.FAILED,
        "priority": read.number("priority"),
        "attempts": read.number("attempts"),
        "max_attempts": read.number("max_attempts"),
        "scheduled_at": read.time("scheduled_at"),
        "created_at": read.time("created_at"),
        "updated_at": read.time("updated_at"),
        "dedupe_key": read.text("dedupe_key"),
        "lease_token": read.text("lease_token"),
        # A lease that cannot be read has lapsed; the next claim writes a new one.
        "lease_expires_at": read.time_or_none("lease_expires_at"),
        "result": read.text("result"),
        "error": read.text("error"),
        "warnings": read.texts("warnings"),
        "crashes": read.number("crashes"),
        "check_again": read.flag("check_again"),
        "parked_for": read.text("parked_for"),
        "account_id": read.text("account_id"),
        "entity_id": read.text("entity_id"),
        "kind": read.text("entity_type") or "",
        "damage": read.damage,
    }
    return Task(**values | claimed)


def _decoded(value: bytes | None) -> Any:
    if value is None:
        raise _DamageError("is NULL")
    try:
        found = json.loads(value.decode("utf-8"))
    except UnicodeDecodeError:
        raise _DamageError("is no UTF-8 text") from None
    except RecursionError:
        raise _DamageError(f"is nested deeper than {_DEEPEST} levels") from None
    except ValueError as error:
        # Also an integer of more digits than Python reads.
        raise _DamageError(f"is no JSON that can be read: {error}") from None
    if _is_deep(found):
        raise _DamageError(f"is nested deeper than {_DEEPEST} levels")
    return found


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
