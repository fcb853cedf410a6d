"""python sleeping_machine.py ARGUMENT…: imgsync on a machine that sleeps while it is stopped.

A laptop's lid, a paused virtual machine: CLOCK_MONOTONIC stands still, so no timer of the event
loop is due when the process goes on, however long that took. It is as a process stopped by SIGSTOP,
but that no time-out helps: whoever wants to know whether a lease still holds has to ask.
"""

import asyncio
import threading
import time

_STOPPED_SECONDS = 0.3
"""A time unseen for longer was a stop."""


class _Clock:
    """Monotonic time without the stops, which a thread that looks at it all the time finds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = time.monotonic()
        self._slept = 0.0

    def time(self) -> float:
        with self._lock:
            now = time.monotonic()
            if now - self._seen > _STOPPED_SECONDS:
                self._slept += now - self._seen
            self._seen = now
            return now - self._slept

    def watch(self) -> None:
        while True:
            self.time()
            time.sleep(_STOPPED_SECONDS / 10)


def _run() -> None:
    clock = _Clock()
    threading.Thread(target=clock.watch, daemon=True).start()
    asyncio.BaseEventLoop.time = lambda self: clock.time()  # type: ignore[method-assign]
    from imgsync.__main__ import run

    run()


if __name__ == "__main__":
    _run()
