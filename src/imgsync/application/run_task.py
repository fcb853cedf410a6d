"""Runs one claimed task and settles it in the queue."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from imgsync.application.sync_entity import SyncEntity
from imgsync.domain.errors import ImgsyncError, LeaseLostError
from imgsync.domain.payloads import PayloadFormats
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.retry import next_attempt_at
from imgsync.domain.tasks import SyncResult, Task

_log = logging.getLogger(__name__)


class TaskEnd(StrEnum):
    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    PARKED = "parked"
    LEASE_LOST = "lease lost"


@dataclass(frozen=True, slots=True)
class LeasePermit:
    """The right to write while the task's lease holds; each confirmation renews it."""

    queue: TaskQueue
    task: Task
    clock: Clock
    lease: timedelta

    async def confirm(self) -> float:
        await asyncio.to_thread(self.queue.renew, self.task, now=self.clock.now(), lease=self.lease)
        return self.lease.total_seconds()


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a run of a task ended; `result` where it completed, `error` where it did not."""

    task: Task
    end: TaskEnd
    result: SyncResult | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunTask:
    """Reads the payload, syncs the entity, keeps the lease meanwhile, settles the task.

    Cancelled, it gives the task back to the queue with its attempt uncounted.
    """

    queue: TaskQueue
    formats: PayloadFormats
    sync: SyncEntity
    clock: Clock
    lease: timedelta

    async def __call__(self, task: Task) -> TaskReport:
        keeper = asyncio.create_task(self._keep_lease(task))
        work = asyncio.create_task(self._attempt(task))
        try:
            await asyncio.wait((keeper, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return await self._settle(task, work.result())
            _log.warning("task %d: the lease was lost; its work is dropped", task.id)
            return TaskReport(task, TaskEnd.LEASE_LOST)
        except LeaseLostError as error:
            _log.warning("task %d: %s", task.id, error)
            return TaskReport(task, TaskEnd.LEASE_LOST, error=str(error))
        except asyncio.CancelledError:
            await _cancel(keeper, work)
            await asyncio.to_thread(self.queue.release, task, now=self.clock.now())
            raise
        finally:
            await _cancel(keeper, work)

    async def _attempt(self, task: Task) -> SyncResult | Exception:
        try:
            permit = LeasePermit(self.queue, task, self.clock, self.lease)
            return await self.sync(self.formats.parse(task.payload), permit)
        except ImgsyncError as error:
            return error
        except Exception as error:
            _log.exception("task %d: unexpected error", task.id)
            return error

    async def _settle(self, task: Task, outcome: SyncResult | Exception) -> TaskReport:
        now = self.clock.now()
        if isinstance(outcome, SyncResult):
            await asyncio.to_thread(
                self.queue.complete,
                task,
                now=now,
                result=outcome.outcome.value,
                warnings=outcome.warnings,
            )
            return TaskReport(task, TaskEnd.COMPLETED, result=outcome)
        expected = isinstance(outcome, ImgsyncError)
        error = str(outcome) if expected else f"{type(outcome).__name__}: {outcome}"
        retryable = outcome.retryable if isinstance(outcome, ImgsyncError) else True
        at = next_attempt_at(task.attempts, task.max_attempts, now) if retryable else None
        if at is None:
            await asyncio.to_thread(self.queue.fail, task, now=now, error=error)
            return TaskReport(task, TaskEnd.FAILED, error=error)
        await asyncio.to_thread(self.queue.reschedule, task, now=now, at=at, error=error)
        return TaskReport(task, TaskEnd.RETRYING, error=error)

    async def _keep_lease(self, task: Task) -> None:
        """Renews the lease three times per lease; ends when it is lost."""
        held_until = task.lease_expires_at or self.clock.now()
        pause = self.lease.total_seconds() / 3
        while True:
            await asyncio.sleep(pause)
            now = self.clock.now()
            try:
                async with asyncio.timeout(pause):
                    await asyncio.to_thread(self.queue.renew, task, now=now, lease=self.lease)
                held_until = now + self.lease
            except LeaseLostError:
                return
            except Exception:
                # The queue may be back before the lease lapses.
                _log.exception("task %d: the lease could not be renewed", task.id)
                if self.clock.now() >= held_until:
                    return


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
