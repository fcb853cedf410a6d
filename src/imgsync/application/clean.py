"""Deletes daily what nobody needs any more: files that a killed worker left behind or that nobody
uses, and what the queue knows of tasks that ended long ago."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.storage import ContentStore, StaleFile


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Files deleted and bytes freed (or, in a dry run, that would be)."""

    files: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class CleanupTemp:
    storage: ContentStore
    clock: Clock

    async def find(self, age: timedelta) -> list[StaleFile]:
        """Files that nobody has in use, last used longer ago than `age`."""
        return await self.storage.stale(self.clock.now() - age)

    async def live(self) -> int:
        """Tasks under way, whose temp files are left alone whatever their age."""
        return await self.storage.live()

    async def delete(
        self, files: Sequence[StaleFile], progress: Callable[[StaleFile], None] = lambda _: None
    ) -> Cleaned:
        """Deletes them, telling `progress` of each."""
        freed = 0
        for file in files:
            freed += await self.storage.delete(file)
            progress(file)
        return Cleaned(len(files), freed)


_FAILED_KEPT = 3
"""Times as long as completed ones: a failed task is what tells a person of an entity that is not
as it should be, and can be tried again."""
_PAUSE_SECONDS = 0.05
"""Between portions, so that workers come to their turn with the store."""


@dataclass(frozen=True, slots=True)
class PruneQueue:
    """Deletes tasks that ended `keep` ago, failed ones three times as long ago."""

    queue: TaskQueue
    keep: timedelta

    async def __call__(self) -> int:
        """How many."""
        gone = 0
        while portion := await self.queue.prune(
            completed=self.keep, failed=self.keep * _FAILED_KEPT
        ):
            gone += portion
            await asyncio.sleep(_PAUSE_SECONDS)
        return gone


@dataclass(slots=True)
class DailySchedule:
    """Tells once a day, from the wall clock, that a job is due at `at`.

    Asked again and again with the local time, it needs no arithmetic across clock changes. A
    schedule that starts after today's time waits for tomorrow's.
    """

    at: time
    _last_day: date

    @classmethod
    def starting(cls, at: time, now: datetime) -> "DailySchedule":
        today = now.date()
        return cls(at, today if now.time() >= at else today - timedelta(days=1))

    def due(self, now: datetime) -> bool:
        """True the first time it is asked at or after `at` on a day."""
        if now.date() <= self._last_day or now.time() < self.at:
            return False
        self._last_day = now.date()
        return True


_log = logging.getLogger(__name__)
_CHECK_SECONDS = 30.0


async def run_daily(
    job: Callable[[], Awaitable[None]],
    at: time,
    local_now: Callable[[], datetime],
    *,
    check_seconds: float = _CHECK_SECONDS,
) -> None:
    """Runs `job` every day at `at` of `local_now`; its errors are logged.

    Runs until cancelled.
    """
    schedule = DailySchedule.starting(at, local_now())
    while True:
        await asyncio.sleep(check_seconds)
        if schedule.due(local_now()):
            try:
                await job()
            except Exception:
                _log.exception("the daily job failed")
