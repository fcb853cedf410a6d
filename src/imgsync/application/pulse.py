"""Whether what goes on for ever still goes on: its loop says so each time that it comes round.

Whoever runs it (the program, with its web server) asks `Pulses` what has not been heard of; a loop
needs to know of nobody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from imgsync.uptime import uptime


@dataclass(slots=True)
class Pulse:
    """Of one part of a process. `longest`: seconds after which it hangs that was not heard of;
    None where it says nothing."""

    longest: float | None
    elapsed: Callable[[], float]
    has_failed: bool = False
    _heard_at: float = 0.0

    def __post_init__(self) -> None:
        self.beat()

    def begin(self) -> None:
        """It begins, or begins again, and has time to be heard of."""
        self._heard_at = self.elapsed()
        self.has_failed = self.has_failed and self.longest is not None

    def beat(self) -> None:
        self._heard_at = self.elapsed()
        self.has_failed = False

    def trouble(self) -> str:
        """What is wrong with it, '' for nothing."""
        if self.has_failed:
            return "has failed, and begins again"
        silent = self.elapsed() - self._heard_at
        if self.longest is not None and silent > self.longest:
            return f"hangs: it has not been heard of for {silent:.0f} s"
        return ""


_pulse: ContextVar[Pulse | None] = ContextVar("imgsync_pulse", default=None)


def beat() -> None:
    """Said by a loop that has come round, in a part that is looked after."""
    if (pulse := _pulse.get()) is not None:
        pulse.beat()


@dataclass(slots=True)
class Pulses:
    """Those of the parts that this process runs, by their names."""

    elapsed: Callable[[], float] = uptime
    _parts: dict[str, Pulse] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str, longest: float | None) -> Iterator[Pulse]:
        """Within it the part runs; what it begins has the same pulse."""
        pulse = self._parts[name] = Pulse(longest, self.elapsed)
        token = _pulse.set(pulse)
        try:
            yield pulse
        finally:
            _pulse.reset(token)
            del self._parts[name]

    def troubles(self) -> list[str]:
        """Such as ``the worker hangs: it has not been heard of for 80 s``."""
        told = ((name, pulse.trouble()) for name, pulse in self._parts.items())
        return [f"{name} {trouble}" for name, trouble in told if trouble]
