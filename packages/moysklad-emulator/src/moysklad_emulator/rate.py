"""Rate bucket and parallel slots (documentation section Restrictions).

Used on the server's event loop only; not thread-safe.
"""

import math
import time
from collections import deque
from collections.abc import Callable


class RateBucket:
    """At most `units` spent in any `interval` seconds (a sliding window)."""

    def __init__(
        self, units: int, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.units = units
        self.interval = interval
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()

    @property
    def remaining(self) -> int:
        """Units free now."""
        self._expire()
        return self.units - sum(units for _, units in self._spent)

    def try_spend(self, units: int) -> bool:
        """Spends `units`, or nothing and returns False where they are not free."""
        if self.remaining < units:
            return False
        self._spent.append((self._clock(), units))
        return True

    def milliseconds_until(self, units: int) -> int:
        """Milliseconds until `units` are free; 0 where they are."""
        missing = units - self.remaining
        for moment, freed in self._spent:
            if missing <= 0:
                break
            missing -= freed
            if missing <= 0:
                return max(1, math.ceil((moment + self.interval - self._clock()) * 1000))
        return 0

    def _expire(self) -> None:
        start = self._clock() - self.interval
        while self._spent and self._spent[0][0] <= start:
            self._spent.popleft()


class Slots:
    """At most `limit` requests at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> bool:
        return self.used < self.limit

    def take(self) -> None:
        self.used += 1

    def give_back(self) -> None:
        self.used -= 1
