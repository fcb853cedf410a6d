"""Contract of the port TaskQueue, on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.domain.tasks import TaskId
from imgsync.testing import TaskQueueContract
from tests.contracts.stores import SetTime, SqlStore, sql_store

DEEP = "[" * 3000 + "]" * 3000
"""A payload that every database takes, and no program reads."""


class TestSqlTaskQueue(SetTime, TaskQueueContract[SqlStore]):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[SqlStore]:
        with sql_store(database_url) as store:
            yield store

    async def open(self, store: SqlStore, kinds: Sequence[str]) -> SqlTaskQueue:
        return SqlTaskQueue(store.another_host(), store.clock, kinds)

    def accounts(self, store: SqlStore) -> SqlAccountRepository:
        return SqlAccountRepository(store.another_host(), store.clock)

    async def damage(self, store: SqlStore, task_id: TaskId) -> None:
        statement = text("UPDATE sync_queue SET payload = :deep WHERE id = :id")
        with store.another_host().engine.begin() as connection:
            connection.execute(statement, {"deep": DEEP, "id": task_id})

    async def disable(self, store: SqlStore) -> None:
        store.drop("sync_queue")
        store.drop("sync_counts")
