"""Tasks and workers: attempts, leases, shutdown."""

import asyncio
from datetime import timedelta

import pytest

from imgsync.application.run_task import TaskEnd, TaskReport
from imgsync.domain.errors import AuthorisationError, UnavailableError
from imgsync.domain.payloads import batch_payload
from imgsync.domain.settings import ChildSettings
from imgsync.domain.tasks import TaskStatus
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
ONE = [("a.png", png(0))]


async def drain(world: World, concurrency: int = 2) -> list[TaskReport]:
    reports: list[TaskReport] = []
    await world.worker(concurrency).run(drain=True, report=reports.append)
    return reports


async def test_a_task_is_completed_with_its_result(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    (report,) = await drain(world)
    assert report.end is TaskEnd.COMPLETED
    task = world.task(task_id)
    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, "completed", 1)


async def test_warnings_are_stored_with_the_task(world: World) -> None:
    world.pair([*ONE, ("bad.png", b"text")])
    task_id = await world.enqueue()
    await drain(world)
    task = world.task(task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "completed with warnings")
    assert task.warnings == ("bad.png: it is neither a JPEG nor a PNG file",)


async def test_a_disabled_child_completes_the_task(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.settings.put("child", ChildSettings())
    await drain(world)
    task = world.task(task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "Image sync is disabled")


async def test_attempts_at_once_after_one_and_five_minutes_then_failed(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.main.fail = lambda call: UnavailableError("503") if "download" in call else None
    start = world.clock.moment
    for attempt, minutes in ((1, 1), (2, 5)):
        (report,) = await drain(world)
        assert report.end is TaskEnd.RETRYING
        task = world.task(task_id)
        assert (task.status, task.attempts) == (TaskStatus.PENDING, attempt)
        assert task.scheduled_at == world.clock.moment + timedelta(minutes=minutes)
        assert await drain(world) == []
        world.clock.moment += timedelta(minutes=minutes)
    (report,) = await drain(world)
    assert report.end is TaskEnd.FAILED
    task = world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.FAILED, 3)
    assert task.error == "No image was uploaded: a.png: 503"
    assert world.clock.moment == start + timedelta(minutes=6)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"images": []}, "field 'main_account_id'"),
        ("not an object", "field 'payload'"),
        ({"main_account_id": "m"}, "field 'images'"),
    ],
)
async def test_a_bad_payload_fails_at_once_naming_the_field(
    world: World, payload: object, text: str
) -> None:
    task_id = world.put(payload)
    (report,) = await drain(world)
    assert report.end is TaskEnd.FAILED
    task = world.task(task_id)
    assert (task.status, task.attempts, task.payload) == (TaskStatus.FAILED, 1, payload)
    assert text in (task.error or "")


async def test_refused_credentials_fail_the_task_at_once(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.child.fail = lambda _: AuthorisationError("MoySklad account 'child': 401")
    await drain(world)
    task = world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.FAILED, 1)
    assert task.error == "MoySklad account 'child': 401"


async def test_an_unexpected_error_is_retried_and_named(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.child.fail = lambda _: ZeroDivisionError("a bug")
    await drain(world)
    task = world.task(task_id)
    assert (task.status, task.error) == (TaskStatus.PENDING, "ZeroDivisionError: a bug")


async def test_the_lease_is_renewed_while_the_task_runs(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    lease = timedelta(seconds=0.15)
    task = world.queue.claim(now=world.clock.now(), lease=lease)
    assert task is not None
    download = world.main.download

    async def slow(*args: object, **kwargs: object) -> None:
        world.clock.moment += timedelta(hours=1)
        await asyncio.sleep(0.3)
        await download(*args, **kwargs)  # type: ignore[arg-type]

    world.main.download = slow  # type: ignore[method-assign]
    running = asyncio.create_task(world.run_task(lease)(task))
    await asyncio.sleep(0.2)
    renewed = world.task(task_id).lease_expires_at
    assert renewed is not None
    assert renewed > world.clock.moment
    assert (await running).end is TaskEnd.COMPLETED


async def test_a_task_whose_lease_another_took_is_dropped(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    lease = timedelta(seconds=0.09)
    task = world.queue.claim(now=world.clock.now(), lease=lease)
    assert task is not None
    world.clock.moment += timedelta(seconds=10)
    other = world.queue.claim(now=world.clock.now(), lease=LEASE)
    assert other is not None
    assert other.id == task.id
    hang = asyncio.Event()

    async def hangs(*_: object, **__: object) -> None:
        await hang.wait()

    world.main.download = hangs  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        report = await world.run_task(lease)(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert world.task(task.id).lease_token == other.lease_token


async def test_stop_finishes_what_runs_and_takes_nothing_new(world: World) -> None:
    world.pair(ONE)
    first = await world.enqueue()
    second = world.put({"images": []})
    worker = world.worker(concurrency=1)
    download = world.main.download

    async def stops_meanwhile(*args: object, **kwargs: object) -> None:
        worker.stop()
        await asyncio.sleep(0.05)
        await download(*args, **kwargs)  # type: ignore[arg-type]

    world.main.download = stops_meanwhile  # type: ignore[method-assign]
    await worker.run()
    assert world.task(first).status is TaskStatus.COMPLETED
    assert world.task(second).status is TaskStatus.PENDING


async def test_abort_gives_tasks_back_uncounted(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker = world.worker()
    started = asyncio.Event()

    async def hangs(*_: object, **__: object) -> None:
        started.set()
        await asyncio.Event().wait()

    world.main.download = hangs  # type: ignore[method-assign]
    running = asyncio.create_task(worker.run())
    await started.wait()
    worker.abort()
    async with asyncio.timeout(5):
        await running
    task = world.task(task_id)
    assert (task.status, task.attempts, task.lease_token) == (TaskStatus.PENDING, 0, None)
    assert world.storage.workspaces == {}


async def test_several_tasks_run_at_once(world: World) -> None:
    for n in range(4):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=f"x{n}")
        world.child.add("product", f"P{n}", external_code=f"x{n}")
    async for planned in world.plan("main", "child"):
        assert planned.request
        world.put(batch_payload(planned.request), planned.request.dedupe_key)
    running, most = 0, 0
    download = world.main.download

    async def counted(*args: object, **kwargs: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        await download(*args, **kwargs)  # type: ignore[arg-type]
        running -= 1

    world.main.download = counted  # type: ignore[method-assign]
    reports = await drain(world, concurrency=3)
    assert len(reports) == 4
    assert most == 3


async def test_a_fault_of_the_queue_does_not_end_the_worker(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker = world.worker()
    claim, faults = world.queue.claim, [OSError("database is away")]

    def flaky(**kwargs: object) -> object:
        if faults:
            raise faults.pop()
        return claim(**kwargs)  # type: ignore[arg-type]

    world.queue.claim = flaky  # type: ignore[assignment,method-assign]
    async with asyncio.timeout(5):
        await worker.run(report=lambda _: worker.stop())
    assert world.task(task_id).status is TaskStatus.COMPLETED
