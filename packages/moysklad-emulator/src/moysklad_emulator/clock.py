"""The calendar of the emulator, for what takes days."""

import math
import time

DAY_SECONDS = 86_400


class Clock:
    """The day of today, which may be moved on."""

    def __init__(self) -> None:
        self._offset = 0.0

    def day(self) -> int:
        """Number of the present day."""
        return int((time.time() + self._offset) // DAY_SECONDS)

    def pass_days(self, days: float) -> None:
        """Moves on by `days`. ValueError for a number below 0."""
        if not 0 <= days < math.inf:
            raise ValueError(f"clock: {days} is no number of days")
        self._offset += days * DAY_SECONDS
