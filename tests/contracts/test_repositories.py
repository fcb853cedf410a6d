"""Contracts of the stored accounts, settings and records, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.failures import SqlFailedImages
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSurveyRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.tables import account_abilities, accounts
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    SettingsRepository,
    SurveyRepository,
    SyncRecordRepository,
)
from imgsync.domain.ports.secrets import key_of
from imgsync.testing import (
    AbilityRepositoryContract,
    AccountRepositoryContract,
    FailedImagesContract,
    SettingsRepositoryContract,
    SurveyRepositoryContract,
    SyncRecordRepositoryContract,
)
from tests.contracts.stores import SetTime, SqlStore, sql_store
from tests.support.keys import opened


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


class TestSqlAccountsWhoseSecretsAreEncrypted(TestSqlAccounts):
    """As the program opens them: all hosts have one key, and no row holds a secret in plain."""

    @pytest.fixture
    def store(self, database_url: str, tmp_path: Path) -> Iterator[SqlStore]:
        self.key = tmp_path / "key"
        with sql_store(database_url) as store:
            opened(store.another_host(), self.key).prepare()
            yield store
            with suppress(StoreError, SQLAlchemyError):
                # Not where the test has dropped the table.
                for secret in stored_secrets(store.another_host()):
                    assert key_of(secret) is not None

    def accounts(self, store: SqlStore) -> SqlAccountRepository:
        database = store.another_host()
        return SqlAccountRepository(database, store.clock, opened(database, self.key))


def stored_secrets(database: Database) -> list[str]:
    with database.engine.begin() as connection:
        return list(connection.execute(select(accounts.c.secret)).scalars())


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
