"""The jobs of the schedule, in the table schedule."""

import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Update, delete, insert, or_, select, text, update

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.tables import schedule, storable
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.schedule import ClaimedJob, JobState, NewJob

_row = schedule.c
TURN = "survey turn of "
"""What the rows begin with that are no jobs, but somebody's turn to survey a child."""
_LAPSED_FOR = timedelta(hours=1)
"""After which a turn is nobody's any more."""
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('imgsync schedule', 0))")


class SqlSchedule:
    """Implements the port `Schedule`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def plan(self, jobs: Sequence[NewJob]) -> None:
        wanted = {storable(job.name): job for job in jobs}

        def missing(connection: Connection) -> tuple[set[str], set[str]]:
            now = now_of(connection, self._clock)
            there, gone = set(), set()
            for row in connection.execute(select(schedule)):
                there.add(row.job)
                # Whoever had a turn may yet go on, and then has it still if nobody took it.
                until = now - _LAPSED_FOR if row.job.startswith(TURN) else now
                is_held = row.lease_expires_at is not None and row.lease_expires_at > until
                if row.subject and row.job not in wanted and not is_held:
                    gone.add(row.job)
            return wanted.keys() - there, gone

        def change(connection: Connection) -> None:
            lock(connection)
            new, gone = missing(connection)
            if gone:
                # A lease may have been renewed since they were read.
                now = now_of(connection, self._clock)
                free = or_(_row.lease_expires_at.is_(None), _row.lease_expires_at <= now)
                connection.execute(delete(schedule).where(_row.job.in_(sorted(gone)), free))
            for name in sorted(new):
                job = wanted[name]
                connection.execute(
                    insert(schedule).values(
                        job=name, subject=storable(job.subject), next_at=job.first_at
                    )
                )

        # It is asked every few seconds, and hardly ever is anything to be changed.
        if any(await self._database.run(missing, reads=True)):
            await self._database.run(change, alone=True)

    async def claim(self, names: Collection[str], *, lease: timedelta) -> ClaimedJob | None:
        chosen = set(map(storable, names))

        def due(connection: Connection) -> tuple[str, datetime] | None:
            now = now_of(connection, self._clock)
            # Of a thousand main accounts hardly any is due.
            concerned = or_(_row.next_at <= now, _row.lease_expires_at > now)
            in_turn = select(schedule).where(concerned).order_by(_row.next_at, _row.job)
            rows = connection.execute(in_turn).all()
            leased = [row for row in rows if row.lease_expires_at is not None]
            held = {row.job: row.subject for row in leased if row.lease_expires_at > now}
            busy = {subject for subject in held.values() if subject}
            free = (row for row in rows if row.job not in held and row.subject not in busy)
            mine = (row for row in free if row.job in chosen and row.next_at <= now)
            return next(((row.job, row.next_at) for row in mine), None)

        def take(connection: Connection) -> ClaimedJob | None:
            lock(connection)
            found = due(connection)
            if found is None:
                return None
            token = secrets.token_hex(16)
            until = now_of(connection, self._clock) + lease
            this = update(schedule).where(_row.job == found[0])
            connection.execute(this.values(lease_token=token, lease_expires_at=until))
            return ClaimedJob(*found, token)

        if await self._database.run(due, reads=True) is None:
            return None
        return await self._database.run(take, alone=True)

    async def renew(self, job: ClaimedJob, *, lease: timedelta) -> None:
        def change(connection: Connection) -> int:
            until = now_of(connection, self._clock) + lease
            return connection.execute(_held(job).values(lease_expires_at=until)).rowcount

        self._check(job, await self._database.run(change))

    async def end(self, job: ClaimedJob, next_at: datetime) -> None:
        await self._let_go(job, _held(job).values(next_at=next_at))

    async def release(self, job: ClaimedJob) -> None:
        await self._let_go(job, _held(job))

    async def jobs(self) -> list[JobState]:
        def read(connection: Connection) -> list[JobState]:
            now = now_of(connection, self._clock)
            return [
                JobState(
                    row.job,
                    row.next_at,
                    row.lease_expires_at is not None and row.lease_expires_at > now,
                )
                for row in connection.execute(select(schedule))
                if not row.job.startswith(TURN)
            ]

        found = await self._database.run(read, reads=True)
        # In an order of their own: databases sort texts by rules of theirs.
        return sorted(found, key=lambda job: job.name)

    async def _let_go(self, job: ClaimedJob, this: Update) -> None:
        free = this.values(lease_token=None, lease_expires_at=None)
        self._check(job, await self._database.run(lambda c: c.execute(free).rowcount))

    @staticmethod
    def _check(job: ClaimedJob, changed: int) -> None:
        if not changed:
            raise LeaseLostError(f"the job '{job.name}' of the schedule was taken by another host")


def _held(job: ClaimedJob) -> Update:
    return update(schedule).where(_row.job == storable(job.name), _row.lease_token == job.token)


def lock(connection: Connection) -> None:
    """Two that claim different jobs of one subject would not see each other's rows."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK)
