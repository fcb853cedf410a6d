"""What accounts took of MoySklad, hour by hour, in the table usage, and how long tasks did."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.tables import storable, task_times, usage
from imgsync.domain.ports.clock import Clock
from imgsync.domain.runs import TaskTimes, Usage, UsageHour

_row = usage.c
_HOUR = timedelta(hours=1)
_COUNTED = ("requests", "units", "too_many", "images", "bytes", "events", "dropped")
_time = task_times.c


class SqlUsage:
    """Implements the port `UsageRepository`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._insert = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def add(self, taken: Mapping[str, Usage]) -> None:
        # By account in one order for all hosts, so that no two wait for each other.
        counted = {storable(i): taken[i] for i in sorted(taken) if taken[i]}
        if not counted:
            return

        def change(connection: Connection) -> None:
            now = now_of(connection, self._clock)
            hour = now.replace(minute=0, second=0, microsecond=0)
            rows = [
                {"account_id": account_id, "hour": hour}
                | {name: getattr(one, name) for name in _COUNTED}
                for account_id, one in counted.items()
            ]
            new = self._insert(usage).values(rows)
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=["account_id", "hour"],
                    set_={name: _row[name] + new.excluded[name] for name in _COUNTED},
                )
            )

        await self._database.run(change, alone=True)

    async def hours(
        self,
        since: datetime,
        until: datetime | None = None,
        *,
        account_ids: Collection[str] = (),
    ) -> Sequence[UsageHour]:
        query = select(usage).where(_row.hour > since - _HOUR)
        if until is not None:
            query = query.where(_row.hour < until)
        if account_ids:
            query = query.where(_row.account_id.in_(sorted(map(storable, account_ids))))

        def read(connection: Connection) -> list[UsageHour]:
            return [
                UsageHour(
                    row.account_id, row.hour, Usage(*(getattr(row, name) for name in _COUNTED))
                )
                for row in connection.execute(query)
            ]

        found = await self._database.run(read, reads=True)
        return sorted(found, key=lambda one: (one.hour, one.account_id))

    async def add_times(self, times: Mapping[tuple[str, str], TaskTimes]) -> None:
        rows = [
            {"kind": storable(kind), "ended": storable(end), "bound": str(bound), "tasks": count}
            # All seconds stand beside the first of the bounds.
            | {"seconds": one.seconds if bound == min(one.tasks) else 0.0}
            for (kind, end), one in sorted(times.items())
            for bound, count in sorted(one.tasks.items())
        ]
        if not rows:
            return
        new = self._insert(task_times).values(rows)

        def change(connection: Connection) -> None:
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=["kind", "ended", "bound"],
                    set_={name: _time[name] + new.excluded[name] for name in ("tasks", "seconds")},
                )
            )

        await self._database.run(change, alone=True)

    async def times(self) -> Mapping[tuple[str, str], TaskTimes]:
        return await self._database.run(times_of, reads=True)

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        def work(connection: Connection) -> int:
            until = now_of(connection, self._clock) - older
            old = connection.execute(
                select(_row.account_id, _row.hour).where(_row.hour < until).limit(limit)
            ).all()
            if not old:
                return 0
            those = [and_(_row.account_id == i, _row.hour == hour) for i, hour in old]
            return connection.execute(delete(usage).where(or_(*those))).rowcount

        return await self._database.run(work, alone=True)


def times_of(connection: Connection) -> dict[tuple[str, str], TaskTimes]:
    """How long attempts at tasks took, by kind and end."""
    found: dict[tuple[str, str], TaskTimes] = {}
    for row in connection.execute(select(task_times)):
        key, one = (row.kind, row.ended), TaskTimes({float(row.bound): row.tasks}, row.seconds)
        found[key] = found[key] + one if key in found else one
    return found
