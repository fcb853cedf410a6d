"""Keys of the HTTP API, in the table api_keys."""

import hmac
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.tables import api_keys, storable
from imgsync.domain.ports.apikeys import ApiKey
from imgsync.domain.ports.clock import Clock

_row = api_keys.c
_NOTED_AFTER = timedelta(minutes=1)


class SqlApiKeys:
    """Implements the port `ApiKeys`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def add(self, name: str, key_hash: str, *, may_write: bool) -> bool:
        def work(connection: Connection) -> bool:
            there = select(_row.id).where(_row.name == storable(name))
            if connection.execute(there).first() is not None:
                return False
            values = {"name": storable(name), "key_hash": key_hash, "may_write": may_write}
            now = now_of(connection, self._clock)
            connection.execute(insert(api_keys).values(values | {"created_at": now}))
            return True

        return await self._database.run(work)

    async def remove(self, name: str) -> bool:
        this = delete(api_keys).where(_row.name == storable(name))
        return await self._database.run(lambda connection: connection.execute(this).rowcount > 0)

    async def all(self) -> list[ApiKey]:
        query = select(api_keys)
        rows = await self._database.run(lambda c: c.execute(query).all(), reads=True)
        return sorted(map(_key, rows), key=lambda key: key.name)

    async def use(self, key_hash: str) -> ApiKey | None:
        query = select(api_keys).where(_row.key_hash == key_hash)

        def look(connection: Connection) -> tuple[Row[Any] | None, bool]:
            row = connection.execute(query).first()
            if row is None or not hmac.compare_digest(row.key_hash, key_hash):
                return None, False
            last = row.last_used_at
            return row, last is None or now_of(connection, self._clock) - last >= _NOTED_AFTER

        row, is_due = await self._database.run(look, reads=True)
        if row is None:
            return None
        if is_due:
            this = update(api_keys).where(_row.id == row.id)

            def note(connection: Connection) -> None:
                connection.execute(this.values(last_used_at=now_of(connection, self._clock)))

            await self._database.run(note)
        return _key(row)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.name, row.may_write, row.created_at, row.last_used_at)
