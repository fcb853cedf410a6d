"""Taking a task: which is next, and the lease that holds it."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, and_, or_, select, update

from imgsync.adapters.sql.rows import task_of
from imgsync.adapters.sql.tables import sync_queue
from imgsync.domain.tasks import TASK_ENTITY_TYPE, Task, TaskStatus

_LOST = "the worker was lost during the last attempt (its lease lapsed)"


def claim_next(
    connection: Connection, now: datetime, lease: timedelta, only: Sequence[int] | None
) -> Task | None:
    """The next due task under a new lease. Lapsed tasks with no attempt left fail on the way."""
    while True:
        row = connection.execute(_next_due(connection, now, only)).first()
        if row is None:
            return None
        task = task_of(row)
        this = update(sync_queue).where(sync_queue.c.id == task.id)
        if task.attempts >= task.max_attempts:
            connection.execute(
                this.values(
                    status=TaskStatus.FAILED.value,
                    error=f"{_LOST}; before it: {task.error}" if task.error else _LOST,
                    lease_token=None,
                    lease_expires_at=None,
                    updated_at=now,
                )
            )
            continue
        claimed = this.values(
            status=TaskStatus.PROCESSING.value,
            attempts=task.attempts + 1,
            lease_token=uuid.uuid4().hex,
            lease_expires_at=now + lease,
            updated_at=now,
        )
        return task_of(connection.execute(claimed.returning(sync_queue)).one())


def _next_due(
    connection: Connection, now: datetime, only: Sequence[int] | None
) -> Select[tuple[object, ...]]:
    task, running = sync_queue.c, sync_queue.alias("running").c
    same_entity_runs = (
        select(running.id)
        .where(
            running.dedupe_key == task.dedupe_key,
            running.status == TaskStatus.PROCESSING.value,
        )
        .exists()
    )
    waiting = and_(
        task.status == TaskStatus.PENDING.value, task.scheduled_at <= now, ~same_entity_runs
    )
    lapsed = and_(
        task.status == TaskStatus.PROCESSING.value,
        or_(task.lease_expires_at <= now, task.lease_expires_at.is_(None)),
    )
    # Lapsed leases are rare; without them the index gives the next task unsorted.
    some_lapsed = connection.execute(
        select(task.id).where(task.entity_type == TASK_ENTITY_TYPE, lapsed).limit(1)
    ).first()
    query = (
        select(sync_queue)
        .where(
            task.entity_type == TASK_ENTITY_TYPE, or_(waiting, lapsed) if some_lapsed else waiting
        )
        .order_by(task.priority.desc(), task.scheduled_at, task.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=sync_queue)
    )
    return query if only is None else query.where(task.id.in_(only))
