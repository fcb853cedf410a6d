"""What hangs on stored accounts, and their removal."""

from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, update

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.repositories import readable
from imgsync.adapters.sql.rows import raw
from imgsync.adapters.sql.tables import (
    account_abilities,
    accounts,
    comparisons,
    differences,
    failed_images,
    installations,
    proofs,
    schedule,
    surveys,
    sync_queue,
    sync_records,
    sync_settings,
    webhook_events,
    webhook_states,
)
from imgsync.domain.model import AccountName
from imgsync.domain.ports.accounts import BusyAccountError, Holdings
from imgsync.domain.ports.clock import Clock
from imgsync.domain.tasks import TaskStatus

_ENDED_BADLY = (TaskStatus.PENDING.value, TaskStatus.FAILED.value)


class SqlAccountShelf:
    """Implements the port `AccountShelf`, for tasks of a queue in the same database. `clock` is for
    tests; without it the time is the database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def names(self) -> list[AccountName]:
        columns = (
            raw(self._database.dialect, column) for column in (accounts.c.id, accounts.c.name)
        )
        query = select(*columns)
        rows = await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )
        names = [AccountName(readable(row[0]), readable(row[1])) for row in rows]
        return sorted(names, key=lambda one: one.id)

    async def rename(self, account_id: str, name: str) -> bool:
        this = update(accounts).where(accounts.c.id == account_id).values(name=name)
        return await self._database.run(lambda connection: connection.execute(this).rowcount == 1)

    async def holdings(self, account_id: str) -> Holdings:
        return await self._database.run(
            lambda connection: self._holdings(connection, account_id), reads=True
        )

    def _holdings(self, connection: Connection, account_id: str) -> Holdings:
        def count(table: Any, *conditions: Any) -> int:
            query = select(func.count()).select_from(table).where(*conditions)
            return int(connection.execute(query).scalar_one())

        main = select(sync_settings.c.main_account_id).where(
            sync_settings.c.account_id == account_id
        )
        children = (
            select(sync_settings.c.account_id)
            .where(sync_settings.c.main_account_id == account_id)
            .order_by(sync_settings.c.account_id)
        )
        child_ids = tuple(connection.execute(children).scalars())
        queue, own = sync_queue.c, sync_queue.c.account_id == account_id
        running = (
            queue.status == TaskStatus.PROCESSING.value,
            queue.lease_expires_at > now_of(connection, self._clock),
        )
        return Holdings(
            connection.execute(main).scalar(),
            child_ids,
            count(sync_queue, own, queue.status == TaskStatus.PENDING.value),
            count(sync_queue, own, queue.status == TaskStatus.FAILED.value),
            count(sync_queue, own, *running),
            count(sync_queue, queue.account_id.in_(children), *running) if child_ids else 0,
            count(sync_records, sync_records.c.child_account_id == account_id),
            count(failed_images, failed_images.c.child_account_id == account_id),
            bool(
                count(
                    webhook_states,
                    webhook_states.c.account_id == account_id,
                    webhook_states.c.url.is_not(None),
                )
            ),
        )

    async def remove(self, account_id: str) -> None:
        gone = [
            delete(sync_queue).where(
                sync_queue.c.account_id == account_id, sync_queue.c.status.in_(_ENDED_BADLY)
            ),
            delete(surveys).where(
                or_(
                    surveys.c.main_account_id == account_id,
                    surveys.c.child_account_id == account_id,
                )
            ),
            *(
                delete(table).where(table.c.child_account_id == account_id)
                for table in (sync_records, failed_images, proofs, comparisons, differences)
            ),
            *(
                delete(table).where(table.c.account_id == account_id)
                for table in (account_abilities, webhook_states, webhook_events, sync_settings)
            ),
            delete(schedule).where(schedule.c.subject == account_id),
            update(installations)
            .where(func.lower(installations.c.account_id) == account_id.lower())
            .values(token=None),
            delete(accounts).where(accounts.c.id == account_id),
        ]

        def work(connection: Connection) -> None:
            # The waiting tasks first: what is not running then, nobody can begin any more.
            connection.execute(gone[0])
            found = self._holdings(connection, account_id)
            if found.running or found.running_of_children:
                raise BusyAccountError("workers are at tasks of the account")
            for statement in gone[1:]:
                connection.execute(statement)

        await self._database.run(work, alone=True)
