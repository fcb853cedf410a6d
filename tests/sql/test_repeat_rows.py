"""Requests that are sent again are done once, on both databases and from two hosts."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repeats import SqlRepeats
from imgsync.domain.ports.repeats import Answered, Standing
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
T = "t"
LEASE, DAY = timedelta(minutes=2), timedelta(days=1)
DONE = Answered(202, '{"tasks": []}', "/api/v1/runs/1")


@pytest.fixture
def other(database_url: str, database: Database) -> Iterator[Database]:
    opened = Database.open(database_url)
    yield opened
    opened.close()


async def begin(
    repeats: SqlRepeats, key: str = "k", fingerprint: str = "f", token: str = T
) -> Answered | Standing:
    return await repeats.begin(key, fingerprint, token, lease=LEASE, keep=DAY)


async def test_of_many_at_once_on_two_hosts_one_is_new(database: Database, other: Database) -> None:
    hosts = [SqlRepeats(database), SqlRepeats(other)] * 10
    begun = await asyncio.gather(*(begin(one, token=f"{n}") for n, one in enumerate(hosts)))
    assert begun.count(Standing.NEW) == 1
    assert begun.count(Standing.UNDER_WAY) == 19


async def test_what_was_answered_is_answered_again_and_nothing_else(database: Database) -> None:
    repeats = SqlRepeats(database)
    assert await begin(repeats) is Standing.NEW
    assert await begin(repeats, fingerprint="other") is Standing.OTHER
    await repeats.end("k", "t", DONE)
    assert await begin(repeats, token="u") == DONE
    assert await begin(repeats, fingerprint="other") is Standing.OTHER
    assert await begin(repeats, key="another") is Standing.NEW
    await repeats.drop("k", "t")  # too late
    assert await begin(repeats, token="u") == DONE


async def test_what_came_to_nothing_may_be_begun_anew(database: Database) -> None:
    repeats = SqlRepeats(database)
    await begin(repeats)
    await repeats.drop("k", "another")
    assert await begin(repeats) is Standing.UNDER_WAY
    await repeats.drop("k", "t")
    assert await begin(repeats, fingerprint="other", token="u") is Standing.NEW


async def test_who_was_stopped_meanwhile_says_nothing_any_more(
    database: Database, other: Database
) -> None:
    clock = SetClock(datetime(2026, 11, 28, 12, tzinfo=UTC))
    stopped, second = SqlRepeats(database, clock), SqlRepeats(other, clock)
    assert await begin(stopped) is Standing.NEW
    clock.advance(LEASE - timedelta(seconds=1))
    assert await begin(second, token="u") is Standing.UNDER_WAY
    clock.advance(timedelta(seconds=1))
    taken = await asyncio.gather(*(begin(second, token=f"u{n}") for n in range(5)))
    assert taken.count(Standing.NEW) == 1
    winner = f"u{taken.index(Standing.NEW)}"
    await stopped.end("k", "t", Answered(500, "late"))
    await stopped.drop("k", "t")
    assert await begin(second) is Standing.UNDER_WAY
    await second.end("k", winner, DONE)
    assert await begin(stopped) == DONE


async def test_after_a_day_it_is_forgotten(database: Database) -> None:
    clock = SetClock(datetime(2026, 11, 28, 12, tzinfo=UTC))
    repeats = SqlRepeats(database, clock)
    for number in range(600):
        await begin(repeats, key=f"{number:04}")
    await repeats.end("0599", "t", DONE)
    clock.advance(DAY)
    # Its own goes in any case, of the others so many at once.
    assert await begin(repeats, key="0599", fingerprint="other") is Standing.NEW
    await begin(repeats, key="next")
    with database.engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM repeats")).scalar_one()
    assert count == 2
