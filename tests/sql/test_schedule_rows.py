"""Jobs of the schedule: one host does each, whatever becomes of the others."""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.schedule import SqlSchedule
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.schedule import NewJob
from imgsync.domain.schedule import first_survey, next_survey
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def other(database_url: str, database: Database) -> Iterator[Database]:
    """The same database, as another host opens it."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOON)


async def test_a_job_is_due_at_its_time_and_then_at_the_next(
    database: Database, clock: SetClock
) -> None:
    schedule = SqlSchedule(database, clock)
    await schedule.plan([NewJob("late", NOON + 2 * LEASE), NewJob("early", NOON + LEASE)])
    names = ["late", "early"]
    assert await schedule.claim(names, lease=LEASE) is None
    clock.advance(3 * LEASE)
    assert await schedule.claim(["unknown"], lease=LEASE) is None
    early = await schedule.claim(names, lease=LEASE)
    assert early is not None
    assert (early.name, early.due) == ("early", NOON + LEASE)
    late = await schedule.claim(names, lease=LEASE)
    assert late is not None
    assert late.name == "late"
    assert await schedule.claim(names, lease=LEASE) is None
    await schedule.end(early, NOON + DAY)
    await schedule.release(late)
    assert [(j.name, j.next_at, j.is_running) for j in await schedule.jobs()] == [
        ("early", NOON + DAY, False),
        ("late", NOON + 2 * LEASE, False),
    ]
    again = await schedule.claim(names, lease=LEASE)
    assert again is not None
    assert (again.name, again.due) == ("late", NOON + 2 * LEASE)


async def test_what_is_planned_anew_stays_as_it_is_and_what_is_not_goes(
    database: Database, clock: SetClock
) -> None:
    schedule = SqlSchedule(database, clock)
    await schedule.plan([NewJob(name, NOON, "main") for name in ("a", "b")] + [NewJob("c", NOON)])
    held = await schedule.claim(["a"], lease=LEASE)
    assert held is not None
    await schedule.plan([NewJob("d", NOON + DAY, "main")])
    # `a` is being done, and `c` is no link's.
    assert [job.name for job in await schedule.jobs()] == ["a", "c", "d"]
    await schedule.plan([NewJob("d", NOON, "main")])
    assert [job.next_at for job in await schedule.jobs() if job.name == "d"] == [NOON + DAY]
    await schedule.end(held, NOON + DAY)
    await schedule.plan([NewJob("d", NOON, "main")])
    assert [job.name for job in await schedule.jobs()] == ["c", "d"]


async def test_of_one_subject_one_job_at_a_time(
    database: Database, other: Database, clock: SetClock
) -> None:
    here, there = SqlSchedule(database, clock), SqlSchedule(other, clock)
    jobs = [NewJob("survey", NOON, "main"), NewJob("sweep", NOON, "main")]
    await here.plan([*jobs, NewJob("other", NOON, "another")])
    first = await here.claim(["survey", "sweep"], lease=LEASE)
    assert first is not None
    assert await there.claim(["survey", "sweep"], lease=LEASE) is None
    assert await there.claim(["survey", "sweep", "other"], lease=LEASE) is not None
    await here.end(first, NOON + DAY)
    second = await there.claim(["survey", "sweep"], lease=LEASE)
    assert second is not None
    assert {first.name, second.name} == {"survey", "sweep"}


async def test_hosts_that_claim_at_once_do_each_job_once(
    database: Database, other: Database
) -> None:
    hosts = [SqlSchedule(database), SqlSchedule(other)]
    past = datetime.now(UTC) - DAY
    jobs = [NewJob(f"job {n}", past, f"main {n % 5}") for n in range(20)]
    await asyncio.gather(*(host.plan(jobs) for host in hosts))
    names = [job.name for job in jobs]
    done: list[str] = []

    async def work(host: SqlSchedule) -> None:
        idle = 0
        while idle < 20:
            job = await host.claim(names, lease=LEASE)
            if job is None:
                idle += 1
                await asyncio.sleep(0.01)
                continue
            done.append(job.name)
            await host.renew(job, lease=LEASE)
            await host.end(job, past + 3 * DAY)

    await asyncio.gather(*(work(host) for host in hosts for _ in range(3)))
    assert sorted(done) == sorted(names)


async def test_a_host_that_was_stopped_has_lost_its_job(
    database: Database, other: Database, clock: SetClock
) -> None:
    stopped, going = SqlSchedule(database, clock), SqlSchedule(other, clock)
    await stopped.plan([NewJob("sweep", NOON, "main")])
    lost = await stopped.claim(["sweep"], lease=LEASE)
    assert lost is not None
    clock.advance(LEASE / 2)
    await stopped.renew(lost, lease=LEASE)
    clock.advance(LEASE * 0.9)
    assert await going.claim(["sweep"], lease=LEASE) is None
    clock.advance(timedelta(minutes=10))
    taken = await going.claim(["sweep"], lease=LEASE)
    assert taken is not None
    assert taken.due == NOON
    await going.end(taken, NOON + DAY)
    with pytest.raises(LeaseLostError, match="the job 'sweep' of the schedule"):
        await stopped.renew(lost, lease=LEASE)
    with pytest.raises(LeaseLostError):
        await stopped.end(lost, NOON + 7 * DAY)
    with pytest.raises(LeaseLostError):
        await stopped.release(lost)
    (job,) = await going.jobs()
    assert (job.next_at, job.is_running) == (NOON + DAY, False)
    assert await stopped.claim(["sweep"], lease=LEASE) is None


async def test_a_lapsed_lease_that_nobody_took_is_still_its_hosts(
    database: Database, clock: SetClock
) -> None:
    schedule = SqlSchedule(database, clock)
    await schedule.plan([NewJob("sweep", NOON)])
    job = await schedule.claim(["sweep"], lease=LEASE)
    assert job is not None
    clock.advance(10 * LEASE)
    await schedule.renew(job, lease=LEASE)
    assert await schedule.claim(["sweep"], lease=LEASE) is None


async def test_surveys_that_are_due_at_one_moment_in_an_older_schedule_are_spread_once_done(
    database: Database, other: Database, clock: SetClock
) -> None:
    hosts = [SqlSchedule(database, clock), SqlSchedule(other, clock)]
    mains = [f"main{n}" for n in range(30)]
    await hosts[0].plan([NewJob(main, NOON, main) for main in mains])
    newer = [NewJob(main, first_survey(15, main, NOON), main) for main in mains]
    for host in hosts:
        await host.plan(newer)
    assert {job.next_at for job in await hosts[1].jobs()} == {NOON}
    done = []
    for host in itertools.cycle(hosts):
        job = await host.claim(mains, lease=LEASE)
        if job is None:
            break
        done.append(job.name)
        await host.end(job, next_survey(15, job.name, job.due, clock.now()))
    assert sorted(done) == sorted(mains)
    at = {job.name: job.next_at for job in await hosts[0].jobs()}
    quarter = timedelta(minutes=15)
    assert {(at[main] - first_survey(15, main, NOON)) % quarter for main in mains} == {timedelta(0)}
    assert all(quarter / 2 <= one - NOON <= quarter * 1.5 for one in at.values())
    assert len(set(at.values())) > 25
    clock.advance(quarter * 0.75)
    due = [main for main in mains if at[main] <= clock.now()]
    assert 0 < len(due) < len(mains)
    claimed = [await hosts[0].claim(mains, lease=LEASE) for _ in range(len(due) + 1)]
    assert sorted(job.name for job in claimed if job is not None) == sorted(due)
