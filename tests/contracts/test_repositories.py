"""Contracts of the stored accounts, settings and records, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, update

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.failures import SqlFailedImages
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSurveyRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.tables import account_abilities
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    SettingsRepository,
    SurveyRepository,
    SyncRecordRepository,
)
from imgsync.testing import (
    AbilityRepositoryContract,
    AccountRepositoryContract,
    FailedImagesContract,
    SettingsRepositoryContract,
    SurveyRepositoryContract,
    SyncRecordRepositoryContract,
)
from tests.contracts.stores import SetTime, SqlStore, sql_store


def drop(table: str) -> Callable[[Connection], object]:
    return lambda connection: connection.exec_driver_sql(f"DROP TABLE {table}")


class TestSqlAccounts(SetTime, AccountRepositoryContract[SqlStore]):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[SqlStore]:
        with sql_store(database_url) as store:
            yield store

    def accounts(self, store: SqlStore) -> SqlAccountRepository:
        return SqlAccountRepository(store.another_host(), store.clock)

    async def disable(self, store: SqlStore) -> None:
        store.drop("accounts")


class TestSqlAbilities(AbilityRepositoryContract):
    @pytest.fixture
    def abilities(self, database_url: str) -> Iterator[SqlAbilityRepository]:
        with sql_store(database_url) as self.store:
            yield SqlAbilityRepository(self.store.another_host())

    async def another_host(self, abilities: AbilityRepository) -> SqlAbilityRepository:
        return SqlAbilityRepository(self.store.another_host())

    async def damage(self, abilities: AbilityRepository, account_id: str) -> None:
        with self.store.another_host().engine.begin() as connection:
            this = update(account_abilities).where(account_abilities.c.account_id == account_id)
            assert connection.execute(this.values(abilities={"bulk": {}})).rowcount == 1

    async def disable(self, abilities: AbilityRepository) -> None:
        self.store.drop("account_abilities")


class TestSqlSurveys(SurveyRepositoryContract):
    @pytest.fixture
    def surveys(self, database_url: str) -> Iterator[SqlSurveyRepository]:
        with sql_store(database_url) as self.store:
            yield SqlSurveyRepository(self.store.another_host())

    async def disable(self, surveys: SurveyRepository) -> None:
        self.store.drop("surveys")


class TestSqlSettings(SettingsRepositoryContract):
    @pytest.fixture
    def settings(self, database: Database) -> SqlSettingsRepository:
        self.database = database
        return SqlSettingsRepository(database)

    async def disable(self, settings: SettingsRepository) -> None:
        await self.database.run(drop("sync_settings"))


class TestSqlFailedImages(SetTime, FailedImagesContract[SqlStore]):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[SqlStore]:
        with sql_store(database_url) as store:
            yield store

    def failures(self, store: SqlStore) -> SqlFailedImages:
        return SqlFailedImages(store.another_host(), store.clock)

    async def disable(self, store: SqlStore) -> None:
        store.drop("failed_images")


class TestSqlRecords(SyncRecordRepositoryContract):
    @pytest.fixture
    def records(self, database: Database) -> SqlSyncRecordRepository:
        self.database = database
        return SqlSyncRecordRepository(database)

    async def disable(self, records: SyncRecordRepository) -> None:
        await self.database.run(drop("sync_records"))
