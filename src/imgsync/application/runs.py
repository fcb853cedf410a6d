"""Notes what runs found and did, and how the children stand after them."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from imgsync.application.check import CheckReport
from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.survey import Difference, Surveyed
from imgsync.application.usage import Taken, measured
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.labels import lines_by_children
from imgsync.domain.model import Link
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import SettingsRepository
from imgsync.domain.ports.runs import Proofs, RunHistory, UsageRepository
from imgsync.domain.runs import LEFT, UNEQUAL, ChildProof, Run, RunCause, RunKind
from imgsync.domain.surveys import Since
from imgsync.domain.tasks import TaskStatus

_log = logging.getLogger(__name__)
_NOTE_SECONDS = 5.0
_MOST_LOOKED_AT = 1000
"""Tasks that are looked at to find out which children have some; where there are more, all may."""
_USAGE_KEPT = timedelta(days=400)
_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class NotedRun:
    """A run that is under way. `by_child`: numbers of each child; `failed`: why one could not be
    surveyed to its end."""

    id: str
    kind: RunKind
    links: Sequence[Link]
    began: datetime
    taken: Taken
    is_whole: bool
    by_child: dict[str, Counter[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    warned: Counter[str] = field(default_factory=Counter)
    """Entities of each child that differ in what cannot be copied."""
    is_surveyed: bool = False
    goes_on: bool = True
    """It looks at all that has changed since the last one, if not at everything."""

    def __post_init__(self) -> None:
        self.by_child = {link.child.id: Counter() for link in self.links if link.settings.enabled}

    def see(self, found: Surveyed) -> None:
        """Counts an entity that was surveyed."""
        numbers = self.by_child[found.link.child.id]
        numbers["unsure" if found.is_unsure else found.difference.value] += 1
        if found.request is None:
            numbers[LEFT] += found.is_unsure
            is_short = found.difference in (Difference.MISSING, Difference.DIFFERENT)
            self.warned[found.link.child.id] += is_short
        elif found.clears:
            numbers["clears"] += 1
        else:
            numbers["images"] += found.images

    def surveyed(self, ended: EnqueueOutcome | CheckReport) -> None:
        """The survey came to its end: what it tells beside what was seen."""
        self.is_surveyed = True
        self.is_whole = self.is_whole and ended.log.since is None
        self.failed = {one.link.child.id: str(one.error) for one in ended.failed}
        if isinstance(ended, EnqueueOutcome):
            for child_id, count in ended.refused.items():
                self.by_child[child_id]["clears"] -= count
                self.by_child[child_id]["clears_refused"] = count
                self.by_child[child_id][LEFT] += count
        else:
            for child_id, counts in ended.counts.items():
                # By content, what seemed equal may turn out to differ.
                for difference in (Difference.EQUAL, Difference.DIFFERENT):
                    self.by_child[child_id][difference.value] = counts[difference]
        if self.kind is RunKind.CHECK or isinstance(ended, CheckReport):
            for numbers in self.by_child.values():
                numbers[LEFT] = sum(numbers[name] for name in UNEQUAL)

    def is_equal(self, child_id: str) -> bool:
        """Whether all of the child was compared, and nothing of it differs."""
        if not self.is_surveyed or not self.is_whole or child_id in self.failed:
            return False
        return not any(self.by_child[child_id][name] for name in UNEQUAL)

    def numbers_of(self, child_id: str) -> dict[str, int]:
        """What was found on a child, as one tells it."""
        numbers = self.by_child.get(child_id, Counter())
        return {name: count for name, count in numbers.items() if count and name != LEFT}

    @property
    def numbers_by_child(self) -> dict[str, dict[str, int]]:
        return {child_id: self.numbers_of(child_id) for child_id in self.by_child}

    @property
    def numbers(self) -> dict[str, int]:
        """Of all children together, and what was taken of MoySklad."""
        told = {**sum(self.by_child.values(), Counter[str]()), **self.taken.usage.as_numbers()}
        return {name: count for name, count in told.items() if count and name != LEFT}


@dataclass(frozen=True, slots=True)
class NoteRuns:
    """Notes runs. `new_id` gives ids of new ones. `settings`: of links, so that nothing is said of
    a child that receives something else by the end of a run."""

    history: RunHistory
    proofs: Proofs
    queue: TaskQueue
    failed_images: FailedImages
    clock: StoreClock
    new_id: Callable[[], str]
    settings: SettingsRepository | None = None

    @asynccontextmanager
    async def noting(
        self,
        kind: RunKind,
        cause: RunCause,
        links: Sequence[Link],
        *,
        types: Collection[str] = (),
        since: Since | None = None,
        run_id: str | None = None,
    ) -> AsyncIterator[NotedRun]:
        """Within it a run of these links is under way; its numbers are written down every few
        seconds. The caller tells it what is seen (`NotedRun.see`), and that the survey came to its
        end (`NotedRun.surveyed`); without that nothing is said of how the children stand.

        `types`: where only some are surveyed, `since`: where only what has changed. The errors of
        the store at the begin; one at the end is logged, as what was done is done.
        """
        began = await self.clock.now()
        with measured() as taken:
            run = NotedRun(run_id or self.new_id(), kind, links, began, taken, not types)
            run.goes_on = not types and since in (None, Since())
            child_ids = tuple(link.child.id for link in links)
            await self.history.begin(Run(run.id, kind, cause, child_ids, began))
            noting = asyncio.create_task(self._note(run))
            error: str | None = None
            try:
                yield run
            except asyncio.CancelledError:
                error = "told to stop before the end"
                raise
            except ImgsyncError as raised:
                error = str(raised)
                raise
            except BaseException as raised:
                error = f"{type(raised).__name__}: {raised}"
                raise
            finally:
                noting.cancel()
                await asyncio.gather(noting, return_exceptions=True)
                await self._end(run, error)

    async def _note(self, run: NotedRun) -> None:
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            try:
                await self.history.note(run.id, run.numbers, run.numbers_by_child)
            except ImgsyncError as error:
                _log.warning("run %s could not be noted: %s", run.id, error)

    async def _end(self, run: NotedRun, error: str | None) -> None:
        failed = lines_by_children(f"{name}: {why}" for name, why in self._failed(run))
        try:
            if run.is_surveyed:
                await self._prove(run)
            why = error or "; ".join(failed) or None
            await self.history.end(run.id, run.numbers, why, run.numbers_by_child)
        except ImgsyncError as trouble:
            _log.warning("the end of run %s could not be noted: %s", run.id, trouble)

    @staticmethod
    def _failed(run: NotedRun) -> list[tuple[str, str]]:
        names = {link.child.id: link.child.name for link in run.links}
        return [(names[child_id], why) for child_id, why in run.failed.items()]

    async def _prove(self, run: NotedRun) -> None:
        """What is known of each child from now on.

        A whole survey tells itself. One of some entities, where none of them differs, shows that a
        child is equal of which all that was found before has been copied; so does a sync, at its
        end, of what it found.
        """
        with_failed = {count.child_account_id for count in await self.failed_images.counts()}
        unsettled: list[ChildProof] = []
        for link in run.links:
            child_id = link.child.id
            if child_id not in run.by_child or child_id in run.failed:
                continue
            if not await self._is_still(link):
                continue
            numbers = run.by_child[child_id]
            if child_id not in with_failed:
                # Once a failed image is copied, nothing is left; of others nobody would tell.
                numbers[LEFT] += run.warned[child_id]
            told = {name: count for name, count in numbers.items() if count}
            before = await self.proofs.get(child_id)
            if before is not None and before.main_id != link.main.id:
                before = None
            if run.is_whole:
                equal_at = run.began if run.is_equal(child_id) else None
                if before is not None and equal_at is None:
                    equal_at = before.equal_at
                proof = ChildProof(child_id, link.main.id, run.began, equal_at, told)
            elif before is not None:
                proof = before.with_found(numbers)
            else:
                continue  # never compared as a whole
            if proof != before:
                await self.proofs.put(proof)
            found_none = not any(numbers[name] for name in UNEQUAL)
            shows = run.kind is RunKind.SYNC or (found_none and not run.is_whole)
            if run.goes_on and shows and proof.may_settle and child_id not in with_failed:
                unsettled.append(proof)
        now = await self.clock.now() if run.kind is RunKind.SYNC else run.began
        for proof in await self._drained(unsettled):
            if await self._is_known(proof):
                await self.proofs.put(proof.settled(now))

    async def _is_still(self, link: Link) -> bool:
        """Whether the child receives now what it did when the run began."""
        if self.settings is None:
            return True
        linked = [one for one in await self.settings.links() if one.child_id == link.child.id]
        if any(one.damage is not None or one.main_id != link.main.id for one in linked):
            return False
        now = linked[0].settings if linked else await self.settings.get(link.child.id)
        return now.received == link.settings.received

    async def settle(self, child_ids: Collection[str]) -> set[str]:
        """Of these children, those of which nothing more can be told: all that was found to differ,
        and was queued, has been copied, which is noted; or something was not queued, or failed.

        When each was last known to be equal is not moved by that: nobody has looked whether
        anything else has changed.
        """
        open_ones: list[ChildProof] = []
        with_failed = {count.child_account_id for count in await self.failed_images.counts()}
        for child_id in child_ids:
            proof = await self.proofs.get(child_id)
            if proof is not None and proof.unequal and proof.may_settle:
                open_ones.append(proof)
        open_ones = [proof for proof in open_ones if proof.child_id not in with_failed]
        drained = [one for one in await self._drained(open_ones) if await self._is_known(one)]
        for proof in drained:
            await self.proofs.put(
                replace(proof.settled(proof.compared_at), equal_at=proof.equal_at)
            )
        waiting = {proof.child_id for proof in open_ones} - {proof.child_id for proof in drained}
        return set(child_ids) - waiting

    async def _is_known(self, proof: ChildProof) -> bool:
        """Whether nothing else has been found since: another run may have, while tasks were looked
        at."""
        return await self.proofs.get(proof.child_id) == proof

    async def _drained(self, proofs: Sequence[ChildProof]) -> list[ChildProof]:
        """Those of children for which no task waits, or has failed since they were compared."""
        if not proofs:
            return []
        counts = await self.queue.counts()
        if counts[TaskStatus.FAILED] > _MOST_LOOKED_AT:
            return []  # those of a child may be among the ones that nobody would look at
        busy: set[str | None] = set()
        for status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
            if counts[status] > _MOST_LOOKED_AT:
                return []
            if counts[status]:
                tasks = await self.queue.find(status, limit=_MOST_LOOKED_AT)
                busy |= {task.account_id for task in tasks}
        failed = []
        if counts[TaskStatus.FAILED]:
            failed = await self.queue.find(TaskStatus.FAILED, limit=_MOST_LOOKED_AT)
        return [
            proof
            for proof in proofs
            if proof.child_id not in busy
            and not any(
                task.account_id == proof.child_id and task.updated_at >= proof.compared_at
                for task in failed
            )
        ]


@dataclass(frozen=True, slots=True)
class PruneRuns:
    """Deletes runs that began `keep` ago, and the usage of more than a year ago."""

    history: RunHistory
    usage: UsageRepository
    keep: timedelta

    async def __call__(self) -> int:
        """How many runs."""
        gone = 0
        while portion := await self.history.prune(self.keep):
            gone += portion
            await asyncio.sleep(_PAUSE_SECONDS)
        await self._prune_usage()
        return gone

    async def _prune_usage(self) -> None:
        gone = True
        while gone:
            gone = await self.usage.prune(max(self.keep, _USAGE_KEPT)) > 0
            await asyncio.sleep(_PAUSE_SECONDS)
