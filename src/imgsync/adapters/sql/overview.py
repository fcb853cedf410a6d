"""How all children stand."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    TextClause,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import Reader, raw, raw_of
from imgsync.adapters.sql.runs import numbers_of
from imgsync.adapters.sql.tables import (
    accounts,
    audit,
    comparisons,
    failed_images,
    proofs,
    runs,
    sync_counts,
    sync_queue,
    sync_settings,
    webhook_states,
)
from imgsync.adapters.sql.tasklist import SUPERSEDED
from imgsync.domain.ports.overview import ChildState
from imgsync.domain.runs import LEFT, UNEQUAL, UNMATCHED
from imgsync.domain.tasks import TASK_ENTITY_TYPE, TaskStatus

_MINUTE = timedelta(minutes=1)
_SLOT_SECONDS = 5
"""While something is copied, rates and times left change without anything else."""
_LATEST_RUNS = 20
_BUSY = "busy"
_FAILED = TaskStatus.FAILED
_ENDED = text("status IN ('completed', 'failed')")
"""As it is said of the index that has these alone."""


class SqlOverview:
    """Implements the port `Overview`: few statements, and two for each child of which something
    that differed may have been copied. Of tasks in another queue than the database's own it knows
    nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def states(self) -> dict[str, ChildState]:
        return await self._database.run(_states, reads=True)

    async def fingerprint(self) -> str:
        return await self._database.run(_fingerprint, reads=True)


def _states(connection: Connection) -> dict[str, ChildState]:
    found: dict[str, ChildState] = defaultdict(ChildState)
    dialect, now, task = connection.dialect.name, now_of(connection), sync_queue.c
    row_of = sync_counts.c
    waits = (TaskStatus.PENDING.value, TaskStatus.PROCESSING.value)
    counted: Select[Any] = select(
        raw(dialect, row_of.account_id).label("child"),
        row_of.status,
        func.sum(row_of.tasks).label("tasks"),
    ).where(row_of.status.in_(waits))
    for row in connection.execute(counted.group_by(row_of.account_id, row_of.status)):
        if not row.tasks:
            continue
        state = found[Reader(row).text("child") or ""]
        if row.status == TaskStatus.PENDING.value:
            state.waiting = int(row.tasks)
        else:
            state.running = int(row.tasks)
    ended: Select[Any] = select(
        raw(dialect, task.account_id).label("child"), func.count().label("tasks")
    ).where(
        _ENDED,
        task.entity_type == TASK_ENTITY_TYPE,
        text("status = 'completed'"),
        task.updated_at > now - _MINUTE,
    )
    for row in connection.execute(ended.group_by(task.account_id)):
        found[Reader(row).text("child") or ""].completed = row.tasks
    link = sync_settings.c
    compared = select(*raw_of(dialect, proofs.c)).outerjoin(
        sync_settings, link.account_id == proofs.c.child_account_id
    )
    # What was found beside a former main account says nothing of this one.
    compared = compared.where(
        or_(link.main_account_id.is_(None), link.main_account_id == proofs.c.main_account_id)
    )
    for row in connection.execute(compared):
        read = Reader(row)
        state = found[read.text("child_account_id") or ""]
        state.compared_at = read.time_or_none("compared_at")
        state.equal_at = read.time_or_none("equal_at")
        numbers = numbers_of(read, "numbers")
        state.different = sum(numbers.get(name, 0) for name in UNEQUAL)
        state.unmatched = numbers.get(UNMATCHED, 0)
        if state.different and not numbers.get(LEFT, 0) and not (state.waiting or state.running):
            state.is_copied = _is_copied(connection, row.child_account_id, state)
    columns = (accounts.c.id, accounts.c.parked_until, accounts.c.parked_reason)
    parked = select(*raw_of(dialect, columns)).where(accounts.c.parked_until.is_not(None))
    for row in connection.execute(parked):
        read = Reader(row)
        until = read.time_or_none("parked_until")
        if until is not None and until > now:
            state = found[read.text("id") or ""]
            state.parked_until, state.parked_reason = until, read.text("parked_reason") or ""
    return dict(found)


def _is_copied(connection: Connection, child_id: str, state: ChildState) -> bool:
    task = sync_queue.c
    since = (task.account_id == child_id, task.updated_at >= state.compared_at)
    failed = select(task.id).where(task.status == _FAILED.value, *since, ~SUPERSEDED).limit(1)
    if connection.execute(failed).first() is not None:
        return False
    done = select(task.id).where(task.status == TaskStatus.COMPLETED.value, *since)
    done = done.order_by(task.id.desc()).limit(state.different)  # the newest are found first
    return len(connection.execute(done).all()) == state.different


def _fingerprint(connection: Connection) -> str:
    """By one statement, of which each part is small or finds its rows by an index."""
    rows = [tuple(map(_shown, row)) for row in connection.execute(_looks(connection.dialect.name))]
    slot = ""
    if any(of == _BUSY and set(values) != {"None"} for of, *values in rows):
        slot = str(int(now_of(connection).timestamp()) // _SLOT_SECONDS)
    return hashlib.sha256(f"{sorted(rows)} {slot}".encode()).hexdigest()[:16]


def _shown(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


@cache
def _looks(dialect: str) -> CompoundSelect[Any]:
    """Rows of texts, the first of which says what they are of."""
    task, image = sync_queue.c, failed_images.c
    # As the index has them, so that SQLite finds the first and the last of each there. It would
    # walk over all ids else.
    waiting, running, failed = (
        text(f"coalesce(status, '') = '{status}'")
        for status in (TaskStatus.PENDING, TaskStatus.PROCESSING, _FAILED)
    )
    by_id: ColumnElement[int] = literal_column("id + 0", BigInteger)
    latest = select(runs.c.id, runs.c.ended, runs.c.error).order_by(runs.c.began.desc())
    parts: tuple[tuple[str, Iterable[ColumnElement[Any]]], ...] = (
        (_BUSY, (_of_queue(func.min(by_id), waiting), _of_queue(func.min(by_id), running))),
        ("waiting", (_of_queue(func.max(by_id), waiting),)),
        ("running", (_of_queue(func.count(), running), _of_queue(func.max(by_id), running))),
        ("failed", (_of_queue(func.count(), failed), _of_queue(func.max(by_id), failed))),
        ("tasks", (_of_queue(func.min(task.id)), _of_queue(func.max(task.id)))),
        ("ended", (_last_ended(TaskStatus.COMPLETED), _last_ended(_FAILED))),
        (
            "images",
            (
                _one(select(func.count(image.id))),
                _one(select(func.sum(image.attempts))),
                _one(select(func.max(image.last_failed_at))),
            ),
        ),
        ("audit", (_one(select(func.max(audit.c.id))),)),
        ("runs", latest.limit(_LATEST_RUNS).subquery().c),
        ("proofs", proofs.c),
        ("comparisons", comparisons.c),
        ("settings", sync_settings.c),
        ("accounts", (accounts.c[name] for name in ("id", "name", "role", "parked_until"))),
        ("webhooks", (c for c in webhook_states.c if c.name not in ("url", "checked_at"))),
    )
    listed = [(name, [raw(dialect, column) for column in columns]) for name, columns in parts]
    most = max(len(columns) for _, columns in listed)
    nothing = raw(dialect, null())
    return union_all(
        *(
            select(
                raw(dialect, literal(name)).label("of"),
                *(column.label(f"c{place}") for place, column in enumerate(columns)),
                *(nothing.label(f"c{place}") for place in range(len(columns), most)),
            )
            for name, columns in listed
        )
    )


def _one(query: Select[Any]) -> ColumnElement[Any]:
    return query.scalar_subquery()


def _of_queue(
    what: ColumnElement[Any], *where: ColumnElement[Any] | TextClause
) -> ColumnElement[Any]:
    return _one(select(what).select_from(sync_queue).where(*where))


def _last_ended(status: TaskStatus) -> ColumnElement[Any]:
    """When a task last ended so."""
    query = select(func.max(sync_queue.c.updated_at)).where(
        _ENDED,
        sync_queue.c.entity_type == TASK_ENTITY_TYPE,
        sync_queue.c.status == status.value,
    )
    return _one(query)
