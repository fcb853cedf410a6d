"""Takes tasks from the queue and runs several at once."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from imgsync.application.run_task import RunTask, TaskEnd, TaskReport
from imgsync.domain.errors import LeaseLostError, NoRoomError
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import Listeners, NoListeners
from imgsync.domain.retry import ALONE_FROM_CRASHES
from imgsync.domain.tasks import Task

_log = logging.getLogger(__name__)
_LONGEST_ROOM_POLL_SECONDS = 5.0
_CLAIM_IDS = 500
"""Ids that one claim names; databases take so many parameters of a statement and no more."""
_DRAIN_WITHOUT_ROOM_SECONDS = 60.0
"""How long a worker that is to end waits for room."""


@dataclass(slots=True)
class Worker:
    """`concurrency` tasks run at once; an empty queue is asked again after `poll_seconds`.

    `stop()` takes no further task and lets those under way end; `abort()` gives them back. While
    a disk is full, one task at a time is tried; a task that may have killed workers runs alone.
    """

    queue: TaskQueue
    run_task: RunTask
    lease: timedelta
    concurrency: int
    poll_seconds: float = 1.0
    drain_without_room_seconds: float = _DRAIN_WITHOUT_ROOM_SECONDS
    listeners: Listeners = field(default_factory=NoListeners)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[TaskReport]] = field(default_factory=set)
    _owed: list[Task] = field(default_factory=list)
    _no_room: NoRoomError | None = None
    _no_room_since: float = 0.0
    _next_try: float = 0.0
    _next_alone: int | None = None
    _runs_alone: bool = False

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError("concurrency starts at 1")

    def stop(self) -> None:
        self._stop.set()

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
        only: Sequence[int] | None = None,
        report: Callable[[TaskReport], None] = lambda _: None,
    ) -> None:
        """Runs until stopped, or with `drain` until no task is due. `only`: task ids.

        `report` hears of every task that ended. NoRoomError where a drain finds no room for a
        minute.
        """
        ends: Counter[str] = Counter()

        def count(ended: TaskReport) -> None:
            ends[ended.end.value] += 1 + ended.parked_along
            report(ended)

        try:
            for chosen in _claimable(only):
                await self._run(chosen, count, drain=drain)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self.listeners.run_ended(ends)

    async def _run(
        self,
        only: Sequence[int] | None,
        report: Callable[[TaskReport], None],
        *,
        drain: bool,
    ) -> None:
        try:
            while not self._stop.is_set():
                task = await self._next(only, must_work=drain)
                if task is not None and self._stop.is_set():
                    await self._give_back(task)
                elif task is not None:
                    self._running.add(asyncio.create_task(self.run_task(task)))
                elif self._running:
                    await self._next_end(report)
                elif self._no_room:
                    await self._wait_for_room(drain=drain)
                elif drain:
                    return
                else:
                    await self._pause(self.poll_seconds)
            while self._running:
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

    async def _next(self, only: Sequence[int] | None, *, must_work: bool) -> Task | None:
        """The next task to start, if one may start now."""
        if not self._may_start():
            return None
        task, self._next_alone, alone = None, None, self._next_alone
        try:
            if alone is not None:  # unless another worker has run it meanwhile
                task = await self._claim([alone], must_work=must_work)
            if task is None:
                task = await self._claim(only, must_work=must_work)
        except NoRoomError as error:
            self._lost_room(error)
            return None
        if task is None and not self._owed:
            self._no_room = None  # nothing is left that would need any
        if task is None or task.crashes < ALONE_FROM_CRASHES:
            return task
        if self._running:
            # Not held while the others end: it would lapse with them, innocent.
            await self._give_back(task)
            self._next_alone = task.id
            return None
        self._runs_alone = True
        return task

    def _may_start(self) -> bool:
        if self._no_room and asyncio.get_running_loop().time() < self._next_try:
            return False
        waits = self._no_room or self._runs_alone or self._next_alone is not None
        return len(self._running) < (1 if waits else self.concurrency)

    async def _claim(self, only: Sequence[int] | None, *, must_work: bool) -> Task | None:
        """The next due task. Unless it `must_work`, a fault of the queue is logged, not fatal."""
        claim = asyncio.create_task(
            asyncio.to_thread(self.queue.claim, lease=self.lease, only=only)
        )
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            if task := await claim:
                await self._give_back(task)
            raise
        except NoRoomError:
            raise
        except Exception as error:
            if must_work:
                raise
            _log.error("no task could be taken from the queue: %s", error)
            return None

    async def _give_back(self, task: Task) -> None:
        await asyncio.to_thread(self.queue.release, task)

    async def _next_end(self, report: Callable[[TaskReport], None]) -> None:
        """Waits for a task to end, no longer than one poll, so that new tasks start meanwhile."""
        done, self._running = await asyncio.wait(
            self._running, timeout=self.poll_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            if task.cancelled():
                continue
            if error := task.exception():
                # Its lease lapses, and another run takes it.
                _log.error("a task could not be settled in the queue", exc_info=error)
                continue
            ended = task.result()
            if ended.end is TaskEnd.NO_ROOM:
                self._owed.append(ended.task)
                self._lost_room(NoRoomError(ended.error or ""))
            elif self._no_room and ended.end is not TaskEnd.LEASE_LOST:
                self._no_room = None
                _log.info("there is room again; the worker goes on")
            report(ended)
        if not self._running:
            self._runs_alone = False
        await self._settle_debts()

    def _lost_room(self, error: NoRoomError) -> None:
        now = asyncio.get_running_loop().time()
        self._next_try = now + min(self.poll_seconds, _LONGEST_ROOM_POLL_SECONDS)
        if self._no_room is None:
            self._no_room_since = now
            _log.error("%s; no further task is taken until there is room", error)
        self._no_room = error

    async def _settle_debts(self) -> None:
        """Gives back what was begun without room, its attempt uncounted."""
        while self._owed:
            try:
                await self._give_back(self._owed[-1])
            except LeaseLostError:
                pass  # another took it
            except NoRoomError:
                return
            except Exception as error:
                _log.error("a task could not be given back to the queue: %s", error)
                return
            self._owed.pop()

    async def _wait_for_room(self, *, drain: bool) -> None:
        """Until the next try; a drain gives up after a minute."""
        now = asyncio.get_running_loop().time()
        waited = now - self._no_room_since
        if drain and self._no_room and waited > self.drain_without_room_seconds:
            raise self._no_room
        await self._pause(max(0.0, self._next_try - now))
        await self._settle_debts()


def _claimable(only: Sequence[int] | None) -> Iterator[Sequence[int] | None]:
    """The ids in parts that a claim can name; None where any task will do."""
    if only is None:
        yield None
        return
    for start in range(0, len(only), _CLAIM_IDS):
        yield only[start : start + _CLAIM_IDS]
