"""SIGTERM and Ctrl-C: finish what has begun, or give it back; end in any case."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from imgsync.entrypoints.cli.guardian import guarded_against_deafness
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked

_log = logging.getLogger("imgsync.worker")
STOPPING = "stopping: tasks under way may finish"
_HARD_WAY = marked("Error: ended the hard way; tasks under way run again when their lease lapses")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GIVE_BACK_SECONDS = 5.0
"""For giving tasks back and closing connections, once nothing else is waited for."""


class _LastResort:
    """Ends the process where it does not end by itself: code that blocks the event loop, or a
    database that does not answer, cannot be cancelled."""

    def __init__(self) -> None:
        self.owns_process = False
        self.line = f"{_HARD_WAY}\n".encode()
        self._timer: threading.Timer | None = None

    def leave_in(self, seconds: float) -> None:
        self.call_off()
        self._timer = threading.Timer(seconds, self.leave)
        self._timer.daemon = True
        self._timer.start()

    def call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        # Nothing but the system call is safe where other code may hang with any lock in hand.
        os.write(2, self.line)
        os._exit(ExitStatus.ERROR)


_last_resort = _LastResort()


@contextlib.contextmanager
def last_resort() -> Iterator[None]:
    """Around an event loop: a last resort that was set in motion ends with it."""
    # Before it is needed: then there may be nobody to read a catalogue.
    _last_resort.line = f"{gettext(_HARD_WAY)}\n".encode()
    try:
        yield
    finally:
        _last_resort.call_off()


@contextlib.contextmanager
def stopped_by_signals(
    stop: Callable[[], None],
    abort: Callable[[], None],
    grace_seconds: float,
    notice: str | None = None,
) -> Iterator[None]:
    """First signal: `stop`; second signal or the end of the grace time: `abort`, in the event loop.

    Where neither ends the loop, the process ends all the same; a third signal ends it at once.
    `notice` is logged at the first. Contexts may be nested; the innermost hears the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    seen = 0

    def begin() -> None:
        if notice:
            _log.info("%s", notice)
        stop()
        loop.call_later(grace_seconds, abort)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            _last_resort.leave_in(grace_seconds + _GIVE_BACK_SECONDS)
            loop.call_soon_threadsafe(begin)
        elif seen == 2:
            _last_resort.leave_in(_GIVE_BACK_SECONDS)
            loop.call_soon_threadsafe(abort)
        else:
            _last_resort.leave()

    with contextlib.ExitStack() as stack:
        if _last_resort.owns_process:
            # Later than the last resort of this process, which tells what it does.
            stack.enter_context(guarded_against_deafness(grace_seconds + 2 * _GIVE_BACK_SECONDS))
        previous = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def own_process() -> None:
    """Says that the process is the command's own, so that it may be ended whatever it does."""
    _last_resort.owns_process = True


def _hurry(_number: int, _frame: FrameType | None) -> None:
    _last_resort.leave_in(_GIVE_BACK_SECONDS)


def let_the_end_be_told() -> None:
    """From now on a signal changes neither how the command ended nor what it says of it; but where
    that takes long, as with a reader that does not read, the process ends all the same."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _hurry)


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does: by KeyboardInterrupt, with everything put in order.

    Afterwards both signals are handled as before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _last_resort.call_off()
