"""Port to the jobs of the schedule.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job by its name, due at `first_at` where it is new. Of those of one `subject`, such as a
    main account, one at a time is claimed; '' is none."""

    name: str
    first_at: datetime
    subject: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this process is to do now; it was due at `due`."""

    name: str
    due: datetime
    token: str


@dataclass(frozen=True, slots=True)
class JobState:
    """When a job is due next, and whether a process is at it."""

    name: str
    next_at: datetime
    is_running: bool


class Schedule(Protocol):
    """When jobs are due. Of all hosts one claims a job that is due, and holds it by a lease.

    The times are the store's, so that hosts whose clocks differ agree.
    """

    async def plan(self, jobs: Sequence[NewJob]) -> None:
        """These are the jobs there are: new ones are added, known ones stay as they are. Of those
        that have a subject, others go, unless somebody is at them."""
        ...

    async def claim(self, names: Collection[str], *, lease: timedelta) -> ClaimedJob | None:
        """Takes the one of these that has been due longest; None where none is due. A job whose
        lease lapsed is taken again: whoever held it was lost, or stopped."""
        ...

    async def renew(self, job: ClaimedJob, *, lease: timedelta) -> None:
        """Holds the job for another lease from now. LeaseLostError where another took it."""
        ...

    async def end(self, job: ClaimedJob, next_at: datetime) -> None:
        """It is done, and due again at `next_at`. LeaseLostError where another took it."""
        ...

    async def release(self, job: ClaimedJob) -> None:
        """Gives it back, still due. LeaseLostError where another took it."""
        ...

    async def jobs(self) -> list[JobState]:
        """All, by their names."""
        ...
