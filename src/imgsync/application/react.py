"""Acts upon the events of webhooks: looks at the entities that they name, and queues what differs.

Webhooks are a way to be early, and no proof: MoySklad gives an event up that is not answered four
times, and does not tell what it gave up. What they miss, the surveys of the schedule find.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from imgsync.application.accounts import FindLinks
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.parking import park
from imgsync.application.pulse import beat
from imgsync.application.runs import NoteRuns
from imgsync.application.survey import Chosen, allowed_clears
from imgsync.domain.errors import (
    BusyChildError,
    ImgsyncError,
    LeaseLostError,
    NoLinkError,
    NoRoomError,
    ParkingError,
    StoreError,
    SyncIsOffError,
    UnknownAccountError,
)
from imgsync.domain.model import Link, StoredLink
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.events import EndedEntities, EventStore
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.runs import Proofs, RunHistory
from imgsync.domain.runs import LEFT, Run, RunCause, RunKind, RunStatus
from imgsync.domain.surveys import Since
from imgsync.domain.webhooks import ClaimedEvents, Event
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
QUIET, LONGEST = timedelta(seconds=2), timedelta(seconds=10)
_LEASE = timedelta(seconds=60)
_MOST_AT_ONCE = 4
_MOST_OF_MAIN = 500
"""Entities that are asked for by their ids; more have the main account surveyed for all that has
changed."""
_MOST_OF_CHILD = 2000
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
_GIVEN_UP_AFTER = timedelta(hours=6)
_PARKED_PAUSE = timedelta(minutes=10)
_KEPT = timedelta(days=2)
"""Ids of requests, and events that nobody could act upon."""
_PRUNE_SECONDS = 600.0
_SETTLE_SECONDS = 1.0
_TALLY = timedelta(hours=1)
_MOST_RUNS = 3000
_LONG_KINDS = (RunKind.SWEEP, RunKind.SURVEY, RunKind.ENQUEUE, RunKind.SYNC)
_LONGEST_RUN = timedelta(days=1)
_MOST_LONG = 300
_LOOKS_ON_SECONDS = 5.0
_MOST_AGAIN = 20_000


@dataclass(frozen=True, slots=True)
class _Again:
    """Events that are looked at once more when these runs have ended: they may have read what was
    there before."""

    name: str
    run_ids: frozenset[str]
    events: Sequence[Event]
    since: float


@dataclass(slots=True)
class React:
    """Acts upon events, on several hosts at once: those of an account are one host's alone at a
    time. `run` returns soon after it is told to stop; what was under way is another host's then.

    Of one that was stopped in the midst and has lost its claim, the events come again: what it
    queued may be older than what its heir did.
    """

    events: EventStore
    accounts: AccountRepository
    settings: SettingsRepository
    find_links: FindLinks
    enqueue: Callable[[], Enqueue]
    note_runs: NoteRuns
    history: RunHistory
    proofs: Proofs
    ended: EndedEntities
    clock: StoreClock
    quiet: timedelta = QUIET
    longest: timedelta = LONGEST
    lease: timedelta = _LEASE
    poll_seconds: float = 0.5
    trouble_seconds: float = 5.0
    elapsed: Callable[[], float] = uptime
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _unsettled: set[str] = field(default_factory=set)
    _again: list[_Again] = field(default_factory=list)
    _done_at: dict[str, float] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    """Of accounts, by their ids, as last looked up: for the log."""
    _trouble: str = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        try:
            while not stop.is_set():
                beat()
                pause = self.poll_seconds
                try:
                    await self.turn()
                    self._trouble = ""
                except ImgsyncError as error:
                    if str(error) != self._trouble:
                        self._trouble = str(error)
                        _log.error("events of webhooks wait: %s", error)
                    pause = self.trouble_seconds
                try:
                    await asyncio.wait_for(stop.wait(), pause)
                except TimeoutError:
                    continue
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._look_again(at_once=True)

    async def turn(self) -> None:
        """Begins what is due now, beside what is under way."""
        while len(self._running) < _MOST_AT_ONCE:
            claimed = await self.events.claim(
                quiet=self.quiet, longest=self.longest, lease=self.lease
            )
            if claimed is None:
                break
            task = asyncio.create_task(self._do(claimed))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if self._again and self._is_time("again", _LOOKS_ON_SECONDS):
            await self._look_again()
        if self._unsettled and self._is_time("settle", _SETTLE_SECONDS):
            self._unsettled -= await self.note_runs.settle(list(self._unsettled))
        if self._is_time("prune", _PRUNE_SECONDS):
            while await self.events.prune(_KEPT):
                pass

    async def idle(self) -> None:
        """Returns once nothing is under way here."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _is_time(self, what: str, seconds: float) -> bool:
        now = self.elapsed()
        if now - self._done_at.get(what, -math.inf) < seconds:
            return False
        self._done_at[what] = now
        return True

    async def _do(self, claimed: ClaimedEvents) -> None:
        work = asyncio.create_task(self._worked(claimed))
        keeper = asyncio.create_task(self._keep(claimed))
        try:
            await asyncio.wait((work, keeper), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            _log.warning("%s are dropped: their time was over", self._label(claimed))
            await _cancelled(work)
            await self._renew_events(claimed)
        except asyncio.CancelledError:
            await _cancelled(work, keeper)
            await self._put_off(claimed, timedelta(0))
            raise
        except ImgsyncError as error:
            # They are claimed again once the lease is over.
            _log.error("%s: %s", self._label(claimed), error)
        except Exception:
            _log.exception("%s failed", self._label(claimed))
        finally:
            await _cancelled(work, keeper)

    async def _worked(self, claimed: ClaimedEvents) -> None:
        try:
            await self._act(claimed)
        except (StoreError, NoRoomError, LeaseLostError) as error:
            # They come again once the lease is over, or the store is there. Whichever survey has
            # begun meanwhile may have read main before they came.
            _log.error("%s wait: %s", self._label(claimed), error)
            await self._put_off(claimed, _FIRST_PAUSE)
        except ImgsyncError as error:
            await self._failed(claimed, error)
        except Exception:
            _log.exception("%s failed", self._label(claimed))
            await self._later(claimed)

    async def _keep(self, claimed: ClaimedEvents) -> None:
        """Ends when the claim is lost, or nobody says for as long as it lasts that it is not."""
        lease = self.lease.total_seconds()
        held_until = self.elapsed() + lease
        while True:
            await asyncio.sleep(lease / 3)
            asked = self.elapsed()
            try:
                async with asyncio.timeout(lease / 3):
                    if not await self.events.renew(claimed.token, self.lease):
                        return
                held_until = asked + lease
            except (ImgsyncError, TimeoutError) as error:
                _log.warning("a claim of events could not be renewed: %s", error)
                if self.elapsed() >= held_until:
                    return

    async def _act(self, claimed: ClaimedEvents) -> None:
        stored = [link for link in await self.settings.links() if link.damage is None]
        if any(link.main_id == claimed.account_id for link in stored):
            await self._main_changed(claimed, stored)
            return
        for link in stored:
            if link.child_id == claimed.account_id:
                await self._child_changed(claimed, link)
                return
        await self.events.done(claimed.token)

    async def _main_changed(self, claimed: ClaimedEvents, stored: Sequence[StoredLink]) -> None:
        main_id = claimed.account_id
        if not claimed.child_id:
            for name, ids in _by_type(claimed, deleted=True).items():
                await self.ended.of_main(main_id, name, ids)
        wanted = {
            link.child_id
            for link in stored
            if link.main_id == main_id
            and _is_copied(link)
            and claimed.child_id in ("", link.child_id)
        }
        changed = _by_type(claimed, deleted=False)
        links = await self._links(wanted) if changed else []
        if not links:
            await self.events.done(claimed.token)
            return
        if (parking := await self.accounts.parking(main_id)) is not None:
            await self._put_off(claimed, await self._until(parking.until))
            return
        parked = {
            link.child.id: parking
            for link in links
            if (parking := await self.accounts.parking(link.child.id)) is not None
        }
        links = [link for link in links if link.child.id not in parked]
        waits = [await self._until(parking.until) for parking in parked.values()]
        left = dict(zip(parked, waits, strict=True))
        if links:
            many = sum(map(len, changed.values())) > _MOST_OF_MAIN
            left |= await self._surveyed(claimed, links, None if many else Chosen(changed))
        await self._end(claimed, left)

    async def _child_changed(self, claimed: ClaimedEvents, link: StoredLink) -> None:
        for name, ids in _by_type(claimed, deleted=True).items():
            await self.ended.of_child(link.child_id, name, ids)
        changed = _by_type(claimed, deleted=False)
        is_guarded = link.settings.guard and _is_copied(link)
        links = await self._links({link.child_id}) if is_guarded and changed else []
        for account_id in (link.main_id, link.child_id) if links else ():
            if (parking := await self.accounts.parking(account_id)) is not None:
                await self._put_off(claimed, await self._until(parking.until))
                return
        if links:
            many = sum(map(len, changed.values())) > _MOST_OF_CHILD
            chosen = None if many else Chosen(changed, of_child=True)
            if left := await self._surveyed(claimed, links, chosen, of_child=True):
                await self._put_off(claimed, max(left.values()))
                return
        await self._end(claimed, {})

    async def _links(self, child_ids: Collection[str]) -> list[Link]:
        if not child_ids:
            return []
        try:
            links = await self.find_links()
        except (NoLinkError, SyncIsOffError, UnknownAccountError):
            return []  # meanwhile
        self._names |= {a.id: a.name for link in links for a in (link.main, link.child)}
        return [one for one in links if one.child.id in child_ids and one.settings.enabled]

    def _label(self, claimed: ClaimedEvents) -> str:
        """Such as ``events of account 'Main'``."""
        return f"events of account '{self._names.get(claimed.account_id, claimed.account_id)}'"

    async def _surveyed(
        self,
        claimed: ClaimedEvents,
        links: Sequence[Link],
        chosen: Chosen | None,
        *,
        of_child: bool = False,
    ) -> dict[str, timedelta]:
        """Queues what differs. The children that could not be compared, and when to try again.

        Without `chosen`: of main all that has changed since the last survey, or, where a child has
        changed, all of it.
        """
        since = None if chosen or of_child else Since()
        now = await self.clock.now()
        runs = await self.history.find(since=now - _TALLY, limit=_MOST_RUNS)
        long_ones = await self._long_ones(now)
        most = None if chosen is None else await self._most_clears(links, runs)
        outcome = EnqueueOutcome()
        types = tuple(chosen.ids) if chosen else ()
        async with self.note_runs.noting(
            RunKind.WEBHOOK, RunCause.WEBHOOK, links, types=types, since=since
        ) as run:
            try:
                await self.enqueue()(
                    links,
                    since=since,
                    chosen=chosen,
                    max_clear=most,
                    progress=run.see,
                    outcome=outcome,
                    waits=False,
                )
            finally:
                self._unsettled |= {link.child.id for link in links if len(outcome.task_ids)}
            run.surveyed(outcome)
        line = "%s: %d entities looked at, %d tasks"
        _log.info(line, self._label(claimed), len(claimed.events), len(outcome.task_ids))
        if outcome.clear_limit_error is not None:
            _log.error("%s: %s", self._label(claimed), outcome.clear_limit_error)
        known = {one.id: one for one in [*runs, *long_ones]}
        beside = [one for one in known.values() if one.ended is None and one.id != run.id]
        self._note_again(claimed, links, beside)
        left: dict[str, timedelta] = {}
        for failed in outcome.failed:
            if await self._is_worth_another_try(claimed, failed.error, [failed.link]):
                left[failed.link.child.id] = await self._pause(claimed)
        return left

    async def _long_ones(self, now: datetime) -> list[Run]:
        """Surveys that are under way for more than an hour."""
        found: list[Run] = []
        earliest, latest = now - _LONGEST_RUN, now - _TALLY
        for kind in _LONG_KINDS:
            of_kind = await self.history.find(
                kind=kind, since=earliest, until=latest, limit=_MOST_LONG
            )
            found += [run for run in of_kind if run.status(now) is RunStatus.RUNNING]
        return found

    async def _most_clears(self, links: Sequence[Link], runs: Sequence[Run]) -> int:
        """How many entities of a child may lose their images now: as many as one survey of the
        whole child might clear, in an hour, as a catalogue that is emptied one by one is no less
        emptied."""
        known = 0
        for link in links:
            proof = await self.proofs.get(link.child.id)
            numbers = proof.numbers if proof and proof.main_id == link.main.id else {}
            known = max(known, sum(n for name, n in numbers.items() if name != LEFT))
        by_child = [run.by_child for run in runs if run.kind is RunKind.WEBHOOK]
        cleared = max(
            sum(numbers.get(link.child.id, {}).get("clears", 0) for numbers in by_child)
            for link in links
        )
        return max(0, allowed_clears(known) - cleared)

    async def _failed(self, claimed: ClaimedEvents, error: ImgsyncError) -> None:
        """No child could be compared."""
        stored = await self.settings.links()
        concerned = {
            link.child_id for link in stored if claimed.account_id in (link.main_id, link.child_id)
        }
        links = await self._links(concerned) if isinstance(error, ParkingError) else []
        if await self._is_worth_another_try(claimed, error, links):
            await self._later(claimed)
        else:
            await self.events.done(claimed.token)

    async def _is_worth_another_try(
        self, claimed: ClaimedEvents, error: ImgsyncError, links: Sequence[Link]
    ) -> bool:
        """Parks an account that refuses everything. What will not pass is left to the schedule."""
        if isinstance(error, BusyChildError):
            _log.info("%s wait: %s", self._label(claimed), error)
            return True
        _log.error("%s: %s", self._label(claimed), error)
        if isinstance(error, ParkingError):
            for account in {a.id: a for link in links for a in (link.main, link.child)}.values():
                if account.id == error.account_id:
                    await park(self.accounts, self.clock, account.id, error, account)
            return True
        return error.retryable and await self.clock.now() - claimed.oldest < _GIVEN_UP_AFTER

    async def _end(self, claimed: ClaimedEvents, left: dict[str, timedelta]) -> None:
        """`left`: children that have yet to be compared, and after how long."""
        if not await self.events.renew(claimed.token, self.lease):
            await self._renew_events(claimed)
        elif left:
            await self.events.leave_to(claimed.token, list(left), max(left.values()))
        else:
            await self.events.done(claimed.token)

    async def _renew_events(self, claimed: ClaimedEvents) -> None:
        """The claim was lost: what was queued here may be older than what the heir did."""
        await self.events.receive(f"again/{claimed.token}", claimed.events)

    async def _later(self, claimed: ClaimedEvents) -> None:
        await self._put_off(claimed, await self._pause(claimed))

    async def _pause(self, claimed: ClaimedEvents) -> timedelta:
        """The longer, the longer the events wait already."""
        age = await self.clock.now() - claimed.oldest
        return min(max(age, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _until(self, moment: datetime) -> timedelta:
        wait = moment - await self.clock.now()
        return min(max(wait, _FIRST_PAUSE), _PARKED_PAUSE)

    async def _put_off(self, claimed: ClaimedEvents, delay: timedelta) -> None:
        try:
            await self.events.put_off(claimed.token, delay)
        except ImgsyncError as error:
            _log.warning("%s could not be put off: %s", self._label(claimed), error)

    def _note_again(
        self, claimed: ClaimedEvents, links: Sequence[Link], beside: Sequence[Run]
    ) -> None:
        """A survey of the same children that is under way may have read an entity before it
        changed, and would queue what was there then."""
        ours = {link.child.id for link in links}
        run_ids = frozenset(
            run.id
            for run in beside
            if run.kind not in (RunKind.WEBHOOK, RunKind.CHECK) and ours & set(run.child_ids)
        )
        if not run_ids:
            return
        name = f"after/{claimed.token}"
        self._again.append(_Again(name, run_ids, claimed.events, self.elapsed()))
        while sum(len(one.events) for one in self._again) > _MOST_AGAIN:
            self._again.pop(0)

    async def _look_again(self, *, at_once: bool = False) -> None:
        """Has events come again whose runs have ended, or were lost."""
        left: list[_Again] = []
        for one in self._again:
            try:
                if not (at_once or await self._are_over(one)):
                    left.append(one)
                    continue
                await self.events.receive(one.name, one.events)
            except ImgsyncError as error:
                _log.warning("events are not looked at again yet: %s", error)
                left.append(one)
        self._again = left

    async def _are_over(self, again: _Again) -> bool:
        now = await self.clock.now()
        is_late = self.elapsed() - again.since > _TALLY.total_seconds()
        for run_id in again.run_ids:
            run = await self.history.get(run_id)
            if run is None or run.ended is not None:
                continue
            # One of which nothing is heard may be that of a host that was stopped, and goes on.
            if not is_late or run.status(now) is RunStatus.RUNNING:
                return False
        return True


def _is_copied(link: StoredLink) -> bool:
    return link.settings.enabled and link.settings.schedule.copies


def _by_type(claimed: ClaimedEvents, *, deleted: bool) -> dict[str, list[str]]:
    types = dict.fromkeys(event.entity_type for event in claimed.events)
    found = {name: claimed.of_type(name, deleted=deleted) for name in types}
    return {name: ids for name, ids in found.items() if ids}


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
