"""The pace of one account: its rate bucket and parallel limit, and what a request costs.

Times are seconds of any monotonic clock. Units spent count from when a request is sent until the
interval has passed since its answer, so a slow network never squeezes two windows into one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import httpx

from imgsync.adapters.moysklad.limits import (
    LONGEST_WAIT_SECONDS,
    MAX_PARALLEL_REQUESTS,
    MAX_RATE_REJECTIONS_PER_MINUTE,
    RATE_INTERVAL_SECONDS,
    RATE_LIMIT_UNITS,
)
from imgsync.domain.model import TokenKind

_MINUTE = 60.0
_HOSTS_ON_ONE_TOKEN = 8
_REJECTION_CEILING = MAX_RATE_REJECTIONS_PER_MINUTE // _HOSTS_ON_ONE_TOKEN
_LONGEST_HOLD = 30.0
_LARGEST_LIMIT = 1_000_000
_CODE_PARALLEL_PAUSE = 0.2
_WORTH_TELLING_SECONDS = 30.0
MOSCOW_TIME = timezone(timedelta(hours=3))
"""MoySklad's dates are Moscow dates."""

_USER_WEIGHTS = (
    (datetime(2026, 12, 1, tzinfo=MOSCOW_TIME), 4),
    (datetime(2026, 9, 1, tzinfo=MOSCOW_TIME), 3),
    (datetime(2026, 5, 12, tzinfo=MOSCOW_TIME), 2),
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RateBucket:
    """Client-side copy of MoySklad's bucket, corrected by the headers of every answer."""

    limit: int = RATE_LIMIT_UNITS
    interval: float = RATE_INTERVAL_SECONDS
    _in_flight: int = 0
    _spent: deque[tuple[float, int]] = field(default_factory=deque)
    _rejections: deque[float] = field(default_factory=deque)
    _held_until: float = 0.0
    _streak: int = 0
    _probing: bool = False

    def delay(self, now: float, weight: int) -> float:
        """Seconds until a request of `weight` units may be sent; 0 when it may go now."""
        if now < self._held_until:
            return self._held_until - now
        if self._streak and self._probing:
            return self.interval / 10
        self._expire(now)
        free = self.limit - self._in_flight - sum(units for _, units in self._spent)
        need = min(weight, self.limit) - free
        if need <= 0:
            return 0.0
        for at, units in self._spent:
            need -= units
            if need <= 0:
                return at + self.interval - now
        return self.interval / 10

    def send(self, weight: int) -> bool:
        """Counts a request that is being sent; True where it is the probe after a rejection."""
        self._in_flight += weight
        self._probing = self._streak > 0
        return self._probing

    def answered(self, now: float, weight: int, *, probe: bool = False) -> None:
        """Counts the end of a request: its units stay spent for one interval."""
        self._in_flight -= weight
        self._spent.append((now, weight))
        if probe:
            self._probing = False

    def observe(
        self, now: float, weight: int, *, limit: int, remaining: int, interval: float | None
    ) -> None:
        """Takes over the server's view: X-RateLimit-Limit, -Remaining and the interval (seconds).

        The headers count units, or whole requests where the limit shrinks with the weight; what
        others spent on the same account is added to our own. Numbers that no server means are
        brought into bounds, so that they can neither stop an account nor free it of every pace.
        """
        limit, remaining = min(limit, _LARGEST_LIMIT), max(0, min(remaining, limit))
        scale = weight if limit * weight <= RATE_LIMIT_UNITS else 1
        if limit > 0:
            self.limit = limit * scale
        if interval:
            self.interval = min(interval, LONGEST_WAIT_SECONDS)
        self._expire(now)
        known = self._in_flight + sum(units for _, units in self._spent)
        unknown = self.limit - remaining * scale - known
        if unknown > 0:
            self._spent.append((now, unknown))

    def rejected(self, now: float, retry_after: float) -> None:
        """Counts an answer 429 and holds every request for `retry_after` seconds.

        Then one request at a time goes out until one is accepted, and each further rejection
        doubles the hold, as other hosts may be using the token. A share of MoySklad's 200 a
        minute, which cost the user the API, holds for the rest of the minute. No hold is longer
        than LONGEST_WAIT_SECONDS.
        """
        retry_after = min(retry_after, LONGEST_WAIT_SECONDS)
        if now >= self._held_until:
            retry_after = min(retry_after * 2**self._streak, max(retry_after, _LONGEST_HOLD))
            self._streak += 1
        self._rejections.append(now)
        while self._rejections[0] <= now - _MINUTE:
            self._rejections.popleft()
        if len(self._rejections) >= _REJECTION_CEILING:
            retry_after = max(retry_after, self._rejections[0] + _MINUTE - now)
        self._held_until = max(self._held_until, now + retry_after)

    def accepted(self) -> None:
        """Counts an answer other than 429."""
        self._streak = 0

    def _expire(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - self.interval:
            self._spent.popleft()


def request_weight(kind: TokenKind, at: datetime) -> int:
    """Rate units that one request costs at the aware moment `at`.

    Source: API documentation, Restrictions, "Limit over 3 seconds": 1 for the token of a published
    solution, 4 for one in draft or moderation; 2, 3 and 4 for a user token or a password from
    2026-05-12, 2026-09-01 and 2026-12-01.
    """
    if kind is TokenKind.SOLUTION:
        return 1
    if kind is TokenKind.DRAFT:
        return 4
    return next((weight for start, weight in _USER_WEIGHTS if at >= start), 1)


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
