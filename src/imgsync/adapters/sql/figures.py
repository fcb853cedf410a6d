"""The numbers that tell how the whole is doing, read from the tables."""

from collections import Counter
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from imgsync.adapters.sql.claiming import first_due
from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.events import SqlWebhookStates
from imgsync.adapters.sql.schema import noted_revision
from imgsync.adapters.sql.tables import (
    accounts,
    failed_images,
    proofs,
    sync_counts,
    sync_settings,
    usage,
    webhook_events,
)
from imgsync.adapters.sql.tasklist import told_apart
from imgsync.adapters.sql.usage import times_of
from imgsync.domain.ports.figures import Figures, Used, WebhookFigures
from imgsync.domain.tasks import TaskStatus


class SqlFigures:
    """Implements the port `ReadFigures`, of a queue that is in this database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self) -> Figures:
        figures, names = await self._database.run(_figures, reads=True)
        states = await SqlWebhookStates(self._database).all()
        return replace(
            figures,
            webhooks={
                names.get(state.account_id, state.account_id): WebhookFigures(
                    state.wanted, state.working, state.switched_off, state.last_event_at
                )
                for state in states
                if state.url is not None
            },
        )

    async def revision(self) -> str | None:
        return await self._database.run(noted_revision, reads=True)


def _figures(connection: Connection) -> tuple[Figures, dict[str, str]]:
    """With the names of the accounts by their ids."""
    now = now_of(connection)
    asked = select(accounts.c.id, accounts.c.name, accounts.c.parked_until)
    known = connection.execute(asked).all()
    times = Counter(row.name for row in known)
    # Two of one name would be one line, or a line twice, which Prometheus refuses.
    names = {
        row.id: row.name if times[row.name] == 1 else f"{row.name} ({row.id})" for row in known
    }
    parked = [
        names[row.id] for row in known if row.parked_until is not None and row.parked_until > now
    ]

    def name_of(account_id: str | None) -> str:
        return names.get(account_id or "", account_id or "")

    tasks: dict[tuple[str, str], int] = {}
    count_of = sync_counts.c
    counted = select(count_of.account_id, count_of.status, func.sum(count_of.tasks)).group_by(
        count_of.account_id, count_of.status
    )
    for account_id, status, count in connection.execute(counted):
        if count:
            _add(tasks, (name_of(account_id), status), int(count))
    for (account_id, word), count in told_apart(connection).items():
        _add(tasks, (name_of(account_id), word), count)
        _add(tasks, (name_of(account_id), TaskStatus.FAILED.value), -count)
    due = first_due(connection)
    failed: dict[tuple[str, bool], int] = {}
    image = failed_images.c
    counted = select(image.child_account_id, image.settled, func.count()).group_by(
        image.child_account_id, image.settled
    )
    for account_id, settled, count in connection.execute(counted):
        _add(failed, (name_of(account_id), bool(settled)), count)
    link = sync_settings.c
    equal = (
        select(link.account_id, proofs.c.equal_at)
        .outerjoin(
            proofs,
            and_(
                proofs.c.child_account_id == link.account_id,
                proofs.c.main_account_id == link.main_account_id,
            ),
        )
        .where(link.main_account_id.is_not(None), or_(link.sync_images, link.sync_images_all))
    )
    event = webhook_events.c
    waiting, first_event = connection.execute(
        select(func.count(), func.min(event.received_at))
    ).one()
    figures = Figures(
        tasks=tasks,
        oldest_due=0.0 if due is None else max(0.0, (now - due).total_seconds()),
        used=tuple(_used(connection, now, name_of)),
        failed_images=failed,
        proofs={name_of(i): at for i, at in connection.execute(equal)},
        parked=tuple(sorted(parked)),
        times=times_of(connection),
        waiting_events=waiting,
        oldest_event=0.0 if first_event is None else max(0.0, (now - first_event).total_seconds()),
    )
    return figures, names


def _used(connection: Connection, now: Any, name_of: Any) -> list[Used]:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    row = usage.c
    names = ("requests", "units", "too_many", "images", "bytes", "events", "dropped")
    sums = [func.sum(row[name]) for name in names]
    query = select(row.account_id, *sums).where(row.hour >= day).group_by(row.account_id)
    return [Used(name_of(i), *map(int, rest)) for i, *rest in connection.execute(query)]


def _add(counts: dict[Any, int], key: Any, count: int) -> None:
    counts[key] = counts.get(key, 0) + count
