"""Runs one claimed task and settles it in the queue."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from imgsync.application.parking import CredentialsReplacedError, TaskParkedError
from imgsync.domain.errors import ImgsyncError, LeaseLostError, NoRoomError
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import Listeners, NoListeners, TaskHandler
from imgsync.domain.retry import retry_delay
from imgsync.domain.tasks import SyncResult, Task
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
_LONGEST_MARGIN_SECONDS = 5.0


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
                await asyncio.to_thread(self.queue.renew, self.task, lease=self.lease)
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
        return f"task {self.task.id}: its lease cannot be confirmed: {reason}"


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a run of a task ended; `result` where it completed, `error` where it did not.

    `parked_along`: other tasks, never begun, that were parked with this one.
    """

    task: Task
    end: TaskEnd
    result: SyncResult | None = None
    error: str | None = None
    parked_along: int = 0


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

    async def __call__(self, task: Task) -> TaskReport:
        report = await self._run(task)
        # It is settled: told to stop now, it still says how it ended.
        with contextlib.suppress(asyncio.CancelledError):
            await self.listeners.after_task(task, report.end.value, report.result, report.error)
        return report

    async def _run(self, task: Task) -> TaskReport:
        permit = LeasePermit(self.queue, task, self.lease, self.elapsed)
        keeper = asyncio.create_task(self._keep_lease(task))
        work = asyncio.create_task(self._attempt(task, permit))
        try:
            await asyncio.wait((keeper, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return await self._settle(task, work.result())
            _log.warning("task %d: the lease was lost; its work is dropped", task.id)
            return TaskReport(task, TaskEnd.LEASE_LOST)
        except LeaseLostError as error:
            _log.warning("%s", error)
            return TaskReport(task, TaskEnd.LEASE_LOST, error=str(error))
        except NoRoomError as error:
            return TaskReport(task, TaskEnd.NO_ROOM, error=str(error))
        except asyncio.CancelledError:
            await _cancel(keeper, work)
            await asyncio.to_thread(self.queue.release, task, check_again=permit.used)
            raise
        finally:
            await _cancel(keeper, work)

    async def _attempt(self, task: Task, permit: LeasePermit) -> SyncResult | Exception:
        try:
            await self.listeners.before_task(task)
            if task.damage is not None:
                raise DamagedTaskError(f"The row of the task cannot be read: {task.damage}")
            return await self._handler(task)(task, permit)
        except ImgsyncError as error:
            return error
        except Exception as error:
            _log.exception("task %d: unexpected error", task.id)
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
            await asyncio.to_thread(
                self.queue.complete,
                task,
                result=str(outcome.outcome),
                warnings=outcome.warnings,
            )
            return TaskReport(task, TaskEnd.COMPLETED, result=outcome)
        if isinstance(outcome, NoRoomError):
            raise outcome
        if isinstance(outcome, TaskParkedError):
            along = await asyncio.to_thread(
                self.queue.park,
                task,
                account_id=outcome.account_id,
                until=outcome.parking.until,
                error=str(outcome),
            )
            return TaskReport(task, TaskEnd.PARKED, error=str(outcome), parked_along=along)
        if isinstance(outcome, CredentialsReplacedError):
            await asyncio.to_thread(self.queue.release, task)
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
            await asyncio.to_thread(self.queue.fail, task, error=error)
            return TaskReport(task, TaskEnd.FAILED, error=error)
        await asyncio.to_thread(
            self.queue.reschedule, task, delay=delay, error=error, check_again=unsettled
        )
        return TaskReport(task, TaskEnd.RETRYING, error=error)

    async def _keep_lease(self, task: Task) -> None:
        """Renews the lease three times per lease; ends when it is lost.

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
                    await asyncio.to_thread(self.queue.renew, task, lease=self.lease)
                held_until = asked + lease
            except LeaseLostError:
                return
            except Exception as error:
                # The queue may be back before the lease lapses.
                _log.error(
                    "task %d: the lease could not be renewed: %s",
                    task.id,
                    str(error) or type(error).__name__,
                )
                if self.elapsed() >= held_until:
                    return


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
