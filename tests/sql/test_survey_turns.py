"""Whose turn it is to survey a child: one process at a time, whatever becomes of the others."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.schedule import SqlSchedule
from imgsync.adapters.sql.turns import SqlSurveyTurns
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.schedule import NewJob
from imgsync.domain.ports.turns import TakenTurn
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
LEASE = timedelta(seconds=30)


@pytest.fixture
def other(database_url: str, database: Database) -> Iterator[Database]:
    """The same database, as another host opens it."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


async def test_a_child_is_one_processs_until_it_has_ended(
    database: Database, other: Database
) -> None:
    here, there = SqlSurveyTurns(database), SqlSurveyTurns(other)
    mine = await here.take(["a", "b\x00"], LEASE)
    assert mine.token
    assert await there.take(["c", "b\x00"], LEASE) == TakenTurn("", frozenset({"b\x00"}))
    theirs = await there.take(["c"], LEASE)
    assert theirs.token
    await here.end(mine.token)
    await here.end(mine.token)
    again = await there.take(["a", "b\x00"], LEASE)
    assert again.token
    await here.renew(again.token, LEASE)
    with pytest.raises(LeaseLostError):
        await here.renew(mine.token, LEASE)


async def test_of_many_that_ask_at_once_one_has_the_turn(
    database: Database, other: Database
) -> None:
    hosts = [SqlSurveyTurns(database), SqlSurveyTurns(other)] * 6
    taken = await asyncio.gather(*(host.take(["a", "b"], LEASE) for host in hosts))
    assert len([one for one in taken if one.token]) == 1


async def test_a_turn_that_nobody_renews_is_over_for_all_of_its_children(
    database: Database,
) -> None:
    clock = SetClock()
    turns = SqlSurveyTurns(database, clock)
    first = await turns.take(["a", "b"], LEASE)
    clock.advance(LEASE * 0.9)
    await turns.renew(first.token, LEASE)
    clock.advance(LEASE * 0.9)
    assert (await turns.take(["a"], LEASE)).busy == {"a"}
    clock.advance(LEASE)
    assert (await turns.take(["a"], LEASE)).token
    # Though nobody has taken the other one, what was found of both is not to be queued.
    with pytest.raises(LeaseLostError):
        await turns.renew(first.token, LEASE)
    await turns.end(first.token)
    assert (await turns.take(["a"], LEASE)).busy == {"a"}


async def test_turns_are_no_jobs_and_do_not_stay_behind(database: Database) -> None:
    clock = SetClock()
    turns, schedule = SqlSurveyTurns(database, clock), SqlSchedule(database, clock)
    job = NewJob("sweep", clock.now(), "main")
    await schedule.plan([job])
    held = await turns.take(["child"], LEASE)
    await schedule.plan([job])
    assert [one.name for one in await schedule.jobs()] == ["sweep"]
    await turns.renew(held.token, LEASE)
    claimed = await schedule.claim(["sweep"], lease=LEASE)
    assert claimed is not None
    clock.advance(2 * LEASE)  # it was stopped; nobody wanted it meanwhile
    await schedule.plan([job])
    assert (await turns.take(["other"], LEASE)).token
    await turns.renew(held.token, LEASE)
    clock.advance(timedelta(hours=2))  # it was lost
    await schedule.plan([job])
    with pytest.raises(LeaseLostError):
        await turns.renew(held.token, LEASE)


async def test_a_lease_that_is_renewed_while_a_plan_is_made_stays(postgresql_url: str) -> None:
    """By a host that was stopped for longer than it: the plan has seen it lapsed, and waits. On
    SQLite whoever writes has the database alone."""
    database, other = Database.open(postgresql_url), Database.open(postgresql_url)
    clock = SetClock()
    here, there = SqlSchedule(database, clock), SqlSchedule(other, clock)
    await here.plan([NewJob("sweep", clock.now(), "main")])
    job = await here.claim(["sweep"], lease=LEASE)
    assert job is not None
    clock.advance(2 * LEASE)
    seen, renewed = threading.Event(), threading.Event()

    @event.listens_for(other.engine, "before_cursor_execute")
    def wait(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("DELETE FROM schedule"):
            seen.set()
            renewed.wait(10)

    planning = asyncio.create_task(there.plan([]))
    assert await asyncio.to_thread(seen.wait, 10)
    await here.renew(job, lease=LEASE)
    renewed.set()
    await planning
    await here.renew(job, lease=LEASE)
    database.close()
    other.close()
