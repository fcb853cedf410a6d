"""When failed work is tried again."""

from datetime import timedelta

TASK_RETRY_DELAYS = (timedelta(minutes=1), timedelta(minutes=5))
"""Waits after the first and the second failed attempt of a task."""

MAX_ATTEMPTS = len(TASK_RETRY_DELAYS) + 1

ALONE_FROM_CRASHES = 2
"""A task that was there at so many losses of a worker runs with no other beside it, so that one
that kills its worker does not take its neighbours along."""

MAX_CRASHES = 4
"""Losses of a worker after which a task is not run again."""

CHECK_AGAIN_DELAY = timedelta(minutes=6)
"""When an entity is looked at again after a task changed hands. A request that the lost owner had
sent may be in the network still; the API breaks off any after 5 minutes (code 1088)."""


def retry_delay(attempts: int, max_attempts: int) -> timedelta | None:
    """How long a task that has failed `attempts` times (1 or more) waits; None for for ever."""
    if attempts < 1:
        raise ValueError("attempts starts at 1")
    if attempts >= max_attempts:
        return None
    return TASK_RETRY_DELAYS[min(attempts, len(TASK_RETRY_DELAYS)) - 1]
