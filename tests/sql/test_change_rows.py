"""Rows of the log of changes that somebody damaged."""

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.adapters.sql.database import Database
from imgsync.domain.changes import Change, ChangeAction, ListedImage
from imgsync.domain.diff import EntityKey

pytestmark = pytest.mark.anyio
DAMAGE = {
    "sqlite": [
        "changed_at = 'x'",
        "changed_at = x'ff'",
        "entity_name = CAST(x'ff00' AS TEXT)",
        "before = '{'",
        "action = 'zz'",
    ],
    "postgresql": [
        "changed_at = 'infinity'",
        "changed_at = '0044-03-15 BC'",
        "before = '5'",
        "action = 'zz'",
        "after = '5'",
    ],
}


async def three(log: SqlChangeLog) -> list[int]:
    image = ListedImage("i", "a.png", 1)
    keys = [EntityKey("child", "product", f"e{n}") for n in range(3)]
    return [
        await log.begin(Change("run", ChangeAction.SET, "main", key, "m", "Lamp", (image,)))
        for key in keys
    ]


@pytest.mark.parametrize("number", range(5))
async def test_a_damaged_change_hides_no_other(database: Database, number: int) -> None:
    log = SqlChangeLog(database)
    first, second, third = await three(log)
    with database.engine.begin() as connection:
        statement = f"UPDATE changes SET {DAMAGE[database.dialect][number]} WHERE id = :id"  # noqa: S608
        connection.execute(text(statement), {"id": second})
    found = [change.id for change in await log.find(run="run")]
    assert [change_id for change_id in found if change_id != second] == [third, first]
    await log.get(second)
    assert (await log.get(third)) is not None


async def test_a_page_of_damaged_changes_is_not_the_end(database: Database) -> None:
    log = SqlChangeLog(database)
    first, *others = await three(log)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE changes SET action = 'zz' WHERE id != :id"), {"id": first})
    assert [change.id for change in await log.find(run="run", limit=1)] == [first]
    assert await log.find(run="run", limit=1, before=first) == []
    assert [change.id for change in await log.find(run="run", limit=len(others))] == [first]


async def test_a_run_of_any_text_is_looked_for(database: Database) -> None:
    log = SqlChangeLog(database)
    await three(log)
    assert await log.find(run="\x00\ud800") == []
