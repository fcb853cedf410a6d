"""A clock that measures how long ago something was, whatever happened to the process since."""

import time

# Monotonic on Linux stands still while the machine sleeps, as boot time does not; on macOS it is
# CLOCK_MONOTONIC that goes on.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def uptime() -> float:
    """Seconds since some moment; they pass while the process is stopped and the machine sleeps.

    Wall clocks would not do: they jump.
    """
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
