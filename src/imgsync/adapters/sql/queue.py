"""The task queue in the table sync_queue.

A claim writes to the row by its id and reads nothing that it needs: whatever another program wrote
there, the row is taken, and fails on its own.
"""

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Select,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    update,
)

from imgsync.adapters.sql.claiming import Claim, Statements, counted
from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.enqueueing import Enqueueing
from imgsync.adapters.sql.prepared import Prepared, among
from imgsync.adapters.sql.rows import raw_columns, task_of
from imgsync.adapters.sql.tables import UtcDateTime, accounts, storable, sync_counts, sync_queue
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.model import AccountRole
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)

_T = TypeVar("_T")
_LONGEST_LEASE = timedelta(days=1)
_LARGEST_ID = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")

_MAIN, _CHILD = "main_account_id", "child_account_id"
_SEPARATORS = (":", ": ")
_task = sync_queue.c


def _is(status: TaskStatus) -> ColumnElement[bool]:
    """Said as the partial indexes say it: SQLite uses none of them for a bound value."""
    this = _task.status == literal_column(f"'{status}'")
    return this if status not in _ENDED else and_(this, text("status IN ('completed', 'failed')"))


_ENDED = (TaskStatus.COMPLETED, TaskStatus.FAILED)
_PENDING, _PROCESSING = _is(TaskStatus.PENDING), _is(TaskStatus.PROCESSING)


def is_there(query: Select[Any]) -> ColumnElement[bool]:
    """Whether the query, correlated to a task, finds a row. Not by EXISTS: PostgreSQL would join
    all tasks for it, where few are asked about."""
    return query.limit(1).scalar_subquery().is_not(None)


_newer, _older = sync_queue.alias("newer").c, sync_queue.alias("older").c
_SUPERSEDED = is_there(
    select(_newer.id).where(
        _newer.dedupe_key == _task.dedupe_key,
        # An older one waits where somebody has put it back by hand.
        or_(_newer.id > _task.id, _newer.status == TaskStatus.PENDING.value),
    )
)
_SUPERSEDES = is_there(
    select(_older.id).where(
        _older.dedupe_key == _task.dedupe_key,
        _older.id < _task.id,
        _older.status == TaskStatus.FAILED.value,
    )
)


_waits = or_(_PENDING, _PROCESSING)


_UNCOUNTED = {"attempts": counted(_task.attempts, -1)}
_NO_LEASE = {"lease_token": None, "lease_expires_at": None}
_HELD = (
    update(sync_queue)
    .where(
        _task.id == bindparam("this"),
        _PROCESSING,
        # A row that another program marked as processing has no token.
        _task.lease_token.is_not_distinct_from(bindparam("token", type_=Text)),
    )
    .values(updated_at=bindparam("now", type_=UtcDateTime))
)
_RENEW = _HELD.values(lease_expires_at=bindparam("until", type_=UtcDateTime))
_COMPLETE = _HELD.values(
    status=TaskStatus.COMPLETED.value,
    result=bindparam("result", type_=Text),
    warnings=bindparam("warnings", type_=JSON),
    error=null(),
    **{name: null() for name in _NO_LEASE},
).returning(case((_task.check_again, 1), else_=0).label("check_again"))


_MERGE_COUNTS = text(
    """
    WITH free AS (SELECT id FROM sync_counts FOR UPDATE SKIP LOCKED), gone AS (
        DELETE FROM sync_counts WHERE id IN (SELECT id FROM free)
        RETURNING entity_type, account_id, status, tasks
    )
    INSERT INTO sync_counts (entity_type, account_id, status, tasks)
    SELECT entity_type, account_id, status, sum(tasks) FROM gone GROUP BY 1, 2, 3
    HAVING sum(tasks) <> 0
    """
)
"""Of several rows that stand for the same makes one, of those that nobody holds."""


@dataclass(slots=True)
class _Looks:
    """By account: who looks which tasks name it, one after another, and the look that begins
    next."""

    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    following: dict[str, asyncio.Task[list[int]]] = field(default_factory=dict)


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
        self._claims = Statements(database.dialect, self._kinds)
        self._enqueueing = Enqueueing(database.dialect, self._kinds)
        self._complete = Prepared(database.dialect, _COMPLETE)
        self._renew = Prepared(database.dialect, _RENEW)
        self._busy = False
        # A program may run one event loop after another, and a lock is of one.
        self._looks = WeakKeyDictionary[asyncio.AbstractEventLoop, _Looks]()

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return await self._change(
            lambda connection, now: self._enqueueing.put(connection, now, tasks)
        )

    async def claim(
        self, *, lease: timedelta, limit: int = 1, only: Sequence[TaskId] | None = None
    ) -> list[Task]:
        chosen = None if only is None else numbers(only)
        if limit < 1 or chosen == []:
            return []

        def claim_of(connection: Connection, now: datetime) -> Claim:
            return Claim(connection, self._claims, now, lease, limit, chosen)

        def some_due(connection: Connection) -> bool:
            return bool(claim_of(connection, now_of(connection, self._clock)).children())

        # Asked again and again by idle workers, which must not hold SQLite's only write lock.
        looks_first = self._database.dialect == "sqlite" and not self._busy
        if looks_first and not await self._database.run(some_due, reads=True):
            return []
        taken = await self._change(lambda connection, now: claim_of(connection, now).take())
        self._busy = bool(taken)
        return taken

    async def renew(self, task: Task, *, lease: timedelta) -> None:
        def hold(connection: Connection, now: datetime) -> None:
            held = {"this": task.id, "token": task.lease_token, "now": now}
            if self._renew.run(connection, **held, until=now + lease).rowcount != 1:
                raise _lost()

        await self._change(hold)

    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        values = {
            "result": storable(result),
            "warnings": json.dumps([storable(w) for w in warnings]),
        }

        def end(connection: Connection, now: datetime) -> None:
            held = {"this": task.id, "token": task.lease_token, "now": now}
            found = self._complete.run(connection, **held, **values).first()
            if found is None:
                raise _lost()
            if found.check_again:
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
        # Beforehand: it reads payloads, and SQLite has one lock for all that write.
        named = await self._named(account_id)

        def put_off(connection: Connection, now: datetime) -> int:
            wait = _parked_until(connection, account, until)
            if wait is None:
                _put_back(connection, task, now, {"scheduled_at": now, **_UNCOUNTED})
                return 0
            values = {"scheduled_at": wait, "parked_for": account, "error": storable(error)}
            _put_back(connection, task, now, {**values, **_UNCOUNTED})
            return _park_waiting(connection, account_id, now, values, self._kinds, named)

        return await self._change(put_off, alone=True)

    async def _named(self, account_id: str) -> list[int]:
        """Ids of due tasks of which the account is not the child by its column, but is named.

        Many tasks of an account fail at once: whoever comes while it is being looked for waits for
        the next look, together with the others.
        """

        loop = asyncio.get_running_loop()
        looks = self._looks.setdefault(loop, _Looks())

        async def look() -> list[int]:
            async with looks.locks.setdefault(account_id, asyncio.Lock()):
                looks.following.pop(account_id, None)
                return await self._database.run(
                    lambda connection: _find_named(
                        connection, account_id, now_of(connection, self._clock), self._kinds
                    ),
                    reads=True,
                )

        waiting = looks.following.get(account_id)
        if waiting is None:
            waiting = looks.following[account_id] = loop.create_task(look())
        return await asyncio.shield(waiting)

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
        # Chosen by the index of what is parked alone: asked for what is pending, SQLite would take
        # the index of what is due, and look at each row.
        is_pending = and_(self._own, _task.status == TaskStatus.PENDING.value)
        query = select(func.count().filter(is_pending)).where(_task.parked_for >= "")
        return await self._database.run(
            lambda connection: int(connection.execute(query).scalar_one()), reads=True
        )

    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        def release_all(connection: Connection, now: datetime) -> list[TaskId]:
            chosen = (
                _task.lease_expires_at > now + _LONGEST_LEASE
                if ids is None
                else _task.id.in_(numbers(ids))
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

        return await self._change(release_all, alone=True)

    async def counts(self) -> dict[TaskStatus, int]:
        row = sync_counts.c
        counted = select(row.status, func.sum(row.tasks)).where(row.entity_type.in_(self._kinds))
        rows = await self._database.run(
            lambda connection: connection.execute(counted.group_by(row.status)).all(), reads=True
        )
        found = {status: int(number) for status, number in rows}
        return {status: found.get(status.value, 0) for status in TaskStatus}

    async def waiting(self, keys: Collection[str]) -> set[str]:
        stored = {key: storable(key) for key in keys}
        query = select(_task.dedupe_key).where(
            self._own, _task.dedupe_key.in_(sorted(set(stored.values()))), _waits
        )
        there = await self._database.run(
            lambda connection: set(connection.execute(query).scalars()), reads=True
        )
        return {key for key, text in stored.items() if text in there}

    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        chosen = [self._own] if status is None else [self._own, _is(status)]

        def read(connection: Connection) -> list[Task]:
            query = select(*raw_columns(connection)).where(*chosen).order_by(_task.id.desc())
            return [task_of(row) for row in connection.execute(query.limit(limit).offset(offset))]

        return await self._database.run(read, reads=True)

    async def get(self, task_id: TaskId) -> Task | None:
        chosen = _task.id.in_(numbers([task_id]))

        def read(connection: Connection) -> Task | None:
            query = select(*raw_columns(connection)).where(self._own, chosen)
            row = connection.execute(query).first()
            return task_of(row) if row else None

        return await self._database.run(read, reads=True)

    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        chosen = update(sync_queue).where(self._own, _is(TaskStatus.FAILED), ~_SUPERSEDED)
        if ids is not None:
            chosen = chosen.where(_task.id.in_(numbers(ids)))

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

        return await self._change(put_back, alone=True)

    async def prune(self, *, completed: timedelta, failed: timedelta, limit: int = 500) -> int:
        def delete_some(connection: Connection, now: datetime) -> int:
            gone = 0
            for past in (
                (_is(TaskStatus.FAILED), _task.updated_at < now - completed, _SUPERSEDED),
                (_is(TaskStatus.COMPLETED), _task.updated_at < now - completed),
                (_is(TaskStatus.FAILED), _task.updated_at < now - failed),
            ):
                some = select(_task.id).where(self._own, *past, ~_SUPERSEDES).limit(limit - gone)
                ids = connection.execute(some.with_for_update(skip_locked=True)).scalars().all()
                if ids:
                    connection.execute(delete(sync_queue).where(_task.id.in_(ids)))
                gone += len(ids)
            if gone < limit and connection.dialect.name == "postgresql":
                connection.execute(_MERGE_COUNTS)
            return gone

        return await self._change(delete_some, alone=True)

    async def close(self) -> None:
        """Nothing: whoever opened the database closes it."""

    async def _change(
        self, work: Callable[[Connection, datetime], _T], *, alone: bool = False
    ) -> _T:
        """Runs `work` in a transaction that writes, with the present."""
        return await self._database.run(
            lambda connection: work(connection, now_of(connection, self._clock)), alone=alone
        )


def numbers(ids: Sequence[TaskId]) -> list[int]:
    """The ids that a row can have; a text may be the number as a user writes it."""
    found = (int(i) if isinstance(i, str) and _DIGITS.fullmatch(i) else i for i in ids)
    return [number for number in found if isinstance(number, int) and abs(number) <= _LARGEST_ID]


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
    named: Sequence[int],
) -> int:
    """Writes `values` to the tasks that are due and name the account; how many they were.

    Those whose child it is are found by the column, others among the ids of `_find_named`, where
    they still name it. A task that was queued since then is parked by itself once it is claimed.

    Those that wait for a later time of their own keep it, and those that another host is about to
    claim are left to it.
    """
    due = and_(_task.entity_type.in_(kinds), _PENDING, _task.scheduled_at <= now)
    parked = 0
    for these in (
        _task.account_id == storable(account_id),
        and_(among_ids(connection, named), _names(connection, account_id)),
    ):
        ids = select(_task.id).where(due, these).with_for_update(skip_locked=True)
        change = update(sync_queue).where(_task.id.in_(ids)).values(**values, updated_at=now)
        parked += connection.execute(change).rowcount
        if not named:
            break
    return parked


def among_ids(connection: Connection, ids: Sequence[int]) -> TextClause:
    """Whether a task is one of these, however many they are."""
    dialect = connection.dialect.name
    # As a text on PostgreSQL too: the driver would look at each of thousands.
    given = json.dumps(ids) if dialect == "sqlite" else f"{{{','.join(map(str, ids))}}}"
    return text(f"sync_queue.id {among(dialect, 'named')}").bindparams(named=given)


def _find_named(
    connection: Connection, account_id: str, now: datetime, kinds: Sequence[str]
) -> list[int]:
    query = select(_task.id).where(
        _task.entity_type.in_(kinds),
        _PENDING,
        _task.scheduled_at <= now,
        _names(connection, account_id),
    )
    role = select(accounts.c.role).where(accounts.c.id == account_id)
    if connection.execute(role).scalar() == AccountRole.CHILD.value:
        # A child is nobody's main account, so that few payloads need be looked into. Said as the
        # indexes of what waits say it.
        query = query.where(text("coalesce(sync_queue.account_id, '') = ''"))
    return list(connection.execute(query).scalars())


def _names(connection: Connection, account_id: str) -> ColumnElement[bool]:
    """Whether the task says, but not by its column, that it is for the account.

    The main account, and without the column the child, stands in the payload, which other programs
    write and no database may be made to decode: it is looked for as text. Without the column, the
    dedupe key (``CHILD/TYPE/ENTITY``) may name the child too. A task of which that does not tell
    is parked by itself once it is claimed.
    """
    position = func.strpos if connection.dialect.name == "postgresql" else func.instr
    payload = cast(_task.payload, Text)

    def spelled(field: str) -> list[ColumnElement[bool]]:
        texts = dict.fromkeys(_spellings(field, account_id))
        return [position(payload, text) > 0 for text in texts]

    child = storable(account_id)
    # One look into most payloads, in place of one for each spelling.
    anywhere = or_(*(position(payload, text) > 0 for text in dict.fromkeys(_values(account_id))))
    prefix = func.substr(_task.dedupe_key, 1, len(child) + 1) == child + "/"
    return and_(
        _task.account_id.is_distinct_from(child),
        or_(
            and_(_task.account_id.is_(None), prefix),
            and_(
                anywhere,
                or_(and_(_task.account_id.is_(None), or_(*spelled(_CHILD))), *spelled(_MAIN)),
            ),
        ),
    )


def _values(account_id: str) -> Iterator[str]:
    """The account as programs write it. Inside of a JSON text the quotes would be escaped."""
    for ascii_only in (True, False):
        yield storable(json.dumps(account_id, ensure_ascii=ascii_only))


def _spellings(field: str, account_id: str) -> Iterator[str]:
    for separator in _SEPARATORS:
        for value in _values(account_id):
            yield f'"{field}"{separator}{value}'


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
        raise _lost()


def _lost() -> LeaseLostError:
    return LeaseLostError("another worker holds the task now")


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
    # One of another kind does not do all of this one's work.
    if check_again or task.check_again or _kind(connection, newer) != task.kind:
        _ask_for_check(connection, newer)


def _check_again(connection: Connection, task: Task, now: datetime) -> None:
    """Queues the later check of a task that changed hands.

    Its lost owner may have sent a request that reaches the child only after the heir's: the task
    would say "completed" over old images. The check is an ordinary task, which does not ask for
    another, and costs two requests where nothing is wrong.
    """
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


def _kind(connection: Connection, task_id: int) -> str | None:
    kind: str | None = connection.execute(
        select(_task.entity_type).where(_task.id == task_id)
    ).scalar()
    return kind


def _pending_of_same_key(connection: Connection, task: Task) -> int | None:
    """Id of the pending task that writes the same child entity, if any."""
    this = sync_queue.alias("this").c
    key = select(this.dedupe_key).where(this.id == task.id).scalar_subquery()
    found: int | None = connection.execute(
        select(_task.id).where(_PENDING, _task.dedupe_key == key, _task.id != task.id)
    ).scalar()
    return found
