"""The schedule: what is due is done once, by one host, whatever becomes of the others."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.schedule import SqlSchedule
from imgsync.application.accounts import ChangeSettings, FindLinks
from imgsync.application.check import Check
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.runs import NoteRuns
from imgsync.application.schedule import ClockJob, Scheduler
from imgsync.domain.errors import AuthorisationError, ImgsyncError, StoreError, UnavailableError
from imgsync.domain.model import Account, AccountName, LinkSettings, StoredLink, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.runner import NoListeners
from imgsync.domain.ports.schedule import NewJob
from imgsync.domain.runs import ChildProof, Run, RunCause, RunKind
from imgsync.domain.schedule import LinkSchedule, first_survey
from imgsync.domain.surveys import Since
from imgsync.domain.tasks import TaskStatus
from imgsync.testing import (
    MemoryFailedImages,
    MemoryMoySklad,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
)
from tests.application.world import World, png

pytestmark = [pytest.mark.anyio, pytest.mark.database]
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SWEEP_ONLY = LinkSchedule("03:30", None)


class Hearing(NoListeners):
    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, int], bool, str | None]] = []

    async def sweep_ended(
        self, child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
    ) -> None:
        self.heard.append((child.name, dict(numbers), equal, error))


class Clockwork:
    """A world whose links are surveyed by the clock, from hosts that share a database."""

    def __init__(self, world: World, database: Database) -> None:
        self.world = world
        self.world.clock.moment = NOON
        self.listening = Hearing()
        self.schedule = SqlSchedule(database, world.clock)
        self.history = SqlRunHistory(database, world.clock)
        self.proofs = SqlProofs(database)
        self.failed_images = MemoryFailedImages(world.store)
        self.ids = 0

    def host(self, *jobs: ClockJob, **changes: Any) -> Scheduler:
        world, clock = self.world, MemoryStoreClock(self.world.store)
        enqueue = Enqueue(world.survey, world.queue)
        check = Check(world.survey)
        note = NoteRuns(
            self.history,
            self.proofs,
            world.queue,
            self.failed_images,
            clock,
            self._new_id,
            world.settings,
        )
        made = Scheduler(
            self.schedule,
            world.settings,
            FindLinks(world.accounts, world.settings),
            lambda: enqueue,
            lambda: check,
            note,
            clock,
            BERLIN,
            self.listening,
            jobs,
        )
        return replace(made, **changes)

    async def link(self, child: str = "child", schedule: LinkSchedule = SWEEP_ONLY) -> None:
        if child not in self.world.store.accounts:
            account = Account(child, child, TokenKind.SOLUTION, "token")
            self.world.store.accounts[child] = account
            self.world.factory.accounts[child] = MemoryMoySklad()
        settings = LinkSettings(sync_images_all=True, schedule=schedule)
        await self.world.settings.link("main", child, settings)

    async def runs(self) -> list[Run]:
        return (await self.history.find())[::-1]

    def _new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:03}"


@pytest.fixture
def clockwork(world: World, sqlite_database: Database) -> Clockwork:
    return Clockwork(world, sqlite_database)


async def turn(host: Scheduler) -> None:
    await host.turn()
    await host.idle()


async def test_a_sweep_is_done_at_its_time_and_once_a_day(clockwork: Clockwork) -> None:
    world = clockwork.world
    world.pair([("a.png", png(1))])
    await clockwork.link()
    host = clockwork.host()
    await turn(host)
    world.clock.moment = datetime(2026, 11, 25, 2, 29, tzinfo=UTC)  # 03:29 in Berlin
    await turn(host)
    assert await clockwork.runs() == []
    world.clock.advance(MINUTE)
    await turn(host)
    (run,) = await clockwork.runs()
    assert (run.kind, run.cause, run.child_ids) == ("sweep", "schedule", ("child",))
    assert run.numbers == {"missing": 1, "images": 1}
    assert (run.error, run.ended) == (None, world.clock.moment)
    assert len(await world.queue.find()) == 1
    assert clockwork.listening.heard == [("child", {"missing": 1, "images": 1}, False, None)]
    proof = await clockwork.proofs.get("child")
    assert proof is not None
    assert (proof.compared_at, proof.equal_at, proof.is_equal) == (run.began, None, False)
    await world.worker().run(drain=True)
    world.clock.advance(DAY - MINUTE)
    await turn(host)
    assert len(await clockwork.runs()) == 1
    world.clock.advance(MINUTE)
    await turn(host)
    assert clockwork.listening.heard[1:] == [("child", {"equal": 1}, True, None)]
    proof = await clockwork.proofs.get("child")
    assert proof is not None
    assert proof.equal_at == world.clock.moment
    assert proof.is_equal


async def test_a_survey_proves_what_a_sweep_found_once_it_is_copied(clockwork: Clockwork) -> None:
    world = clockwork.world
    world.pair([("a.png", png(1))])
    await clockwork.link(schedule=LinkSchedule("12:30", 15))
    host = clockwork.host()
    await turn(host)
    world.clock.moment = datetime(2026, 11, 25, 11, 30, tzinfo=UTC)
    await turn(host)
    await turn(host)  # the survey, which was due too
    assert {run.kind for run in await clockwork.runs()} == {RunKind.SWEEP, RunKind.SURVEY}
    proof = await clockwork.proofs.get("child")
    assert proof is not None
    assert proof.equal_at is None
    await world.worker().run(drain=True)
    world.clock.advance(15 * MINUTE)
    await turn(host)
    proof = await clockwork.proofs.get("child")
    assert proof is not None
    assert (proof.equal_at, proof.numbers["equal"], proof.unequal) == (world.clock.moment, 1, 0)


async def test_tasks_that_ended_while_images_were_off_prove_nothing(clockwork: Clockwork) -> None:
    """They are done, as a task is, and have copied nothing."""
    world = clockwork.world
    _, child_id = world.pair([("a.png", png(1))])
    await clockwork.link(schedule=LinkSchedule("12:30", 15))
    host = clockwork.host()
    change = ChangeSettings(world.accounts, world.settings, clockwork.proofs)
    await turn(host)
    world.clock.moment = datetime(2026, 11, 25, 11, 30, tzinfo=UTC)
    await turn(host)
    await turn(host)
    assert await clockwork.proofs.get("child") is not None
    await change("child", all_images=False)
    await world.worker().run(drain=True)
    await change("child", all_images=True)
    assert world.child.images("product", child_id) == []
    # A survey of what has changed since.
    links = [world.link]
    note = clockwork.host().note_runs
    async with note.noting(RunKind.SURVEY, RunCause.SCHEDULE, links, since=Since()) as run:
        nothing = EnqueueOutcome()
        nothing.log.since = world.clock.moment
        run.surveyed(nothing)
    proof = await clockwork.proofs.get("child")
    assert proof is None or not proof.is_equal


async def test_what_is_due_to_a_child_may_change_while_it_is_compared(
    clockwork: Clockwork,
) -> None:
    """Its first images are right by then, and more are wanted."""
    world = clockwork.world
    images = [("a.png", png(1)), ("b.png", png(2))]
    _, child_id = world.pair(images)
    await clockwork.link()
    first = LinkSettings(True, schedule=SWEEP_ONLY)
    await world.settings.put("child", first)
    host = clockwork.host()
    await turn(host)
    await world.sync(await world.request())
    assert world.child.images("product", child_id) == images[:1]
    change = ChangeSettings(world.accounts, world.settings, clockwork.proofs)

    class Changed(Enqueue):
        async def __call__(self, *args: Any, **options: Any) -> Any:
            found = await super().__call__(*args, **options)
            await change("child", all_images=True)
            return found

    host.enqueue = lambda: Changed(world.survey, world.queue)
    world.clock.advance(DAY)
    await turn(host)
    assert clockwork.listening.heard[-1][1] == {"equal": 1}
    assert await clockwork.proofs.get("child") is None


async def test_of_very_many_failed_tasks_one_of_the_child_is_not_overlooked(
    clockwork: Clockwork,
) -> None:
    world, queue = clockwork.world, clockwork.world.queue
    now = world.clock.moment
    found = ChildProof("child", "main", now, None, {"missing": 1})
    await clockwork.proofs.put(found)
    tasks = [NewTask({"n": n}, f"k{n}", "b" if n else "child") for n in range(1001)]
    await queue.enqueue(tasks)
    for task in await queue.claim(lease=HOUR, limit=len(tasks)):
        await queue.fail(task, error="refused")
    await clockwork.host().note_runs.settle(["child"])
    assert await clockwork.proofs.get("child") == found


async def test_what_is_found_while_tasks_are_looked_at_is_not_lost(clockwork: Clockwork) -> None:
    """By another host, say: it was not queued."""
    now = clockwork.world.clock.moment
    found = ChildProof("child", "main", now, None, {"missing": 1})
    await clockwork.proofs.put(found)
    more = found.with_found({"extra": 2, "left": 2})
    counts = clockwork.world.queue.counts

    async def meanwhile() -> dict[TaskStatus, int]:
        await clockwork.proofs.put(more)
        return await counts()

    clockwork.world.queue.counts = meanwhile  # type: ignore[method-assign]
    assert await clockwork.host().note_runs.settle(["child"]) == set()
    assert await clockwork.proofs.get("child") == more


async def test_a_sweep_that_was_missed_is_caught_up_once(clockwork: Clockwork) -> None:
    clockwork.world.pair([])
    await clockwork.link()
    await turn(clockwork.host())
    clockwork.world.clock.moment = NOON + 5 * DAY
    again = clockwork.host()
    for _ in range(3):
        await turn(again)
    assert [run.kind for run in await clockwork.runs()] == ["sweep"]
    (job,) = await clockwork.schedule.jobs()
    assert job.next_at == datetime(2026, 11, 30, 2, 30, tzinfo=UTC)


async def test_one_that_was_missed_is_left_to_the_next_that_is_near(clockwork: Clockwork) -> None:
    await clockwork.link()
    await turn(clockwork.host())
    clockwork.world.clock.moment = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
    await turn(clockwork.host())
    assert await clockwork.runs() == []
    clockwork.world.clock.advance(HOUR / 2)
    await turn(clockwork.host())
    assert len(await clockwork.runs()) == 1


async def test_links_of_a_main_account_are_surveyed_together(clockwork: Clockwork) -> None:
    world = clockwork.world
    world.pair([("a.png", png(1))])
    for child in ("child", "b", "c"):
        await clockwork.link(child)
    await clockwork.link("d", LinkSchedule("04:00", None))
    await clockwork.link("off", LinkSchedule(None, None))
    host = clockwork.host()
    await turn(host)
    world.clock.moment = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
    world.main.calls.clear()
    await turn(host)
    (run,) = await clockwork.runs()
    assert set(run.child_ids) == {"child", "b", "c"}
    assert world.main.count("list_entities") == 1
    assert {child for child, *_ in clockwork.listening.heard} == {"child", "b", "c"}


async def test_a_link_that_is_only_checked_gets_nothing(clockwork: Clockwork) -> None:
    world = clockwork.world
    world.pair([("a.png", png(1))])
    await clockwork.link(schedule=LinkSchedule("03:30", 30, copies=False))
    host = clockwork.host()
    await turn(host)
    for _ in range(3):
        world.clock.moment += DAY
        await turn(host)
        await turn(host)
    assert await world.queue.find() == []
    assert {run.numbers.get("missing") for run in await clockwork.runs()} == {1}
    proof = await clockwork.proofs.get("child")
    assert proof is not None
    # No task waits, as none was queued: that proves nothing.
    assert (proof.equal_at, proof.unequal) == (None, 1)


async def test_two_hosts_do_a_sweep_once(clockwork: Clockwork) -> None:
    clockwork.world.pair([("a.png", png(1))])
    await clockwork.link()
    hosts = [clockwork.host() for _ in range(2)]
    await asyncio.gather(*(turn(host) for host in hosts))
    clockwork.world.clock.advance(DAY)
    await asyncio.gather(*(turn(host) for host in hosts))
    await asyncio.gather(*(turn(host) for host in hosts))
    assert len(await clockwork.runs()) == 1


class Slow:
    """A job that goes on until it is let go; how often it was begun, and came to its end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.began = asyncio.Event()
        self.begun = self.done = 0

    async def __call__(self) -> None:
        self.begun += 1
        self.began.set()
        await self.go_on.wait()
        self.done += 1


async def test_a_job_that_is_under_way_is_not_begun_twice(clockwork: Clockwork) -> None:
    slow = Slow()
    job = ClockJob("slow", MINUTE, slow)
    hosts = [clockwork.host(job, lease=10 * MINUTE) for _ in range(2)]
    await hosts[0].turn()
    await slow.began.wait()
    for _ in range(3):
        clockwork.world.clock.advance(MINUTE)
        await asyncio.gather(*(host.turn() for host in hosts))
    assert slow.begun == 1
    slow.go_on.set()
    await hosts[0].idle()
    assert slow.done == 1


async def test_a_host_that_is_told_to_stop_gives_its_job_back(clockwork: Clockwork) -> None:
    slow, stop = Slow(), asyncio.Event()
    running = asyncio.create_task(clockwork.host(ClockJob("slow", HOUR, slow)).run(stop))
    await slow.began.wait()
    stop.set()
    async with asyncio.timeout(5):
        await running
    (job,) = await clockwork.schedule.jobs()
    assert (job.next_at, job.is_running, slow.done) == (NOON, False, 0)
    slow.go_on.set()
    await turn(clockwork.host(ClockJob("slow", HOUR, slow)))
    (job,) = await clockwork.schedule.jobs()
    assert (job.next_at, slow.begun, slow.done) == (NOON + HOUR, 2, 1)


async def test_a_host_that_was_stopped_for_long_drops_what_another_has_done(
    clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, done = Slow(), Slow()
    done.go_on.set()
    # It looks for its lease after 50 ms; the store's time passes as the test says.
    lost = clockwork.host(ClockJob("job", DAY, stopped), lease=timedelta(seconds=0.15))
    await lost.turn()
    await stopped.began.wait()
    clockwork.world.clock.advance(10 * MINUTE)
    await turn(clockwork.host(ClockJob("job", DAY, done)))
    async with asyncio.timeout(5):
        await lost.idle()
    stopped.go_on.set()
    await turn(lost)
    assert (done.done, stopped.begun, stopped.done) == (1, 1, 0)
    assert "job is dropped" in caplog.text
    (job,) = await clockwork.schedule.jobs()
    assert job.next_at == NOON + DAY


async def test_a_job_that_takes_long_keeps_its_lease(clockwork: Clockwork) -> None:
    slow = Slow()
    lease = timedelta(seconds=0.3)
    held = clockwork.host(ClockJob("job", DAY, slow), lease=lease)
    await held.turn()
    for _ in range(4):
        await asyncio.sleep(0.2)
        clockwork.world.clock.advance(timedelta(seconds=0.2))
        await clockwork.host(ClockJob("job", DAY, slow)).turn()
    slow.go_on.set()
    await held.idle()
    assert (slow.begun, slow.done) == (1, 1)


@pytest.mark.parametrize(
    ("error", "next_at"),
    [
        (UnavailableError("no answer"), datetime(2026, 11, 25, 3, 30, tzinfo=UTC)),
        (AuthorisationError("401", "main"), datetime(2026, 11, 26, 2, 30, tzinfo=UTC)),
    ],
)
async def test_a_sweep_that_fails_is_told_and_tried_again_where_that_may_help(
    clockwork: Clockwork, error: ImgsyncError, next_at: datetime
) -> None:
    clockwork.world.pair([("a.png", png(1))])
    await clockwork.link()
    host = clockwork.host()
    await turn(host)
    clockwork.world.clock.moment = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
    clockwork.world.main.fail = lambda _: error
    await turn(host)
    (run,) = await clockwork.runs()
    assert run.error == str(error)
    assert clockwork.listening.heard == [("child", {}, False, str(error))]
    assert await clockwork.proofs.get("child") is None
    (job,) = await clockwork.schedule.jobs()
    assert (job.next_at, job.is_running) == (next_at, False)


async def test_of_a_child_that_cannot_be_surveyed_nothing_is_proved(clockwork: Clockwork) -> None:
    world = clockwork.world
    world.pair([("a.png", png(1))])
    await clockwork.link()
    await clockwork.link("b")
    host = clockwork.host()
    await turn(host)
    world.clock.advance(DAY)
    world.child.fail = lambda _: AuthorisationError("refused", "child")
    await turn(host)
    assert await clockwork.proofs.get("child") is None
    assert await clockwork.proofs.get("b") is not None
    (run,) = await clockwork.runs()
    assert run.error == "child: refused"
    told = {name: (equal, why) for name, _, equal, why in clockwork.listening.heard}
    assert told == {"child": (False, "refused"), "b": (True, None)}


async def test_jobs_that_fail_cost_the_others_nothing(
    clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def job(name: str, error: Exception | None) -> ClockJob:
        async def call() -> None:
            called.append(name)
            if error is not None:
                raise error

        return ClockJob(name, HOUR, call)

    jobs = [job("a", ImgsyncError("known")), job("b", ValueError("odd")), job("c", None)]
    host = clockwork.host(*jobs)
    await turn(host)
    assert sorted(called) == ["a", "b", "c"]
    assert "a: known" in caplog.text
    assert {j.next_at for j in await clockwork.schedule.jobs()} == {NOON + HOUR}
    clockwork.world.clock.advance(HOUR)
    await turn(host)
    assert sorted(called) == ["a", "a", "b", "b", "c", "c"]


async def test_a_store_that_cannot_be_asked_is_asked_again(
    clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    stop, done = asyncio.Event(), Slow()
    done.go_on.set()
    host = clockwork.host(ClockJob("job", HOUR, done), poll_seconds=0.01)
    links, failures = host.settings.links, 3

    async def fails(main_id: str | None = None) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreError("Cannot use the database")
        return await links()

    host.settings.links = fails  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(host.run(stop))
        async with asyncio.timeout(5):
            await done.began.wait()
    stop.set()
    await running
    assert caplog.text.count("the schedule cannot be followed: Cannot use the database") == 3


async def test_what_a_person_changes_counts_from_the_next_look(clockwork: Clockwork) -> None:
    await clockwork.link(schedule=LinkSchedule("03:30", 15))
    host = clockwork.host()
    await turn(host)
    assert [job.name for job in await clockwork.schedule.jobs()] == [
        "survey every 15 min of main",
        "sweep at 03:30 of main",
    ]
    await clockwork.link(schedule=LinkSchedule("04:00", None))
    await turn(host)
    (job,) = await clockwork.schedule.jobs()
    assert job.name == "sweep at 04:00 of main"
    await clockwork.world.settings.unlink("child")
    await turn(host)
    assert await clockwork.schedule.jobs() == []


async def test_a_sweep_that_fails_is_told_with_the_name_of_its_main_account(
    clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = clockwork.world.store.accounts
    accounts["main"] = replace(accounts["main"], name="Main shop")
    await clockwork.link()

    def fail() -> Enqueue:
        raise ImgsyncError("it broke off")

    host = clockwork.host(enqueue=fail)
    await turn(host)
    clockwork.world.clock.moment = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
    await turn(host)
    assert "sweep at 03:30 of 'Main shop': it broke off" in caplog.messages


class _CountedLinks(MemorySettings):
    """Notes of which main account links are asked for; None for those of all."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.asked: list[str | None] = []

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        self.asked.append(main_id)
        return await super().links(main_id)


async def test_of_very_many_links_all_are_read_seldom_and_a_job_reads_its_own(
    clockwork: Clockwork,
) -> None:
    world, now = clockwork.world, 0.0
    await clockwork.link()
    for n in range(7_000):
        world.store.mains[f"other{n}"] = "another"
        world.store.settings[f"other{n}"] = LinkSettings()
    settings = _CountedLinks(world.store)
    host = clockwork.host(
        settings=settings,
        find_links=FindLinks(world.accounts, settings),
        elapsed=lambda: now,
    )
    for now in (0.0, 5.0, 10.0, 15.0):  # noqa: B007 (which `elapsed` tells)
        await host.turn()
    assert settings.asked == [None, None]
    world.clock.moment = NOON + DAY
    await host.turn()
    await host.idle()
    assert settings.asked == [None, None, "main"]
    assert [run.child_ids for run in await clockwork.runs()] == [("child",)]
    # What a person changes counts for the job that was planned before.
    await settings.put("child", LinkSettings())
    world.clock.moment = NOON + 2 * DAY
    await host.turn()
    await host.idle()
    assert len(await clockwork.runs()) == 1


SURVEYS_ONLY = LinkSchedule(None, 15)


async def _next_surveys(clockwork: Clockwork) -> dict[str, datetime]:
    return {job.name: job.next_at for job in await clockwork.schedule.jobs()}


async def test_surveys_of_many_main_accounts_are_spread_and_stay_so_after_an_outage(
    clockwork: Clockwork,
) -> None:
    world, mains = clockwork.world, 40
    for n in range(mains):
        for name in (f"main{n}", f"child{n}"):
            world.store.accounts[name] = Account(name, name, TokenKind.SOLUTION, "token")
            world.factory.accounts[name] = MemoryMoySklad()
        settings = LinkSettings(sync_images_all=True, schedule=SURVEYS_ONLY)
        await world.settings.link(f"main{n}", f"child{n}", settings)
    await turn(clockwork.host())
    first = await _next_surveys(clockwork)
    assert len(first) == mains
    assert all(NOON < at <= NOON + 15 * MINUTE for at in first.values())
    tenths = Counter((at - NOON) * 10 // (15 * MINUTE) for at in first.values())
    assert max(tenths.values()) <= mains / 4
    world.clock.moment = again_up = NOON + DAY
    hosts = [clockwork.host() for _ in range(2)]
    for _ in range(mains):
        await asyncio.gather(*(turn(host) for host in hosts))
    assert len(await clockwork.runs()) == mains  # overdue, so all of them at once
    assert await _next_surveys(clockwork) == {name: at + DAY for name, at in first.items()}
    world.clock.moment = again_up + 15 * MINUTE
    for _ in range(mains):
        await turn(hosts[0])
    assert len(await clockwork.runs()) == 2 * mains


async def test_a_survey_that_an_older_imgsync_planned_is_done_and_then_has_its_own_moment(
    clockwork: Clockwork,
) -> None:
    clockwork.world.pair([])
    await clockwork.link(schedule=SURVEYS_ONLY)
    name = "survey every 15 min of main"
    own = first_survey(15, "main", NOON + 5 * MINUTE)
    just_before = own - 3 * MINUTE
    await clockwork.schedule.plan([NewJob(name, just_before, "main")])
    host = clockwork.host()
    await turn(host)
    assert await _next_surveys(clockwork) == {name: just_before}
    clockwork.world.clock.moment = just_before
    await turn(host)
    assert len(await clockwork.runs()) == 1
    # Not three minutes later.
    assert await _next_surveys(clockwork) == {name: own + 15 * MINUTE}


async def test_a_survey_that_takes_longer_than_its_interval_leaves_one_out(
    clockwork: Clockwork,
) -> None:
    world = clockwork.world
    world.pair([])
    await clockwork.link(schedule=SURVEYS_ONLY)

    class Long(Enqueue):
        async def __call__(self, *args: Any, **options: Any) -> Any:
            found = await super().__call__(*args, **options)
            world.clock.advance(20 * MINUTE)
            return found

    host = clockwork.host(enqueue=lambda: Long(world.survey, world.queue))
    await turn(host)
    ((_, due),) = (await _next_surveys(clockwork)).items()
    for _ in range(3):
        world.clock.moment = due
        await turn(host)
        ((_, following),) = (await _next_surveys(clockwork)).items()
        assert following == due + 30 * MINUTE
        due = following
    assert len(await clockwork.runs()) == 3
