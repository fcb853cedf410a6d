"""Ends a process that cannot even notice that it was told to stop.

Python runs signal handlers, and threads, between the steps of the interpreter. Code of a plugin
that holds the interpreter in one step, such as a regular expression that backtracks for years, lets
neither run. But Python's own handler in C writes the signal's number to a file descriptor at once;
so a second process listens there and ends this one where it has not gone in time.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

_SECOND_SIGNAL_SECONDS = 10.0

_LISTENER = """
import os, select, signal, sys, time
pid, seconds, second = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
stops = (signal.SIGINT, signal.SIGTERM)
for number in stops:
    signal.signal(number, signal.SIG_IGN)  # a terminal sends Ctrl-C to both
ends = None
while True:
    left = None if ends is None else max(0.0, ends - time.monotonic())
    if not select.select([0], [], [], left)[0]:
        break
    numbers = os.read(0, 1)
    if not numbers:
        sys.exit()  # it has gone, and needs nobody
    if numbers[0] in stops:
        wait = seconds if ends is None else second
        ends = min(ends or float("inf"), time.monotonic() + wait)
os.kill(pid, signal.SIGKILL)
"""


@contextlib.contextmanager
def guarded_against_deafness(seconds: float) -> Iterator[None]:
    """From a SIGTERM or SIGINT on, this process has so many seconds to end by itself; after a
    second signal `_SECOND_SIGNAL_SECONDS` at most. Main thread only."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    arguments = [str(os.getpid()), str(seconds), str(_SECOND_SIGNAL_SECONDS)]
    try:
        listener = subprocess.Popen(  # noqa: S603 (our own interpreter and text)
            [sys.executable, "-I", "-S", "-c", _LISTENER, *arguments], stdin=reader
        )
    except OSError:  # no room for a process: as without a guardian
        os.close(writer)
        yield
        return
    finally:
        os.close(reader)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
        listener.wait()
