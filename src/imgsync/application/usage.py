"""Counts what accounts take and how long tasks do, in memory, and writes it down every few
seconds."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from imgsync.domain.errors import ImgsyncError
from imgsync.domain.ports.runs import UsageRepository
from imgsync.domain.runs import TaskTimes, Usage

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 10.0


@dataclass(slots=True)
class Taken:
    """What was taken within one run."""

    usage: Usage = field(default_factory=Usage)


_run: ContextVar[Taken | None] = ContextVar("imgsync_taken", default=None)


@contextmanager
def measured() -> Iterator[Taken]:
    """Gathers what is taken in this context, and in those of the tasks that are begun in it."""
    taken = Taken()
    token = _run.set(taken)
    try:
        yield taken
    finally:
        _run.reset(token)


@dataclass(slots=True)
class GatherUsage:
    """Implements `Meter`. What a process that is killed has not written is lost: at most that of
    `seconds`."""

    repository: UsageRepository
    seconds: float = _FLUSH_SECONDS
    _taken: dict[str, Usage] = field(default_factory=dict)
    _times: dict[tuple[str, str], TaskTimes] = field(default_factory=dict)
    _flushing: asyncio.Task[None] | None = None

    def request(self, account_id: str, units: int) -> None:
        self._add(account_id, Usage(requests=1, units=units))

    def too_many(self, account_id: str) -> None:
        self._add(account_id, Usage(too_many=1))

    def image(self, account_id: str, size: int) -> None:
        self._add(account_id, Usage(images=1, bytes=size))

    def events(self, account_id: str, came: int, dropped: int) -> None:
        self._add(account_id, Usage(events=came, dropped=dropped))

    def task(self, kind: str, end: str, seconds: float) -> None:
        self._add_time((kind, end), TaskTimes.of(seconds))
        self._flush_soon()

    async def flush(self) -> None:
        """Writes down what was counted; what cannot be written waits for the next time."""
        taken, self._taken = self._taken, {}
        try:
            await self.repository.add(taken)
        except BaseException:
            for account_id, usage in taken.items():
                self._taken[account_id] = self._taken.get(account_id, Usage()) + usage
            raise
        times, self._times = self._times, {}
        if not times:
            return
        try:
            await self.repository.add_times(times)
        except BaseException:
            for key, one in times.items():
                self._add_time(key, one)
            raise

    async def close(self) -> None:
        """Writes down the rest."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self.flush()

    def _add(self, account_id: str, usage: Usage) -> None:
        self._taken[account_id] = self._taken.get(account_id, Usage()) + usage
        if (taken := _run.get()) is not None:
            taken.usage += usage
        self._flush_soon()

    def _add_time(self, key: tuple[str, str], times: TaskTimes) -> None:
        known = self._times.get(key)
        self._times[key] = times if known is None else known + times

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_later())

    async def _flush_later(self) -> None:
        # While there is something, so that an idle process asks nothing of the store.
        while self._taken or self._times:
            await asyncio.sleep(self.seconds)
            try:
                await self.flush()
            except ImgsyncError as error:
                _log.warning("what accounts took could not be written down: %s", error)
