"""What hangs on an account, and that nothing of it is left."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.shelf import SqlAccountShelf
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.model import Abilities, Account, LinkSettings, Parking, TokenKind
from imgsync.domain.ports.accounts import BusyAccountError, Holdings
from imgsync.domain.ports.queue import NewTask

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


def task(child: str, entity: str) -> NewTask:
    return NewTask(
        {"child_account_id": child},
        dedupe_key=f"{child}/{entity}",
        account_id=child,
        entity_id=entity,
    )


async def settle(database: Database) -> None:
    accounts = SqlAccountRepository(database)
    for one in ("main", "c1", "c2"):
        await accounts.add(Account(one, one, TokenKind.USER, f"token-{one}"))
    for child in ("c1", "c2"):
        await SqlSettingsRepository(database).link("main", child, LinkSettings(sync_images=True))
        await SqlTaskQueue(database).enqueue([task(child, "e1"), task(child, "e2")])
        record = SyncRecord((), (), ("i",), True, ())
        await SqlSyncRecordRepository(database).put(EntityKey(child, "product", "e1"), record)
        await SqlAbilityRepository(database).learn(child, Abilities(bulk=True))
    with database.engine.begin() as connection:
        installed = "INSERT INTO installations VALUES ('app', 'c1', 'installed', 'given', :at, :at)"
        connection.execute(text(installed), {"at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(" ")})


def rows(database: Database, word: str) -> dict[str, int]:
    """In how many rows of each table a value stands."""
    found = {}
    with database.engine.begin() as connection:
        for table in (
            "accounts",
            "sync_settings",
            "sync_queue",
            "sync_records",
            "account_abilities",
        ):
            stored = connection.execute(text(f"SELECT * FROM {table}")).all()  # noqa: S608
            found[table] = sum(word in [str(value) for value in row] for row in stored)
    return found


async def test_what_hangs_on_an_account_is_counted(database: Database) -> None:
    await settle(database)
    shelf = SqlAccountShelf(database)
    assert await shelf.holdings("main") == Holdings(child_ids=("c1", "c2"))
    assert await shelf.holdings("c1") == Holdings("main", waiting=2, records=1)
    await SqlTaskQueue(database).claim(lease=MINUTE)
    held = [await shelf.holdings(one) for one in ("main", "c1", "c2")]
    assert held[0].running_of_children == held[1].running + held[2].running == 1
    assert await shelf.holdings("nobody") == Holdings()


async def test_a_removed_account_leaves_nothing_and_others_all(database: Database) -> None:
    await settle(database)
    before = rows(database, "c2")
    await SqlAccountShelf(database).remove("c1")
    assert set(rows(database, "c1").values()) == {0}
    assert rows(database, "c2") == before
    with database.engine.begin() as connection:
        assert connection.execute(text("SELECT token FROM installations")).scalar_one() is None
    await SqlAccountShelf(database).remove("c1")  # again, as where it was cut off


async def test_an_account_of_running_tasks_is_not_removed(database: Database) -> None:
    await settle(database)
    queue, shelf = SqlTaskQueue(database), SqlAccountShelf(database)
    (claimed,) = await queue.claim(lease=MINUTE)
    child = claimed.payload["child_account_id"]
    before = rows(database, child)
    for one in (child, "main"):
        with pytest.raises(BusyAccountError):
            await shelf.remove(one)
    assert rows(database, child) == before
    await queue.complete(claimed, result="", warnings=[])
    await shelf.remove(child)


async def test_a_rename_changes_the_name_alone(database: Database) -> None:
    await settle(database)
    accounts = SqlAccountRepository(database)
    parking = Parking("refused", datetime(2100, 1, 1, tzinfo=UTC))
    await accounts.park("c1", parking)
    assert await SqlAccountShelf(database).rename("c1", "Омск")
    assert await accounts.get("c1") == Account("c1", "Омск", TokenKind.USER, "token-c1")
    assert await accounts.parking("c1") == parking
    assert not await SqlAccountShelf(database).rename("nobody", "x")
