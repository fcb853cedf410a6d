"""What the repositories do with rows and times that their ports say nothing of."""

import asyncio
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.tables import account_abilities
from imgsync.domain.diff import NOTHING_LEFT, CopiedImage, EntityKey, SyncRecord
from imgsync.domain.errors import DamagedRowError, StoreError
from imgsync.domain.model import Abilities, Account, ImageFingerprint, Parking, TokenKind

pytestmark = pytest.mark.anyio
ACCOUNT = Account("1", "Главный", TokenKind.PASSWORD, "s3cret", "admin@shop")
KEY = EntityKey("child", "product", "p1")
OTHER = replace(KEY, child_entity_id="p2")
ONE = ImageFingerprint("i1", 10, "2026-01-01 00:00:00.000")
COPIED = SyncRecord((ONE,), (CopiedImage(ONE, "c1"),), ("c1",), True)


@pytest.fixture
def accounts(database: Database) -> SqlAccountRepository:
    return SqlAccountRepository(database)


@pytest.fixture
def records(database: Database) -> SqlSyncRecordRepository:
    return SqlSyncRecordRepository(database)


async def test_the_reason_of_a_parking_is_stored_without_what_postgresql_refuses(
    accounts: SqlAccountRepository,
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    await accounts.add(ACCOUNT)
    await accounts.park("1", Parking("401 \x00", until))
    assert await accounts.parking("1") == Parking("401 ", until)


async def test_a_parking_goes_by_the_database_s_time(accounts: SqlAccountRepository) -> None:
    await accounts.add(ACCOUNT)
    for hours in (1, -1):
        await accounts.park("1", Parking("401", datetime.now(UTC) + timedelta(hours=hours)))
        assert (await accounts.parking("1") is not None) == (hours > 0)


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
async def test_a_damaged_row_is_named_and_costs_itself_only(
    accounts: SqlAccountRepository,
    database: Database,
    column: str,
    value: object,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await accounts.add(ACCOUNT)
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE accounts SET {column} = :value"), {"value": value})  # noqa: S608
    whole = replace(ACCOUNT, id="2")
    await accounts.add(whole)
    said = rf"account '.+' \(1\) is damaged: .*{reason}"
    with pytest.raises(DamagedRowError, match=said) as caught:
        await accounts.get("1")
    assert await accounts.all() == [whole]
    assert re.search(said, caplog.text)
    assert "s3cret" not in str(caught.value) + caplog.text


async def test_an_account_row_that_is_no_text_is_named(sqlite_database: Database) -> None:
    accounts = SqlAccountRepository(sqlite_database)
    await accounts.add(ACCOUNT)
    for value in ("x'cbe0'", "CAST(x'cbe0' AS TEXT)"):
        with sqlite_database.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE accounts SET name = {value}")  # noqa: S608
        with pytest.raises(StoreError, match=r"'.+' \(1\) is damaged: it is no UTF-8 text"):
            await accounts.get("1")


async def test_a_record_of_another_version_counts_as_none(
    records: SqlSyncRecordRepository, database: Database
) -> None:
    await records.put(KEY, COPIED)
    with database.engine.begin() as connection:
        connection.execute(text("""UPDATE sync_records SET record = '{"v": 0}'"""))
    assert await records.get(KEY) is None


@pytest.mark.parametrize("record", ['{"v": 0}', "[]", "null", '"text"', "5"])
async def test_a_record_of_another_version_tells_of_no_images(
    records: SqlSyncRecordRepository, database: Database, record: str
) -> None:
    await records.put(KEY, COPIED)
    await records.put(OTHER, COPIED)
    value = "CAST(:r AS json)" if database.dialect == "postgresql" else ":r"
    statement = f"UPDATE sync_records SET record = {value} WHERE child_entity_id = 'p1'"  # noqa: S608
    with database.engine.begin() as connection:
        connection.execute(text(statement), {"r": record})
    assert await records.copied("child", "product") == {"p2"}
    assert await records.get_many("child", "product", ["p1", "p2"]) == {"p2": COPIED}


@pytest.mark.parametrize("record", ["", "{oops", "[" * 3000])
async def test_a_damaged_record_costs_only_itself(sqlite_database: Database, record: str) -> None:
    records = SqlSyncRecordRepository(sqlite_database)
    await records.put(KEY, COPIED)
    await records.put(OTHER, COPIED)
    with sqlite_database.engine.begin() as connection:
        statement = text("UPDATE sync_records SET record = :r WHERE child_entity_id = 'p1'")
        connection.execute(statement, {"r": record})
    assert await records.copied("child", "product") == {"p2"}
    assert await records.get(KEY) is None
    assert await records.get(OTHER) == COPIED
    assert await records.get_many("child", "product", ["p1", "p2"]) == {"p2": COPIED}


async def test_many_records_are_those_that_are_read_one_by_one(
    records: SqlSyncRecordRepository,
) -> None:
    """What is written comes back the same way by both, names in any alphabet included."""
    other = ImageFingerprint("Ключ \u2028 'x'", 2**53, "")
    written = {
        "p1": COPIED,
        "p2": SyncRecord((other, ONE), (CopiedImage(other, "c2"),), ("c2", "c1"), False, ('Ё: "',)),
        "p3": COPIED.begun([]),
        "p4": NOTHING_LEFT,
    }
    for entity_id, record in written.items():
        await records.put(replace(KEY, child_entity_id=entity_id), record)
    found = await records.get_many("child", "product", [*written, "p1", "p5"])
    assert found == written
    for entity_id, record in found.items():
        assert await records.get(replace(KEY, child_entity_id=entity_id)) == record


@pytest.mark.parametrize("value", ["x'cbe0'", "CAST(x'cbe0' AS TEXT)", "5", "1.5"])
async def test_a_record_that_is_no_text_costs_only_itself(
    sqlite_database: Database, value: str
) -> None:
    records = SqlSyncRecordRepository(sqlite_database)
    await records.put(KEY, COPIED)
    await records.put(OTHER, COPIED)
    with sqlite_database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE sync_records SET record = {value} WHERE child_entity_id = 'p1'"  # noqa: S608
        )
    assert await records.get_many("child", "product", ["p1", "p2"]) == {"p2": COPIED}


@pytest.mark.parametrize(
    "value", ["'no JSON'", "x'ff00'", "'[]'", '\'{"head": "perhaps"}\'', "'7'"]
)
async def test_abilities_that_cannot_be_read_are_shown_anew(
    sqlite_database: Database, value: str
) -> None:
    abilities = SqlAbilityRepository(sqlite_database)
    await abilities.learn("1", Abilities(bulk=True))
    with sqlite_database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE account_abilities SET abilities = {value}")  # noqa: S608
    assert await abilities.get("1") == Abilities()
    await abilities.learn("1", Abilities(head=False))
    assert await abilities.get("1") == Abilities(head=False)


async def test_abilities_of_a_later_version_are_read_as_far_as_they_are_known(
    database: Database,
) -> None:
    abilities = SqlAbilityRepository(database)
    await database.put(
        account_abilities, {"account_id": "1", "abilities": {"head": True, "sings": [1]}}
    )
    assert await abilities.get("1") == Abilities(head=True)


_LEARNS = """
import asyncio, sys
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAbilityRepository
from imgsync.domain.model import Abilities

async def main(url, name):
    abilities = SqlAbilityRepository(Database.open(url))
    for number in range(10):
        await abilities.learn("1", Abilities(permanent_hosts=frozenset({f"{name}-{number}"})))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.process
@pytest.mark.slow
async def test_processes_that_learn_at_once_lose_nothing(
    database: Database, database_url: str
) -> None:
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _LEARNS, database_url, str(number)
        )
        for number in range(3)
    ]
    assert [await process.wait() for process in running] == [0, 0, 0]
    found = (await SqlAbilityRepository(database).get("1")).permanent_hosts
    assert found == {f"{name}-{number}" for name in range(3) for number in range(10)}
