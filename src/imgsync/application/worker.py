"""Takes tasks from the queue and runs several at once."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from imgsync.application.run_task import RunTask, TaskReport
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.tasks import Task

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """`concurrency` tasks run at once; an empty queue is asked again after `poll_seconds`.

    `stop()` takes no further task and lets those under way end; `abort()` gives them back.
    """

    queue: TaskQueue
    run_task: RunTask
    clock: Clock
    lease: timedelta
    concurrency: int
    poll_seconds: float = 1.0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[TaskReport]] = field(default_factory=set)

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

        `report` hears of every task that ended.
        """
        try:
            while not self._stop.is_set():
                task = None
                if len(self._running) < self.concurrency:
                    task = await self._claim(only, must_work=drain)
                if task is not None and self._stop.is_set():
                    await self._give_back(task)
                elif task is not None:
                    self._running.add(asyncio.create_task(self.run_task(task)))
                elif self._running:
                    await self._next_end(report)
                elif drain:
                    return
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), self.poll_seconds)
            while self._running:
                await self._next_end(report)
        finally:
            self._cancel_running()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _cancel_running(self) -> None:
        # Not at once: a task that has not begun yet could not give itself back.
        for task in self._running:
            asyncio.get_running_loop().call_soon(task.cancel)

    async def _claim(self, only: Sequence[int] | None, *, must_work: bool) -> Task | None:
        """The next due task. Unless it `must_work`, a fault of the queue is logged, not fatal."""
        claim = asyncio.create_task(
            asyncio.to_thread(self.queue.claim, now=self.clock.now(), lease=self.lease, only=only)
        )
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            if task := await claim:
                await self._give_back(task)
            raise
        except Exception as error:
            if must_work:
                raise
            _log.error("no task could be taken from the queue: %s", error)
            return None

    async def _give_back(self, task: Task) -> None:
        await asyncio.to_thread(self.queue.release, task, now=self.clock.now())

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
            else:
                report(task.result())
