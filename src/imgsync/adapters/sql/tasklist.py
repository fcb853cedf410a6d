"""The tasks of the table sync_queue as a person looks at them."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    cast,
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
from imgsync.adapters.sql.queue import among_ids, numbers
from imgsync.adapters.sql.rows import raw_columns, task_of
from imgsync.adapters.sql.tables import storable, sync_queue
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.tasks import CANCELLED, TaskPage
from imgsync.domain.tasks import TASK_ENTITY_TYPE, TaskId, TaskStatus

_task = sync_queue.c
_LOOKED_AT = 10_000
"""Tasks in which a text is looked for at once: a fraction of a second."""
_BY_ID: ColumnElement[int] = literal_column("id + 0", BigInteger)
"""As the indexes have it."""
_NO_SORT = sql("SET LOCAL enable_sort = off")
"""While no statistics have been gathered, PostgreSQL takes all tasks of a status for a few, and
would sort them."""
_newer = sync_queue.alias("newer").c
_SUPERSEDED = (
    select(_newer.id)
    .where(_newer.dedupe_key == _task.dedupe_key, _newer.id > _task.id)
    .correlate(sync_queue)
    .exists()
)
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
        superseded: bool | None = None,
        before: TaskId | None = None,
        limit: int = 50,
    ) -> TaskPage:
        older: list[ColumnElement[bool]] = []
        if before is not None:
            this = numbers([before])
            if not this:
                return TaskPage(())
            older = [(_task.id if child is None and status is None else _BY_ID) < this[0]]
        text = storable(text).strip()
        looked_for = [_has(text)] if text else []
        if since is not None:
            looked_for.append(_task.created_at >= since)
        if warned is not None:
            has_some = func.length(cast(_task.warnings, Text)) > len("[]")
            looked_for.append(has_some if warned else ~has_some)
        if superseded is not None:
            is_superseded = and_(_task.status == TaskStatus.FAILED.value, _SUPERSEDED)
            looked_for.append(is_superseded if superseded else ~is_superseded)
        looked_at = _LOOKED_AT if looked_for else limit
        chosen = _newest(child, status, [self._own, *older], looked_at + 1)

        def read(connection: Connection) -> TaskPage:
            if connection.dialect.name == "postgresql":
                connection.execute(_NO_SORT)
            ids: list[int] = list(connection.scalars(chosen))
            end: int | None = None if len(ids) <= looked_at else ids[looked_at - 1]
            if not ids:
                return TaskPage(())
            query = select(*raw_columns(connection)).order_by(_task.id.desc())
            query = query.where(among_ids(connection, ids[:looked_at]), *looked_for)
            found = [task_of(row) for row in connection.execute(query.limit(limit))]
            if looked_for and len(found) == limit:
                end = int(found[-1].id)
            elif since is not None and end is not None:
                # The later an id, the later it was queued; what follows is older still.
                last = connection.scalar(select(_task.created_at).where(_task.id == end))
                end = end if last is not None and last >= since else None
            failed = [int(task.id) for task in found if task.status is TaskStatus.FAILED]
            these = select(_task.id).where(among_ids(connection, failed), _SUPERSEDED)
            gone = frozenset(connection.scalars(these)) if failed else frozenset()
            return TaskPage(tuple(found), end, gone)

        return await self._database.run(read, reads=True)

    async def count_ended(self) -> dict[str, int]:
        failed = _newest(None, TaskStatus.FAILED, [self._own], _LOOKED_AT).subquery()

        is_cancelled = _task.error == CANCELLED
        others = and_(or_(_task.error.is_(None), _task.error != CANCELLED), _SUPERSEDED)

        def count(connection: Connection) -> dict[str, int]:
            if connection.dialect.name == "postgresql":
                connection.execute(_NO_SORT)
            these = _task.id.in_(select(failed.c.id))
            found = {}
            for name, chosen in ((CANCELLED, is_cancelled), ("superseded", others)):
                counted = select(func.count()).select_from(sync_queue).where(these, chosen)
                found[name] = int(connection.scalar(counted) or 0)
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
        superseded = (
            select(newer.id)
            .where(
                newer.id.in_(numbers(ids)),
                newer.status != TaskStatus.PROCESSING.value,
                newer.dedupe_key == _task.dedupe_key,
                newer.id > _task.id,
            )
            .exists()
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


def _newest(
    child: str | None, status: TaskStatus | None, also: Sequence[ColumnElement[bool]], limit: int
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


def _filter(child: str | None, status: TaskStatus | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if child is not None:
        wanted.append(_task.account_id == storable(child))
    if status is not None:
        of_index: Any = sql("coalesce(status, '') = :status").bindparams(status=status.value)
        wanted.append(of_index if child is None else _task.status == status.value)
    return wanted


def _has(text: str) -> ColumnElement[bool]:
    patterns = list(_patterns(text))
    return or_(*(column.ilike(pattern, escape="!") for column in _SEARCHED for pattern in patterns))


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
