"""Port to the tasks of a queue as a person looks at them: filtered, a page at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypedDict

from imgsync.domain.tasks import Task, TaskId, TaskStatus

CANCELLED = "cancelled"
"""The error of a task that somebody cancelled. Its status is `failed`, which other programs that
read the table know, and by which it can be retried."""


class TaskState(StrEnum):
    """How a task stands, as commands, pages and the HTTP API filter by it. The stored status of the
    last three is `failed`. Those that completed with warnings are among the completed ones."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    WARNED = "completed-with-warnings"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class StateFilter(TypedDict, total=False):
    """Of `TaskList.find`."""

    status: TaskStatus
    warned: bool
    cancelled: bool
    superseded: bool


def filter_by(state: TaskState | None) -> StateFilter:
    """What finds the tasks that stand so; all of them for None."""
    match state:
        case None:
            return {}
        case TaskState.WARNED:
            return {"status": TaskStatus.COMPLETED, "warned": True}
        case TaskState.FAILED:
            return {"status": TaskStatus.FAILED, "cancelled": False, "superseded": False}
        case TaskState.CANCELLED:
            return {"status": TaskStatus.FAILED, "cancelled": True}
        case TaskState.SUPERSEDED:
            return {"status": TaskStatus.FAILED, "cancelled": False, "superseded": True}
        case _:
            return {"status": TaskStatus(state.value)}


def state_of(task: Task, superseded: Collection[TaskId] = ()) -> TaskState:
    """How the task stands. `superseded`: as of the `TaskPage`."""
    if task.status is TaskStatus.COMPLETED and task.warnings:
        return TaskState.WARNED
    if task.status is TaskStatus.FAILED and task.error == CANCELLED:
        return TaskState.CANCELLED
    if task.status is TaskStatus.FAILED and task.id in superseded:
        return TaskState.SUPERSEDED
    return TaskState(task.status.value)


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
        cancelled: bool | None = None,
        superseded: bool | None = None,
        before: TaskId | None = None,
        limit: int = 50,
    ) -> TaskPage:
        """Those of a child (its account id) and of a status, that were queued before the task
        `before`, and in whose payload, key, error or result `text` stands, in capitals or not.

        `since`: those queued from that aware moment on. `warned`: those with warnings alone, or
        without; `cancelled`: those alone that somebody cancelled, or none of these; `superseded`:
        failed ones alone, cancelled or not, that a newer task has taken the place of, or none of
        these. `filter_by` gives them by how a task stands.
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
