"""Port to the task queue."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from imgsync.domain.tasks import (
    DEFAULT_PRIORITY,
    MAX_ATTEMPTS,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be queued, due `delay` from now.

    `payload`: a JSON value. `dedupe_key`: of equal ones, one task at most waits and one runs.
    `account_id`: the child that it is for, `entity_id`: the main entity; a higher `priority` is
    taken first; `kind` tells which handler does it.

    Of the pending tasks with its key it takes the place of one of its own kind, and of one whose
    kind is in `takes_over`: it does all that that one would do. One that `yields` leaves any other
    as it is: that one does all that this one would do.
    """

    payload: Any
    dedupe_key: str | None = None
    account_id: str | None = None
    entity_id: str | None = None
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = MAX_ATTEMPTS
    delay: timedelta = timedelta(0)
    kind: str = TASK_ENTITY_TYPE
    takes_over: tuple[str, ...] = ()
    yields: bool = False


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The task that holds a payload; `created` is False where a pending task took it over, or where
    it gave way to one."""

    task_id: TaskId
    created: bool


class TaskQueue(Protocol):
    """Tasks in a shared store. A claim holds a lease; whoever lost it can no longer settle.

    A queue is opened for some kinds of tasks, those that this program can do, and neither shows nor
    changes any other. Text may lose NUL and lone surrogates where the store cannot hold them; a
    payload keeps them. A lapsed lease that nobody took is still its worker's.

    The store's own time decides about leases and schedules, so hosts whose clocks differ agree.
    Errors: StoreError where the store cannot be used, NoRoomError where its disk is full.
    """

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        """Adds tasks, each of one of the queue's kinds; one result for each, in order.

        A pending task with the same key takes the new payload, priority and due time with fresh
        attempts in place of a second one, and loses its error and parking; that it asks to be
        checked again stays. So does a later one of `tasks`. Of a pending task of another kind,
        which this queue must be opened for, it takes the place, with its kind, where
        `NewTask.takes_over` names that kind; it gives way to it where it `yields`, and it is an
        error otherwise. Where an error is raised, none, some or all of them are queued, and those
        with a key may be put again.
        """
        ...

    async def claim(
        self, *, lease: timedelta, limit: int = 1, only: Sequence[TaskId] | None = None
    ) -> list[Task]:
        """Takes the next due tasks of one child, at most `limit`. Empty where none is due.

        Children (by `account_id`; the tasks without one are a child of their own) take turns: of
        those with a due task the one whose last claim, by whatever host, is longest ago, and before
        it those that never had one. Within a child: highest priority first, then earliest
        schedule, then the one that was added first; so too among children that never had a turn.

        Never a task whose key is being processed. A task whose lease lapsed is taken again, with
        a crash more, no attempt more and `check_again` set; after MAX_CRASHES it fails. A row that
        cannot be read is taken like any other and tells why in `Task.damage`. `only`: these tasks,
        and those whose lease lapsed that are in their way, as they are of the same key.
        """
        ...

    async def renew(self, task: Task, *, lease: timedelta) -> None:
        """Holds the task for another lease from now. LeaseLostError where another took it."""
        ...

    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        """Ends the task well. Where it asks to be checked again (`Task.check_again`), a task with
        the same payload is queued for CHECK_AGAIN_DELAY later, or a pending one of its key asks
        for the check in turn."""
        ...

    async def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        """Makes it pending again after `delay`; failed where a newer pending task has its key, as
        `release`, `park` and `free` do too. One of another kind does not do all of its work: it is
        to be checked again then (`Task.check_again`).

        `check_again`: a request of this attempt may still reach the child.
        """
        ...

    async def fail(self, task: Task, *, error: str) -> None: ...

    async def release(self, task: Task, *, check_again: bool = False) -> None:
        """Gives the task back, due at once, without counting the attempt."""
        ...

    async def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        """Gives the task back, due at `until`, without counting the attempt: it waits for an
        account that takes no requests. With it every due pending task whose payload, key or
        `account_id` names that account; how many these were.

        Due at once, and it alone, where the account has been stored anew meanwhile.
        """
        ...

    async def unpark(self, account_id: str) -> int:
        """Makes the tasks parked for that account due now; how many they were."""
        ...

    async def parked(self) -> int:
        """Pending tasks that wait for a parked account."""
        ...

    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        """Makes tasks that are being processed pending again, uncounted, to be checked again, as
        whoever held them may have sent a request; the ids of those changed.

        None: every one whose lease ends later than a day from now, which only a wrong clock makes.
        """
        ...

    async def counts(self) -> dict[TaskStatus, int]:
        """Number of tasks by status; every status is present."""
        ...

    async def waiting(self, keys: Collection[str]) -> set[str]:
        """Which of these keys, at most 1,000, a task has that is pending or being processed."""
        ...

    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        """Tasks, newest first."""
        ...

    async def get(self, task_id: TaskId) -> Task | None: ...

    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        """Makes failed tasks (all, or those with these ids) pending with fresh attempts and no
        crashes.

        Returns the ids of those changed, oldest first; one whose key has a newer task stays, as its
        payload is out of date.
        """
        ...

    async def prune(self, *, completed: timedelta, failed: timedelta, limit: int = 500) -> int:
        """Deletes tasks that ended longer ago than this, at most `limit`; how many. What is left is
        for the next call, so that none holds the store for long.

        A failed one that a newer task of its key has superseded goes as early as a completed one.
        A task stays while an older failed one of its key does: `retry` would take that one up.
        """
        ...

    async def close(self) -> None:
        """Lets go of what it holds, such as connections; it is not used any more."""
        ...
