"""What the last comparison of each child found, in the tables comparisons and differences."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import text as sql

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import changes, comparisons, differences, storable
from imgsync.domain.diff import EntityKey
from imgsync.domain.differences import Comparison, EntityDifference, SeenImage
from imgsync.domain.ports.clock import Clock

_BROKEN_OFF = timedelta(minutes=3)
"""Without a sign of life, after which a comparison that has not ended counts as broken off."""

_table = differences
_row = _table.c
_SEARCHED = (_row.name, _row.code, _row.reason)


class SqlDifferences:
    """Implements the port `Differences`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, main_account_id: str, child_account_id: str) -> str | None:
        child, token = storable(child_account_id), secrets.token_hex(16)
        is_child = comparisons.c.child_account_id == child

        def work(connection: Connection) -> str | None:
            if connection.dialect.name == "postgresql":
                # Two that begin the first one of a child would not see each other's row.
                lock = sql("SELECT pg_advisory_xact_lock(hashtextextended(:child, 0))")
                connection.execute(lock, {"child": f"comparison {child}"})
            now = now_of(connection, self._clock)
            values = {
                "main_account_id": storable(main_account_id),
                "began": now,
                "ended": None,
                "alive_at": now,
                "token": token,
            }
            is_dead = comparisons.c.alive_at < now - _BROKEN_OFF
            free = or_(comparisons.c.ended.is_not(None), is_dead)
            this = update(comparisons).where(is_child, free).values(values | {"error": None})
            if connection.execute(this).rowcount:
                return token
            if connection.execute(select(comparisons.c.child_account_id).where(is_child)).first():
                return None
            new = {"child_account_id": child, "counts": {}, "left_out": 0}
            connection.execute(insert(comparisons).values(values | new))
            return token

        return await self._database.run(work)

    async def alive(self, child_account_id: str, began: str) -> None:
        this = update(comparisons).where(_is_this(child_account_id, began))

        def work(connection: Connection) -> None:
            connection.execute(this.values(alive_at=now_of(connection, self._clock)))

        await self._database.run(work)

    async def end(
        self,
        child_account_id: str,
        began: str,
        differences: Sequence[EntityDifference],
        counts: Mapping[str, int],
        left_out: int,
    ) -> bool:
        child = storable(child_account_id)
        rows = [_values(child, found) for found in differences]

        def work(connection: Connection) -> bool:
            now = now_of(connection, self._clock)
            this = update(comparisons).where(_is_this(child, began))
            values = {
                "ended": now,
                "found_at": comparisons.c.began,
                "counts": dict(counts),
                "left_out": left_out,
                "error": None,
            }
            if not connection.execute(this.values(values)).rowcount:
                return False
            connection.execute(delete(_table).where(_row.child_account_id == child))
            if rows:
                connection.execute(insert(_table), rows)
            return True

        return await self._database.run(work, alone=True)

    async def fail(self, child_account_id: str, began: str, error: str) -> None:
        this = update(comparisons).where(_is_this(child_account_id, began))

        def work(connection: Connection) -> None:
            now = now_of(connection, self._clock)
            connection.execute(this.values(ended=now, error=storable(error)))

        await self._database.run(work)

    async def get(self, child_account_id: str) -> Comparison | None:
        query = select(*raw_of(self._database.dialect, comparisons.c)).where(
            comparisons.c.child_account_id == storable(child_account_id)
        )
        row = await self._database.run(
            lambda connection: connection.execute(query).first(), reads=True
        )
        return None if row is None else _comparison(row)

    async def find(
        self,
        child_account_id: str,
        *,
        differences: Collection[str] = (),
        text: str = "",
        limit: int = 20,
        offset: int = 0,
    ) -> list[EntityDifference]:
        wanted: list[ColumnElement[bool]] = []
        if differences:
            wanted.append(_row.difference.in_(sorted(map(storable, differences))))
        if sought := storable(text):
            wanted.append(or_(*(column.icontains(sought, autoescape=True) for column in _SEARCHED)))
        return await self._read(child_account_id, wanted, limit, offset)

    async def one(self, child_account_id: str, difference_id: int) -> EntityDifference | None:
        if not 0 < difference_id < 2**63:
            return None
        found = await self._read(child_account_id, [_row.id == difference_id], 1, 0)
        return found[0] if found else None

    async def forget(self, child_account_id: str) -> None:
        child = storable(child_account_id)

        def work(connection: Connection) -> None:
            connection.execute(delete(_table).where(_row.child_account_id == child))
            connection.execute(delete(comparisons).where(comparisons.c.child_account_id == child))

        await self._database.run(work)

    async def _read(
        self, child_account_id: str, wanted: Sequence[ColumnElement[bool]], limit: int, offset: int
    ) -> list[EntityDifference]:
        child = storable(child_account_id)
        changed = exists().where(
            changes.c.child_account_id == _row.child_account_id,
            changes.c.entity_type == _row.entity_type,
            changes.c.child_entity_id == _row.child_entity_id,
            changes.c.changed_at > comparisons.c.found_at,
        )
        query = (
            select(*raw_of(self._database.dialect, _row), changed.label("changed_since"))
            .join(comparisons, comparisons.c.child_account_id == _row.child_account_id)
            .where(_row.child_account_id == child, *wanted)
            .order_by(_row.id)
            .limit(limit)
            .offset(offset)
        )
        rows = await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )
        return [_difference(row) for row in rows]


def _is_this(child_account_id: str, began: str) -> ColumnElement[bool]:
    return and_(
        comparisons.c.child_account_id == storable(child_account_id), comparisons.c.token == began
    )


def _values(child: str, found: EntityDifference) -> dict[str, Any]:
    child_images = found.child_images
    return {
        "child_account_id": child,
        "entity_type": storable(found.entity_type),
        "name": storable(found.name),
        "code": storable(found.code),
        "difference": storable(found.difference),
        "reason": storable(found.reason),
        "main_entity_id": storable(found.main_entity_id),
        "child_entity_id": storable(found.key.child_entity_id) if found.key else "",
        "main_images": _written(found.main_images),
        "child_images": None if child_images is None else _written(child_images),
        "will_change": found.will_change,
    }


def _written(images: Sequence[SeenImage]) -> list[list[str | int]]:
    return [[storable(i.id), storable(i.filename), i.size, storable(i.updated)] for i in images]


def _comparison(row: Row[Any]) -> Comparison:
    read = Reader(row)
    counts = read.json("counts")
    known = counts.items() if isinstance(counts, dict) else ()
    return Comparison(
        read.text("child_account_id") or "",
        read.text("main_account_id") or "",
        read.time("began"),
        read.time_or_none("ended"),
        {name: count for name, count in known if isinstance(count, int)},
        read.number("left_out"),
        read.text("error"),
        read.time_or_none("found_at"),
    )


def _difference(row: Any) -> EntityDifference:
    """Of a damaged row what can be read: it hides no other."""
    read = Reader(row)

    def text_of(name: str) -> str:
        return read.text(name) or ""

    entity_type, child_entity_id = text_of("entity_type"), text_of("child_entity_id")
    key = EntityKey(text_of("child_account_id"), entity_type, child_entity_id)
    return EntityDifference(
        entity_type,
        text_of("name"),
        text_of("code"),
        text_of("difference"),
        text_of("reason"),
        text_of("main_entity_id"),
        key if child_entity_id else None,
        _images(read.json("main_images")),
        None if read.text("child_images") is None else _images(read.json("child_images")),
        read.flag("will_change"),
        row.id,
        bool(row.changed_since),
    )


def _images(written: Any) -> tuple[SeenImage, ...]:
    found = []
    for image in written if isinstance(written, list) else ():
        match image:
            case [str(id_), str(filename), int(size), str(updated)]:
                found.append(SeenImage(id_, filename, size, updated))
    return tuple(found)
