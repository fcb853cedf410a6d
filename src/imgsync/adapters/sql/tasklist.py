"""The tasks of the table sync_queue as a person looks at them."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Subquery,
    Text,
    TextClause,
    and_,
    case,
    cast,
    collate,
    delete,
    func,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy import text as sql

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.queue import among_ids, is_there, numbers
from imgsync.adapters.sql.rows import Reader, raw, raw_columns, task_of
from imgsync.adapters.sql.tables import CANCELLED_ONES, FAILED, WARNED, storable, sync_queue
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.tasks import CANCELLED, TaskPage
from imgsync.domain.tasks import TASK_ENTITY_TYPE, Task, TaskId, TaskStatus

_task = sync_queue.c
_LOOKED_AT = 2_500
"""Tasks in which at most is looked at once for what no index has, such as a text."""
_FIRST_LOOK = 200
"""Tasks that are looked at first, as many a filter fits most; the next look is at more."""
_TOLD_APART = 10_000
"""Of those whose status is `failed`, in which superseded ones are counted."""
_BY_ID: ColumnElement[int] = literal_column("id + 0", BigInteger)
"""As the indexes have it."""
_NO_SORT = sql("SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)")
"""While no statistics have been gathered, PostgreSQL takes all tasks of a status for a few, and
would sort them. What it must sort all the same then looks so dear to it that it would compile the
statement, which takes a second."""


def _superseded(these: FromClause) -> ColumnElement[bool]:
    """Of failed tasks: whether a newer one of its key is there."""
    newer = sync_queue.alias("newer").c
    key = newer.dedupe_key == these.c.dedupe_key
    return is_there(select(newer.id).where(key, newer.id > these.c.id).correlate(these))


SUPERSEDED = _superseded(sync_queue)
ENDED_APART = (CANCELLED, "superseded")
_UNWARNED = func.coalesce(func.length(cast(_task.warnings, Text)), 0) <= len("[]")
_SEARCHED = (
    cast(_task.payload, Text),
    _task.dedupe_key,
    _task.error,
    _task.result,
)


class SqlTaskList:
    """Implements the port `TaskList` on SQLite and PostgreSQL. `kinds`: as of `SqlTaskQueue`."""

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        kinds: Sequence[str] = (TASK_ENTITY_TYPE,),
    ) -> None:
        self._database = database
        self._clock = clock
        self._own = _task.entity_type.in_(tuple(kinds))

    async def find(
        self,
        *,
        child: str | None = None,
        status: TaskStatus | None = None,
        text: str = "",
        since: datetime | None = None,
        warned: bool | None = None,
        cancelled: bool | None = None,
        superseded: bool | None = None,
        before: TaskId | None = None,
        limit: int = 50,
    ) -> TaskPage:
        first: int | None = None
        if before is not None:
            this = numbers([before])
            if not this:
                return TaskPage(())
            first = this[0]
        text = storable(text).strip()
        looked_for = [_has(self._database.dialect, text)] if text else []
        is_failed = status is TaskStatus.FAILED or (status is None and bool(superseded))
        by_key = superseded is not None and is_failed and child is None and not warned
        if since is not None:
            looked_for.append(_task.created_at >= since)
        if warned is False:
            looked_for.append(_UNWARNED)
        if cancelled is not None:
            is_cancelled = and_(
                _task.status == TaskStatus.FAILED.value, func.coalesce(_task.error, "") == CANCELLED
            )
            looked_for.append(is_cancelled if cancelled else ~is_cancelled)
        if superseded is not None and not by_key:
            is_superseded = and_(_task.status == TaskStatus.FAILED.value, SUPERSEDED)
            looked_for.append(is_superseded if superseded else ~is_superseded)
        if looked_for or by_key:
            # The ids of others come too, as an index alone tells them, and not the kind.
            looked_for.append(self._own)

        def newest(at: int | None, number: int) -> Select[Any]:
            if by_key:
                these = _newest_failed(at, number)
                fits = _superseded(these) if superseded else ~_superseded(these)
                return select(these.c.id, case((fits, 1), else_=0))
            if warned:
                return _newest_warned(child, status, at, number).where(self._own)
            also: list[ColumnElement[bool]] = [] if looked_for else [self._own]
            if at is not None:
                # As the index has the id that is to be taken.
                also.append((_task.id if child is None and status is None else _BY_ID) < at)
            return _newest(child, status, also, number)

        def read(connection: Connection) -> TaskPage:
            if connection.dialect.name == "postgresql":
                connection.execute(_NO_SORT)
            columns = raw_columns(connection)
            found: list[Task] = []
            step = max(limit, _FIRST_LOOK) if looked_for else limit
            at, looked_at = first, 0
            while True:
                rows = connection.execute(newest(at, step + 1)).all()
                has_more, rows = len(rows) > step, rows[:step]
                if rows:
                    ids = [int(row[0]) for row in rows if not by_key or row[1]]
                    query = select(*columns).where(among_ids(connection, ids), *looked_for)
                    query = query.order_by(_task.id.desc()).limit(limit - len(found))
                    found += [task_of(row) for row in connection.execute(query)]
                    at = int(rows[-1][0])
                if looked_for and len(found) == limit:
                    end: int | None = int(found[-1].id)
                    break
                end = at if has_more else None
                if since is not None and end is not None:
                    # The later an id, the later it was queued; what follows is older still.
                    last = connection.scalar(select(_task.created_at).where(_task.id == end))
                    end = end if last is not None and last >= since else None
                looked_at += len(rows)
                if not looked_for or end is None or looked_at >= _LOOKED_AT:
                    break
                step = min(step * 4, _LOOKED_AT - looked_at)
            failed = [int(task.id) for task in found if task.status is TaskStatus.FAILED]
            these = select(_task.id).where(among_ids(connection, failed), SUPERSEDED)
            gone = frozenset(connection.scalars(these)) if failed else frozenset()
            return TaskPage(tuple(found), end, gone)

        return await self._database.run(read, reads=True)

    async def count_ended(self) -> dict[str, int]:
        def count(connection: Connection) -> dict[str, int]:
            found = dict.fromkeys(ENDED_APART, 0)
            for (_, word), number in told_apart(connection, self._own).items():
                found[word] += number
            return found

        return await self._database.run(count, reads=True)

    async def cancel(self, ids: Sequence[TaskId]) -> list[TaskId]:
        pending = and_(self._own, _task.status == TaskStatus.PENDING.value)
        these = update(sync_queue).where(_task.id.in_(numbers(ids)), pending)

        def end(connection: Connection) -> list[TaskId]:
            now = now_of(connection, self._clock)
            values = {
                "status": TaskStatus.FAILED.value,
                "error": CANCELLED,
                "parked_for": None,
                "updated_at": now,
            }
            ended = connection.execute(these.values(values).returning(_task.id))
            return sorted(ended.scalars())

        return await self._database.run(end, alone=True)

    async def delete(self, ids: Sequence[TaskId]) -> list[TaskId]:
        chosen = and_(
            self._own,
            _task.id.in_(numbers(ids)),
            _task.status != TaskStatus.PROCESSING.value,
        )
        newer = sync_queue.alias("newer").c
        superseded = is_there(
            select(newer.id).where(
                newer.id.in_(numbers(ids)),
                newer.status != TaskStatus.PROCESSING.value,
                newer.dedupe_key == _task.dedupe_key,
                newer.id > _task.id,
            )
        )

        def drop(connection: Connection) -> list[TaskId]:
            keys = select(_task.dedupe_key).where(chosen, _task.dedupe_key.is_not(None))
            old = [
                self._own,
                _task.dedupe_key.in_(list(connection.execute(keys).scalars())),
                _task.status == TaskStatus.FAILED.value,
                superseded,
            ]
            connection.execute(delete(sync_queue).where(*old, _task.id.not_in(numbers(ids))))
            gone = connection.execute(delete(sync_queue).where(chosen).returning(_task.id))
            return sorted(gone.scalars())

        return await self._database.run(drop, alone=True)


def told_apart(connection: Connection, *chosen: ColumnElement[bool]) -> dict[tuple[str, str], int]:
    """Of the tasks whose status is `failed`, by child ('' for none) and `ENDED_APART` how many
    somebody cancelled, and how many of the others, among the newest 10,000, a newer task has
    superseded."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NO_SORT)
    newest = _newest_failed(None, _TOLD_APART)
    superseded = and_(
        _task.id.in_(select(newest.c.id).where(_superseded(newest))),
        _task.error.is_distinct_from(CANCELLED),
    )
    child = raw(connection.dialect.name, _task.account_id).label("child")
    found: dict[tuple[str, str], int] = {}
    apart: tuple[ColumnElement[bool] | TextClause, ...] = (CANCELLED_ONES, superseded)
    for word, these in zip(ENDED_APART, apart, strict=True):
        counted: Select[Any] = select(child, func.count().label("tasks")).where(these, *chosen)
        # By both, as the index of cancelled ones has them: SQLite would take one of all tasks.
        for row in connection.execute(counted.group_by(_task.entity_type, _task.account_id)):
            of = (Reader(row).text("child") or "", word)
            found[of] = found.get(of, 0) + int(row.tasks)
    return found


def _newest_failed(before: int | None, limit: int) -> Subquery:
    """Ids and keys, of tasks of any kind, which their index has."""
    newest = select(_task.id, _task.dedupe_key).where(FAILED)
    if before is not None:
        newest = newest.where(_task.id < before)
    return newest.order_by(_task.id.desc()).limit(limit).subquery("failed")


def _newest(
    child: str | None,
    status: TaskStatus | None,
    also: Sequence[ColumnElement[bool]],
    limit: int,
) -> Select[Any]:
    """Ids of the newest that fit. Each status is asked for by itself, as the indexes are by status
    and then by id: what is sorted is as long as the page, however many tasks there are."""
    if child is None and status is None:
        return select(_task.id).where(*also).order_by(_task.id.desc()).limit(limit)
    parts = []
    for one in TaskStatus if status is None else (status,):
        part = select(_task.id).where(*_filter(child, one), *also)
        part = part.order_by(_BY_ID.desc()).limit(limit)
        # In a query of its own: SQLite takes no LIMIT within a union.
        parts.append(select(part.subquery().c.id))
    found = union_all(*parts).subquery()
    return select(found.c.id).order_by(found.c.id.desc()).limit(limit)


def _newest_warned(
    child: str | None, status: TaskStatus | None, before: int | None, limit: int
) -> Select[Any]:
    """Of those with warnings, which have indexes of their own; by status they are few enough. What
    is asked for is said as no other index has it, as SQLite would take that."""
    wanted: list[ColumnElement[bool]] = []
    if child is not None:
        wanted.append(func.coalesce(_task.account_id, literal_column("''")) == storable(child))
    if status is not None:
        wanted.append(_task.status == status.value)
    if before is not None:
        wanted.append(before > _BY_ID)
    return select(_task.id).where(WARNED, *wanted).order_by(_BY_ID.desc()).limit(limit)


def _filter(child: str | None, status: TaskStatus | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if child is not None:
        wanted.append(_task.account_id == storable(child))
    if status is not None:
        of_index: Any = sql(f"coalesce(status, '') = '{status.value}'")
        wanted.append(of_index if child is None else _task.status == status.value)
    return wanted


def _has(dialect: str, text: str) -> ColumnElement[bool]:
    patterns = list(_patterns(text))

    def is_in(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        if dialect == "sqlite":
            # Its LIKE takes capitals of ASCII for small letters by itself.
            return column.like(pattern, escape="!")
        if text.isascii():
            # PostgreSQL folds the letters of all languages else, which takes five times as long.
            column = collate(cast(column, Text), "C")
        return column.ilike(pattern, escape="!")

    return or_(*(is_in(column, pattern) for column in _SEARCHED for pattern in patterns))


def _patterns(text: str) -> Iterator[str]:
    """The text as it may stand there. Databases know the cases of ASCII letters for certain, and no
    others; JSON may have those others escaped."""
    spellings: dict[str, str] = {}
    for one in (text, text.lower(), text.upper(), text.capitalize(), text.title()):
        for spelling in (one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]):
            spellings.setdefault(_folded(spelling), spelling)
    for spelling in spellings.values():
        yield "%" + "".join(f"!{c}" if c in "%_!" else c for c in spelling) + "%"


def _folded(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)
