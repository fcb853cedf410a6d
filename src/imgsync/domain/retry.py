"""When failed work is tried again."""

from datetime import datetime, timedelta

TASK_RETRY_DELAYS = (timedelta(minutes=1), timedelta(minutes=5))
"""Waits after the first and the second failed attempt of a task."""

MAX_ATTEMPTS = len(TASK_RETRY_DELAYS) + 1

REQUEST_RETRY_DELAYS = (0.5, 1.0, 2.0)
"""Seconds to wait before each repetition of a request that timed out or answered 5xx."""


def next_attempt_at(attempts: int, max_attempts: int, now: datetime) -> datetime | None:
    """When a task that has failed `attempts` times (1 or more) runs again; None for never."""
    if attempts < 1:
        raise ValueError("attempts starts at 1")
    if attempts >= max_attempts:
        return None
    return now + TASK_RETRY_DELAYS[min(attempts, len(TASK_RETRY_DELAYS)) - 1]
