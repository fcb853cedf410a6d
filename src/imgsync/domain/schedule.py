"""Daily jobs."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta


@dataclass(slots=True)
class DailySchedule:
    """Tells once a day, from the wall clock, that a job is due at `at`.

    Asked again and again with the local time, it needs no arithmetic across clock changes. A
    schedule that starts after today's time waits for tomorrow's.
    """

    at: time
    _last_day: date

    @classmethod
    def starting(cls, at: time, now: datetime) -> "DailySchedule":
        today = now.date()
        return cls(at, today if now.time() >= at else today - timedelta(days=1))

    def due(self, now: datetime) -> bool:
        """True the first time it is asked at or after `at` on a day."""
        if now.date() <= self._last_day or now.time() < self.at:
            return False
        self._last_day = now.date()
        return True
