"""Contracts of the stored accounts, settings and records, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.domain.accounts import Account, TokenKind
from imgsync.domain.errors import UnknownAccountError
from imgsync.domain.images import ImageFingerprint
from imgsync.domain.ports.repositories import (
    AccountRepository,
    SettingsRepository,
    SyncRecordRepository,
)
from imgsync.domain.records import CopiedImage, EntityKey, SyncRecord
from imgsync.domain.settings import ChildSettings

ACCOUNT = Account("1", "Главный", TokenKind.PASSWORD, "s3cret", "admin@shop")
KEY = EntityKey("child", "product", "p1")
ONE = ImageFingerprint("i1", 10, "2026-01-01 00:00:00.000")
TWO = ImageFingerprint("i2", 20, "2026-01-01 00:00:00.000")
RECORD = SyncRecord((ONE, TWO), (CopiedImage(ONE, "c1"),), ("c1",), False, ("b.png: 503",))


@pytest.fixture
def accounts(engine: Engine) -> AccountRepository:
    return SqlAccountRepository(engine)


@pytest.fixture
def settings(engine: Engine) -> SettingsRepository:
    return SqlSettingsRepository(engine)


@pytest.fixture
def records(engine: Engine) -> SyncRecordRepository:
    return SqlSyncRecordRepository(engine)


def test_an_account_is_stored_whole(accounts: AccountRepository) -> None:
    accounts.add(ACCOUNT)
    assert accounts.get("1") == ACCOUNT


def test_an_account_added_again_is_replaced(accounts: AccountRepository) -> None:
    accounts.add(ACCOUNT)
    changed = Account("1", "New", TokenKind.USER, "token")
    accounts.add(changed)
    assert accounts.all() == [changed]


def test_accounts_are_listed_by_name(accounts: AccountRepository) -> None:
    assert accounts.all() == []
    for number, name in enumerate("cab"):
        accounts.add(replace(ACCOUNT, id=str(number), name=name))
    assert [a.name for a in accounts.all()] == ["a", "b", "c"]


def test_an_unknown_account_is_an_error(accounts: AccountRepository) -> None:
    with pytest.raises(UnknownAccountError, match="'nobody' is not configured"):
        accounts.get("nobody")


def test_settings_are_off_by_default(settings: SettingsRepository) -> None:
    assert settings.get("child") == ChildSettings()


@pytest.mark.parametrize(
    "value", [ChildSettings(sync_images=True), ChildSettings(sync_images_all=True)]
)
def test_settings_are_stored_and_replaced(
    settings: SettingsRepository, value: ChildSettings
) -> None:
    settings.put("child", ChildSettings(sync_images=True))
    settings.put("child", value)
    assert settings.get("child") == value
    assert settings.get("another") == ChildSettings()


def test_a_record_is_stored_whole_and_replaced(records: SyncRecordRepository) -> None:
    assert records.get(KEY) is None
    records.put(KEY, SyncRecord((), (), (), True))
    records.put(KEY, RECORD)
    assert records.get(KEY) == RECORD


@pytest.mark.parametrize("field", ["child_account_id", "entity_type", "child_entity_id"])
def test_records_of_other_entities_are_apart(records: SyncRecordRepository, field: str) -> None:
    records.put(KEY, RECORD)
    assert records.get(replace(KEY, **{field: "other"})) is None


def test_a_record_of_another_version_counts_as_none(
    records: SyncRecordRepository, engine: Engine
) -> None:
    records.put(KEY, RECORD)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE sync_records SET record = '{"v": 0}'"""))
    assert records.get(KEY) is None
