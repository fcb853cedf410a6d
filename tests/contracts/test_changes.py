"""Contract of the log of changes, on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.testing import ChangeLogContract
from tests.contracts.stores import SetTime, SqlStore, sql_store


class TestSqlChanges(SetTime, ChangeLogContract[SqlStore]):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[SqlStore]:
        with sql_store(database_url) as store:
            yield store

    def changes(self, store: SqlStore) -> SqlChangeLog:
        return SqlChangeLog(store.another_host(), store.clock)

    async def disable(self, store: SqlStore) -> None:
        store.drop("changes")
