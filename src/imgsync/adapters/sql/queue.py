"""The task queue in the table sync_queue."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.claiming import claim_next
from imgsync.adapters.sql.rows import task_of
from imgsync.adapters.sql.tables import sync_queue
from imgsync.adapters.sql.types import storable
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.queue import Enqueued
from imgsync.domain.retry import MAX_ATTEMPTS
from imgsync.domain.tasks import DEFAULT_PRIORITY, TASK_ENTITY_TYPE, Task, TaskStatus

_T = TypeVar("_T")
_CONFLICT_TRIES = 10
_OWN = sync_queue.c.entity_type == TASK_ENTITY_TYPE


class SqlTaskQueue:
    """Implements the port `TaskQueue` on SQLite and PostgreSQL (FOR UPDATE SKIP LOCKED).

    Rows of another `entity_type` are left alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def enqueue(
        self,
        payload: Any,
        *,
        now: datetime,
        dedupe_key: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Enqueued:
        key = None if dedupe_key is None else storable(dedupe_key)
        values = {
            "payload": payload,
            "priority": priority,
            "max_attempts": max_attempts,
            "attempts": 0,
            "scheduled_at": now,
            "error": None,
            "updated_at": now,
        }

        def put(connection: Connection) -> Enqueued:
            if key is not None:
                pending = update(sync_queue).where(
                    _OWN,
                    sync_queue.c.dedupe_key == key,
                    sync_queue.c.status == TaskStatus.PENDING.value,
                )
                found = connection.execute(
                    pending.values(values).returning(sync_queue.c.id)
                ).scalar()
                if found is not None:
                    return Enqueued(found, created=False)
            new = insert(sync_queue).values(
                **values,
                entity_type=TASK_ENTITY_TYPE,
                status=TaskStatus.PENDING.value,
                dedupe_key=key,
                warnings=[],
                created_at=now,
            )
            return Enqueued(connection.execute(new.returning(sync_queue.c.id)).scalar_one(), True)

        return self._transaction(put)

    def claim(
        self, *, now: datetime, lease: timedelta, only: Sequence[int] | None = None
    ) -> Task | None:
        return self._transaction(lambda connection: claim_next(connection, now, lease, only))

    def renew(self, task: Task, *, now: datetime, lease: timedelta) -> None:
        with self._engine.begin() as connection:
            _held(connection, task, {"lease_expires_at": now + lease, "updated_at": now})

    def complete(self, task: Task, *, now: datetime, result: str, warnings: Sequence[str]) -> None:
        values = {"result": result, "warnings": [storable(w) for w in warnings], "error": None}
        with self._engine.begin() as connection:
            _end(connection, task, now, TaskStatus.COMPLETED, values)

    def reschedule(self, task: Task, *, now: datetime, at: datetime, error: str) -> None:
        values = {"scheduled_at": at, "error": storable(error)}
        self._transaction(lambda connection: _put_back(connection, task, now, values))

    def fail(self, task: Task, *, now: datetime, error: str) -> None:
        with self._engine.begin() as connection:
            _end(connection, task, now, TaskStatus.FAILED, {"error": storable(error)})

    def release(self, task: Task, *, now: datetime) -> None:
        values = {"scheduled_at": now, "attempts": task.attempts - 1, "error": task.error}
        self._transaction(lambda connection: _put_back(connection, task, now, values))

    def counts(self) -> dict[TaskStatus, int]:
        query = select(sync_queue.c.status, func.count()).where(_OWN).group_by(sync_queue.c.status)
        with self._engine.begin() as connection:
            found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return {status: found.get(status.value, 0) for status in TaskStatus}

    def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        query = select(sync_queue).where(_OWN).order_by(sync_queue.c.id.desc())
        if status is not None:
            query = query.where(sync_queue.c.status == status.value)
        with self._engine.begin() as connection:
            return [task_of(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def get(self, task_id: int) -> Task | None:
        query = select(sync_queue).where(_OWN, sync_queue.c.id == task_id)
        with self._engine.begin() as connection:
            row = connection.execute(query).first()
        return task_of(row) if row else None

    def retry(self, ids: Sequence[int] | None, *, now: datetime) -> list[int]:
        newer = sync_queue.alias("newer").c
        superseded = (
            select(newer.id)
            .where(newer.dedupe_key == sync_queue.c.dedupe_key, newer.id > sync_queue.c.id)
            .exists()
        )
        chosen = update(sync_queue).where(
            _OWN, sync_queue.c.status == TaskStatus.FAILED.value, ~superseded
        )
        if ids is not None:
            chosen = chosen.where(sync_queue.c.id.in_(ids))
        changed = chosen.values(
            status=TaskStatus.PENDING.value,
            attempts=0,
            scheduled_at=now,
            error=None,
            updated_at=now,
        ).returning(sync_queue.c.id)
        return self._transaction(lambda connection: sorted(connection.execute(changed).scalars()))

    def _transaction(self, work: Callable[[Connection], _T]) -> _T:
        """Runs `work` in a transaction, and again where another host was first with a key."""
        for left in reversed(range(_CONFLICT_TRIES)):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except IntegrityError:
                if not left:
                    raise
        raise AssertionError("unreachable")


def _held(connection: Connection, task: Task, values: dict[str, Any]) -> None:
    """Changes the task where this claim still holds it."""
    changed = connection.execute(
        update(sync_queue)
        .where(
            sync_queue.c.id == task.id,
            sync_queue.c.status == TaskStatus.PROCESSING.value,
            sync_queue.c.lease_token == task.lease_token,
        )
        .values(values)
    )
    if changed.rowcount != 1:
        raise LeaseLostError(f"task {task.id} is held by another worker now")


def _end(
    connection: Connection, task: Task, now: datetime, status: TaskStatus, values: dict[str, Any]
) -> None:
    free = {"lease_token": None, "lease_expires_at": None, "updated_at": now}
    _held(connection, task, {**free, "status": status.value, **values})


def _put_back(connection: Connection, task: Task, now: datetime, values: dict[str, Any]) -> None:
    """Makes the task pending; failed where a newer pending task does its work."""
    newer = None
    if task.dedupe_key is not None:
        same_entity = select(sync_queue.c.id).where(
            _OWN,
            sync_queue.c.dedupe_key == task.dedupe_key,
            sync_queue.c.status == TaskStatus.PENDING.value,
        )
        newer = connection.execute(same_entity).scalar()
    if newer is None:
        _end(connection, task, now, TaskStatus.PENDING, values)
        return
    reason = f"{values['error'] or 'given back'}; superseded by the newer task {newer}"
    _end(connection, task, now, TaskStatus.FAILED, {"error": reason})
