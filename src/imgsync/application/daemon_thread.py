"""Runs what may never end, such as a plugin's code, beside the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def in_daemon_thread(function: Callable[[], _T]) -> _T:
    """The result of `function`, run in a daemon thread.

    As `asyncio.to_thread`, but once cancelled, nothing waits for the thread: neither the caller
    nor the end of the loop nor that of the process.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(method: Callable[[Any], None], value: Any) -> None:
        if not result.done():
            method(value)

    def run() -> None:
        try:
            method, value = result.set_result, function()
        except Exception as error:
            method, value = result.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(settle, method, value)

    threading.Thread(target=run, daemon=True).start()
    return await result
