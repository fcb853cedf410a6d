"""Runs, proofs and usage: what is noted is found again, and old ones go."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.usage import SqlUsage
from imgsync.domain.runs import ChildProof, Run, RunCause, RunKind, Usage, UsageHour, by_day
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOON)


@pytest.fixture
def other(database_url: str, database: Database) -> Iterator[Database]:
    opened = Database.open(database_url)
    yield opened
    opened.close()


def run(name: str, kind: RunKind, *child_ids: str, began: datetime = NOON) -> Run:
    return Run(name, kind, RunCause.SCHEDULE, child_ids, began)


async def test_a_run_from_its_begin_to_its_end(database: Database, clock: SetClock) -> None:
    history = SqlRunHistory(database, clock)
    begun = run("1", RunKind.SWEEP, "a", "b")
    await history.begin(begun)
    assert await history.get("1") == replace(begun, noted=NOON)
    assert begun.seconds is None
    await history.note("1", {"equal": 3}, {"a": {"equal": 3}})
    clock.advance(timedelta(seconds=90))
    under_way = await history.get("1")
    assert under_way is not None
    assert (under_way.numbers, under_way.ended) == ({"equal": 3}, None)
    await history.end("1", {"equal": 5, "images": 2}, "no answer\x00")
    ended = await history.get("1")
    assert ended is not None
    assert (ended.seconds, ended.numbers, ended.error) == (
        90.0,
        {"equal": 5, "images": 2},
        "no answer",
    )
    assert await history.get("2") is None


async def test_a_run_of_which_nothing_is_heard_is_lost_until_it_is(
    database: Database, clock: SetClock
) -> None:
    history = SqlRunHistory(database, clock)
    await history.begin(run("1", RunKind.SWEEP, "a", "b"))

    async def status() -> str:
        found = await history.get("1")
        assert found is not None
        return found.status(clock.moment)

    clock.advance(timedelta(minutes=2))
    assert await status() == "running"
    clock.advance(timedelta(seconds=1))
    assert await status() == "lost"
    await history.note("1", {"equal": 3}, {"a": {"equal": 1}, "b": {"equal": 2}})
    assert await status() == "running"
    await history.end("1", {"equal": 4}, None, {"a": {"equal": 4}, "\x00": {}})
    assert await status() == "done"
    found = await history.get("1")
    assert found is not None
    assert found.by_child == {"a": {"equal": 4}, "": {}}
    await history.end("1", {}, "no answer")
    assert await status() == "failed"


async def test_runs_are_found_by_child_kind_and_time(database: Database, clock: SetClock) -> None:
    history = SqlRunHistory(database, clock)
    for number, (kind, child_ids) in enumerate(
        [
            (RunKind.SWEEP, ("a", "ab")),
            (RunKind.SURVEY, ("ab",)),
            (RunKind.SWEEP, ('a"%_b', "я")),
            (RunKind.CHECK, ("a",)),
        ]
    ):
        await history.begin(run(str(number), kind, *child_ids, began=NOON + number * HOUR))

    async def found(**wanted: object) -> str:
        return "".join(one.id for one in await history.find(**wanted))  # type: ignore[arg-type]

    assert await found() == "3210"
    assert await found(child_id="a") == "30"
    assert await found(child_id="ab") == "10"
    assert await found(child_id='a"%_b') == "2"
    assert await found(child_id="я") == "2"
    assert await found(child_id="%") == ""
    assert await found(kind=RunKind.SWEEP) == "20"
    assert await found(since=NOON + HOUR, until=NOON + 3 * HOUR) == "21"
    assert await found(limit=2, offset=1) == "21"
    clock.advance(2 * DAY)
    assert await history.prune(2 * DAY - 2 * HOUR) == 2
    assert await found() == "32"


async def test_a_damaged_run_hides_no_other(database: Database) -> None:
    history = SqlRunHistory(database)
    for name in ("1", "2"):
        await history.begin(run(name, RunKind.SWEEP, "a"))
    with database.engine.begin() as connection:
        broken = "UPDATE runs SET kind = 'odd', numbers = '[1]', child_account_ids = '{}' "
        connection.execute(text(broken + "WHERE id = '1'"))
    found = await history.find()
    assert [one.id for one in found] == ["2", "1"]
    assert (found[1].numbers, found[1].child_ids) == ({}, ())


async def test_proofs_of_children(database: Database) -> None:
    proofs = SqlProofs(database)
    assert await proofs.get("b") is None
    first = ChildProof("b", "main", NOON, None, {"equal": 2, "missing": 1})
    await proofs.put(first)
    await proofs.put(ChildProof("a", "main", NOON, NOON, {"equal": 2}))
    assert await proofs.get("b") == first
    assert [proof.child_id for proof in await proofs.all()] == ["a", "b"]
    later = ChildProof("b", "main", NOON + HOUR, NOON + HOUR, {"equal": 3})
    await proofs.put(later)
    # From a host that was stopped since it compared.
    await proofs.put(first)
    assert await proofs.get("b") == later
    of_another = ChildProof("b", "other", NOON, None, {"missing": 3})
    await proofs.put(of_another)
    assert await proofs.get("b") == of_another
    await proofs.forget("b")
    assert await proofs.get("b") is None


async def test_usage_adds_up_by_account_and_hour(
    database: Database, other: Database, clock: SetClock
) -> None:
    hosts = [SqlUsage(database, clock), SqlUsage(other, clock)]
    one = Usage(requests=1, units=4, images=2, bytes=3_000_000_000)
    await asyncio.gather(
        *(host.add({"b": one, "a": Usage(too_many=1)}) for host in hosts for _ in range(10))
    )
    await hosts[0].add({"nothing": Usage()})
    clock.advance(timedelta(minutes=61))
    await hosts[0].add({"a": one})
    found = await hosts[0].hours(NOON)
    assert [(h.account_id, h.hour, h.usage) for h in found] == [
        ("a", NOON, Usage(too_many=20)),
        ("b", NOON, Usage(20, 80, 0, 40, 60_000_000_000)),
        ("a", NOON + HOUR, one),
    ]
    assert [h.hour for h in await hosts[0].hours(NOON + HOUR)] == [NOON + HOUR]
    assert len(await hosts[0].hours(NOON + timedelta(minutes=59))) == 3
    assert [h.account_id for h in await hosts[0].hours(NOON, NOON + HOUR)] == ["a", "b"]
    assert len(await hosts[0].hours(NOON, account_ids=["b"])) == 1
    clock.advance(DAY - HOUR / 2)
    assert await hosts[0].prune(DAY, limit=1) == 1
    assert await hosts[0].prune(DAY) == 1
    assert len(await hosts[0].hours(NOON)) == 1


def test_days_are_those_of_the_zone() -> None:
    zone = ZoneInfo("Asia/Vladivostok")
    hours = [
        UsageHour("b", NOON + 2 * HOUR, Usage(requests=4)),
        UsageHour("a", NOON, Usage(requests=1)),
        UsageHour("a", NOON + HOUR, Usage(requests=2)),
    ]
    assert by_day(hours, zone) == {
        date(2026, 11, 28): Usage(requests=3),
        date(2026, 11, 29): Usage(requests=4),
    }
