"""Taking a task: which is next, and the lease that holds it.

A claim writes to the row by its id and reads nothing that it needs: whatever another program wrote
there, the row is taken, and fails on its own.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    literal_column,
    or_,
    select,
    update,
)

from imgsync.adapters.sql.rows import raw_columns, task_of
from imgsync.adapters.sql.tables import sync_queue
from imgsync.domain.tasks import MAX_CRASHES, Task, TaskStatus

_MOST = 1_000_000
"""Counters beyond it are damage; adding to them could overflow."""


def counted(column: ColumnElement[int], step: int) -> ColumnElement[int]:
    """A counter one up or down; one that is no sensible number stays as it is."""
    return case((column.between(max(0, -step), _MOST), column + step), else_=column)


def claim_next(
    connection: Connection,
    now: datetime,
    lease: timedelta,
    only: Sequence[int] | None,
    kinds: Sequence[str],
) -> Task | None:
    """The next due task of these kinds under a new lease. Those that lost too many
    workers fail on the way."""
    while True:
        row = _next_row(connection, now, only, kinds)
        if row is None:
            return None
        task = task_of(row)
        lapsed = task.status is TaskStatus.PROCESSING
        if lapsed and task.crashes + 1 >= MAX_CRASHES:
            _give_up(connection, task, now)
            continue
        token, expires_at = uuid.uuid4().hex, now + lease
        # The lapsed attempt is the one that goes on; its owner's last request may still come.
        count: dict[str, Any] = (
            {"crashes": counted(sync_queue.c.crashes, 1), "check_again": True}
            if lapsed
            else {"attempts": counted(sync_queue.c.attempts, 1)}
        )
        connection.execute(
            _row(task).values(
                status=TaskStatus.PROCESSING.value,
                lease_token=token,
                lease_expires_at=expires_at,
                updated_at=now,
                parked_for=None,
                **count,
            )
        )
        return task_of(
            row,
            status=TaskStatus.PROCESSING,
            lease_token=token,
            lease_expires_at=expires_at,
            updated_at=now,
            parked_for=None,
            attempts=task.attempts + (not lapsed),
            crashes=task.crashes + lapsed,
            check_again=task.check_again or lapsed,
        )


def some_due(
    connection: Connection, now: datetime, only: Sequence[int] | None, kinds: Sequence[str]
) -> bool:
    """Whether `claim_next` would find a task."""
    return _next_row(connection, now, only, kinds) is not None


def _give_up(connection: Connection, task: Task, now: datetime) -> None:
    crashes = task.crashes + 1
    error = (
        f"its worker was lost {crashes} times while it ran (killed, stopped or out of memory); "
        "it is not tried again"
    )
    connection.execute(
        _row(task).values(
            status=TaskStatus.FAILED.value,
            error=f"{error}; before it: {task.error}" if task.error else error,
            crashes=counted(sync_queue.c.crashes, 1),
            lease_token=None,
            lease_expires_at=None,
            updated_at=now,
        )
    )


def _next_row(
    connection: Connection, now: datetime, only: Sequence[int] | None, kinds: Sequence[str]
) -> Row[Any] | None:
    """The first of the kinds' next due tasks. Each is asked for by itself, as the index gives the
    next one of a kind unsorted."""
    queries = (_next_due(connection, now, only, kind) for kind in kinds)
    found = [row for query in queries if (row := connection.execute(query).first())]
    return found[0] if len(found) == 1 else min(found, key=_order, default=None)


def _order(row: Row[Any]) -> tuple[int, datetime, int]:
    task = task_of(row)
    return -task.priority, task.scheduled_at, task.id


def _row(task: Task) -> Any:
    return update(sync_queue).where(sync_queue.c.id == task.id)


def _next_due(
    connection: Connection, now: datetime, only: Sequence[int] | None, kind: str
) -> Select[tuple[object, ...]]:
    task, running = sync_queue.c, sync_queue.alias("running").c
    chosen = sync_queue.alias("chosen").c
    own = task.entity_type == kind
    same_entity_runs = (
        select(running.id)
        .where(
            running.dedupe_key == task.dedupe_key,
            running.status == TaskStatus.PROCESSING.value,
        )
        .exists()
    )
    due: ColumnElement[bool] = task.scheduled_at <= now
    if connection.dialect.name == "postgresql":
        # It would wait for ever and never say why.
        due = or_(due, task.scheduled_at == literal_column("'infinity'::timestamptz"))
    waiting = and_(task.status == TaskStatus.PENDING.value, due, ~same_entity_runs)
    lapsed = and_(
        task.status == TaskStatus.PROCESSING.value,
        or_(task.lease_expires_at <= now, task.lease_expires_at.is_(None)),
    )
    # Lapsed leases are rare; without them the index gives the next task unsorted.
    some_lapsed = connection.execute(select(task.id).where(own, lapsed).limit(1)).first()
    query = (
        select(*raw_columns(connection))
        .where(own, or_(waiting, lapsed) if some_lapsed else waiting)
        .order_by(task.priority.desc(), task.scheduled_at, task.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=sync_queue)
    )
    if only is None:
        return query
    keys = select(chosen.dedupe_key).where(chosen.id.in_(only))
    in_their_way = and_(lapsed, task.dedupe_key.in_(keys))
    return query.where(or_(task.id.in_(only), in_their_way))
