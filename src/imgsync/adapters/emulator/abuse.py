"""When MoySklad switches a user's API access off (section Restrictions, "Automatic switch-off").

Used on the server's event loop only; not thread-safe.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable

from imgsync.adapters.emulator.limits import EmulatorLimits

_TOO_MANY_REQUESTS = 429


class AbuseMonitor:
    """Counts a user's answers 429 and its identical failing requests."""

    def __init__(self, limits: EmulatorLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._failures: deque[tuple[float, Hashable, int]] = deque()
        self._identical: Counter[Hashable] = Counter()
        self._rejections = 0

    def record(self, status: int, request: Hashable) -> bool:
        """Records an answer to `request` (its identity); True where access is to end."""
        self._expire()
        if status < 400:
            return False
        self._failures.append((self._clock(), request, status))
        self._identical[request] += 1
        self._rejections += status == _TOO_MANY_REQUESTS
        return (
            self._rejections > self._limits.max_rejections_per_minute
            or self._identical[request] > self._limits.max_identical_failures_per_minute
        )

    def clear(self) -> None:
        """Forgets everything, as when access is given back."""
        self._failures.clear()
        self._identical.clear()
        self._rejections = 0

    def _expire(self) -> None:
        start = self._clock() - self._limits.abuse_interval
        while self._failures and self._failures[0][0] <= start:
            _, request, status = self._failures.popleft()
            self._rejections -= status == _TOO_MANY_REQUESTS
            self._identical[request] -= 1
            if not self._identical[request]:
                del self._identical[request]
