"""Tasks of the queue, what becomes of them, and when failed ones are tried again."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

TASK_ENTITY_TYPE = "image_sync"
"""Kind of the tasks that copy images: value of `entity_type` in the table `sync_queue` (the kind of
task, not of MoySklad entity)."""

SYNC_OPERATION = "sync"
"""Value of `operation` in that table: the list of images becomes what the payload names."""

DEFAULT_PRIORITY = 50
"""Priority of image tasks; a higher number is taken first."""


TaskId = int | str
"""What a queue tells its tasks apart by; only that queue knows what it means."""


_BLOCK = 1024
"""Ids of which one number tells which are there."""


class TaskIds(Collection[TaskId]):
    """Ids of tasks, each once, numbers in ascending order; millions of those that a queue counts
    up take a bit each."""

    def __init__(self, ids: Iterable[TaskId] = ()) -> None:
        self._blocks: dict[int, int] = {}
        self._others: dict[TaskId, None] = {}
        self._count = 0
        for task_id in ids:
            self.add(task_id)

    def add(self, task_id: TaskId) -> None:
        if task_id in self:
            return
        self._count += 1
        if isinstance(task_id, int):
            block, place = divmod(task_id, _BLOCK)
            self._blocks[block] = self._blocks.get(block, 0) | 1 << place
        else:
            self._others[task_id] = None

    def __contains__(self, task_id: object) -> bool:
        if not isinstance(task_id, int):
            return task_id in self._others
        block, place = divmod(task_id, _BLOCK)
        return bool(self._blocks.get(block, 0) >> place & 1)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TaskId]:
        for block in sorted(self._blocks):
            bits = self._blocks[block]
            while bits:
                lowest = bits & -bits
                yield block * _BLOCK + lowest.bit_length() - 1
                bits ^= lowest
        yield from self._others

    def __repr__(self) -> str:
        return f"TaskIds({len(self)} of them)"


class TaskStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """A row of the queue. Times are aware; `attempts` counts the running attempt too. `kind` tells
    which handler does it.

    `lease_token` names the claim that holds the task; it changes with every claim. `crashes`:
    how often its worker was lost (a lease that lapsed). `check_again`: a request of a lost owner
    may still reach the child. `parked_for`: the account that a pending task waits for.
    `account_id`: the child, `entity_id`: the main entity; None where whoever queued it did not say.
    `damage`: why the row cannot be run; the values that could not be read are then stand-ins.
    """

    id: TaskId
    payload: Any
    status: TaskStatus
    priority: int
    attempts: int
    max_attempts: int
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    dedupe_key: str | None = None
    lease_token: str | None = None
    lease_expires_at: datetime | None = None
    result: str | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    crashes: int = 0
    check_again: bool = False
    parked_for: str | None = None
    account_id: str | None = None
    entity_id: str | None = None
    damage: str | None = None
    kind: str = TASK_ENTITY_TYPE


class SyncOutcome(StrEnum):
    """Texts of a completed task that copies images; a plugin's handler has its own."""

    DISABLED = "Image sync is disabled"
    UNCHANGED = "unchanged"
    COMPLETED = "completed"
    COMPLETED_WITH_WARNINGS = "completed with warnings"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a task did, such as the sync of one entity.

    `downloaded_bytes`: of the files that were uploaded, before they are encoded; one that several
    children get counts for each. `notes`: what was done to images on their way, which is no cause
    for concern.
    """

    outcome: str
    warnings: tuple[str, ...] = ()
    uploaded: int = 0
    kept: int = 0
    downloaded_bytes: int = 0
    notes: tuple[str, ...] = ()

    def with_warnings(self, warnings: Sequence[str]) -> "SyncResult":
        """With these in front."""
        if not warnings:
            return self
        completed = self.outcome is SyncOutcome.COMPLETED
        outcome = SyncOutcome.COMPLETED_WITH_WARNINGS if completed else self.outcome
        return replace(self, outcome=outcome, warnings=(*warnings, *self.warnings))


TASK_RETRY_DELAYS = (timedelta(minutes=1), timedelta(minutes=5))
"""Waits after the first and the second failed attempt of a task."""

MAX_ATTEMPTS = len(TASK_RETRY_DELAYS) + 1

ALONE_FROM_CRASHES = 2
"""A task that was there at so many losses of a worker runs with no other beside it, so that one
that kills its worker does not take its neighbours along."""

MAX_CRASHES = 4
"""Losses of a worker after which a task is not run again."""

CHECK_AGAIN_DELAY = timedelta(minutes=6)
"""When an entity is looked at again after a task changed hands. A request that the lost owner had
sent may be in the network still; the API breaks off any after 5 minutes (code 1088)."""


def retry_delay(attempts: int, max_attempts: int) -> timedelta | None:
    """How long a task that has failed `attempts` times (1 or more) waits; None for for ever."""
    if attempts < 1:
        raise ValueError("attempts starts at 1")
    if attempts >= max_attempts:
        return None
    return TASK_RETRY_DELAYS[min(attempts, len(TASK_RETRY_DELAYS)) - 1]
