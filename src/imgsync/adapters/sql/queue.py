"""The task queue in the table sync_queue."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.claiming import claim_next, counted, some_due
from imgsync.adapters.sql.rows import raw_columns, task_of
from imgsync.adapters.sql.tables import sync_queue
from imgsync.adapters.sql.transactions import DatabaseError, now_of, transaction
from imgsync.adapters.sql.types import storable
from imgsync.adapters.sql.waiting import park_waiting, parked_until
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import Enqueued
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    DEFAULT_PRIORITY,
    MAX_ATTEMPTS,
    SYNC_OPERATION,
    TASK_ENTITY_TYPE,
    Task,
    TaskStatus,
)

_T = TypeVar("_T")
_CONFLICT_TRIES = 10
_LONGEST_LEASE = timedelta(days=1)
_task = sync_queue.c
_PENDING = _task.status == TaskStatus.PENDING.value
_PROCESSING = _task.status == TaskStatus.PROCESSING.value
_UNCOUNTED = {"attempts": counted(_task.attempts, -1)}
_NO_LEASE = {"lease_token": None, "lease_expires_at": None}


class SqlTaskQueue:
    """Implements the port `TaskQueue` on SQLite and PostgreSQL (FOR UPDATE SKIP LOCKED).

    `kinds`: values of `entity_type`; rows of another are left alone. `clock` is for tests; without
    it the time is the database's.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock | None = None,
        kinds: Sequence[str] = (TASK_ENTITY_TYPE,),
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._kinds = tuple(kinds)
        self._own = _task.entity_type.in_(self._kinds)

    def enqueue(
        self,
        payload: Any,
        *,
        dedupe_key: str | None = None,
        account_id: str | None = None,
        entity_id: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = MAX_ATTEMPTS,
        delay: timedelta = timedelta(0),
        kind: str = TASK_ENTITY_TYPE,
    ) -> Enqueued:
        key = _storable(dedupe_key)

        def put(connection: Connection, now: datetime) -> Enqueued:
            values = {
                "payload": payload,
                "account_id": _storable(account_id),
                "entity_id": _storable(entity_id),
                "operation": SYNC_OPERATION,
                "priority": priority,
                "max_attempts": max_attempts,
                "attempts": 0,
                "crashes": 0,
                "scheduled_at": now + delay,
                "parked_for": None,
                "error": None,
                "updated_at": now,
            }
            if key is not None:
                pending = update(sync_queue).where(
                    _task.entity_type == kind, _PENDING, _task.dedupe_key == key
                )
                found = connection.execute(pending.values(values).returning(_task.id)).scalar()
                if found is not None:
                    return Enqueued(found, created=False)
            new = insert(sync_queue).values(
                **values,
                entity_type=kind,
                status=TaskStatus.PENDING.value,
                dedupe_key=key,
                warnings=[],
                created_at=now,
            )
            return Enqueued(connection.execute(new.returning(_task.id)).scalar_one(), True)

        return self._transaction(put)

    def claim(self, *, lease: timedelta, only: Sequence[int] | None = None) -> Task | None:
        if self._engine.dialect.name == "sqlite" and not self._some_due(only):
            return None
        return self._transaction(
            lambda connection, now: claim_next(connection, now, lease, only, self._kinds)
        )

    def _some_due(self, only: Sequence[int] | None) -> bool:
        """Asked again and again by idle workers, which must not hold SQLite's only write lock."""
        with transaction(self._engine, reads=True) as connection:
            return some_due(connection, now_of(connection, self._clock), only, self._kinds)

    def renew(self, task: Task, *, lease: timedelta) -> None:
        self._transaction(
            lambda connection, now: _held(
                connection, task, {"lease_expires_at": now + lease, "updated_at": now}
            )
        )

    def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        values = {
            "result": storable(result),
            "warnings": [storable(w) for w in warnings],
            "error": None,
        }

        def end(connection: Connection, now: datetime) -> None:
            _end(connection, task, now, TaskStatus.COMPLETED, values)
            _check_again(connection, task, now)

        self._transaction(end)

    def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        self._transaction(
            lambda connection, now: _put_back(
                connection,
                task,
                now,
                {"scheduled_at": now + delay, "error": storable(error)},
                check_again=check_again,
            )
        )

    def fail(self, task: Task, *, error: str) -> None:
        values = {"error": storable(error)}
        self._transaction(
            lambda connection, now: _end(connection, task, now, TaskStatus.FAILED, values)
        )

    def release(self, task: Task, *, check_again: bool = False) -> None:
        self._transaction(
            lambda connection, now: _put_back(
                connection,
                task,
                now,
                {"scheduled_at": now, **_UNCOUNTED},
                check_again=check_again,
            )
        )

    def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        account = storable(account_id)

        def put_off(connection: Connection, now: datetime) -> int:
            wait = parked_until(connection, account, until)
            if wait is None:
                _put_back(connection, task, now, {"scheduled_at": now, **_UNCOUNTED})
                return 0
            values = {"scheduled_at": wait, "parked_for": account, "error": storable(error)}
            _put_back(connection, task, now, {**values, **_UNCOUNTED})
            return park_waiting(connection, account_id, now, values, self._kinds)

        return self._transaction(put_off)

    def unpark(self, account_id: str) -> int:
        waiting = update(sync_queue).where(
            self._own, _PENDING, _task.parked_for == storable(account_id)
        )
        return self._transaction(
            lambda connection, now: (
                connection.execute(
                    waiting.values(scheduled_at=now, parked_for=None, updated_at=now)
                ).rowcount
            )
        )

    def parked(self) -> int:
        query = select(func.count()).where(self._own, _PENDING, _task.parked_for.is_not(None))
        with transaction(self._engine, reads=True) as connection:
            return int(connection.execute(query).scalar_one())

    def free(self, ids: Sequence[int] | None) -> list[int]:
        def release_all(connection: Connection, now: datetime) -> list[int]:
            chosen = (
                _task.lease_expires_at > now + _LONGEST_LEASE if ids is None else _task.id.in_(ids)
            )
            # Under a token of this call: the one that stands there may be none that can be read,
            # and a worker may settle its task at this very moment.
            taken = update(sync_queue).where(self._own, _PROCESSING, chosen)
            taken = taken.values(lease_token=uuid.uuid4().hex)
            rows = connection.execute(taken.returning(*raw_columns(connection)))
            held = sorted(map(task_of, rows), key=lambda task: task.id)
            values = {"scheduled_at": now, **_UNCOUNTED}
            for task in held:
                # Whoever held it may be alive and have sent a request.
                _put_back(connection, task, now, values, check_again=True)
            return [task.id for task in held]

        return self._transaction(release_all)

    def counts(self) -> dict[TaskStatus, int]:
        query = select(_task.status, func.count()).where(self._own).group_by(_task.status)
        with transaction(self._engine, reads=True) as connection:
            found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return {status: found.get(status.value, 0) for status in TaskStatus}

    def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        with transaction(self._engine, reads=True) as connection:
            query = select(*raw_columns(connection)).where(self._own).order_by(_task.id.desc())
            if status is not None:
                query = query.where(_task.status == status.value)
            return [task_of(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def get(self, task_id: int) -> Task | None:
        with transaction(self._engine, reads=True) as connection:
            query = select(*raw_columns(connection)).where(self._own, _task.id == task_id)
            row = connection.execute(query).first()
        return task_of(row) if row else None

    def retry(self, ids: Sequence[int] | None) -> list[int]:
        newer = sync_queue.alias("newer").c
        superseded = (
            select(newer.id)
            .where(newer.dedupe_key == _task.dedupe_key, newer.id > _task.id)
            .exists()
        )
        chosen = update(sync_queue).where(
            self._own, _task.status == TaskStatus.FAILED.value, ~superseded
        )
        if ids is not None:
            chosen = chosen.where(_task.id.in_(ids))

        def put_back(connection: Connection, now: datetime) -> list[int]:
            changed = chosen.values(
                status=TaskStatus.PENDING.value,
                attempts=0,
                crashes=0,
                warnings=[],
                scheduled_at=now,
                parked_for=None,
                error=None,
                updated_at=now,
            ).returning(_task.id)
            return sorted(connection.execute(changed).scalars())

        return self._transaction(put_back)

    def _transaction(self, work: Callable[[Connection, datetime], _T]) -> _T:
        """Runs `work` in a transaction, and again where another host was first with a key."""
        for left in reversed(range(_CONFLICT_TRIES)):
            try:
                with transaction(self._engine) as connection:
                    return work(connection, now_of(connection, self._clock))
            except IntegrityError as error:
                if not left:
                    raise DatabaseError(f"The queue refuses the change: {error.orig}") from error
        raise AssertionError("unreachable")


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _held(connection: Connection, task: Task, values: dict[str, Any]) -> None:
    """Changes the task where this claim still holds it."""
    changed = connection.execute(
        update(sync_queue)
        .where(
            _task.id == task.id,
            _PROCESSING,
            # A row that another program marked as processing has no token.
            _task.lease_token.is_not_distinct_from(task.lease_token),
        )
        .values(values)
    )
    if changed.rowcount != 1:
        raise LeaseLostError(f"task {task.id} is held by another worker now")


def _end(
    connection: Connection, task: Task, now: datetime, status: TaskStatus, values: dict[str, Any]
) -> None:
    _held(connection, task, {**_NO_LEASE, "updated_at": now, "status": status.value, **values})


def _put_back(
    connection: Connection,
    task: Task,
    now: datetime,
    values: dict[str, Any],
    *,
    check_again: bool = False,
) -> None:
    """Makes the task pending; failed where a newer pending task does its work."""
    if check_again:
        values = {**values, "check_again": True}
    newer = _pending_of_same_key(connection, task)
    if newer is None:
        _end(connection, task, now, TaskStatus.PENDING, values)
        return
    error = values.get("error", task.error)
    reason = f"{error or 'given back'}; superseded by the newer task {newer}"
    _end(connection, task, now, TaskStatus.FAILED, {"error": storable(reason)})
    if check_again or task.check_again:
        _ask_for_check(connection, newer)


def _check_again(connection: Connection, task: Task, now: datetime) -> None:
    """Queues the later check of a task that changed hands.

    Its lost owner may have sent a request that reaches the child only after the heir's: the task
    would say "completed" over old images. The check is an ordinary task, which does not ask for
    another, and costs two requests where nothing is wrong.
    """
    this = connection.execute(
        select(_task.check_again).where(_task.id == task.id, _task.check_again)
    ).first()
    if this is None:
        return
    newer = _pending_of_same_key(connection, task)
    if newer is not None:
        _ask_for_check(connection, newer)
        return
    copied = (
        _task.entity_type,
        _task.payload,
        _task.dedupe_key,
        _task.account_id,
        _task.entity_id,
        _task.operation,
        _task.priority,
    )
    again = {
        "max_attempts": _task.max_attempts,
        "scheduled_at": literal(now + CHECK_AGAIN_DELAY, _task.scheduled_at.type),
        "created_at": literal(now, _task.created_at.type),
        "updated_at": literal(now, _task.updated_at.type),
    }
    row = select(*copied, *again.values()).where(_task.id == task.id)
    connection.execute(insert(sync_queue).from_select([*(c.name for c in copied), *again], row))


def _ask_for_check(connection: Connection, task_id: int) -> None:
    connection.execute(update(sync_queue).where(_task.id == task_id).values(check_again=True))


def _pending_of_same_key(connection: Connection, task: Task) -> int | None:
    """Id of the pending task that writes the same child entity, if any."""
    this = sync_queue.alias("this").c
    key = select(this.dedupe_key).where(this.id == task.id).scalar_subquery()
    found: int | None = connection.execute(
        select(_task.id).where(_PENDING, _task.dedupe_key == key, _task.id != task.id)
    ).scalar()
    return found
