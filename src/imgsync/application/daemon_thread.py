"""Runs what may never end, such as a plugin's code, beside the event loop."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon_thread(function: Callable[[], _T]) -> _T:
    """The result of `function`, run in a daemon thread.

    As `asyncio.to_thread`, but once cancelled, nothing waits for the thread: neither the caller
    nor the end of the loop nor that of the process.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not result.done():
            set_outcome()

    def run() -> None:
        try:
            set_outcome = partial(result.set_result, context.run(function))
        except Exception as error:
            set_outcome = partial(result.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(settle, set_outcome)

    threading.Thread(target=run, daemon=True).start()
    return await result
