"""Requests that may be sent again, in the table repeats."""

from datetime import timedelta

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.tables import repeats
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.repeats import Answered, Standing

_row = repeats.c
_AT_ONCE = 500
"""Old rows that are dropped at once."""


class SqlRepeats:
    """Implements the port `Repeats`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def begin(
        self, key: str, fingerprint: str, token: str, *, lease: timedelta, keep: timedelta
    ) -> Answered | Standing:
        kind = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        this = _row.key == key

        def work(connection: Connection) -> Answered | Standing:
            now = now_of(connection, self._clock)
            old = select(_row.key).where(_row.began <= now - keep).order_by(_row.began)
            gone = or_(
                _row.key.in_(old.limit(_AT_ONCE).scalar_subquery()),
                this & (_row.began <= now - keep),
            )
            connection.execute(delete(repeats).where(gone))
            owned = {"token": token, "leased_until": now + lease}
            new = kind(repeats).values(key=key, fingerprint=fingerprint, began=now, **owned)
            made = new.on_conflict_do_nothing().returning(_row.key)
            if connection.execute(made).first() is not None:
                return Standing.NEW
            row = connection.execute(select(repeats).where(this)).first()
            if row is None:  # dropped in this moment: whoever asks again finds it free
                return Standing.UNDER_WAY
            if row.fingerprint != fingerprint:
                return Standing.OTHER
            if row.status is not None:
                return Answered(row.status, row.body or "", row.location)
            lapsed = this & (_row.token == row.token) & _row.status.is_(None)
            lapsed &= _row.leased_until <= now
            if connection.execute(update(repeats).where(lapsed).values(owned)).rowcount:
                return Standing.NEW
            return Standing.UNDER_WAY

        return await self._database.run(work, alone=True)

    async def end(self, key: str, token: str, answered: Answered) -> None:
        this = update(repeats).where(_row.key == key, _row.token == token)
        values = {
            "status": answered.status,
            "body": answered.body,
            "location": answered.location,
        }
        await self._database.run(lambda connection: connection.execute(this.values(values)))

    async def drop(self, key: str, token: str) -> None:
        this = delete(repeats).where(_row.key == key, _row.token == token, _row.status.is_(None))
        await self._database.run(lambda connection: connection.execute(this))
