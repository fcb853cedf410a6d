"""Whose turn it is to survey a child, in the table schedule: rows of their own beside the jobs."""

import secrets
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select, update

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.schedule import TURN, lock
from imgsync.adapters.sql.tables import schedule, storable
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.turns import TakenTurn

_row = schedule.c


class SqlSurveyTurns:
    """Implements the port `SurveyTurns`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def take(self, child_ids: Collection[str], lease: timedelta) -> TakenTurn:
        wanted = {storable(child_id): child_id for child_id in child_ids}

        def busy(connection: Connection) -> frozenset[str]:
            held = select(_row.subject).where(
                _row.job.startswith(TURN, autoescape=True),
                _row.lease_expires_at > now_of(connection, self._clock),
            )
            found = set(connection.execute(held).scalars())
            return frozenset(child_id for name, child_id in wanted.items() if name in found)

        def work(connection: Connection) -> TakenTurn:
            lock(connection)
            now = now_of(connection, self._clock)
            if found := busy(connection):
                return TakenTurn("", found)
            token = secrets.token_hex(16)
            # Lapsed ones, with those of other children that were taken together with them: what
            # was found of all of these is not to be queued.
            lapsed = (_row.job.startswith(TURN, autoescape=True), _row.lease_expires_at <= now)
            tokens = select(_row.lease_token).where(*lapsed, _row.subject.in_(wanted))
            these = list(connection.scalars(tokens))
            connection.execute(delete(schedule).where(*lapsed, _row.lease_token.in_(these)))
            rows = [
                {
                    "job": f"{TURN}{name}",
                    "subject": name,
                    "next_at": now,
                    "lease_token": token,
                    "lease_expires_at": now + lease,
                }
                for name in wanted
            ]
            if rows:
                connection.execute(insert(schedule), rows)
            return TakenTurn(token)

        # Who waits asks often, and writes nothing meanwhile.
        if found := await self._database.run(busy, reads=True):
            return TakenTurn("", found)
        return await self._database.run(work, alone=True)

    async def renew(self, token: str, lease: timedelta) -> None:
        def work(connection: Connection) -> bool:
            lock(connection)  # nobody takes it meanwhile, having seen it lapsed
            now = now_of(connection, self._clock)
            mine = (_row.job.startswith(TURN, autoescape=True), _row.lease_token == token)
            this = update(schedule).where(*mine).values(lease_expires_at=now + lease)
            return connection.execute(this).rowcount > 0

        # Alone, as others in its transaction may hold what one waits for who has the lock.
        if not await self._database.run(work, alone=True):
            raise LeaseLostError("another survey of these children has begun meanwhile")

    async def end(self, token: str) -> None:
        this = delete(schedule).where(
            _row.job.startswith(TURN, autoescape=True), _row.lease_token == token
        )
        await self._database.run(lambda connection: connection.execute(this))
