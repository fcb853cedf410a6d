"""The log of changes of children's lists."""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    or_,
    select,
    text,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.prepared import Prepared
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import changes, storable
from imgsync.domain.changes import Change, ChangeAction, ListedImage
from imgsync.domain.diff import EntityKey
from imgsync.domain.ports.clock import Clock

_log = logging.getLogger(__name__)
_BEGIN = text(
    "INSERT INTO changes (run, action, main_account_id, child_account_id, entity_type,"
    " main_entity_id, child_entity_id, entity_name, before, backup, changed_at, entity_code)"
    " VALUES (:run, :action, :main_account_id, :child_account_id, :entity_type,"
    " :main_entity_id, :child_entity_id, :entity_name, :before, :backup, :changed_at,"
    " :entity_code)"
    " RETURNING id"
)
_FINISH = text("UPDATE changes SET after = :after WHERE id = :id")


class SqlChangeLog:
    """Implements the port `ChangeLog`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._begin = Prepared(database.dialect, _BEGIN)
        self._finish = Prepared(database.dialect, _FINISH)

    async def begin(self, change: Change) -> int:
        values = {
            "run": storable(change.run),
            "action": change.action.value,
            "main_account_id": storable(change.main_account_id),
            "child_account_id": storable(change.key.child_account_id),
            "entity_type": storable(change.key.entity_type),
            "main_entity_id": storable(change.main_entity_id),
            "child_entity_id": storable(change.key.child_entity_id),
            "entity_name": storable(change.entity_name),
            "entity_code": storable(change.entity_code) or None,
            "before": _written(change.before),
            "backup": None if change.backup is None else storable(change.backup),
        }

        def work(connection: Connection) -> int:
            now = now_of(connection, self._clock)
            given: int = self._begin.run(connection, **values, changed_at=now).scalar_one()
            return given

        return await self._database.run(work)

    async def finish(self, change_id: int, after: Sequence[ListedImage]) -> None:
        written = _written(after)
        await self._database.run(
            lambda connection: self._finish.run(connection, id=change_id, after=written)
        )

    async def get(self, change_id: int) -> Change | None:
        found = await self._select([changes.c.id == change_id], 1)
        return found[0] if found else None

    async def find(
        self,
        *,
        run: str | None = None,
        child_account_id: str | None = None,
        entity: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Change]:
        conditions: list[ColumnElement[bool]] = []
        if run is not None:
            conditions.append(changes.c.run == storable(run))
        if child_account_id is not None:
            conditions.append(changes.c.child_account_id == storable(child_account_id))
        if entity is not None:
            names = (changes.c.entity_name, changes.c.main_entity_id, changes.c.child_entity_id)
            conditions.append(or_(*(column == storable(entity) for column in names)))
        if before is not None:
            conditions.append(changes.c.id < before)
        return await self._select(conditions, limit)

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        def work(connection: Connection) -> int:
            until = now_of(connection, self._clock) - older
            old = select(changes.c.id).where(changes.c.changed_at < until)
            old = old.order_by(changes.c.changed_at).limit(limit)
            this = delete(changes).where(changes.c.id.in_(old.scalar_subquery()))
            return connection.execute(this).rowcount

        return await self._database.run(work, alone=True)

    async def _select(self, conditions: Sequence[ColumnElement[bool]], limit: int) -> list[Change]:
        query = select(*raw_of(self._database.dialect, changes.c)).where(*conditions)
        query = query.order_by(changes.c.id.desc())
        found: list[Change] = []
        before: int | None = None
        # Whoever asks page by page takes one that is short for the last.
        while len(found) < limit:
            below = [] if before is None else [changes.c.id < before]
            asked = limit - len(found)
            rows = await self._rows(query.where(*below).limit(asked))
            for row in rows:
                try:
                    found.append(_change(row))
                except (TypeError, ValueError, RecursionError) as error:
                    _log.warning("change %s cannot be read: %s", row.id, error)
            if len(rows) < asked:
                break
            before = rows[-1].id
        return found

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )


def _written(images: Sequence[ListedImage]) -> str:
    # By hand, at a third of the time of `astuple`, which copies each value.
    return json.dumps([(image.id, image.filename, image.size) for image in images])


def _change(row: Row[Any]) -> Change:
    before = _images(row.before)
    if before is None:
        raise ValueError("it does not tell what was before")
    read = Reader(row)

    def text_of(name: str) -> str:
        return read.text(name) or ""

    return Change(
        text_of("run"),
        ChangeAction(text_of("action")),
        text_of("main_account_id"),
        EntityKey(text_of("child_account_id"), text_of("entity_type"), text_of("child_entity_id")),
        text_of("main_entity_id"),
        text_of("entity_name"),
        before,
        _images(row.after),
        read.text("backup"),
        row.id,
        read.time_or_none("changed_at"),
        text_of("entity_code"),
    )


def _images(written: str | bytes | None) -> tuple[ListedImage, ...] | None:
    listed = None if written is None else json.loads(written)
    if listed is None:
        return None
    images = tuple(ListedImage(*image) for image in listed)
    if any((type(i.id), type(i.filename), type(i.size)) != (str, str, int) for i in images):
        raise ValueError("an image is no id, name and size")
    return images
