"""Threads beside the event loop, and the calls that they do for it."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from imgsync.domain.errors import StoreError

_T = TypeVar("_T")
Tell = Callable[[], None]
"""Says how something ended to those who wait for it."""


class Call:
    """Work that a coroutine waits for, made in its loop and done in a thread."""

    __slots__ = ("_error", "_result", "done", "future", "loop", "work")

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def end(self, result: object = None, error: BaseException | None = None) -> None:
        """Keeps how it ended until it is told."""
        self.done, self._result, self._error = True, result, error

    def do(self, work: Callable[[], Any]) -> None:
        try:
            self.end(work())
        except BaseException as error:
            self.end(error=error)

    @staticmethod
    def tell(calls: Sequence["Call"]) -> None:
        """All those of a loop in one step of it, so that they go on together."""
        by_loop = defaultdict(list)
        for call in calls:
            by_loop[call.loop].append(call)
        for loop, some in by_loop.items():
            with suppress(RuntimeError):  # closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, some)

    def _wake(self) -> None:
        if self.future.done():  # cancelled
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)


def _wake(calls: Sequence[Call]) -> None:
    for call in calls:
        call._wake()


class Threads:
    """At most so many daemon threads, each made when the others are busy."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._jobs: SimpleQueue[Callable[[], Tell] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._change = threading.Lock()
        self._made = 0
        self._closed = False

    async def run(self, work: Callable[[], _T]) -> _T:
        call = Call(work)

        def job() -> Tell:
            if not call.future.cancelled():
                call.do(work)
            return partial(Call.tell, [call])

        self.submit(job)
        result: _T = await call.future
        return result

    def check(self) -> None:
        """StoreError once it is closed."""
        if self._closed:
            raise StoreError("The database is closed")

    def submit(self, job: Callable[[], Tell]) -> None:
        """Does the job in a thread, and then, when that is free again, what it returns."""
        with self._change:
            self.check()
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and self._left:
                self._left -= 1
                self._made += 1
                threading.Thread(target=self._work, name="database", daemon=True).start()

    def close(self) -> None:
        with self._change:
            self._closed = True
            for _ in range(self._made):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            tell = job()
            # Before it is told: whoever waits for it may come at once with the next.
            self._idle.release()
            tell()
            del job, tell  # with what they hold, while this waits for the next
