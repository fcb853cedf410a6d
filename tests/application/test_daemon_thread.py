"""Work beside the event loop that may never end."""

import asyncio
import threading
import time

import pytest

from imgsync.application.daemon_thread import in_daemon_thread

pytestmark = pytest.mark.anyio


async def test_the_result_comes_back() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().daemon)


async def test_an_error_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


async def test_the_loop_goes_on_meanwhile() -> None:
    free = threading.Event()
    asyncio.get_running_loop().call_later(0.01, free.set)
    assert await in_daemon_thread(lambda: free.wait(10))


def test_nothing_waits_for_a_thread_that_was_given_up() -> None:
    free = threading.Event()

    async def give_up() -> None:
        async with asyncio.timeout(0.05):
            await in_daemon_thread(lambda: free.wait(30))

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert time.monotonic() - began < 5
    free.set()  # its loop is closed by now, which troubles nobody
    time.sleep(0.05)
