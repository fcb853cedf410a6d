"""Time that an exchange, a download or a write may last."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.uptime import uptime

EXCHANGE_SECONDS = 300.0
"""For one request to the API and its whole answer (documentation, Workbook: up to 300 s)."""

DOWNLOAD_SECONDS = 60.0
"""For the exchanges of one download, all its tries and the waits between them together."""

_MARGIN_SECONDS = 10.0
_MARGIN_SHARE = 0.25


@dataclass(slots=True)
class Allowance:
    """Seconds that several exchanges may take together; waits for the account's pace are free."""

    left: float
    monotonic: Callable[[], float] = time.monotonic

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[None]:
        """Counts the block; TimeoutError where the allowance ends within it."""
        started = self.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self.left)):
                yield
        finally:
            self.left -= self.monotonic() - started

    def take(self, seconds: float) -> bool:
        """Counts a wait; False where there is not so much left."""
        self.left -= seconds
        return self.left > 0


@dataclass(frozen=True, slots=True)
class WriteWindow:
    """The time in which one write may reach the API, by a clock that no stop of ours holds up."""

    ends_at: float
    clock: Callable[[], float] = field(default=uptime)

    @classmethod
    async def open(cls, permit: WritePermit, clock: Callable[[], float] = uptime) -> "WriteWindow":
        """Confirms the permit. The time counts from before it was asked, and ends with a margin in
        which bytes under way arrive and the API does what they say."""
        asked_at = clock()
        seconds = await permit.confirm()
        margin = min(_MARGIN_SECONDS, seconds * _MARGIN_SHARE)
        window = cls(asked_at + seconds - margin, clock)
        window.check()
        return window

    @property
    def left(self) -> float:
        return self.ends_at - self.clock()

    def check(self) -> None:
        """LeaseLostError where the time is over."""
        if self.left <= 0:
            raise LeaseLostError("the time in which this write was allowed is over")
