"""Takes tasks from the queue, runs several at once and settles each."""

import asyncio
import contextlib
import logging
from array import array
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from imgsync.application.log_lines import about, about_task, label_of
from imgsync.application.log_lines import entity_label as label_of_entity
from imgsync.application.parking import CredentialsReplacedError, TaskParkedError
from imgsync.application.pulse import beat
from imgsync.domain.errors import (
    ImgsyncError,
    KeyStoreError,
    LeaseLostError,
    MissingKeyError,
    NoRoomError,
)
from imgsync.domain.labels import lines_by_children
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import (
    HandlesTogether,
    Listeners,
    NoListeners,
    TaskHandler,
    Together,
)
from imgsync.domain.ports.runs import Meter, NoMeter
from imgsync.domain.tasks import ALONE_FROM_CRASHES, SyncResult, Task, TaskId, TaskIds, retry_delay
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
_LONGEST_MARGIN_SECONDS = 5.0
_OF_THIS_HOST = (NoRoomError, MissingKeyError, KeyStoreError)
"""No task's fault, and no other host's: a full disk, or a host that the new key has not come to."""


class TaskEnd(StrEnum):
    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    PARKED = "parked"
    GIVEN_BACK = "given back"
    NO_ROOM = "no room"
    LEASE_LOST = "lease lost"


class DamagedTaskError(ImgsyncError):
    """The row of a task cannot be read."""


class UnknownKindError(ImgsyncError):
    """The queue gave a task that nothing here can do."""


@dataclass(slots=True)
class LeasePermit:
    """The right to write while the task's lease holds; each confirmation renews it.

    `used`: a write may have gone out.
    """

    queue: TaskQueue
    task: Task
    lease: timedelta
    elapsed: Callable[[], float] = uptime
    used: bool = False

    async def confirm(self) -> float:
        """Seconds that the lease certainly holds; LeaseLostError where the queue does not say so
        in time."""
        lease = self.lease.total_seconds()
        # From before the question: the lease began to run somewhere between it and the answer.
        asked = self.elapsed()
        try:
            async with asyncio.timeout(lease / 3):
                await self.queue.renew(self.task, lease=self.lease)
        except LeaseLostError:
            raise
        except TimeoutError:
            raise LeaseLostError(self._unconfirmed("the queue does not answer")) from None
        except Exception as error:
            raise LeaseLostError(self._unconfirmed(str(error))) from error
        margin = min(lease / 10, _LONGEST_MARGIN_SECONDS)
        left = asked + lease - margin - self.elapsed()
        if left <= 0:  # this process was stopped meanwhile
            raise LeaseLostError(self._unconfirmed("the answer came too late"))
        self.used = True
        return left

    def _unconfirmed(self, reason: str) -> str:
        return f"the lease cannot be confirmed: {reason}"


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a run of a task ended; `result` where it completed, `error` where it did not.

    `parked_along`: other tasks, never begun, that were parked with this one. `child`: the child's
    name, where it is known.
    """

    task: Task
    end: TaskEnd
    result: SyncResult | None = None
    error: str | None = None
    parked_along: int = 0
    child: str = ""


@dataclass(slots=True)
class Group:
    """Tasks of one child that were claimed together and run together.

    `is_suspect`: they were there as a worker was lost. `give_back` takes those that are not to
    begin after all. `parking`: while an account is parked no task begins, so that all are parked
    that have not.
    """

    together: Together
    is_suspect: bool
    give_back: Callable[[Sequence[Task]], Awaitable[None]]
    parking: Callable[[], AbstractAsyncContextManager[None]]
    places: "dict[asyncio.Task[TaskReport], Place]" = field(default_factory=dict)

    @property
    def load(self) -> int:
        """How many of a worker's tasks at once these count as."""
        return len(self.places) if self.is_suspect else 1

    async def withdraw(self) -> None:
        """Gives back the tasks that have not begun."""
        waiting = {r: p for r, p in self.places.items() if not (p.begun or p.withdrawn or r.done())}
        for run, place in waiting.items():
            place.withdrawn = True
            run.cancel()
        if not waiting:
            return
        # To its end, whatever becomes of whoever asked: else they would lapse.
        await asyncio.shield(asyncio.create_task(self._give_back(waiting)))

    async def _give_back(self, waiting: "dict[asyncio.Task[TaskReport], Place]") -> None:
        await asyncio.wait(waiting)
        for place in waiting.values():
            place.ended()
        await self.give_back([place.task for run, place in waiting.items() if run.cancelled()])


@dataclass(slots=True)
class Place:
    """A task's place in its group."""

    group: Group
    task: Task
    begun: bool = False
    withdrawn: bool = False

    async def begin(self) -> None:
        await self.group.together.begin(self.task)
        self.begun = True

    def ended(self) -> None:
        self.group.together.ended(self.task)


@dataclass(slots=True)
class RunTask:
    """Has the handler of the task's kind do it, keeps the lease meanwhile, settles the task.

    Cancelled, it gives the task back to the queue with its attempt uncounted. A task that ends
    with NO_ROOM is still held: to give it back takes room too.
    """

    queue: TaskQueue
    handlers: Mapping[str, TaskHandler]
    lease: timedelta
    elapsed: Callable[[], float] = uptime
    listeners: Listeners = field(default_factory=NoListeners)
    run: str = ""
    name_of: Callable[[str], Awaitable[str]] | None = None
    """The name of an account by its id, '' where it has none: for the log."""
    meter: Meter = field(default_factory=NoMeter)
    _names: dict[str, str] = field(default_factory=dict)

    async def __call__(self, task: Task, place: Place | None = None) -> TaskReport:
        """`place`: in its group, which says when it begins; withdrawn from there, it is left to
        the group."""
        with about(run=self.run, **about_task(task)):
            begun = self.elapsed()
            try:
                report = await self._run(task, place)
                self.meter.task(task.kind, report.end.value, self.elapsed() - begun)
            finally:
                if place is not None:
                    place.ended()
            # It is settled: told to stop now, it still says how it ended, and whose it was.
            child = ""
            with contextlib.suppress(asyncio.CancelledError):
                await self.listeners.after_task(task, report.end.value, report.result, report.error)
            with contextlib.suppress(asyncio.CancelledError):
                child = await self._child(task)
            return replace(report, child=child)

    async def _child(self, task: Task) -> str:
        """The child's name; '' where it is not known, which is no reason to lose what a task
        did."""
        child_id = task.account_id or ""
        if self.name_of is not None and child_id:
            with contextlib.suppress(Exception):
                self._names[child_id] = await self.name_of(child_id)
        return self._names.get(child_id, "")

    def label(self, task: Task) -> str:
        """What the log calls it, with the name of its child where that is known by now."""
        return label_of(self._told(task))

    def _told(self, task: Task) -> dict[str, Any]:
        """What a line of the log about the task is about, with the name of its child where that is
        known: nobody waits for a database to tell it while a lease runs out."""
        return about_task(task, self._names.get(task.account_id or "", ""))

    async def _run(self, task: Task, place: Place | None) -> TaskReport:
        permit = LeasePermit(self.queue, task, self.lease, self.elapsed)
        keeper = asyncio.create_task(self._keep_lease(task))
        work = asyncio.create_task(self._attempt(task, permit, place))
        try:
            await asyncio.wait((keeper, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                outcome = work.result()
                if place is not None and isinstance(outcome, TaskParkedError):
                    async with place.group.parking():
                        return await self._settle(task, outcome)
                return await self._settle(task, outcome)
            return self._lost(task, keeper.result())
        except LeaseLostError as error:
            return self._lost(task, str(error))
        except _OF_THIS_HOST as error:
            if place is not None:
                place.group.together.close()
            return TaskReport(task, TaskEnd.NO_ROOM, error=str(error))
        except asyncio.CancelledError:
            await _cancel(keeper, work)
            if place is not None and place.withdrawn:
                raise
            with contextlib.suppress(LeaseLostError):  # it was settled at the last moment
                await self.queue.release(task, check_again=permit.used)
            raise
        finally:
            await _cancel(keeper, work)

    def _lost(self, task: Task, why: str) -> TaskReport:
        with about(**self._told(task)):
            _log.warning("task %s: the lease was lost, and its work is dropped: %s", task.id, why)
        return TaskReport(task, TaskEnd.LEASE_LOST, error=why)

    async def _attempt(
        self, task: Task, permit: LeasePermit, place: Place | None
    ) -> SyncResult | Exception:
        try:
            if place is not None:
                await place.begin()
            if task.account_id and task.account_id not in self._names:
                self._names[task.account_id] = ""  # a hundred tasks of a child ask once
                await self._child(task)
            with about(**self._told(task)):
                await self.listeners.before_task(task)
                if task.damage is not None:
                    raise DamagedTaskError(f"The row of the task cannot be read: {task.damage}")
                handler = self._handler(task) if place is None else place.group.together
                return await handler(task, permit)
        except ImgsyncError as error:
            return error
        except Exception as error:
            with about(**self._told(task)):
                _log.exception("task %s: unexpected error", task.id)
            return error

    def _handler(self, task: Task) -> TaskHandler:
        try:
            return self.handlers[task.kind]
        except KeyError:
            known = ", ".join(self.handlers)
            text = f"No handler for tasks of the kind '{task.kind}' (known: {known})"
            raise UnknownKindError(text) from None

    async def _settle(self, task: Task, outcome: SyncResult | Exception) -> TaskReport:
        if isinstance(outcome, SyncResult):
            await self.queue.complete(task, result=str(outcome.outcome), warnings=outcome.warnings)
            return TaskReport(task, TaskEnd.COMPLETED, result=outcome)
        if isinstance(outcome, _OF_THIS_HOST):
            raise outcome
        if isinstance(outcome, TaskParkedError):
            along = await self.queue.park(
                task,
                account_id=outcome.account_id,
                until=outcome.parking.until,
                error=str(outcome),
            )
            return TaskReport(task, TaskEnd.PARKED, error=str(outcome), parked_along=along)
        if isinstance(outcome, CredentialsReplacedError):
            await self.queue.release(task)
            return TaskReport(task, TaskEnd.GIVEN_BACK, error=str(outcome))
        return await self._settle_failure(task, outcome)

    async def _settle_failure(self, task: Task, outcome: Exception) -> TaskReport:
        expected = isinstance(outcome, ImgsyncError)
        error = str(outcome) if expected else f"{type(outcome).__name__}: {outcome}"
        # A write that was broken off with its lease may reach the child yet.
        unsettled = isinstance(outcome, LeaseLostError)
        retryable = outcome.retryable if isinstance(outcome, ImgsyncError) else True
        delay = None
        if (retryable or unsettled) and task.damage is None:
            delay = retry_delay(task.attempts, task.max_attempts)
        if delay is None:
            await self.queue.fail(task, error=error)
            return TaskReport(task, TaskEnd.FAILED, error=error)
        await self.queue.reschedule(task, delay=delay, error=error, check_again=unsettled)
        return TaskReport(task, TaskEnd.RETRYING, error=error)

    async def _keep_lease(self, task: Task) -> str:
        """Renews the lease three times per lease; ends when it is lost, and tells why.

        Stopped for longer than the lease, it goes on only where the queue says that no other
        worker has taken the task; a queue that does not answer ends it.
        """
        lease = self.lease.total_seconds()
        held_until = self.elapsed() + lease
        while True:
            await asyncio.sleep(min(lease / 3, max(0.0, held_until - self.elapsed())))
            asked = self.elapsed()
            try:
                async with asyncio.timeout(lease / 3):
                    await self.queue.renew(task, lease=self.lease)
                held_until = asked + lease
            except LeaseLostError as error:
                return str(error)
            except Exception as error:
                # The queue may be back before the lease lapses.
                why = str(error) or type(error).__name__
                with about(**self._told(task)):
                    _log.error("task %s: the lease could not be renewed: %s", task.id, why)
                if self.elapsed() >= held_until:
                    return f"it has lapsed, as it could not be renewed: {why}"


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_LONGEST_ROOM_POLL_SECONDS = 5.0
_GROWTH_SECONDS = 0.2
_MOST_GROWTH = 4
"""Times `concurrency` that tasks run at once at most."""
_MOST_CLAIMED = 100
"""Tasks of a child that are claimed to run together; one request sets the lists of so many."""
_CLAIM_IDS = 4000
"""Ids that one claim names: of thirty children enough to fill a request of each; databases look at
each of them."""
_DRAIN_WITHOUT_ROOM_SECONDS = 60.0
"""How long a worker that is to end waits for room."""


@dataclass(slots=True)
class Worker:
    """`concurrency` tasks run at once, more while the API has pace to spare; an empty
    queue is asked again after `poll_seconds`. Where a handler does tasks of a child together, a
    claim of them counts as one.

    `stop()` takes no further task and lets those under way end; `abort()` gives them back. While
    a disk is full, one task at a time is tried; a task that may have killed workers runs alone, and
    one that was there when a worker was lost beside few others.
    """

    queue: TaskQueue
    run_task: RunTask
    lease: timedelta
    concurrency: int
    poll_seconds: float = 1.0
    drain_without_room_seconds: float = _DRAIN_WITHOUT_ROOM_SECONDS
    listeners: Listeners = field(default_factory=NoListeners)
    has_spare: Callable[[], bool] = lambda: False
    """Whether the API would take more requests at once than the running tasks make."""
    _grow_at: float = 0.0
    _queue_gives: bool = True
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[TaskReport]] = field(default_factory=set)
    _groups: list[Group] = field(default_factory=list)
    _claims_few: bool = False
    _gave_nothing: tuple[float, int] = (0.0, 0)
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)
    _owed: list[Task] = field(default_factory=list)
    _no_room: NoRoomError | None = None
    _no_room_since: float = 0.0
    _next_try: float = 0.0
    _next_alone: TaskId | None = None
    _runs_alone: bool = False

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError("concurrency starts at 1")

    def stop(self) -> None:
        self._stop.set()
        for group in self._groups:
            group.together.close()

    def abort(self) -> None:
        self.stop()
        self._cancel_running()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    async def run(
        self,
        *,
        drain: bool = False,
        only: Collection[TaskId] | None = None,
        report: Callable[[TaskReport], None] = lambda _: None,
    ) -> None:
        """Runs until stopped, or with `drain` until no task is due. `only`: task ids.

        `report` hears of every task that ended; of one that is not in `only`, which a lost worker
        had left in the way of one that is, it does not. NoRoomError where a drain finds no room
        for a minute.
        """
        ends: Counter[str] = Counter()
        wanted = None if only is None else TaskIds(only)

        def count(ended: TaskReport) -> None:
            ends[ended.end.value] += 1 + ended.parked_along
            if wanted is None or ended.task.id in wanted:
                report(ended)

        try:
            for chosen in _claimable(only):
                await self._run(chosen, count, drain=drain)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self.listeners.run_ended(ends)

    async def _run(
        self,
        only: Sequence[TaskId] | None,
        report: Callable[[TaskReport], None],
        *,
        drain: bool,
    ) -> None:
        try:
            while not self._stop.is_set():
                beat()
                if await self._start_next(only, must_work=drain):
                    continue
                if self._running:
                    await self._next_end(report)
                elif self._no_room:
                    await self._wait_for_room(drain=drain)
                elif self._owed and await self._settle_debts():
                    continue  # they are due again
                elif drain:
                    return
                else:
                    await self._pause(self.poll_seconds)
            await self._withdraw()
            while self._running:
                beat()
                await self._next_end(report)
            await self._settle_debts()
        finally:
            self._cancel_running()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _cancel_running(self) -> None:
        # Not at once: a task that has not begun yet could not give itself back.
        for task in self._running:
            asyncio.get_running_loop().call_soon(task.cancel)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _start_next(self, only: Sequence[TaskId] | None, *, must_work: bool) -> bool:
        """Takes as many tasks of a child as there is place for; whether it took any."""
        async with self._claiming:
            return await self._take(only, must_work=must_work)

    async def _take(self, only: Sequence[TaskId] | None, *, must_work: bool) -> bool:
        places = self._places()
        if places < 1 or self._asked_just_now():
            return False
        tasks: list[Task] = []
        self._next_alone, alone = None, self._next_alone
        try:
            if alone is not None:  # unless another worker has run it meanwhile
                tasks = await self._claim([alone], 1, must_work=must_work)
            if not tasks:
                limit = max(places, _MOST_CLAIMED) if self._claims_many() else places
                tasks = await self._claim(only, limit, must_work=must_work)
        except NoRoomError as error:
            self._lost_room(error)
            await self._withdraw()
            return False
        self._queue_gives = bool(tasks)
        if not tasks:
            self._gave_nothing = asyncio.get_running_loop().time(), self._load
        if not tasks and not self._owed:
            self._no_room = None  # nothing is left that would need any
        if self._stop.is_set():
            await self._give_back(tasks)
            return False
        tasks = await self._keep(tasks, places)
        dangerous = [task for task in tasks if task.crashes >= ALONE_FROM_CRASHES]
        self._runs_alone = bool(dangerous) and len(tasks) == 1 and not self._running
        if self._runs_alone:
            dangerous = []
        self._start([task for task in tasks if task not in dangerous])
        for task in dangerous:
            # Not held while the others end: it would lapse with them, innocent.
            self._next_alone = task.id
            await self._give_back([task])
        return bool(tasks) and (len(tasks) > len(dangerous) or not self._running)

    def _asked_just_now(self) -> bool:
        """Whether the queue had nothing, and nothing that counts has ended since: the many ends
        of a group's tasks are no reason to ask each time."""
        at, load = self._gave_nothing
        age = asyncio.get_running_loop().time() - at
        return 0 < self._load >= load and age < self.poll_seconds

    def _claims_many(self) -> bool:
        waits = self._no_room or self._next_alone is not None
        return not (waits or self._claims_few) and any(
            map(self._handles_together, self.run_task.handlers)
        )

    def _handles_together(self, kind: str) -> bool:
        handler = self.run_task.handlers.get(kind)
        return isinstance(handler, HandlesTogether) and handler.together([], 1) is not None

    async def _keep(self, tasks: list[Task], places: int) -> list[Task]:
        """The tasks that are to run now; the others are given back, and the next claim is small.

        A task that runs by itself takes a place. So does each of those that were there when a
        worker was lost: should it be lost again, few can have been the cause.
        """
        suspects = any(task.crashes for task in tasks)
        kinds = {task.kind for task in tasks}
        apart = {kind for kind in kinds if suspects or not self._handles_together(kind)}
        single = [task for task in tasks if task.kind in apart]
        self._claims_few = bool(single)
        left = single[places:]
        if left:
            await self._give_back(left)
        return [task for task in tasks if task not in left]

    def _start(self, tasks: Sequence[Task]) -> None:
        by_kind: dict[str, list[Task]] = {}
        for task in tasks:
            by_kind.setdefault(task.kind, []).append(task)
        for kind, alike in by_kind.items():
            handler, together = self.run_task.handlers.get(kind), None
            if len(alike) > 1 and not self._runs_alone and isinstance(handler, HandlesTogether):
                together = handler.together(alike, self.concurrency)
            if together is None:
                self._running |= {self._run_of(task) for task in alike}
                continue
            suspects = any(task.crashes for task in alike)
            group = Group(together, suspects, self._give_back, self._parking)
            for task in alike:
                place = Place(group, task)
                group.places[self._run_of(task, place)] = place
            self._running |= group.places.keys()
            self._groups.append(group)

    def _run_of(self, task: Task, place: Place | None = None) -> asyncio.Task[TaskReport]:
        return asyncio.create_task(self.run_task(task, place), name=self.run_task.label(task))

    async def _withdraw(self) -> None:
        for group in self._groups:
            await group.withdraw()

    @asynccontextmanager
    async def _parking(self) -> AsyncIterator[None]:
        async with self._claiming:
            await self._withdraw()
            yield

    @property
    def _load(self) -> int:
        """How many tasks run at once; a group counts as one."""
        in_groups = sum(len(group.places) for group in self._groups)
        return len(self._running) - in_groups + sum(group.load for group in self._groups)

    def _may_grow(self) -> bool:
        """Where each request takes long, `concurrency` tasks leave some of the pace unused: one
        more at a time, as it takes a moment until a task makes its requests."""
        now = asyncio.get_running_loop().time()
        if not self._queue_gives or now < self._grow_at:
            return False
        if self._load >= self.concurrency * _MOST_GROWTH:
            return False
        self._grow_at = now + _GROWTH_SECONDS
        return self.has_spare()

    def _places(self) -> int:
        """How many tasks may start now."""
        if self._no_room and asyncio.get_running_loop().time() < self._next_try:
            return 0
        waits = self._no_room or self._runs_alone or self._next_alone is not None
        if waits:
            return 1 - len(self._running)
        free = self.concurrency - self._load
        return free if free > 0 else int(self._may_grow())

    async def _claim(
        self, only: Sequence[TaskId] | None, limit: int, *, must_work: bool
    ) -> list[Task]:
        """The next due tasks. Unless it `must_work`, a fault of the queue is logged, not fatal."""
        claim = asyncio.ensure_future(self.queue.claim(lease=self.lease, limit=limit, only=only))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # what failed has taken none
                await self._give_back(await claim)
            raise
        except NoRoomError:
            raise
        except Exception as error:
            if must_work:
                raise
            _log.error("no task could be taken from the queue: %s", error)
            return []

    async def _give_back(self, tasks: Sequence[Task]) -> None:
        """Gives back what was not begun, now or as soon as the queue takes it: a fault of the
        queue is no reason to stop the tasks under way."""
        self._owed += tasks
        await self._settle_debts()

    async def _next_end(self, report: Callable[[TaskReport], None]) -> None:
        """Waits for a task to end, no longer than one poll, so that new tasks start meanwhile."""
        grows = self._load < self.concurrency * _MOST_GROWTH and self.has_spare()
        longest = min(self.poll_seconds, _GROWTH_SECONDS) if grows else self.poll_seconds
        done, self._running = await asyncio.wait(
            self._running, timeout=longest, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            if task.cancelled():
                continue
            if error := task.exception():
                # Its lease lapses, and another run takes it.
                unexpected = None if isinstance(error, ImgsyncError) else error
                text = "%s: it could not be settled in the queue: %s"
                _log.error(text, task.get_name(), error, exc_info=unexpected)
                continue
            ended = task.result()
            if ended.end is TaskEnd.NO_ROOM:
                self._owed.append(ended.task)
                await self._withdraw()
                self._lost_room(NoRoomError(ended.error or ""))
            elif self._no_room and ended.end is not TaskEnd.LEASE_LOST:
                self._no_room = None
                _log.info("that is mended; the worker goes on")
            report(ended)
        for group in self._groups:
            for task in done & group.places.keys():
                del group.places[task]
        self._groups = [group for group in self._groups if group.places]
        if not self._running:
            self._runs_alone = False
        await self._settle_debts()

    def _lost_room(self, error: NoRoomError) -> None:
        now = asyncio.get_running_loop().time()
        self._next_try = now + min(self.poll_seconds, _LONGEST_ROOM_POLL_SECONDS)
        if self._no_room is None:
            self._no_room_since = now
            _log.error("%s; no further task is taken until that is mended", error)
        self._no_room = error

    async def _settle_debts(self) -> bool:
        """Gives back what was claimed and cannot run here now, its attempt uncounted; whether
        nothing is left to be given back."""
        while self._owed:
            owed, self._owed = self._owed, []
            released = asyncio.gather(*map(self.queue.release, owed), return_exceptions=True)
            try:
                ends = await asyncio.shield(released)
            except asyncio.CancelledError:
                await released
                raise
            for task, end in zip(owed, ends, strict=True):
                if end is None or isinstance(end, LeaseLostError):  # another took it
                    continue
                self._owed.append(task)
                if not isinstance(end, NoRoomError):
                    text = "%s: it could not be given back to the queue: %s"
                    _log.error(text, self.run_task.label(task), end)
            if any(task in owed for task in self._owed):
                return False
        return True

    async def _wait_for_room(self, *, drain: bool) -> None:
        """Until the next try; a drain gives up after a minute."""
        now = asyncio.get_running_loop().time()
        waited = now - self._no_room_since
        if drain and self._no_room and waited > self.drain_without_room_seconds:
            raise self._no_room
        await self._pause(max(0.0, self._next_try - now))
        await self._settle_debts()


def _claimable(only: Collection[TaskId] | None) -> Iterator[Sequence[TaskId] | None]:
    """The ids in parts that a claim can name; None where any task will do."""
    if only is None:
        yield None
        return
    # A survey gives those of one child after those of another: each part has some of every child,
    # so that they take turns and the pace of all is used.
    ids = _compact(only)
    parts = -(-len(ids) // _CLAIM_IDS)
    for start in range(parts):
        yield list(ids[start::parts])


def _compact(ids: Collection[TaskId]) -> Sequence[TaskId]:
    """Millions of ids take eight bytes each where they are numbers."""
    try:
        numbers: Any = ids
        return array("q", numbers)
    except (TypeError, OverflowError):
        return list(ids)


@dataclass(slots=True)
class Tally:
    """Counts task ends and outcomes, images and bytes; keeps each note, warning and error, with the
    id of its task and what that is about. `names`: of children by id, for reports that do not tell
    them."""

    ends: Counter[TaskEnd] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    uploaded: int = 0
    kept: int = 0
    downloaded_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)

    def add(self, report: TaskReport) -> None:
        self.ends[report.end] += 1 + report.parked_along
        if report.result is not None:
            result = report.result
            self.outcomes[str(result.outcome)] += 1
            self.uploaded += result.uploaded
            self.kept += result.kept
            self.downloaded_bytes += result.downloaded_bytes
            label = self._label(report)
            self.notes += [f"{label}: {text}" for text in result.notes]
            self.warnings += [f"{label}: {text}" for text in result.warnings]
        elif report.error is not None:
            self.errors.append(f"{self._label(report)}: {report.error}")

    def _label(self, report: TaskReport) -> str:
        child = report.child or self.names.get(report.task.account_id or "", "")
        return task_label(report.task, child)

    @property
    def failed(self) -> int:
        return self.ends[TaskEnd.FAILED]

    @property
    def parked(self) -> int:
        """Times that a task was put off because an account takes no requests."""
        return self.ends[TaskEnd.PARKED]

    def as_dict(self) -> dict[str, Any]:
        return {
            **{end.value: self.ends[end] for end in TaskEnd},
            "outcomes": dict(self.outcomes),
            "uploaded": self.uploaded,
            "kept": self.kept,
            "downloaded_bytes": self.downloaded_bytes,
            "notes": lines_by_children(self.notes),
            "warnings": lines_by_children(self.warnings),
            "errors": lines_by_children(self.errors),
        }


def task_label(task: Task, child: str = "") -> str:
    """Such as ``Omsk: product 'Lamp' (code 00017), task 7``, as far as its payload tells; `child`:
    the name of the child, '' where it is not known."""
    return label_of({**_told(task), "child": child})


def entity_label(task: Task) -> str:
    """Such as ``product 'Lamp' (code 00017)``, or by id where a payload has no name; '' where it
    tells none."""
    return label_of_entity(_told(task))


def _told(task: Task) -> dict[str, Any]:
    """The id of a row is told by whoever queued it; the label is of what the payload says."""
    payload = task.payload if isinstance(task.payload, Mapping) else {}
    entity_id = payload.get("parent_entity_id")
    return about_task(task) | {"entity_id": entity_id if isinstance(entity_id, str) else ""}
