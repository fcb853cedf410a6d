"""The table of failed images: many rows, and several entities noted together."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.failures import SqlFailedImages
from imgsync.adapters.sql.tables import failed_images
from imgsync.domain.failures import FailedEntity, Failure

pytestmark = pytest.mark.anyio
ENTITY = FailedEntity("main", "child", "product", "m", "c", "Lamp", "A-1")
FAILURE = Failure("i", "a.png", "1", "not downloaded", "503", settled=False)


async def fill(database: Database, number: int) -> SqlFailedImages:
    """So many rows, of 100 entities each of some children."""
    failed = SqlFailedImages(database)
    (row,) = await failed.note(ENTITY, [FAILURE])
    common: dict[str, Any] = {
        "entity_type": "product",
        "main_account_id": "main",
        "main_entity_id": "m",
        "entity_name": "Lamp",
        "filename": "a.png",
        "version": "1",
        "cause": "not downloaded",
        "settled": False,
        "attempts": 1,
        "next_attempt_at": row.next_attempt_at,
        "first_failed_at": row.first_failed_at,
        "last_failed_at": row.last_failed_at,
    }
    rows = [
        common
        | {
            "child_account_id": f"child{n % 30}",
            "child_entity_id": f"e{n // 10}",
            "image_id": f"i{n}",
            "reason": f"{n}: 503",
        }
        for n in range(number)
    ]
    with database.engine.begin() as connection:
        connection.execute(insert(failed_images), rows)
    return failed


@pytest.mark.slow
async def test_10_000_failed_images_are_listed_and_counted_at_once(database: Database) -> None:
    failed = await fill(database, 10_000)
    began = time.perf_counter()
    assert len(await failed.find(limit=100)) == 100
    (last,) = await failed.find(text="9999: 503")
    assert await failed.find(after=last.id) == []
    assert len(await failed.find(child_ids=["child7"], limit=1000)) == 334
    counts = await failed.counts()
    assert sum(count.images for count in counts) == 10_001
    for _ in range(20):
        await failed.note(ENTITY, [FAILURE])
        assert len(await failed.of(ENTITY.key)) == 1
    assert time.perf_counter() - began < 15


async def test_entities_that_are_noted_together_keep_their_own(database: Database) -> None:
    failed = SqlFailedImages(database)
    entities = [replace(ENTITY, child_entity_id=f"c{n}") for n in range(20)]
    await asyncio.gather(*(failed.note(entity, [FAILURE]) for entity in entities))
    assert {row.entity for row in await failed.find()} == set(entities)
    await asyncio.gather(*(failed.note(entity, []) for entity in entities[1:]))
    assert [row.entity for row in await failed.find()] == entities[:1]


DAMAGE = {
    "sqlite": [
        "attempts = 'x'",
        "attempts = 1e300",
        "next_attempt_at = 'nonsense'",
        "next_attempt_at = x'ff'",
        "first_failed_at = 'infinity'",
        "last_failed_at = ''",
        "filename = CAST(x'ff00' AS TEXT)",
        "cause = CAST(x'ff00' AS TEXT)",
        "settled = 'x'",
    ],
    "postgresql": [
        "attempts = -2147483648",
        "attempts = 2147483647",
        "next_attempt_at = 'infinity'",
        "first_failed_at = '-infinity'",
        "last_failed_at = '0044-03-15 BC'",
    ],
}


@pytest.mark.parametrize("number", range(9))
async def test_a_damaged_row_hides_no_other_and_is_written_anew(
    database: Database, number: int
) -> None:
    damage = DAMAGE[database.dialect]
    failed = SqlFailedImages(database)
    for place in ("c", "d", "e"):
        await failed.note(replace(ENTITY, child_entity_id=place), [FAILURE])
    this = replace(ENTITY, child_entity_id="d")
    statement = f"UPDATE failed_images SET {damage[number % len(damage)]}"  # noqa: S608
    with database.engine.begin() as connection:
        connection.execute(text(f"{statement} WHERE child_entity_id = 'd'"))
    assert [row.entity.child_entity_id for row in await failed.find()] == ["c", "d", "e"]
    assert sum(count.images for count in await failed.counts()) == 3
    (row,) = await failed.note(this, [FAILURE])
    assert (row.failure, row.next_attempt_at is not None) == (FAILURE, row.attempts <= 4)
    assert abs(row.last_failed_at.year - 2026) < 50
    assert (await failed.find())[1] == row
    await failed.note(this, [])
    assert len(await failed.find()) == 2
