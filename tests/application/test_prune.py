"""What becomes of tasks that ended long ago."""

from datetime import timedelta

import pytest

from imgsync.application.clean import PruneQueue
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TaskStatus
from imgsync.testing import MemoryStore, MemoryTaskQueue, SetClock

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=2)
DAYS = timedelta(days=30)


@pytest.mark.slow
async def test_failed_tasks_are_kept_three_times_as_long() -> None:
    clock = SetClock()
    queue = MemoryTaskQueue(MemoryStore(clock))
    await queue.enqueue([NewTask(n) for n in range(1203)])
    for task in await queue.claim(lease=LEASE, limit=1202):
        if task.payload < 1200:
            await queue.complete(task, result="completed", warnings=[])
        else:
            await queue.fail(task, error="x")
    prune = PruneQueue(queue, DAYS)
    assert await prune() == 0
    clock.advance(DAYS + timedelta(hours=1))
    assert await prune() == 1200  # more than one portion
    assert (await queue.counts())[TaskStatus.FAILED] == 2
    clock.advance(DAYS)
    assert await prune() == 0
    clock.advance(DAYS)
    assert await prune() == 2
    assert [task.status for task in await queue.find()] == [TaskStatus.PENDING]
