"""What the last comparison of a child found, in the database."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.differences import SqlDifferences
from imgsync.adapters.sql.failures import SqlFailedImages
from imgsync.adapters.sql.shown import SqlShownPictures
from imgsync.domain.changes import Change, ChangeAction
from imgsync.domain.diff import EntityKey
from imgsync.domain.differences import EntityDifference, SeenImage
from imgsync.domain.failures import FailedEntity, Failure
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
IMAGES = (
    SeenImage("i-1", "лампа.jpg", 12, "2026-11-27 10:00:00.000"),
    SeenImage("i-2", "b", 0, ""),
)
LAMP = EntityDifference(
    "product",
    "Lamp",
    "A-1",
    "different",
    "",
    "m-1",
    EntityKey("omsk", "product", "c-1"),
    IMAGES,
    (),
    will_change=True,
)
CHAIR = EntityDifference("bundle", "Chair", "", "unmatched", "no child entity has 100%_ of it")


async def ended(store: SqlDifferences, *found: EntityDifference, child: str = "omsk") -> None:
    began = await store.begin("main", child)
    assert began is not None
    assert await store.end(child, began, found, {"equal": 3, "different": len(found)}, 0)


async def test_what_was_found_is_read_back_and_replaced(database: Database) -> None:
    store = SqlDifferences(database)
    assert await store.get("omsk") is None
    await ended(store, LAMP, CHAIR)
    await ended(store, replace(LAMP, name="Other"), child="perm")
    found = await store.find("omsk")
    assert [replace(row, id=0) for row in found] == [LAMP, CHAIR]
    assert await store.one("omsk", found[0].id) == found[0]
    assert await store.one("perm", found[0].id) is None  # that of another child
    for wrong in (-1, 0, 2**63, 2**70):
        assert await store.one("omsk", wrong) is None
    comparison = await store.get("omsk")
    assert comparison is not None
    assert comparison.ended is not None
    assert (comparison.counts, comparison.error) == ({"equal": 3, "different": 2}, None)
    await ended(store, CHAIR)
    assert [row.name for row in await store.find("omsk")] == ["Chair"]
    assert [row.name for row in await store.find("perm")] == ["Other"]
    await store.forget("omsk")
    assert (await store.find("omsk"), await store.get("omsk")) == ([], None)
    assert await store.get("perm") is not None


async def test_pages_and_filters(database: Database) -> None:
    store = SqlDifferences(database)
    many = [replace(LAMP, name=f"Lamp {n}", code="") for n in range(45)]
    await ended(store, *many, CHAIR)
    names = [[d.name for d in await store.find("omsk", offset=o)] for o in (0, 20, 40, 60)]
    assert [len(page) for page in names] == [20, 20, 6, 0]
    assert [n for page in names for n in page] == [d.name for d in (*many, CHAIR)]
    for wanted in ("100%_", "CHAIR", "hair"):
        assert [d.name for d in await store.find("omsk", text=wanted)] == ["Chair"]
    assert await store.find("omsk", text="' OR 1=1 --") == []
    assert [d.name for d in await store.find("omsk", differences=["unmatched"])] == ["Chair"]
    both = await store.find("omsk", differences=["unmatched", "different"], offset=40)
    assert len(both) == 6


async def test_one_comparison_of_a_child_at_a_time_until_it_counts_as_broken_off(
    database: Database,
) -> None:
    clock = SetClock()
    here, there = SqlDifferences(database, clock), SqlDifferences(database, clock)
    await ended(here, LAMP)
    lost = await here.begin("main", "omsk")
    assert lost is not None
    assert await there.begin("main", "omsk") is None
    assert await there.begin("main", "perm") is not None
    assert [d.name for d in await there.find("omsk")] == ["Lamp"]  # the last one's stays
    clock.advance(timedelta(minutes=2))
    await here.alive("omsk", lost)
    clock.advance(timedelta(minutes=2))
    assert await there.begin("main", "omsk") is None  # it lives
    clock.advance(timedelta(minutes=2))
    began = await there.begin("main", "omsk")
    assert began is not None
    # The one that stood still goes on, and says nothing of its heir.
    await here.alive("omsk", lost)
    await here.fail("omsk", lost, "from another time")
    assert not await here.end("omsk", lost, [CHAIR], {}, 0)
    comparison = await here.get("omsk")
    assert comparison is not None
    assert (comparison.ended, comparison.error) == (None, None)
    await there.fail("omsk", began, "the token was refused")
    comparison = await here.get("omsk")
    assert comparison is not None
    assert comparison.error == "the token was refused"
    assert comparison.found_at is not None
    assert comparison.began - comparison.found_at == timedelta(minutes=6)
    assert [d.name for d in await there.find("omsk")] == ["Lamp"]
    assert await here.begin("main", "omsk") is not None


async def test_of_several_that_begin_at_once_one_does(database: Database) -> None:
    store = SqlDifferences(database)
    begun = await asyncio.gather(*(store.begin("main", "omsk") for _ in range(8)))
    assert sum(one is not None for one in begun) == 1


async def test_tells_what_imgsync_has_written_since(database: Database) -> None:
    clock = SetClock()
    store, log = SqlDifferences(database, clock), SqlChangeLog(database, clock)

    async def change(child_entity: str) -> None:
        key = EntityKey("omsk", "product", child_entity)
        await log.begin(Change("run", ChangeAction.SET, "main", key, "m-1", "Lamp", ()))

    await change("c-1")
    clock.advance(timedelta(seconds=1))
    second = replace(LAMP, key=EntityKey("omsk", "product", "c-2"))
    await ended(store, LAMP, second)
    assert [d.changed_since for d in await store.find("omsk")] == [False, False]
    clock.advance(timedelta(seconds=1))
    await change("c-2")
    assert [d.changed_since for d in await store.find("omsk")] == [False, True]
    # One that fails, or is under way, finds nothing: what is kept is as old as before.
    clock.advance(timedelta(seconds=1))
    began = await store.begin("main", "omsk")
    assert began is not None
    await store.fail("omsk", began, "")
    assert [d.changed_since for d in await store.find("omsk")] == [False, True]


async def test_only_pictures_that_a_comparison_or_a_failed_image_names_are_shown(
    database: Database,
) -> None:
    store, is_shown = SqlDifferences(database), SqlShownPictures(database)
    await ended(store, replace(LAMP, child_images=(SeenImage("i-3", "c", 1, ""),)), CHAIR)
    failures = [Failure("i-9", "d.png", "1 2", "no picture", "it is none", settled=True)]
    entity = FailedEntity("main", "omsk", "product", "m-9", "c-9")
    await SqlFailedImages(database).note(entity, failures)
    for named in (
        ("main", "product", "m-1", "i-1"),
        ("main", "product", "m-1", "i-2"),
        ("omsk", "product", "c-1", "i-3"),
        ("main", "product", "m-9", "i-9"),
    ):
        assert await is_shown(*named), named
        for at in range(4):
            other = [*named]
            other[at] = "other"
            assert not await is_shown(*other), other
    assert not await is_shown("omsk", "product", "m-1", "i-1")
    assert not await is_shown("main", "product", "c-1", "i-3")
    assert not await is_shown("\x00", "\ud800", "", "")
    await store.forget("omsk")
    assert not await is_shown("main", "product", "m-1", "i-1")


async def test_hostile_text_is_stored_without_what_databases_refuse(database: Database) -> None:
    store = SqlDifferences(database)
    hostile = replace(
        LAMP, name="a\x00b\ud800", main_images=(SeenImage("i", "x\x00\udfff", 1, ""),)
    )
    await ended(store, hostile)
    (found,) = await store.find("omsk")
    assert (found.name, found.main_images[0].filename) == ("ab?", "x?")


@pytest.mark.parametrize("damage", ["main_images = '5'", "child_images = '[[1]]'", "name = ''"])
async def test_a_damaged_row_hides_no_other(database: Database, damage: str) -> None:
    store = SqlDifferences(database)
    await ended(store, LAMP, CHAIR)
    statement = f"UPDATE differences SET {damage} WHERE name = 'Lamp'"  # noqa: S608
    with database.engine.begin() as connection:
        connection.execute(text(statement))
    assert len(await store.find("omsk")) == 2
    assert not await SqlShownPictures(database)("main", "product", "m-1", "nothing")
