"""Full disks, and tasks that kill their workers."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from imgsync.application.payloads import batch_payload
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import (
    ImgsyncError,
    KeyStoreError,
    MissingKeyError,
    NoRoomError,
    StoreError,
)
from imgsync.domain.model import Account
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.tasks import (
    ALONE_FROM_CRASHES,
    TASK_ENTITY_TYPE,
    SyncResult,
    Task,
    TaskId,
    TaskStatus,
)
from imgsync.testing import MemoryContentStore, MemoryWorkspace
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio


class FullStorage(MemoryContentStore):
    """No room at all, until there is."""

    full = True

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        if self.full:
            raise NoRoomError("No room for temp files in /temp: No space left on device")
        async with super().workspace() as workspace:
            yield workspace


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)


def completed(world: World) -> int:
    return [t.status for t in world.store.tasks.values()].count(TaskStatus.COMPLETED)


async def queue_many(world: World, count: int) -> None:
    for n in range(count):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=f"x{n}")
        world.child.add("product", f"P{n}", external_code=f"x{n}")
    async for planned in world.plan("main", "child"):
        assert planned.request
        await world.put(batch_payload(planned.request), planned.request.dedupe_key)


def worker_of(world: World, **options: Any) -> Worker:
    settings: dict[str, Any] = {"concurrency": 3, "poll_seconds": 0.02}
    return Worker(world.queue, world.run_task(), LEASE, **(settings | options))


@pytest.fixture
def full() -> World:
    return World(storage=FullStorage())


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
    assert {task.attempts for task in await full.queue.find()} <= {0, 1}
    has_room(full)
    await until(lambda: completed(full) == 6)
    worker.stop()
    await running
    assert {task.attempts for task in await full.queue.find()} == {1}
    assert caplog.text.count("no further task is taken until that is mended") == 1
    assert caplog.text.count("that is mended; the worker goes on") == 1


@pytest.mark.slow
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
    assert (await full.queue.counts())[TaskStatus.PENDING] == 6
    assert {task.attempts for task in await full.queue.find()} == {0}


async def test_a_drain_gives_up_after_a_while_without_room(full: World) -> None:
    await queue_many(full, 2)
    async with asyncio.timeout(5):
        with pytest.raises(NoRoomError, match="No space left"):
            await worker_of(full, drain_without_room_seconds=0.1).run(drain=True)
    assert {task.attempts for task in await full.queue.find()} == {0}


@pytest.mark.parametrize(
    "error",
    [MissingKeyError("0a1b2c3d", "there is no key here"), KeyStoreError("The key file is no file")],
)
async def test_a_host_without_the_key_of_the_tokens_fails_no_task(
    world: World, error: ImgsyncError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another host has rekeyed, and the new key has not come to this one yet."""
    await queue_many(world, 6)
    asked = 0

    async def get(_: str) -> Account:
        nonlocal asked
        asked += 1
        raise error

    monkeypatch.setattr(world.accounts, "get", get)
    worker = worker_of(world)
    running = asyncio.create_task(worker.run())
    await until(lambda: asked > 20)
    assert {task.attempts for task in await world.queue.find(TaskStatus.PENDING)} <= {0}
    assert (await world.queue.counts())[TaskStatus.FAILED] == 0
    monkeypatch.undo()
    await until(lambda: completed(world) == 6)
    worker.stop()
    await running


async def test_a_drain_with_room_in_time_completes(full: World) -> None:
    await queue_many(full, 4)
    asyncio.get_running_loop().call_later(0.15, has_room, full)
    async with asyncio.timeout(10):
        await worker_of(full).run(drain=True)
    assert (await full.queue.counts())[TaskStatus.COMPLETED] == 4


async def test_a_database_without_room_gets_its_tasks_back_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the end of a task nor its return can be written, then both can."""
    caplog.set_level(logging.INFO)
    await queue_many(world, 2)
    full, kept = [True], {}
    for name in ("complete", "release"):
        kept[name] = getattr(world.queue, name)

        async def refuse(*args: Any, _name: str = name, **kwargs: Any) -> None:
            if full:
                raise NoRoomError("No room for the database: database or disk is full")
            await kept[_name](*args, **kwargs)

        setattr(world.queue, name, refuse)
    worker = worker_of(world)
    running = asyncio.create_task(worker.run())
    # One or both were taken before the first could not be ended.
    await until(lambda: "no further task is taken" in caplog.text)
    assert (await world.queue.counts())[TaskStatus.PROCESSING] >= 1
    full.clear()
    await until(lambda: completed(world) == 2)
    worker.stop()
    await running
    assert {(task.attempts, task.crashes) for task in await world.queue.find()} == {(1, 0)}
    assert caplog.text.count("no further task is taken") == 1


async def test_a_claim_without_room_is_no_end_of_the_worker(world: World) -> None:
    await queue_many(world, 1)
    claim, full = world.queue.claim, [True]

    async def refuse(**kwargs: Any) -> list[Task]:
        if full:
            raise NoRoomError("No room for the database: database or disk is full")
        return await claim(**kwargs)

    world.queue.claim = refuse  # type: ignore[method-assign]
    asyncio.get_running_loop().call_later(0.1, full.clear)
    async with asyncio.timeout(10):
        await worker_of(world).run(drain=True)
    assert (await world.queue.counts())[TaskStatus.COMPLETED] == 1


async def crash(world: World, task_id: TaskId, times: int) -> None:
    """A worker with that task is killed so many times."""
    for _ in range(times):
        assert await world.queue.claim(lease=LEASE, only=[task_id])
        world.clock.moment += LEASE + timedelta(seconds=1)


async def test_a_task_that_was_there_at_two_crashes_runs_alone(world: World) -> None:
    await queue_many(world, 5)
    suspect = (await world.queue.find())[2].id
    await crash(world, suspect, 2)
    beside: dict[TaskId, int] = {}
    open_now: set[TaskId] = set()
    run = world.run_task()
    handler = run.handlers[TASK_ENTITY_TYPE]

    async def watched(task: Task, permit: WritePermit) -> SyncResult:
        open_now.add(task.id)
        for other in open_now:
            beside[other] = max(beside.get(other, 0), len(open_now) - 1)
        await asyncio.sleep(0.05)
        result = await handler(task, permit)
        open_now.discard(task.id)
        return result

    run.handlers = {TASK_ENTITY_TYPE: watched}
    worker = Worker(world.queue, run, LEASE, 3, 0.01)
    async with asyncio.timeout(10):
        await worker.run(drain=True)
    assert (await world.queue.counts())[TaskStatus.COMPLETED] == 5
    assert beside[suspect] == 0
    assert max(beside.values()) == 1
    assert {task.attempts for task in await world.queue.find(TaskStatus.COMPLETED)} == {1}


@pytest.mark.slow
async def test_a_task_that_was_there_at_one_crash_runs_beside_others(world: World) -> None:
    await queue_many(world, 3)
    await crash(world, (await world.queue.find())[0].id, 1)
    gauge = world.gauge_downloads(seconds=0.5)
    await worker_of(world).run(drain=True)
    assert gauge.most == 3


async def test_poison_fails_in_the_end_and_its_neighbours_keep_their_attempts(
    world: World,
) -> None:
    await queue_many(world, 3)
    poison, *others = [task.id for task in await world.queue.find()]
    for _ in range(2):  # in company: all of the worker's tasks lapse with it
        for task_id in (poison, *others):
            assert await world.queue.claim(lease=LEASE, only=[task_id])
        world.clock.moment += LEASE + timedelta(seconds=1)
    await crash(world, poison, 2)
    async with asyncio.timeout(10):
        await worker_of(world).run(drain=True)
    failed = await world.task(poison)
    assert failed.status is TaskStatus.FAILED
    assert "its worker was lost 4 times" in (failed.error or "")
    ended = [await world.task(task_id) for task_id in others]
    assert {(task.status, task.attempts) for task in ended} == {(TaskStatus.COMPLETED, 1)}


def fail_once(world: World, method: str, error: Exception) -> list[Exception]:
    """The method fails at its first call; what is left of that."""
    inner, left = getattr(world.queue, method), [error]

    async def failing(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return await inner(*args, **kwargs)

    setattr(world.queue, method, failing)
    return left


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("error", [StoreError("connection lost"), NoRoomError("full")])
async def test_a_task_that_cannot_be_given_back_now_stops_no_other(
    world: World, caplog: pytest.LogCaptureFixture, error: Exception, drain: bool
) -> None:
    await queue_many(world, 3)
    suspect = max(world.store.tasks)
    tasks = world.store.tasks
    tasks[suspect] = replace(tasks[suspect], crashes=ALONE_FROM_CRASHES)
    left = fail_once(world, "release", error)
    worker = worker_of(world)
    async with asyncio.timeout(10):
        running = asyncio.create_task(worker.run(drain=drain))
        if not drain:
            await until(lambda: completed(world) == 3 or running.done())
            worker.stop()
        await running
    assert not left
    assert completed(world) == 3
    assert tasks[suspect].crashes == ALONE_FROM_CRASHES
    assert "Traceback" not in caplog.text


async def test_a_claim_that_fails_while_it_is_cancelled_is_a_cancelled_claim(world: World) -> None:
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def claim(**_: Any) -> list[Task]:
        claiming.set()
        await go_on.wait()
        raise StoreError("connection lost")

    world.queue.claim = claim  # type: ignore[method-assign]
    running = asyncio.create_task(worker_of(world).run(drain=True))
    await claiming.wait()
    running.cancel()
    asyncio.get_running_loop().call_later(0.02, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_task_that_cannot_be_settled_is_one_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await queue_many(world, 2)
    fail_once(world, "complete", StoreError("connection lost"))
    await worker_of(world).run(drain=True)
    assert completed(world) == 1
    said = r"child: product \S+.*, task \d+: it could not be settled in the queue: connection lost"
    assert re.fullmatch(said, caplog.messages[-1])
    assert not any(record.exc_info for record in caplog.records)


async def test_a_task_settled_as_it_is_cancelled_ends_as_cancelled(world: World) -> None:
    """A queue whose transaction goes on when its caller is cancelled."""
    await queue_many(world, 1)
    (task,) = await world.queue.claim(lease=LEASE)
    complete, done = world.queue.complete, asyncio.Event()

    async def completing(*args: Any, **kwargs: Any) -> None:
        await complete(*args, **kwargs)
        done.set()
        await asyncio.Event().wait()

    world.queue.complete = completing  # type: ignore[method-assign]
    running = asyncio.create_task(world.run_task()(task))
    await done.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert completed(world) == 1


async def test_a_worker_takes_as_many_as_it_has_places_for_and_gives_back_what_must_run_alone(
    world: World,
) -> None:
    await queue_many(world, 5)
    dangerous = await world.queue.find(limit=1)
    world.store.tasks[dangerous[0].id] = replace(
        world.store.tasks[dangerous[0].id], crashes=ALONE_FROM_CRASHES, priority=99
    )
    claim, limits, ran = world.queue.claim, list[int](), list[TaskReport]()

    async def count(**kwargs: Any) -> list[Task]:
        limits.append(kwargs["limit"])
        return await claim(**kwargs)

    world.queue.claim = count  # type: ignore[method-assign]
    await worker_of(world).run(drain=True, report=ran.append)
    assert limits[0] == 100
    # Alone, then as many as there are places, until none is suspected any more.
    assert limits[1:3] == [1, 3]
    assert [r.end for r in ran] == [TaskEnd.COMPLETED] * 5
    assert {r.task.attempts for r in ran} == {1}
    assert len(limits) <= 8  # one by one they were six and more, besides what ran alone
