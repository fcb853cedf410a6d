"""Paces the requests of one account: rate bucket and parallel limit."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from imgsync.adapters.moysklad.limits import (
    LONGEST_WAIT_SECONDS,
    MAX_PARALLEL_REQUESTS,
    RATE_INTERVAL_SECONDS,
)
from imgsync.adapters.moysklad.pacing import RateBucket

_CODE_PARALLEL_PAUSE = 0.2
_WORTH_TELLING_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Pacer:
    """Admits requests so that neither limit of the account is passed.

    `weight` gives the units a request costs now; `monotonic` and `sleep` are seconds. `name`: of
    the account, for the log.
    """

    def __init__(
        self,
        weight: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        name: str = "",
    ) -> None:
        self.weight = weight
        self._name = name
        self._told_until = 0.0
        self._monotonic = monotonic
        self._sleep = sleep
        self._bucket = RateBucket()
        self._parallel = asyncio.Semaphore(MAX_PARALLEL_REQUESTS)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits until a request may be sent and counts it until the block ends."""
        async with self._parallel:
            weight = self.weight()
            async with self._turn:
                while (wait := self._bucket.delay(self._monotonic(), weight)) > 0:
                    await self._sleep(wait)
                probe = self._bucket.send(weight)
            try:
                yield
            finally:
                self._bucket.answered(self._monotonic(), weight, probe=probe)

    def observe(self, response: httpx.Response) -> None:
        """Takes over the rate headers of an answer, and its wait where it is a 429."""
        now, headers = self._monotonic(), response.headers
        limit = _number(headers, "X-RateLimit-Limit")
        remaining = _number(headers, "X-RateLimit-Remaining")
        interval = _number(headers, "X-Lognex-Retry-TimeInterval")
        if limit is not None and remaining is not None:
            self._bucket.observe(
                now,
                self.weight(),
                limit=int(limit),
                remaining=int(remaining),
                interval=interval / 1000 if interval else None,
            )
            self._tell(now, (interval or 0.0) / 1000)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._hold(now, _retry_after(headers))
        else:
            self._bucket.accepted()

    def _hold(self, now: float, seconds: float) -> None:
        self._bucket.rejected(now, seconds)
        self._tell(now, seconds)

    def _tell(self, now: float, seconds: float) -> None:
        """Logs a long wait, once while it lasts."""
        if seconds < _WORTH_TELLING_SECONDS or now < self._told_until:
            return
        wait = min(seconds, LONGEST_WAIT_SECONDS)
        self._told_until = now + wait
        asked = "" if seconds == wait else f" (it asks for {seconds:.3g} s)"
        _log.warning(
            "MoySklad account '%s': the API asks to wait; nothing is sent for %.0f s%s",
            self._name,
            wait,
            asked,
        )


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that a 429 asks to wait; the parallel limit (1073) names none."""
    told = [_number(headers, name) for name in ("X-Lognex-Retry-After", "X-Lognex-Reset")]
    wait = max((ms for ms in told if ms is not None), default=None)
    if wait is not None:
        return wait / 1000 if wait > 0 else _CODE_PARALLEL_PAUSE
    seconds = _number(headers, "Retry-After")
    return seconds if seconds is not None else RATE_INTERVAL_SECONDS


def _number(headers: httpx.Headers, name: str) -> float | None:
    try:
        value = float(headers[name])
    except (KeyError, ValueError):
        return None
    return value if 0 <= value < float("inf") else None
