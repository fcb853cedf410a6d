"""What `imgsync serve` runs side by side in one event loop."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imgsync.application.pulse import Pulse, Pulses
from imgsync.entrypoints.cli.working import cleaned_daily, log_end

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.serve")
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Runs(Protocol):
    """Something that goes on until it is told to stop."""

    async def run(self, stop: asyncio.Event) -> None:
        """Returns soon after `stop` is set; cancelled, at once."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """`name`: what the log calls it. `heard_of`: seconds within which it calls `beat`, else it
    hangs; None for one that never does."""

    name: str
    runs: Runs
    heard_of: float | None = None


HEARD_SECONDS = 60.0
"""Within which a loop that asks the database every few seconds is heard of."""


async def run_side_by_side(
    parts: Sequence[Part], stop: asyncio.Event, pulses: Pulses | None = None
) -> None:
    """Runs all until `stop` is set. One that fails, or ends before, costs the others nothing: that
    is logged, and it is begun again after a pause, which grows with each failure in a row.
    `pulses` tell meanwhile what has failed or hangs."""
    pulses = Pulses() if pulses is None else pulses
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_looked_after(part, stop, pulses), name=part.name)


async def _looked_after(part: Part, stop: asyncio.Event, pulses: Pulses) -> None:
    with pulses.of(part.name, part.heard_of) as pulse:
        await _kept_running(part, stop, pulse)


async def _kept_running(part: Part, stop: asyncio.Event, pulse: Pulse) -> None:
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while not stop.is_set():
        begun = loop.time()
        pulse.begin()
        try:
            await part.runs.run(stop)
            if stop.is_set():
                return
            _log.error("%s has ended by itself; it begins again in %.0f s", part.name, pause)
        except Exception:
            _log.exception("%s has failed; it begins again in %.0f s", part.name, pause)
        pulse.has_failed = True
        if loop.time() - begun > _LONGEST_PAUSE:
            pause = _FIRST_PAUSE
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except TimeoutError:
            pause = min(pause * 2, _LONGEST_PAUSE)


@dataclass(slots=True)
class WorkerPart:
    """The worker, with its daily cleanup. `abort` is set at a second signal, or when the time of
    grace is over: tasks under way are given back."""

    container: "Container"
    abort: asyncio.Event

    async def run(self, stop: asyncio.Event) -> None:
        worker = self.container.worker()

        async def stopped() -> None:
            await stop.wait()
            worker.stop()
            await self.abort.wait()
            worker.abort()

        watching = asyncio.create_task(stopped())
        try:
            async with cleaned_daily(self.container):
                started = "worker started: %d children at once, run %s"
                _log.info(started, worker.concurrency, self.container.run())
                await worker.run(report=log_end)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
