"""The task queue in the table sync_queue.

A claim writes to the row by its id and reads nothing that it needs: whatever another program wrote
there, the row is taken, and fails on its own.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import raw_columns, task_of
from imgsync.adapters.sql.tables import accounts, storable, sync_queue
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    MAX_CRASHES,
    SYNC_OPERATION,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)

_T = TypeVar("_T")
_LONGEST_LEASE = timedelta(days=1)
_KEYS_AT_ONCE = 1000
"""SQLite and PostgreSQL take some 32,000 values in one statement."""

_LARGEST_ID = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")
_MOST = 1_000_000
"""Counters beyond it are damage; adding to them could overflow."""

_MAIN, _CHILD = "main_account_id", "child_account_id"
_SEPARATORS = (":", ": ")
_task = sync_queue.c
# Made once, as making them takes longer than most statements.
_running, _chosen = sync_queue.alias("running").c, sync_queue.alias("chosen").c
_PENDING = _task.status == TaskStatus.PENDING.value
_PROCESSING = _task.status == TaskStatus.PROCESSING.value


def _counted(column: ColumnElement[int], step: int) -> ColumnElement[int]:
    """A counter one up or down; one that is no sensible number stays as it is."""
    return case((column.between(max(0, -step), _MOST), column + step), else_=column)


_UNCOUNTED = {"attempts": _counted(_task.attempts, -1)}
_NO_LEASE = {"lease_token": None, "lease_expires_at": None}


class SqlTaskQueue:
    """Implements the port `TaskQueue` on SQLite and PostgreSQL (FOR UPDATE SKIP LOCKED).

    `kinds`: values of `entity_type`; rows of another are left alone. `clock` is for tests; without
    it the time is the database's.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        kinds: Sequence[str] = (TASK_ENTITY_TYPE,),
    ) -> None:
        self._database = database
        self._clock = clock
        self._kinds = tuple(kinds)
        self._own = _task.entity_type.in_(self._kinds)

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return await self._change(lambda connection, now: _put(connection, now, tasks))

    async def claim(
        self, *, lease: timedelta, limit: int = 1, only: Sequence[TaskId] | None = None
    ) -> list[Task]:
        chosen = None if only is None else _numbers(only)

        def some_due(connection: Connection) -> bool:
            now = now_of(connection, self._clock)
            return _next_row(connection, now, chosen, self._kinds) is not None

        # Asked again and again by idle workers, which must not hold SQLite's only write lock.
        if self._database.dialect == "sqlite" and not await self._database.run(
            some_due, reads=True
        ):
            return []

        def take(connection: Connection, now: datetime) -> list[Task]:
            taken: list[Task] = []
            while len(taken) < limit:
                task = _claim_next(connection, now, lease, chosen, self._kinds)
                if task is None:
                    break
                taken.append(task)
            return taken

        return await self._change(take)

    async def renew(self, task: Task, *, lease: timedelta) -> None:
        await self._change(
            lambda connection, now: _held(
                connection, task, {"lease_expires_at": now + lease, "updated_at": now}
            )
        )

    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        values = {
            "result": storable(result),
            "warnings": [storable(w) for w in warnings],
            "error": None,
        }

        def end(connection: Connection, now: datetime) -> None:
            _end(connection, task, now, TaskStatus.COMPLETED, values)
            _check_again(connection, task, now)

        await self._change(end)

    async def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        await self._change(
            lambda connection, now: _put_back(
                connection,
                task,
                now,
                {"scheduled_at": now + delay, "error": storable(error)},
                check_again=check_again,
            )
        )

    async def fail(self, task: Task, *, error: str) -> None:
        values = {"error": storable(error)}
        await self._change(
            lambda connection, now: _end(connection, task, now, TaskStatus.FAILED, values)
        )

    async def release(self, task: Task, *, check_again: bool = False) -> None:
        await self._change(
            lambda connection, now: _put_back(
                connection,
                task,
                now,
                {"scheduled_at": now, **_UNCOUNTED},
                check_again=check_again,
            )
        )

    async def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        account = storable(account_id)

        def put_off(connection: Connection, now: datetime) -> int:
            wait = _parked_until(connection, account, until)
            if wait is None:
                _put_back(connection, task, now, {"scheduled_at": now, **_UNCOUNTED})
                return 0
            values = {"scheduled_at": wait, "parked_for": account, "error": storable(error)}
            _put_back(connection, task, now, {**values, **_UNCOUNTED})
            return _park_waiting(connection, account_id, now, values, self._kinds)

        return await self._change(put_off)

    async def unpark(self, account_id: str) -> int:
        waiting = update(sync_queue).where(
            self._own, _PENDING, _task.parked_for == storable(account_id)
        )
        return await self._change(
            lambda connection, now: (
                connection.execute(
                    waiting.values(scheduled_at=now, parked_for=None, updated_at=now)
                ).rowcount
            )
        )

    async def parked(self) -> int:
        query = select(func.count()).where(self._own, _PENDING, _task.parked_for.is_not(None))
        return await self._database.run(
            lambda connection: int(connection.execute(query).scalar_one()), reads=True
        )

    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        def release_all(connection: Connection, now: datetime) -> list[TaskId]:
            chosen = (
                _task.lease_expires_at > now + _LONGEST_LEASE
                if ids is None
                else _task.id.in_(_numbers(ids))
            )
            # Under a token of this call: the one that stands there may be none that can be read,
            # and a worker may settle its task at this very moment.
            taken = update(sync_queue).where(self._own, _PROCESSING, chosen)
            taken = taken.values(lease_token=uuid.uuid4().hex)
            rows = connection.execute(taken.returning(*raw_columns(connection)))
            held = [task_of(row) for row in sorted(rows, key=lambda row: row.id)]
            values = {"scheduled_at": now, **_UNCOUNTED}
            for task in held:
                # Whoever held it may be alive and have sent a request.
                _put_back(connection, task, now, values, check_again=True)
            return [task.id for task in held]

        return await self._change(release_all)

    async def counts(self) -> dict[TaskStatus, int]:
        query = select(_task.status, func.count()).where(self._own).group_by(_task.status)
        rows = await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )
        found: dict[str, int] = {row[0]: row[1] for row in rows}
        return {status: found.get(status.value, 0) for status in TaskStatus}

    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        chosen = [self._own] if status is None else [self._own, _task.status == status.value]

        def read(connection: Connection) -> list[Task]:
            query = select(*raw_columns(connection)).where(*chosen).order_by(_task.id.desc())
            return [task_of(row) for row in connection.execute(query.limit(limit).offset(offset))]

        return await self._database.run(read, reads=True)

    async def get(self, task_id: TaskId) -> Task | None:
        chosen = _task.id.in_(_numbers([task_id]))

        def read(connection: Connection) -> Task | None:
            query = select(*raw_columns(connection)).where(self._own, chosen)
            row = connection.execute(query).first()
            return task_of(row) if row else None

        return await self._database.run(read, reads=True)

    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        newer = sync_queue.alias("newer").c
        superseded = (
            select(newer.id)
            .where(
                newer.dedupe_key == _task.dedupe_key,
                # An older one waits where somebody has put it back by hand.
                or_(newer.id > _task.id, newer.status == TaskStatus.PENDING.value),
            )
            .exists()
        )
        chosen = update(sync_queue).where(
            self._own, _task.status == TaskStatus.FAILED.value, ~superseded
        )
        if ids is not None:
            chosen = chosen.where(_task.id.in_(_numbers(ids)))

        def put_back(connection: Connection, now: datetime) -> list[TaskId]:
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

        return await self._change(put_back)

    async def close(self) -> None:
        """Nothing: whoever opened the database closes it."""

    async def _change(self, work: Callable[[Connection, datetime], _T]) -> _T:
        """Runs `work` in a transaction that writes, with the present."""
        return await self._database.run(
            lambda connection: work(connection, now_of(connection, self._clock))
        )


def _put(connection: Connection, now: datetime, tasks: Sequence[NewTask]) -> list[Enqueued]:
    """Adds the tasks; a pending task of the same kind and key takes the newer one's place."""
    rows: dict[tuple[str, str | int], NewTask] = {}  # the last of each key, at the first's place
    places = []
    for number, task in enumerate(tasks):
        place = (task.kind, number if task.dedupe_key is None else storable(task.dedupe_key))
        rows[place] = task
        places.append(place)
    ids = _pending(connection, [place for place in rows if isinstance(place[1], str)])
    created = rows.keys() - ids.keys()
    changes = [{"this": ids[place], **_values(rows[place], now)} for place in ids]
    if changes:
        connection.execute(update(sync_queue).where(_task.id == bindparam("this")), changes)
    new = [place for place in rows if place in created]
    if new:
        found = connection.execute(
            insert(sync_queue).returning(_task.id, sort_by_parameter_order=True),
            [_new_values(rows[place], now) for place in new],
        )
        ids |= zip(new, found.scalars(), strict=True)
    enqueued = []
    for place in places:
        enqueued.append(Enqueued(ids[place], place in created))
        created.discard(place)
    return enqueued


def _pending(
    connection: Connection, keys: Sequence[tuple[str, str | int]]
) -> dict[tuple[str, str | int], int]:
    """Ids of the pending tasks of these kinds and keys, held until the transaction ends."""
    found: dict[tuple[str, str | int], int] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        query = (
            select(_task.entity_type, _task.dedupe_key, _task.id)
            .where(
                _PENDING,
                _task.entity_type.in_({kind for kind, _ in some}),
                _task.dedupe_key.in_([key for _, key in some]),
            )
            .order_by(_task.dedupe_key)  # as others lock them, so that none waits in a circle
            .with_for_update()
        )
        found |= {(row[0], row[1]): row[2] for row in connection.execute(query)}
    return {key: found[key] for key in keys if key in found}


def _values(task: NewTask, now: datetime) -> dict[str, Any]:
    """What a pending task of the same key takes over."""
    return {
        "payload": task.payload,
        "account_id": _storable(task.account_id),
        "entity_id": _storable(task.entity_id),
        "operation": SYNC_OPERATION,
        "priority": task.priority,
        "max_attempts": task.max_attempts,
        "attempts": 0,
        "crashes": 0,
        "scheduled_at": now + task.delay,
        "parked_for": None,
        "error": None,
        "updated_at": now,
    }


def _new_values(task: NewTask, now: datetime) -> dict[str, Any]:
    return {
        **_values(task, now),
        "entity_type": task.kind,
        "status": TaskStatus.PENDING.value,
        "dedupe_key": _storable(task.dedupe_key),
        "warnings": [],
        "created_at": now,
    }


def _numbers(ids: Sequence[TaskId]) -> list[int]:
    """The ids that a row can have; a text may be the number as a user writes it."""
    numbers = (int(i) if isinstance(i, str) and _DIGITS.fullmatch(i) else i for i in ids)
    return [number for number in numbers if isinstance(number, int) and abs(number) <= _LARGEST_ID]


def _claim_next(
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
            {"crashes": _counted(_task.crashes, 1), "check_again": True}
            if lapsed
            else {"attempts": _counted(_task.attempts, 1)}
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
            crashes=_counted(_task.crashes, 1),
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
    return -task.priority, task.scheduled_at, row.id


def _row(task: Task) -> Any:
    return update(sync_queue).where(_task.id == task.id)


def _next_due(
    connection: Connection, now: datetime, only: Sequence[int] | None, kind: str
) -> Select[tuple[object, ...]]:
    task, running, chosen = _task, _running, _chosen
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


def _parked_until(connection: Connection, account_id: str, until: datetime) -> datetime | None:
    """Until when the account's tasks wait; None where its parking has been ended meanwhile.

    The account cannot be stored anew before the transaction ends, so that whoever frees it finds
    the tasks that are parked here. `until` counts where no such account is stored.
    """
    query = select(accounts.c.parked_until).where(accounts.c.id == account_id)
    row = connection.execute(query.with_for_update(read=True)).first()
    return until if row is None else row.parked_until


def _park_waiting(
    connection: Connection,
    account_id: str,
    now: datetime,
    values: dict[str, Any],
    kinds: Sequence[str],
) -> int:
    """Writes `values` to the tasks that are due and name the account; how many they were.

    All in one statement. The child is a column, unless another program left it out. The main
    account, and then the child too, stands in the payload, which other programs write and no
    database may be made to decode: it is looked for as text. A task of which that does not tell
    is parked by itself once it is claimed.

    Those that wait for a later time of their own keep it, and those that another host is about to
    claim are left to it.
    """
    due = (
        select(_task.id)
        .where(
            _task.entity_type.in_(kinds),
            _task.status == TaskStatus.PENDING.value,
            _task.scheduled_at <= now,
            _names(connection, account_id),
        )
        .with_for_update(skip_locked=True)
    )
    return connection.execute(
        update(sync_queue).where(_task.id.in_(due)).values(**values, updated_at=now)
    ).rowcount


def _names(connection: Connection, account_id: str) -> ColumnElement[bool]:
    """Whether the task says that it is for the account.

    Without the column, the dedupe key (``CHILD/TYPE/ENTITY``) may name the child.
    """
    position = func.strpos if connection.dialect.name == "postgresql" else func.instr
    payload = cast(_task.payload, Text)

    def spelled(field: str) -> list[ColumnElement[bool]]:
        texts = dict.fromkeys(_spellings(field, account_id))
        return [position(payload, text) > 0 for text in texts]

    child = storable(account_id)
    prefix = func.substr(_task.dedupe_key, 1, len(child) + 1) == child + "/"
    return or_(
        _task.account_id == child,
        and_(_task.account_id.is_(None), or_(prefix, *spelled(_CHILD))),
        *spelled(_MAIN),
    )


def _spellings(field: str, account_id: str) -> Iterator[str]:
    """The field as programs write it. Inside of a JSON text the quotes would be escaped."""
    for separator in _SEPARATORS:
        for ascii_only in (True, False):
            value = json.dumps(account_id, ensure_ascii=ascii_only)
            yield storable(f'"{field}"{separator}{value}')


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
