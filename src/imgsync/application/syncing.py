"""Surveys of links in the background, for whoever asks: a page, the HTTP API, a schedule."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from imgsync.application.accounts import FindLinks
from imgsync.application.compare import Compare
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.runs import NotedRun, NoteRuns
from imgsync.application.survey import Difference, Surveyed
from imgsync.domain.diff import Clear, Skip, Unchanged
from imgsync.domain.errors import ImgsyncError, UnavailableError
from imgsync.domain.model import Link
from imgsync.domain.ports.clock import Clock
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.surveys import Since

_log = logging.getLogger(__name__)
_KEPT = 500
_MOST_AT_ONCE = 1000


class Look(StrEnum):
    """SYNC queues what differs, PREVIEW tells what it would queue, CHECK keeps what differs."""

    SYNC = "sync"
    PREVIEW = "preview"
    CHECK = "check"


@dataclass(slots=True)
class Sync:
    """The survey of a child, under way or ended. `surveyed`: entities seen so far; `outcome`: what
    was found of this child; `error`: what stopped it; `run_id`: the run that it is a part of."""

    child_id: str
    look: Look
    cause: RunCause
    began: datetime
    ended: datetime | None = None
    surveyed: int = 0
    outcome: EnqueueOutcome = field(default_factory=EnqueueOutcome)
    error: str | None = None
    run_id: str = ""

    @property
    def dry_run(self) -> bool:
        return self.look is Look.PREVIEW


@dataclass(frozen=True, slots=True)
class Started:
    """A run of these children; `is_new` is False where it was under way already. `elsewhere`:
    children that were asked for with them, which another host compares already."""

    run_id: str
    child_ids: tuple[str, ...]
    is_new: bool
    elsewhere: tuple[str, ...] = ()


class OtherRunError(ImgsyncError):
    """Something else of a child is under way, which does not do what is asked for."""


@dataclass(slots=True)
class _Group:
    """Children that are surveyed together, so that their main account is read once."""

    run_id: str
    look: Look
    cause: RunCause
    since: Since | None
    syncs: dict[str, Sync]
    noted: asyncio.Future[None]
    """Done once the run is in the history, or failed where it is not going to be."""
    elsewhere: tuple[str, ...] = ()
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Syncing:
    """Begins surveys, and remembers how the last one of each child and look ended. What they queue
    is for the worker. No two of one child are under way at once here; no two that compare a child,
    on any host.

    `moves` goes up whenever one of these states changes.
    """

    find_links: FindLinks
    enqueue: Callable[[], Enqueue]
    note_runs: Callable[[], NoteRuns]
    clock: Clock
    compare: Callable[[], Compare]
    moves: int = 0
    _last: OrderedDict[tuple[str, Look], Sync] = field(default_factory=OrderedDict)
    _running: dict[str, _Group] = field(default_factory=dict)

    def state(self, child_id: str, look: Look = Look.SYNC) -> Sync | None:
        """The last one of the child that was begun here."""
        return self._last.get((child_id, look))

    def is_busy(self, child_id: str) -> bool:
        return child_id in self._running

    def begin(
        self,
        child_id: str,
        look: Look = Look.SYNC,
        *,
        since: Since | None = None,
        cause: RunCause = RunCause.PAGE,
    ) -> bool:
        """False where one of the child, given by its id, is under way: nothing is begun then."""
        if self.is_busy(child_id):
            return False
        self._begin([child_id], look, since, cause)
        return True

    async def start(
        self,
        child_ids: Sequence[str],
        look: Look,
        *,
        since: Since | None = None,
        cause: RunCause = RunCause.API,
    ) -> list[Started]:
        """Begins one run of all these children, given by their ids; of those of which the same is
        under way, that run is told instead. The runs are in the history by then.

        OtherRunError where something else of a child is under way: nothing is begun; and where
        another host compares all of them already. What
        `FindLinks` raises, and the errors of the store, where nothing could be begun.
        """
        wanted = list(dict.fromkeys(child_ids))
        if len(wanted) > _MOST_AT_ONCE:
            raise ImgsyncError(f"More than {_MOST_AT_ONCE:,} children at once")
        joined: dict[str, _Group] = {}
        for child_id in wanted:
            if (group := self._running.get(child_id)) is None:
                continue
            if (group.look, group.since) != (look, since):
                raise OtherRunError(
                    f"Run {group.run_id}, another one, of account '{child_id}' is under way; "
                    "nothing is begun before it has ended"
                )
            joined[group.run_id] = group
        of_joined = {child_id for group in joined.values() for child_id in group.syncs}
        new = [child_id for child_id in wanted if child_id not in of_joined]
        groups = [self._begin(new, look, since, cause)] if new else []
        for group in [*groups, *joined.values()]:
            # Whoever waits may go away; the run goes on.
            await asyncio.shield(group.noted)
        return [
            Started(
                group.run_id,
                tuple(child_id for child_id in wanted if child_id in group.syncs),
                group in groups,
                group.elsewhere if group in groups else (),
            )
            for group in [*groups, *joined.values()]
        ]

    async def stop(self) -> None:
        """Ends those under way; what they have queued stays queued."""
        running = {group.task for group in self._running.values() if group.task is not None}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(
        self, child_ids: Sequence[str], look: Look, since: Since | None, cause: RunCause
    ) -> _Group:
        run_id, now = self.note_runs().new_id(), self.clock.now()
        syncs = {
            child_id: Sync(child_id, look, cause, now, run_id=run_id) for child_id in child_ids
        }
        noted = asyncio.get_running_loop().create_future()
        noted.add_done_callback(_heard)
        group = _Group(run_id, look, cause, since, syncs, noted)
        for sync in syncs.values():
            self._last[sync.child_id, look] = sync
            self._last.move_to_end((sync.child_id, look))
            if len(self._last) > max(_KEPT, len(Look) * len(syncs)):
                self._last.popitem(last=False)
        self._running |= dict.fromkeys(child_ids, group)
        group.task = asyncio.create_task(self._run(group))
        self.moves += 1
        return group

    async def _run(self, group: _Group) -> None:
        error: str | None = None
        names = list(group.syncs)
        try:
            links = await self.find_links(None, list(group.syncs))
            names = [link.child.name for link in links]
            if group.look is Look.CHECK:
                async with self.compare().begun(links) as comparing:
                    self._leave_out(group, comparing.elsewhere, all_of_it=not comparing.open)
                    async with self._noting(group, comparing.links) as noted:
                        noted.surveyed(await comparing(progress=self._seeing(group, noted)))
                        self._tell_failed(group, noted)
                return
            async with self._noting(group, links) as noted:
                ended = await self.enqueue()(
                    links,
                    dry_run=group.look is Look.PREVIEW,
                    since=group.since,
                    progress=self._seeing(group, noted),
                )
                _tell(ended, group)
                noted.surveyed(ended)
                self._tell_failed(group, noted)
        except ImgsyncError as raised:
            error = str(raised)
            _fail(group.noted, raised)
        except asyncio.CancelledError:
            error = "told to stop before the end"
            _fail(group.noted, UnavailableError("The server is stopping"))
            raise
        except Exception as raised:
            _log.exception("the survey of %s failed", ", ".join(names))
            error = f"Unexpected {type(raised).__name__}"
            _fail(group.noted, ImgsyncError(error))
        finally:
            for sync in group.syncs.values():
                sync.error = error or sync.error
                sync.ended = self.clock.now()
                del self._running[sync.child_id]
            self.moves += 1

    @asynccontextmanager
    async def _noting(self, group: _Group, links: Sequence[Link]) -> AsyncIterator[NotedRun]:
        kind = RunKind.ENQUEUE if group.look is Look.SYNC else RunKind.CHECK
        async with self.note_runs().noting(
            kind, group.cause, links, since=group.since, run_id=group.run_id
        ) as noted:
            group.noted.set_result(None)
            yield noted

    def _seeing(self, group: _Group, noted: NotedRun) -> Callable[[Surveyed], None]:
        def see(found: Surveyed) -> None:
            self.moves += 1
            noted.see(found)
            _see(found, group.syncs[found.link.child.id])

        return see

    def _leave_out(self, group: _Group, elsewhere: Sequence[str], *, all_of_it: bool) -> None:
        """What another host does is no part of the group: that one tells how it ends."""
        group.elsewhere = tuple(elsewhere)
        for child_id in elsewhere:
            self._last.pop((child_id, group.look), None)
        if all_of_it:
            raise OtherRunError(
                f"Another server compares account '{elsewhere[0]}' already; nothing is begun "
                "before it has ended"
            )
        for child_id in elsewhere:
            del group.syncs[child_id], self._running[child_id]

    @staticmethod
    def _tell_failed(group: _Group, noted: NotedRun) -> None:
        for child_id, why in noted.failed.items():
            group.syncs[child_id].error = why


def _see(found: Surveyed, sync: Sync) -> None:
    """Of the outcome, which is of all children together, what is this child's."""
    sync.surveyed += 1
    outcome = sync.outcome
    match found.change:
        case Skip():
            outcome.skipped.add(found)
        case Clear() if found.request is not None:
            outcome.clears += 1
        case Unchanged():
            outcome.unchanged += bool(found.listed)
        case _:
            outcome.entities += 1
            outcome.images += found.images
    if sync.dry_run and found.difference is not Difference.EQUAL:
        outcome.differences.add(found)


def _tell(ended: EnqueueOutcome, group: _Group) -> None:
    """What is known at the end alone: clears that are not done."""
    for child_id, count in ended.refused.items():
        outcome = group.syncs[child_id].outcome
        outcome.clears -= count
        outcome.clears_refused, outcome.clears_allowed = count, ended.clears_allowed
    for sync in group.syncs.values():
        sync.outcome.log = ended.log


def _fail(noted: asyncio.Future[None], error: ImgsyncError) -> None:
    if not noted.done():
        noted.set_exception(error)


def _heard(noted: asyncio.Future[None]) -> None:
    """Where nobody waits for it, nothing is said of its error being unheard."""
    if not noted.cancelled():
        noted.exception()
