"""Port to the task queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from imgsync.domain.retry import MAX_ATTEMPTS
from imgsync.domain.tasks import DEFAULT_PRIORITY, Task, TaskStatus


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Result of `TaskQueue.enqueue`; `created` is False where a pending task was updated."""

    task_id: int
    created: bool


class TaskQueue(Protocol):
    """Durable queue of tasks. A claim holds a task until its lease lapses; then another may
    claim it. Methods that end or renew a claim raise LeaseLostError where it no longer holds."""

    def enqueue(
        self,
        payload: Any,
        *,
        now: datetime,
        dedupe_key: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Enqueued:
        """Adds a pending task; a pending one with the same key takes the new payload instead."""
        ...

    def claim(
        self, *, now: datetime, lease: timedelta, only: Sequence[int] | None = None
    ) -> Task | None:
        """Takes the due task of highest priority, then earliest schedule, and counts an attempt.

        Due: pending and scheduled, or processing with a lapsed lease. Never two tasks of one
        dedupe key at once. A lapsed task with no attempts left becomes failed. `only`: ids.
        """
        ...

    def renew(self, task: Task, *, now: datetime, lease: timedelta) -> None:
        """Extends the lease."""
        ...

    def complete(
        self, task: Task, *, now: datetime, result: str, warnings: Sequence[str]
    ) -> None: ...

    def reschedule(self, task: Task, *, now: datetime, at: datetime, error: str) -> None:
        """Makes it pending again at `at`; failed where a newer pending task has its key."""
        ...

    def fail(self, task: Task, *, now: datetime, error: str) -> None: ...

    def release(self, task: Task, *, now: datetime) -> None:
        """Gives the task back, due at once, without counting the attempt."""
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

    def retry(self, ids: Sequence[int] | None, *, now: datetime) -> list[int]:
        """Makes failed tasks (all, or those with these ids) pending with fresh attempts.

        Returns the ids of those changed, in order; one whose key has a newer task stays, as its
        payload is out of date.
        """
        ...
