"""Contracts of the stored accounts, settings and records, on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.adapters.sql.transactions import DatabaseError
from imgsync.domain.diff import CopiedImage, EntityKey, SyncRecord
from imgsync.domain.errors import UnknownAccountError
from imgsync.domain.model import Account, AccountRole, ImageFingerprint, Parking, TokenKind
from imgsync.domain.ports.repositories import (
    AccountRepository,
    SettingsRepository,
    SyncRecordRepository,
)
from imgsync.domain.settings import ChildSettings

ACCOUNT = Account("1", "Главный", TokenKind.PASSWORD, "s3cret", "admin@shop")
KEY = EntityKey("child", "product", "p1")
ONE = ImageFingerprint("i1", 10, "2026-01-01 00:00:00.000")
TWO = ImageFingerprint("i2", 20, "2026-01-01 00:00:00.000")
RECORD = SyncRecord((ONE, TWO), (CopiedImage(ONE, "c1"),), ("c1",), False, ("b.png: 503",))


class FixedClock:
    """The time that the store is told to have."""

    moment = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def accounts(engine: Engine, clock: FixedClock) -> AccountRepository:
    return SqlAccountRepository(engine, clock)


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


def test_the_side_of_an_account_is_noted_and_kept(accounts: AccountRepository) -> None:
    accounts.add(ACCOUNT)
    assert accounts.get("1").role is None
    accounts.set_role("1", AccountRole.MAIN)
    assert accounts.get("1").role is AccountRole.MAIN
    accounts.add(replace(ACCOUNT, secret="new"))
    assert accounts.get("1").role is AccountRole.MAIN
    assert accounts.get("1").secret == "new"
    accounts.add(replace(ACCOUNT, role=AccountRole.CHILD))
    assert accounts.get("1").role is AccountRole.CHILD
    accounts.set_role("nobody", AccountRole.MAIN)


def test_an_account_is_parked_until_a_moment_of_the_store_s_time(
    accounts: AccountRepository, clock: FixedClock
) -> None:
    accounts.add(ACCOUNT)
    assert accounts.parking("1") is None
    first = Parking("401 \x00", clock.moment + timedelta(minutes=1))
    second = Parking("51003", clock.moment + timedelta(hours=1))
    accounts.park("1", first)
    assert accounts.parking("1") == Parking("401 ", first.until)
    accounts.park("1", second)
    assert accounts.parking("1") == second
    assert accounts.parking("nobody") is None
    clock.moment = second.until - timedelta(microseconds=1)
    assert accounts.parking("1") == second
    clock.moment = second.until
    assert accounts.parking("1") is None


def test_an_account_stored_anew_is_parked_no_more(
    accounts: AccountRepository, clock: FixedClock
) -> None:
    accounts.add(ACCOUNT)
    accounts.park("1", Parking("401", clock.moment + timedelta(hours=1)))
    accounts.add(ACCOUNT)
    assert accounts.parking("1") is None


@pytest.mark.parametrize(
    "stored",
    [
        Account("1", "Shop", TokenKind.SOLUTION, "other"),
        Account("1", "Shop", TokenKind.DRAFT, "token"),
        Account("1", "Shop", TokenKind.PASSWORD, "token", "login"),
    ],
)
def test_other_credentials_are_not_parked_for_what_these_met(
    engine: Engine, stored: Account
) -> None:
    accounts = SqlAccountRepository(engine)
    used = Account("1", "Shop", TokenKind.SOLUTION, "token")
    parking = Parking("401", datetime.now(UTC) + timedelta(hours=1))
    accounts.add(stored)
    assert not accounts.park("1", parking, used)
    assert accounts.parking("1") is None
    accounts.add(used)
    assert accounts.park("1", parking, used)
    assert accounts.parking("1") == parking


def test_a_parking_goes_by_the_database_s_time(engine: Engine) -> None:
    accounts = SqlAccountRepository(engine)
    accounts.add(ACCOUNT)
    for hours in (1, -1):
        accounts.park("1", Parking("401", datetime.now(UTC) + timedelta(hours=hours)))
        assert (accounts.parking("1") is not None) == (hours > 0)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("token_kind", "magic", "'magic' is not a valid TokenKind"),
        ("role", "aunt", "'aunt' is not a valid AccountRole"),
        ("secret", "", "the token or password is empty"),
        ("login", None, "a login goes with a password"),
        ("name", "a\nb", "cannot be printed"),
    ],
)
def test_a_damaged_row_is_named(
    accounts: AccountRepository, engine: Engine, column: str, value: object, reason: str
) -> None:
    accounts.add(ACCOUNT)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE accounts SET {column} = :value"), {"value": value})  # noqa: S608
    for read in (lambda: accounts.get("1"), accounts.all):
        with pytest.raises(DatabaseError, match=f"account '1' is damaged: .*{reason}") as caught:
            read()
        assert "s3cret" not in str(caught.value)


def test_an_account_row_that_is_no_text_is_named(sqlite_engine: Engine) -> None:
    accounts = SqlAccountRepository(sqlite_engine)
    accounts.add(ACCOUNT)
    for value in ("x'cbe0'", "CAST(x'cbe0' AS TEXT)"):
        with sqlite_engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE accounts SET name = {value}")  # noqa: S608
        with pytest.raises(DatabaseError, match="account '1' is damaged: it is no UTF-8 text"):
            accounts.get("1")


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
