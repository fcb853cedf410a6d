"""Port to the tasks of a queue as a person looks at them: filtered, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from imgsync.domain.tasks import Task, TaskId, TaskStatus

CANCELLED = "cancelled"
"""The error of a task that somebody cancelled. Its status is `failed`, which other programs that
read the table know, and by which it can be retried."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, newest first. `before`: where the next page begins; None at the end.

    A page may have few tasks or none and yet be followed by others: what is not asked for by an
    index is looked for in so many tasks at once and no more. `superseded`: ids of failed ones that
    a newer task of the same key has taken the place of.
    """

    tasks: tuple[Task, ...]
    before: TaskId | None = None
    superseded: frozenset[TaskId] = frozenset()


class TaskList(Protocol):
    """Looks for tasks, cancels and deletes them. `TaskQueue.get` shows one, `TaskQueue.retry` tries
    failed ones again.

    Errors: StoreError where the store cannot be used, and, not retryable, where a queue of this
    kind cannot be listed.
    """

    async def find(
        self,
        *,
        child: str | None = None,
        status: TaskStatus | None = None,
        text: str = "",
        since: datetime | None = None,
        warned: bool | None = None,
        superseded: bool | None = None,
        before: TaskId | None = None,
        limit: int = 50,
    ) -> TaskPage:
        """Those of a child (its account id) and of a status, that were queued before the task
        `before`, and in whose payload, key, error or result `text` stands, in capitals or not.

        `since`: those queued from that aware moment on. `warned`: those with warnings alone, or
        without; `superseded`: failed ones alone that a newer task has taken the place of, or none
        of these.
        """
        ...

    async def count_ended(self) -> dict[str, int]:
        """Of the tasks whose status is `failed`, how many were `cancelled`, and how many of the
        others, among the newest ten thousand, are `superseded`: a newer one of their key is there.
        """
        ...

    async def cancel(self, ids: Sequence[TaskId]) -> list[TaskId]:
        """Pending ones among these become failed, with the error CANCELLED; which they were, in
        ascending order. One that is being processed is not stopped."""
        ...

    async def delete(self, ids: Sequence[TaskId]) -> list[TaskId]:
        """Deletes these, but for those that are being processed; which they were, in ascending
        order. With each go the older failed ones of its key: `TaskQueue.retry` would take one up,
        whose payload is out of date."""
        ...
