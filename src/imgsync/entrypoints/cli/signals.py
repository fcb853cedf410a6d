"""SIGTERM and Ctrl-C: finish what has begun, or give it back."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType

from imgsync.application.worker import Worker

_log = logging.getLogger("imgsync.worker")


@contextlib.contextmanager
def stopped_by_signals(running: Worker, grace_seconds: float) -> Iterator[None]:
    """First signal: finish; second signal or the end of the grace time: give tasks back."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    seen = 0

    def on_signal() -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            running.abort()
            return
        _log.info("stopping: tasks under way may finish")
        running.stop()
        loop.call_later(grace_seconds, running.abort)

    def on_signal_frame(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(on_signal)

    previous = {number: signal.signal(number, on_signal_frame) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
