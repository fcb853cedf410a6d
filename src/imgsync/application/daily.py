"""Runs a job once a day at a wall-clock time."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, time

from imgsync.domain.schedule import DailySchedule

_log = logging.getLogger(__name__)
_CHECK_SECONDS = 30.0


async def run_daily(
    job: Callable[[], None],
    at: time,
    local_now: Callable[[], datetime],
    *,
    check_seconds: float = _CHECK_SECONDS,
) -> None:
    """Runs `job` in a thread every day at `at` of `local_now`; its errors are logged.

    Runs until cancelled.
    """
    schedule = DailySchedule.starting(at, local_now())
    while True:
        await asyncio.sleep(check_seconds)
        if schedule.due(local_now()):
            try:
                await asyncio.to_thread(job)
            except Exception:
                _log.exception("the daily job failed")
