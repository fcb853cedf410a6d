"""Full disks, and tasks that kill their workers."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from imgsync.application.payloads import batch_payload
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import NoRoomError
from imgsync.domain.tasks import Task, TaskStatus
from tests.application.world import LEASE, World, png
from tests.fakes.storage import MemoryFileStorage, MemoryWorkspace

pytestmark = pytest.mark.anyio


class FullStorage(MemoryFileStorage):
    """No room at all, until there is."""

    full = True

    @contextmanager
    def workspace(self) -> Iterator[MemoryWorkspace]:
        if self.full:
            raise NoRoomError("No room for temp files in /temp: No space left on device")
        with super().workspace() as workspace:
            yield workspace


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the database tells nobody)
            await asyncio.sleep(0.01)


async def queue_many(world: World, count: int) -> None:
    for n in range(count):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=f"x{n}")
        world.child.add("product", f"P{n}", external_code=f"x{n}")
    async for planned in world.plan("main", "child"):
        assert planned.request
        world.put(batch_payload(planned.request), planned.request.dedupe_key)


def worker_of(world: World, **options: Any) -> Worker:
    settings: dict[str, Any] = {"concurrency": 3, "poll_seconds": 0.02}
    return Worker(world.queue, world.run_task(), LEASE, **(settings | options))


@pytest.fixture
def full(sqlite_engine: Any) -> World:
    return World(sqlite_engine, storage=FullStorage())


def has_room(world: World, room: bool = True) -> None:
    world.storage.full = not room  # type: ignore[attr-defined]


async def test_a_full_disk_burns_no_attempt_is_said_once_and_passes(
    full: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await queue_many(full, 6)
    worker, reports = worker_of(full), list[TaskReport]()
    running = asyncio.create_task(worker.run(report=reports.append))
    await until(lambda: len(reports) >= 8)
    assert {report.end for report in reports} == {TaskEnd.NO_ROOM}
    assert {task.attempts for task in full.queue.find()} <= {0, 1}
    has_room(full)
    await until(lambda: full.queue.counts()[TaskStatus.COMPLETED] == 6)
    worker.stop()
    await running
    assert {task.attempts for task in full.queue.find()} == {1}
    assert caplog.text.count("no further task is taken until there is room") == 1
    assert caplog.text.count("there is room again") == 1


async def test_without_room_one_task_at_a_time_is_tried_and_not_more_often_than_a_poll(
    full: World,
) -> None:
    await queue_many(full, 6)
    worker, reports = worker_of(full, poll_seconds=0.2), list[TaskReport]()
    running = asyncio.create_task(worker.run(report=reports.append))
    await asyncio.sleep(1.1)
    worker.stop()
    await running
    assert 3 + 2 <= len(reports) <= 3 + 6
    assert full.queue.counts()[TaskStatus.PENDING] == 6
    assert {task.attempts for task in full.queue.find()} == {0}


async def test_a_drain_gives_up_after_a_while_without_room(full: World) -> None:
    await queue_many(full, 2)
    async with asyncio.timeout(5):
        with pytest.raises(NoRoomError, match="No space left"):
            await worker_of(full, drain_without_room_seconds=0.1).run(drain=True)
    assert {task.attempts for task in full.queue.find()} == {0}


async def test_a_drain_with_room_in_time_completes(full: World) -> None:
    await queue_many(full, 4)
    asyncio.get_running_loop().call_later(0.15, has_room, full)
    async with asyncio.timeout(10):
        await worker_of(full).run(drain=True)
    assert full.queue.counts()[TaskStatus.COMPLETED] == 4


async def test_a_database_without_room_gets_its_tasks_back_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the end of a task nor its return can be written, then both can."""
    caplog.set_level(logging.INFO)
    await queue_many(world, 2)
    full, kept = [True], {}
    for name in ("complete", "release"):
        kept[name] = getattr(world.queue, name)

        def refuse(*args: Any, _name: str = name, **kwargs: Any) -> None:
            if full:
                raise NoRoomError("No room for the database: database or disk is full")
            kept[_name](*args, **kwargs)

        setattr(world.queue, name, refuse)
    worker = worker_of(world)
    running = asyncio.create_task(worker.run())
    # One or both were taken before the first could not be ended.
    await until(lambda: "no further task is taken" in caplog.text)
    assert world.queue.counts()[TaskStatus.PROCESSING] >= 1
    full.clear()
    await until(lambda: world.queue.counts()[TaskStatus.COMPLETED] == 2)
    worker.stop()
    await running
    assert {(task.attempts, task.crashes) for task in world.queue.find()} == {(1, 0)}
    assert caplog.text.count("no further task is taken") == 1


async def test_a_claim_without_room_is_no_end_of_the_worker(world: World) -> None:
    await queue_many(world, 1)
    claim, full = world.queue.claim, [True]

    def refuse(**kwargs: Any) -> Task | None:
        if full:
            raise NoRoomError("No room for the database: database or disk is full")
        return claim(**kwargs)

    world.queue.claim = refuse  # type: ignore[method-assign]
    asyncio.get_running_loop().call_later(0.1, full.clear)
    async with asyncio.timeout(10):
        await worker_of(world).run(drain=True)
    assert world.queue.counts()[TaskStatus.COMPLETED] == 1


async def crash(world: World, task_id: int, times: int) -> None:
    """A worker with that task is killed so many times."""
    for _ in range(times):
        assert world.queue.claim(lease=LEASE, only=[task_id])
        world.clock.moment += LEASE + timedelta(seconds=1)


async def test_a_task_that_was_there_at_two_crashes_runs_alone(world: World) -> None:
    await queue_many(world, 5)
    suspect = world.queue.find()[2].id
    await crash(world, suspect, 2)
    beside: dict[int, int] = {}
    open_now: set[int] = set()
    run = world.run_task()

    async def watched(task: Task) -> TaskReport:
        open_now.add(task.id)
        for other in open_now:
            beside[other] = max(beside.get(other, 0), len(open_now) - 1)
        await asyncio.sleep(0.05)
        report = await run(task)
        open_now.discard(task.id)
        return report

    worker = Worker(world.queue, watched, LEASE, 3, 0.01)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await worker.run(drain=True)
    assert world.queue.counts()[TaskStatus.COMPLETED] == 5
    assert beside[suspect] == 0
    assert max(beside.values()) == 1
    assert {task.attempts for task in world.queue.find(TaskStatus.COMPLETED)} == {1}


async def test_a_task_that_was_there_at_one_crash_runs_beside_others(world: World) -> None:
    await queue_many(world, 3)
    await crash(world, world.queue.find()[0].id, 1)
    gauge = world.gauge_downloads(seconds=0.5)
    await worker_of(world).run(drain=True)
    assert gauge.most == 3


async def test_poison_fails_in_the_end_and_its_neighbours_keep_their_attempts(
    world: World,
) -> None:
    await queue_many(world, 3)
    poison, *others = [task.id for task in world.queue.find()]
    for _ in range(2):  # in company: all of the worker's tasks lapse with it
        for task_id in (poison, *others):
            assert world.queue.claim(lease=LEASE, only=[task_id])
        world.clock.moment += LEASE + timedelta(seconds=1)
    await crash(world, poison, 2)
    async with asyncio.timeout(10):
        await worker_of(world).run(drain=True)
    failed = world.task(poison)
    assert failed.status is TaskStatus.FAILED
    assert "its worker was lost 4 times" in (failed.error or "")
    assert {(world.task(n).status, world.task(n).attempts) for n in others} == {
        (TaskStatus.COMPLETED, 1)
    }
