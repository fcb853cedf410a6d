"""What the web server keeps: its secrets, failed logins, and who changed what."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Insert, Row, delete, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import audit, login_failures, storable, web_secrets
from imgsync.domain.logins import Admission, LoginLimits, Tried, known_browser
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.web import AuditEntry

_LONGEST_ORIGIN = 200
_LONGEST_ACTION = 50
_HOUR = timedelta(hours=1)


class SqlWebSecrets:
    """Implements the port `WebSecrets`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_many(self, names: Collection[str]) -> dict[str, str]:
        query = select(web_secrets.c.name, web_secrets.c.value)
        query = query.where(web_secrets.c.name.in_(names))
        return await self._database.run(
            lambda connection: {row.name: row.value for row in connection.execute(query)},
            reads=True,
        )

    async def put(self, name: str, value: str) -> None:
        await self._database.put(web_secrets, {"name": name, "value": value})

    async def keep(self, name: str, value: str) -> str:
        kind = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        new = kind(web_secrets).values(name=name, value=value).on_conflict_do_nothing()
        query = select(web_secrets.c.value).where(web_secrets.c.name == name)

        def work(connection: Connection) -> str:
            connection.execute(new)
            kept: str = connection.execute(query).scalar_one()
            return kept

        return await self._database.run(work)

    async def drop(self, name: str) -> bool:
        this = delete(web_secrets).where(web_secrets.c.name == name)
        return bool(await self._database.run(lambda connection: connection.execute(this).rowcount))

    async def drop_older(self, prefix: str, value: str) -> int:
        this = delete(web_secrets).where(
            web_secrets.c.name.startswith(prefix, autoescape=True), web_secrets.c.value < value
        )
        return await self._database.run(lambda connection: connection.execute(this).rowcount)


class SqlLoginAttempts:
    """Implements the port `LoginAttempts`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, origin: str, limits: LoginLimits) -> Admission:
        origin = storable(origin)[:_LONGEST_ORIGIN]
        columns = login_failures.c

        def judge(connection: Connection) -> Admission:
            now = now_of(connection, self._clock)
            own = (columns.address == origin, columns.failed_at > now - limits.kept)
            lately = columns.failed_at > now - limits.lately
            of_origin = select(func.count().filter(lately), func.count()).where(*own)
            in_the_hour = select(func.count()).where(
                columns.failed_at > now - _HOUR,
                columns.address.not_like(known_browser("%")),
            )
            counts = connection.execute(of_origin).one()
            of_all = connection.execute(in_the_hour).scalar_one()
            return limits.judge(origin, Tried(counts[0], counts[1], of_all))

        def work(connection: Connection) -> Admission:
            if connection.dialect.name == "postgresql":
                # Two that count at once would both find room.
                connection.execute(text("LOCK TABLE login_failures IN EXCLUSIVE MODE"))
            now = now_of(connection, self._clock)
            outdated = delete(login_failures).where(columns.failed_at <= now - limits.kept)
            connection.execute(outdated)
            admission = judge(connection)
            if admission is Admission.CHECKED:
                connection.execute(insert(login_failures).values(address=origin, failed_at=now))
            return admission

        # Whoever is refused costs a look only, however often they come.
        refused = await self._database.run(judge, reads=True)
        if refused is not Admission.CHECKED:
            return refused
        return await self._database.run(work, alone=True)

    async def forget(self, origin: str) -> None:
        origin = storable(origin)[:_LONGEST_ORIGIN]
        this = delete(login_failures).where(login_failures.c.address == origin)
        await self._database.run(lambda connection: connection.execute(this), alone=True)


class SqlAudit:
    """Implements the port `Audit`. `clock` is for tests; without it the time is the database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def note(self, entry: AuditEntry) -> None:
        def work(connection: Connection) -> None:
            connection.execute(note_of(entry, now_of(connection, self._clock)))

        await self._database.run(work)

    async def find(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        query = select(*raw_of(self._database.dialect, audit.c))
        if before is not None:
            query = query.where(audit.c.id < min(max(before, 0), 2**63 - 1))
        query = query.order_by(audit.c.id.desc()).limit(limit)
        return await self._database.run(
            lambda connection: [_entry(row) for row in connection.execute(query)], reads=True
        )


def note_of(entry: AuditEntry, now: datetime) -> Insert:
    """What notes a change, for a transaction that does more."""
    return insert(audit).values(
        at=now,
        who=storable(entry.who),
        action=storable(entry.action)[:_LONGEST_ACTION],
        subject=storable(entry.subject),
        detail=_storable_json(dict(entry.detail)),
    )


def _storable_json(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): _storable_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable_json(one) for one in value]
    return value


def _entry(row: Row[Any]) -> AuditEntry:
    read = Reader(row)
    detail = read.json("detail")
    return AuditEntry(
        read.text("who") or "",
        read.text("action") or "",
        read.text("subject") or "",
        detail if isinstance(detail, dict) else {},
        row.id,
        read.time_or_none("at"),
    )
