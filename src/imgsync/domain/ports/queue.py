"""Port to the task queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from imgsync.domain.tasks import DEFAULT_PRIORITY, MAX_ATTEMPTS, TASK_ENTITY_TYPE, Task, TaskStatus


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The task that holds a payload; `created` is False where a pending task took it over."""

    task_id: int
    created: bool


class TaskQueue(Protocol):
    """Tasks in a shared store. A claim holds a lease; whoever lost it can no longer settle.

    A queue is opened for some kinds of tasks, those that this program can do, and leaves all others
    alone.

    The store's own time decides about leases and schedules, so hosts whose clocks differ agree.
    Errors: DatabaseError where the store cannot be used, NoRoomError where its disk is full.
    """

    def enqueue(
        self,
        payload: Any,
        *,
        dedupe_key: str | None = None,
        account_id: str | None = None,
        entity_id: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = MAX_ATTEMPTS,
        delay: timedelta = timedelta(0),
        kind: str = TASK_ENTITY_TYPE,
    ) -> Enqueued:
        """Adds a task of one of the kinds, due after `delay`. A pending task with the same key
        takes the new payload with fresh attempts.

        `account_id`: the child that it is for, `entity_id`: the main entity.
        """
        ...

    def claim(self, *, lease: timedelta, only: Sequence[int] | None = None) -> Task | None:
        """Takes the next due task: highest priority, then earliest schedule, then lowest id.

        Never a task whose key is being processed. A task whose lease lapsed is taken again, with
        a crash more and no attempt more; after MAX_CRASHES it fails. A row that cannot be read is
        taken like any other and tells why in `Task.damage`. `only`: these tasks, and those whose
        lease lapsed that are in their way, as they are of the same key.
        """
        ...

    def renew(self, task: Task, *, lease: timedelta) -> None:
        """Holds the task for another lease from now. LeaseLostError where another took it."""
        ...

    def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        """Ends the task well. Where it asks to be checked again (`Task.check_again`), a task with
        the same payload is queued for CHECK_AGAIN_DELAY later, or a pending one of its key asks
        for the check in turn."""
        ...

    def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        """Makes it pending again after `delay`; failed where a newer pending task has its key.

        `check_again`: a request of this attempt may still reach the child.
        """
        ...

    def fail(self, task: Task, *, error: str) -> None: ...

    def release(self, task: Task, *, check_again: bool = False) -> None:
        """Gives the task back, due at once, without counting the attempt."""
        ...

    def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        """Gives the task back, due at `until`, without counting the attempt: it waits for an
        account that takes no requests. With it every due task whose payload or key names that
        account; how many these were.

        Due at once, and it alone, where the account has been stored anew meanwhile.
        """
        ...

    def unpark(self, account_id: str) -> int:
        """Makes the tasks parked for that account due now; how many they were."""
        ...

    def parked(self) -> int:
        """Pending tasks that wait for a parked account."""
        ...

    def free(self, ids: Sequence[int] | None) -> list[int]:
        """Makes tasks that are being processed pending again, uncounted; the ids of those changed.

        None: every one whose lease ends later than a day from now, which only a wrong clock makes.
        """
        ...

    def counts(self) -> dict[TaskStatus, int]:
        """Number of tasks by status; every status is present."""
        ...

    def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        """Tasks, newest first."""
        ...

    def get(self, task_id: int) -> Task | None: ...

    def retry(self, ids: Sequence[int] | None) -> list[int]:
        """Makes failed tasks (all, or those with these ids) pending with fresh attempts.

        Returns the ids of those changed, in order; one whose key has a newer task stays, as its
        payload is out of date.
        """
        ...
