"""Does what the schedule asks for: sweeps, surveys and checks of links, and jobs of others."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from functools import partial

from imgsync.application.accounts import FindLinks
from imgsync.application.check import Check, CheckReport
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.pulse import beat
from imgsync.application.runs import NotedRun, NoteRuns
from imgsync.domain.errors import ImgsyncError, LeaseLostError
from imgsync.domain.model import AccountName, Link, StoredLink
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.repositories import SettingsRepository
from imgsync.domain.ports.runner import Listeners, NoListeners
from imgsync.domain.ports.schedule import ClaimedJob, NewJob, Schedule
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.schedule import first_survey, is_outdated, next_survey, next_sweep
from imgsync.domain.surveys import Since
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 4
_POLL_SECONDS = 5.0
_LEASE = timedelta(minutes=1)
_AGAIN_AFTER = timedelta(hours=1)
"""When a sweep is tried again that failed for a reason that may pass."""
_SHORTEST_SPAN = timedelta(hours=1)
_LINKS_A_SECOND = 1000
"""Links that a host reads and plans from, on the average: of few all at every poll, of thirty
thousand twice a minute, as they take a second."""


Confirm = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClockJob:
    """A job that one host of all does every so often. `name` is not that of another one."""

    name: str
    every: timedelta
    call: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is behind a job: when it is due next after `due`, at the moment `now`, and what does
    it, which is given what says that the job is still this host's (LeaseLostError)."""

    job: NewJob
    following: Callable[[datetime, datetime], datetime]
    call: Callable[[Confirm], Awaitable[None]]
    is_sweep: bool = False
    label: str = ""


@dataclass(slots=True)
class Scheduler:
    """Runs the jobs that are due, each on one host of all. The links of a main account that are due
    together are surveyed together, so that it is read once, and no two surveys of a main account
    are under way at once.

    Surveys of different main accounts with one interval are spread over it, so that hosts and
    database have as much to do at any moment. A sweep that was missed, as no host was up, is caught
    up at the start, unless the next one is less than an hour away. A process that is told to stop
    gives a job back; of one that is lost the job is taken over once its lease is over. `zone`:
    whose clocks count.
    """

    schedule: Schedule
    settings: SettingsRepository
    find_links: FindLinks
    enqueue: Callable[[], Enqueue]
    check: Callable[[], Check]
    note_runs: NoteRuns
    clock: StoreClock
    zone: tzinfo
    listeners: Listeners = field(default_factory=NoListeners)
    jobs: Sequence[ClockJob] = ()
    lease: timedelta = _LEASE
    poll_seconds: float = _POLL_SECONDS
    elapsed: Callable[[], float] = uptime
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _of_links: list[_Planned] = field(default_factory=list)
    _links_until: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        try:
            while not stop.is_set():
                beat()
                try:
                    await self.turn()
                except ImgsyncError as error:
                    _log.error("the schedule cannot be followed: %s", error)
                try:
                    await asyncio.wait_for(stop.wait(), self.poll_seconds)
                except TimeoutError:
                    continue
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def turn(self) -> None:
        """Begins what is due now, beside what is under way."""
        now = await self.clock.now()
        planned = {one.job.name: one for one in await self._planned(now)}
        await self.schedule.plan([one.job for one in planned.values()])
        while len(self._running) < _MOST_AT_ONCE:
            names = planned.keys() - self._running.keys()
            job = await self.schedule.claim(names, lease=self.lease)
            if job is None:
                return
            one = planned[job.name]
            following = one.following(job.due, now)
            if one.is_sweep and is_outdated(job.due, now, following):
                label = await self._label(one.job)
                _log.info("%s was missed, and is left to the next one at %s", label, following)
                await self.schedule.end(job, following)
                continue
            task = asyncio.create_task(self._do(job, one), name=job.name)
            self._running[job.name] = task
            task.add_done_callback(partial(self._ended, job.name))

    def _ended(self, name: str, _: asyncio.Task[None]) -> None:
        del self._running[name]

    async def idle(self) -> None:
        """Returns once nothing is under way here."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _do(self, job: ClaimedJob, planned: _Planned) -> None:
        try:
            planned = replace(planned, label=await self._label(planned.job))
        except asyncio.CancelledError:
            await self.schedule.release(job)
            raise
        confirm = partial(self.schedule.renew, job, lease=self.lease)
        work = asyncio.create_task(self._call(planned, confirm))
        keeper = asyncio.create_task(self._keep_lease(job, planned.label))
        try:
            await asyncio.wait((work, keeper), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                _log.warning("%s is dropped: another host has taken it, or may have", planned.label)
                return
            retry = work.result()
            now = await self.clock.now()
            following = planned.following(job.due, now)
            await self.schedule.end(job, min(following, now + _AGAIN_AFTER) if retry else following)
        except asyncio.CancelledError:
            await _cancelled(work, keeper)
            await self.schedule.release(job)
            raise
        except LeaseLostError as error:
            _log.warning("%s", error)
        except ImgsyncError as error:
            _log.error("%s has ended, which could not be noted: %s", planned.label, error)
        finally:
            await _cancelled(work, keeper)

    async def _call(self, planned: _Planned, confirm: Confirm) -> bool:
        """Whether it is to be tried again before its time."""
        try:
            await planned.call(confirm)
        except LeaseLostError:
            raise
        except ImgsyncError as error:
            _log.error("%s: %s", planned.label, error)
            return error.retryable
        except Exception:
            _log.exception("%s failed", planned.label)
        return False

    async def _label(self, job: NewJob) -> str:
        """What the log calls it: its main account by name."""
        if job.subject:
            with contextlib.suppress(ImgsyncError):
                account = await self.find_links.accounts.get(job.subject)
                return job.name.replace(job.subject, f"'{account.name}'")
        return job.name

    async def _keep_lease(self, job: ClaimedJob, label: str) -> None:
        """Ends when the lease is lost, or nobody says for as long as it lasts that it is not."""
        lease = self.lease.total_seconds()
        held_until = self.elapsed() + lease
        while True:
            await asyncio.sleep(lease / 3)
            asked = self.elapsed()
            try:
                async with asyncio.timeout(lease / 3):
                    await self.schedule.renew(job, lease=self.lease)
                held_until = asked + lease
            except LeaseLostError:
                return
            except (ImgsyncError, TimeoutError) as error:
                _log.warning("%s: its lease could not be renewed: %s", label, error)
                if self.elapsed() >= held_until:
                    return

    async def _planned(self, now: datetime) -> list[_Planned]:
        """All jobs; `now` tells when new ones are due first. Links are as they were a moment ago: a
        job reads its own anew before it does anything."""
        asked = self.elapsed()
        if asked >= self._links_until:
            links = await self.settings.links()
            self._of_links = self._jobs_of(links, now)
            self._links_until = asked + len(links) // _LINKS_A_SECOND
        return [*self._of_links, *(_of_clock(job, now) for job in self.jobs)]

    def _jobs_of(self, links: Sequence[StoredLink], now: datetime) -> list[_Planned]:
        sweeps: dict[tuple[str, str, bool], list[str]] = {}
        surveys: dict[tuple[str, int, bool], list[str]] = {}
        for link in links:
            if link.damage is not None or not link.settings.enabled:
                continue
            wanted = link.settings.schedule
            if wanted.sweep is not None:
                of = link.main_id, wanted.sweep, wanted.copies
                sweeps.setdefault(of, []).append(link.child_id)
            if wanted.survey_minutes is not None:
                every = link.main_id, wanted.survey_minutes, wanted.copies
                surveys.setdefault(every, []).append(link.child_id)
        return [
            *(self._sweep(*of, child_ids, now) for of, child_ids in sweeps.items()),
            *(self._survey(*of, child_ids, now) for of, child_ids in surveys.items()),
        ]

    def _sweep(
        self, main_id: str, at: str, copies: bool, child_ids: Sequence[str], now: datetime
    ) -> _Planned:
        def following(_: datetime, after: datetime) -> datetime:
            return next_sweep(at, after, self.zone)

        async def call(confirm: Confirm) -> None:
            await self._look(RunKind.SWEEP, main_id, child_ids, copies, None, confirm)

        name = f"{'sweep' if copies else 'check'} at {at} of {main_id}"
        return _Planned(NewJob(name, following(now, now), main_id), following, call, is_sweep=True)

    def _survey(
        self, main_id: str, minutes: int, copies: bool, child_ids: Sequence[str], now: datetime
    ) -> _Planned:
        def following(due: datetime, after: datetime) -> datetime:
            return next_survey(minutes, main_id, due, after)

        # What is only told is not noted, so that such a survey cannot go on from the last one.
        span = max(_SHORTEST_SPAN, 2 * timedelta(minutes=minutes))
        since = Since() if copies else Since(span=span)

        async def call(confirm: Confirm) -> None:
            await self._look(RunKind.SURVEY, main_id, child_ids, copies, since, confirm)

        of = "survey" if copies else "check"
        name = f"{of} every {minutes} min of {main_id}"
        first_at = first_survey(minutes, main_id, now)
        return _Planned(NewJob(name, first_at, main_id), following, call)

    async def _look(
        self,
        kind: RunKind,
        main_id: str,
        child_ids: Sequence[str],
        copies: bool,
        since: Since | None,
        confirm: Confirm,
    ) -> None:
        links = [
            link
            for link in await self.find_links.of_main(main_id)
            if link.child.id in child_ids and link.settings.enabled
        ]
        if not links:
            return  # meanwhile
        run: NotedRun | None = None
        error: str | None = None
        try:
            async with self.note_runs.noting(kind, RunCause.SCHEDULE, links, since=since) as run:
                ended: EnqueueOutcome | CheckReport
                if copies:
                    ended = EnqueueOutcome()
                    await self.enqueue()(links, since=since, progress=run.see, outcome=ended)
                else:
                    ended = await self.check()(links, since=since, progress=run.see)
                # Of a host that was stopped meanwhile nothing counts.
                await confirm()
                run.surveyed(ended)
        except LeaseLostError:
            raise
        except ImgsyncError as raised:
            error = str(raised)
            raise
        finally:
            if kind is RunKind.SWEEP and run is not None and (run.is_surveyed or error):
                await self._tell(run, links, error)

    async def _tell(self, run: NotedRun, links: Sequence[Link], error: str | None) -> None:
        for link in links:
            child = AccountName(link.child.id, link.child.name)
            why = run.failed.get(child.id, error)
            equal = run.is_equal(child.id)
            await self.listeners.sweep_ended(child, run.numbers_of(child.id), equal, why)


def _of_clock(job: ClockJob, now: datetime) -> _Planned:
    def following(due: datetime, after: datetime) -> datetime:
        return due + job.every * max(1, (after - due) // job.every + 1)

    async def call(_: Confirm) -> None:
        await job.call()

    # At once where it is new: what it looks after has never been looked at.
    return _Planned(NewJob(job.name, now), following, call)


async def _cancelled(*tasks: asyncio.Task[bool] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
