"""When MoySklad switches a user's API access off (section Restrictions, "Automatic switch-off").

Used on the server's event loop only; not thread-safe.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable

from moysklad_emulator.limits import EmulatorLimits

_TOO_MANY_REQUESTS = 429


class AbuseMonitor:
    """Counts a user's answers 429, its identical failing requests and its PUTs to one entity."""

    def __init__(self, limits: EmulatorLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._failures: deque[tuple[float, Hashable, int]] = deque()
        self._identical: Counter[Hashable] = Counter()
        self._rejections = 0
        self._puts: deque[tuple[float, Hashable]] = deque()
        self._puts_of: Counter[Hashable] = Counter()

    def record(self, status: int, request: Hashable, put_to: Hashable | None = None) -> bool:
        """Records an answer to `request` (its identity); True where access is to end.

        `put_to`: the entity of a PUT, which counts however it is answered.
        """
        self._expire()
        return self._too_many_puts(put_to) | self._too_many_failures(status, request)

    def _too_many_puts(self, entity: Hashable | None) -> bool:
        if entity is None:
            return False
        self._puts.append((self._clock(), entity))
        self._puts_of[entity] += 1
        return self._puts_of[entity] > self._limits.max_puts_per_minute

    def _too_many_failures(self, status: int, request: Hashable) -> bool:
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
        self._puts.clear()
        self._puts_of.clear()

    def _expire(self) -> None:
        start = self._clock() - self._limits.abuse_interval
        while self._failures and self._failures[0][0] <= start:
            _, request, status = self._failures.popleft()
            self._rejections -= status == _TOO_MANY_REQUESTS
            self._identical[request] -= 1
            if not self._identical[request]:
                del self._identical[request]
        while self._puts and self._puts[0][0] <= start:
            _, entity = self._puts.popleft()
            self._puts_of[entity] -= 1
            if not self._puts_of[entity]:
                del self._puts_of[entity]
