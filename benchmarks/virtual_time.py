"""An event loop whose time passes only while everybody waits.

It knows neither files nor threads, and is quick: a large simulation has tens of millions of turns.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
_SHORTEST_SECONDS = 1e-6


class _Call:
    """What asyncio asks of a handle, and no more."""

    __slots__ = ("args", "callback", "context", "due")

    def __init__(
        self,
        callback: Callable[..., object] | None,
        args: tuple[Any, ...],
        context: Context | None,
        due: float,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.due = due

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.due


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is seconds since its beginning. What is done in threads would take no time in it, so
    nothing may be. Those that wait for the same moment go on in the order in which they began."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._calls: deque[_Call] = deque()
        self._later: list[tuple[float, int, _Call]] = []
        self._numbers = itertools.count()
        super().__init__()

    def time(self) -> float:
        return self._passed

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Call:
        call = _Call(callback, args, context, self._passed)
        self._calls.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> _Call:
        """A wait that is shorter than a number can tell would end before its time, which would
        never come where two that wait for it take turns."""
        when = max(when, self._passed + _SHORTEST_SECONDS)
        call = _Call(callback, args, context, when)
        heapq.heappush(self._later, (when, next(self._numbers), call))
        return call

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> _Call:
        return self.call_at(self._passed + delay, callback, *args, context=context)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],  # type: ignore[override]
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]

    def _run_once(self) -> None:
        """Everybody who can go on does; where nobody can, the time until somebody can passes."""
        calls, later = self._calls, self._later
        if not calls:
            while later and later[0][2].callback is None:
                heapq.heappop(later)
            if not later:
                raise RuntimeError("everybody waits, and for nothing that time brings")
            self._passed = at = later[0][0]
            while later and later[0][0] <= at:
                calls.append(heapq.heappop(later)[2])
        for _ in range(len(calls)):
            call = calls.popleft()
            callback = call.callback
            if callback is None:
                continue
            try:
                call.context.run(callback, *call.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": f"{callback!r} failed", "exception": error})


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Seconds of virtual time."""
    return asyncio.get_running_loop().time()
