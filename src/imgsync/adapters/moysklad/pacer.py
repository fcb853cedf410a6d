"""Paces the requests of one account: rate bucket and parallel limit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from imgsync.domain.limits import MAX_PARALLEL_REQUESTS, RATE_INTERVAL_SECONDS
from imgsync.domain.pacing import RateBucket

_CODE_PARALLEL_PAUSE = 0.2


class Pacer:
    """Admits requests so that neither limit of the account is passed.

    `weight` gives the units a request costs now; `monotonic` and `sleep` are seconds.
    """

    def __init__(
        self,
        weight: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._weight = weight
        self._monotonic = monotonic
        self._sleep = sleep
        self._bucket = RateBucket()
        self._parallel = asyncio.Semaphore(MAX_PARALLEL_REQUESTS)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits until a request may be sent and counts it until the block ends."""
        async with self._parallel:
            weight = self._weight()
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
                self._weight(),
                limit=int(limit),
                remaining=int(remaining),
                interval=interval / 1000 if interval else None,
            )
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._bucket.rejected(now, _retry_after(headers))
        else:
            self._bucket.accepted()


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
