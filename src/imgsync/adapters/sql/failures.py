"""Images that could not be copied, in the table failed_images."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import Reader, raw, raw_of
from imgsync.adapters.sql.tables import failed_images, storable
from imgsync.domain.diff import EntityKey
from imgsync.domain.failures import (
    FailedCount,
    FailedEntity,
    FailedImage,
    Failure,
    noted,
)
from imgsync.domain.ports.clock import Clock

_row = failed_images.c
_OLDEST_FIRST = (_row.id,)
_ALIKE = (_row.main_account_id, _row.image_id, _row.version, _row.cause)
"""As `FailedImage.alike`."""
_SEARCHED = (_row.reason, _row.cause, _row.filename, _row.entity_name, _row.entity_code)
_LONGEST_CAUSE = 50
_MOST_ATTEMPTS = 1_000_000
"""More of them are damage."""


class SqlFailedImages:
    """Implements the port `FailedImages`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def note(
        self,
        entity: FailedEntity,
        failures: Sequence[Failure],
        *,
        untried: Collection[str] = (),
        alone: bool = True,
    ) -> list[FailedImage]:
        # Of nearly every entity nothing is kept, which a look tells that waits for no disk.
        if not failures and not await self.of(entity.key):
            return []
        stored = [_storable_failure(failure) for failure in failures]
        stays = {storable(image_id) for image_id in untried}

        def change(connection: Connection) -> list[FailedImage]:
            now = now_of(connection, self._clock)
            if connection.dialect.name == "postgresql":
                # Two that note an entity for the first time would not see each other's rows.
                lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:entity, 0))")
                connection.execute(lock, {"entity": f"failed {storable(entity.key.dedupe_key)}"})
            known = {row.failure.image_id: row for row in _rows(connection, _is(entity.key))}
            tried = [failure for failure in stored if failure.image_id not in stays]
            rows = noted(entity, tried, known, now, alone=alone)
            kept = {row.failure.image_id for row in rows} | stays
            gone = [row.id for image_id, row in known.items() if image_id not in kept]
            if gone:
                connection.execute(delete(failed_images).where(_row.id.in_(gone)))
            for row in rows:
                values = _values(row)
                this = update(failed_images).where(_row.id == row.id)
                connection.execute(
                    this.values(values) if row.id else insert(failed_images).values(values)
                )
            return _rows(connection, _is(entity.key))

        # By itself: with others in one transaction it would hold their locks, and wait in a circle.
        return await self._database.run(change, alone=True)

    async def of(self, key: EntityKey) -> list[FailedImage]:
        return await self._read(_is(key))

    async def leave(self, key: EntityKey) -> None:
        this = update(failed_images).where(_is(key), _row.next_attempt_at.is_not(None))
        statement = this.values(next_attempt_at=None)
        await self._database.run(lambda connection: connection.execute(statement))

    async def ask(self, ids: Collection[int]) -> None:
        this = update(failed_images).where(_row.id.in_(_numbers(ids)))

        def change(connection: Connection) -> None:
            now = now_of(connection, self._clock)
            connection.execute(this.values(next_attempt_at=now))

        await self._database.run(change)

    async def find(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        settled: bool | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> list[FailedImage]:
        wanted = [_row.id > after, *self._meant(child_ids, cause, text)]
        if settled is not None:
            wanted.append(_row.settled == settled)
        return await self._read(and_(*wanted), limit)

    async def groups(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        limit: int = 100,
        after: int = 0,
    ) -> list[list[FailedImage]]:
        meant = self._meant(child_ids, cause, text)
        oldest = func.min(_row.id)
        query = select(oldest).where(*meant).group_by(*_ALIKE).having(oldest > after)

        def read(connection: Connection) -> list[list[FailedImage]]:
            ids = connection.execute(query.order_by(oldest).limit(limit)).scalars().all()
            firsts = _rows(connection, _row.id.in_(ids))
            images = {row.failure.image_id for row in firsts}
            groups: dict[tuple[str, ...], list[FailedImage]] = {}
            for row in _rows(connection, and_(_row.image_id.in_(images), *meant)):
                groups.setdefault(row.alike, []).append(row)
            # Of a row that is damaged what is read may be another than what it has.
            found = [groups.get(first.alike, []) for first in firsts]
            return [of or [first] for of, first in zip(found, firsts, strict=True)]

        return await self._database.run(read, reads=True)

    async def get_many(self, ids: Collection[int]) -> list[FailedImage]:
        return await self._read(_row.id.in_(_numbers(ids)))

    async def counts(self, child_ids: Collection[str] = ()) -> list[FailedCount]:
        waits = case((_row.next_attempt_at.is_not(None), 1), else_=0)
        first = func.min(_row.next_attempt_at, type_=_row.next_attempt_at.type)

        def count(connection: Connection) -> list[FailedCount]:
            dialect = connection.dialect.name
            query = (
                select(
                    raw(dialect, _row.child_account_id).label("child"),
                    raw(dialect, _row.cause).label("cause"),
                    func.count().label("images"),
                    func.sum(waits).label("waiting"),
                    raw(dialect, first).label("first"),
                )
                .where(*self._of_children(child_ids))
                .group_by(_row.child_account_id, _row.cause)
            )
            return [_failed_count(row) for row in connection.execute(query)]

        found = await self._database.run(count, reads=True)
        # In an order of their own: databases sort texts by rules of theirs.
        return sorted(found, key=lambda count: (count.child_account_id, count.cause))

    async def forget(self, child_account_id: str) -> int:
        this = delete(failed_images).where(_row.child_account_id == storable(child_account_id))
        return await self._database.run(lambda connection: connection.execute(this).rowcount)

    def _meant(
        self, child_ids: Collection[str], cause: str | None, text: str
    ) -> list[ColumnElement[bool]]:
        meant = self._of_children(child_ids)
        if cause is not None:
            meant.append(_row.cause == storable(cause))
        if text := storable(text):
            meant.append(or_(*(_has(column, text) for column in _SEARCHED)))
        return meant

    def _of_children(self, child_ids: Collection[str]) -> list[ColumnElement[bool]]:
        if not child_ids:
            return []
        return [_row.child_account_id.in_(sorted(map(storable, child_ids)))]

    async def _read(
        self, wanted: ColumnElement[bool], limit: int | None = None
    ) -> list[FailedImage]:
        return await self._database.run(
            lambda connection: _rows(connection, wanted, limit), reads=True
        )


def _numbers(ids: Collection[int]) -> list[int]:
    """Those that a row can have."""
    return [i for i in ids if 0 < i < 2**63]


def _is(key: EntityKey) -> ColumnElement[bool]:
    return and_(
        _row.child_account_id == storable(key.child_account_id),
        _row.entity_type == storable(key.entity_type),
        _row.child_entity_id == storable(key.child_entity_id),
    )


def _has(column: Any, text: str) -> ColumnElement[bool]:
    """Of ASCII letters in whichever case, which is all that SQLite knows the cases of."""
    pattern = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    found: ColumnElement[bool] = column.ilike(f"%{pattern}%", escape="\\")
    return found


def _rows(
    connection: Connection, wanted: ColumnElement[bool], limit: int | None = None
) -> list[FailedImage]:
    query = select(*_raw(connection.dialect.name)).where(wanted)
    query = query.order_by(*_OLDEST_FIRST).limit(limit)
    return [_failed_image(row) for row in connection.execute(query)]


@cache
def _raw(dialect: str) -> Sequence[ColumnElement[Any]]:
    return raw_of(dialect, _row)


def _failed_image(row: Row[Any]) -> FailedImage:
    """Of a row that is damaged what can be read: it hides no other, and the next attempt at its
    entity writes it anew."""
    read = Reader(row)

    def text_of(name: str) -> str:
        return read.text(name) or ""

    attempts = read.number("attempts")
    return FailedImage(
        row.id,
        FailedEntity(
            text_of("main_account_id"),
            text_of("child_account_id"),
            text_of("entity_type"),
            text_of("main_entity_id"),
            text_of("child_entity_id"),
            text_of("entity_name"),
            text_of("entity_code"),
        ),
        Failure(
            text_of("image_id"),
            text_of("filename"),
            text_of("version"),
            text_of("cause"),
            text_of("reason"),
            read.flag("settled"),
        ),
        attempts if 0 <= attempts <= _MOST_ATTEMPTS else 0,
        read.time_or_none("next_attempt_at"),
        read.time("first_failed_at"),
        read.time("last_failed_at"),
    )


def _failed_count(row: Row[Any]) -> FailedCount:
    read = Reader(row)
    child, cause = read.text("child") or "", read.text("cause") or ""
    return FailedCount(child, cause, row.images, row.waiting, read.time_or_none("first"))


def _storable_failure(failure: Failure) -> Failure:
    return Failure(
        storable(failure.image_id),
        storable(failure.filename),
        storable(failure.version),
        storable(failure.cause)[:_LONGEST_CAUSE],
        storable(failure.reason),
        failure.settled,
    )


def _values(row: FailedImage) -> dict[str, Any]:
    entity, failure = row.entity, row.failure
    return {
        "child_account_id": storable(entity.child_account_id),
        "entity_type": storable(entity.entity_type),
        "child_entity_id": storable(entity.child_entity_id),
        "image_id": failure.image_id,
        "main_account_id": storable(entity.main_account_id),
        "main_entity_id": storable(entity.main_entity_id),
        "entity_name": storable(entity.name),
        "entity_code": storable(entity.code) or None,
        "filename": failure.filename,
        "version": failure.version,
        "cause": failure.cause,
        "reason": failure.reason,
        "settled": failure.settled,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at,
        "first_failed_at": row.first_failed_at,
        "last_failed_at": row.last_failed_at,
    }
