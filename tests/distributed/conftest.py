"""The engine is PostgreSQL, which the tests start themselves."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
from imgsync.domain.tasks import TASK_ENTITY_TYPE
from tests.e2e.conftest import shop, start_host

__all__ = ["shop", "start_host"]
Open = Callable[..., ProcrastinateTaskQueue]


@pytest.fixture
def engine_url(postgresql_url: str) -> str:
    """An empty database of the engine."""
    return postgresql_url.replace("postgresql", "procrastinate", 1)


@pytest.fixture
async def open_queue(engine_url: str) -> AsyncIterator[Open]:
    """Opens the queue as a host does, at another URL if one is given."""
    closers: list[Callable[[], Awaitable[None]]] = []

    def open_one(
        url: str = engine_url, kinds: Sequence[str] = (TASK_ENTITY_TYPE,)
    ) -> ProcrastinateTaskQueue:
        queue = ProcrastinateTaskQueue(url, kinds)
        closers.append(queue.close)
        return queue

    yield open_one
    for close in closers:
        await close()
