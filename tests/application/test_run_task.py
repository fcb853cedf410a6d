"""Tasks and workers: attempts, leases, shutdown."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from imgsync.application.payloads import batch_payload
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import AuthorisationError, UnavailableError
from imgsync.domain.model import LinkSettings
from imgsync.domain.ports.runs import NoMeter
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.tasks import Task, TaskStatus
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
ONE = [("a.png", png(0))]


async def drain(world: World, concurrency: int = 2) -> list[TaskReport]:
    reports: list[TaskReport] = []
    await world.worker(concurrency).run(drain=True, report=reports.append)
    return reports


def downloads_wait_for_a_renewal(
    world: World, on_download: Callable[[], None] = lambda: None
) -> asyncio.Event:
    """Holds each download of the main account until a lease is renewed; the event says so."""
    renewed, waiting = asyncio.Event(), asyncio.Event()
    renew, download = world.queue.renew, world.main.download

    async def noted(*args: Any, **kwargs: Any) -> None:
        counts = waiting.is_set()  # one from before the download shows nothing
        await renew(*args, **kwargs)
        if counts:
            renewed.set()

    async def waits(*args: Any, **kwargs: Any) -> TempFile:
        on_download()
        waiting.set()
        await renewed.wait()
        return await download(*args, **kwargs)

    world.queue.renew = noted  # type: ignore[method-assign]
    world.main.download = waits  # type: ignore[method-assign]
    return renewed


async def test_a_task_is_completed_with_its_result(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    (report,) = await drain(world)
    assert report.end is TaskEnd.COMPLETED
    task = await world.task(task_id)
    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, "completed", 1)


async def test_warnings_are_stored_with_the_task(world: World) -> None:
    world.pair([*ONE, ("bad.png", b"text")])
    task_id = await world.enqueue()
    await drain(world)
    task = await world.task(task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "completed with warnings")
    assert task.warnings == ("bad.png: it is neither a JPEG nor a PNG file",)


async def test_a_disabled_child_completes_the_task(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    await world.settings.put("child", LinkSettings())
    await drain(world)
    task = await world.task(task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "Image sync is disabled")


async def test_attempts_at_once_after_one_and_five_minutes_then_failed(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.main.fail = lambda call: UnavailableError("503") if "download" in call else None
    start = world.clock.moment
    for attempt, minutes in ((1, 1), (2, 5)):
        (report,) = await drain(world)
        assert report.end is TaskEnd.RETRYING
        task = await world.task(task_id)
        assert (task.status, task.attempts) == (TaskStatus.PENDING, attempt)
        assert task.scheduled_at == world.clock.moment + timedelta(minutes=minutes)
        assert await drain(world) == []
        world.clock.moment += timedelta(minutes=minutes)
    (report,) = await drain(world)
    assert report.end is TaskEnd.FAILED
    task = await world.task(task_id)
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
    task_id = await world.put(payload)
    (report,) = await drain(world)
    assert report.end is TaskEnd.FAILED
    task = await world.task(task_id)
    assert (task.status, task.attempts, task.payload) == (TaskStatus.FAILED, 1, payload)
    assert text in (task.error or "")


async def test_refused_credentials_fail_the_task_at_once(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.child.fail = lambda _: AuthorisationError("MoySklad account 'child': 401")
    await drain(world)
    task = await world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.FAILED, 1)
    assert task.error == "MoySklad account 'child': 401"


async def test_an_unexpected_error_is_retried_and_named(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    world.child.fail = lambda _: ZeroDivisionError("a bug")
    await drain(world)
    task = await world.task(task_id)
    assert (task.status, task.error) == (TaskStatus.PENDING, "ZeroDivisionError: a bug")


async def test_the_lease_is_renewed_while_the_task_runs(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    lease = timedelta(seconds=0.15)
    task = await world.claim(lease)

    def an_hour_later() -> None:
        world.clock.moment += timedelta(hours=1)

    renewed = downloads_wait_for_a_renewal(world, on_download=an_hour_later)
    running = asyncio.create_task(world.run_task(lease)(task))
    async with asyncio.timeout(10):
        await renewed.wait()
        lapses = (await world.task(task_id)).lease_expires_at
        assert (await running).end is TaskEnd.COMPLETED
    assert lapses is not None
    assert lapses > world.clock.moment


async def test_a_task_whose_lease_another_took_is_dropped(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    lease = timedelta(seconds=0.09)
    task = await world.claim(lease)
    world.clock.moment += timedelta(seconds=10)
    other = await world.claim()
    assert other.id == task.id
    hang = asyncio.Event()

    async def hangs(*_: object, **__: object) -> Any:
        await hang.wait()

    world.main.download = hangs  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        report = await world.run_task(lease)(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert report.error == "another worker holds the task now"
    assert (await world.task(task.id)).lease_token == other.lease_token


async def test_stop_finishes_what_runs_and_takes_nothing_new(world: World) -> None:
    world.pair(ONE)
    first = await world.enqueue()
    second = await world.put({"images": []})
    worker = world.worker(concurrency=1)
    download = world.main.download

    async def stops_meanwhile(*args: Any, **kwargs: Any) -> TempFile:
        worker.stop()
        await asyncio.sleep(0.05)
        return await download(*args, **kwargs)

    world.main.download = stops_meanwhile  # type: ignore[method-assign]
    await worker.run()
    assert (await world.task(first)).status is TaskStatus.COMPLETED
    assert (await world.task(second)).status is TaskStatus.PENDING


async def test_abort_gives_tasks_back_uncounted(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker = world.worker()
    started = asyncio.Event()

    async def hangs(*_: object, **__: object) -> Any:
        started.set()
        await asyncio.Event().wait()

    world.main.download = hangs  # type: ignore[method-assign]
    running = asyncio.create_task(worker.run())
    await started.wait()
    worker.abort()
    async with asyncio.timeout(5):
        await running
    task = await world.task(task_id)
    assert (task.status, task.attempts, task.lease_token) == (TaskStatus.PENDING, 0, None)
    assert world.storage.workspaces == {}


async def test_several_tasks_run_at_once(world: World) -> None:
    for n in range(4):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=f"x{n}")
        world.child.add("product", f"P{n}", external_code=f"x{n}")
    async for planned in world.plan("main", "child"):
        assert planned.request
        await world.put(batch_payload(planned.request), planned.request.dedupe_key)
    gauge = world.gauge_downloads(seconds=0.05)
    reports = await drain(world, concurrency=3)
    assert len(reports) == 4
    assert gauge.most == 3


async def test_a_fault_of_the_queue_does_not_end_the_worker(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker = world.worker()
    claim, faults = world.queue.claim, [OSError("database is away")]

    async def flaky(**kwargs: Any) -> list[Task]:
        if faults:
            raise faults.pop()
        return await claim(**kwargs)

    world.queue.claim = flaky  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await worker.run(report=lambda _: worker.stop())
    assert (await world.task(task_id)).status is TaskStatus.COMPLETED


async def test_a_worker_stopped_while_it_claims_starts_nothing(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker, claim = world.worker(), world.queue.claim

    async def stopped_meanwhile(**kwargs: Any) -> list[Task]:
        tasks = await claim(**kwargs)
        worker.abort()
        return tasks

    world.queue.claim = stopped_meanwhile  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await worker.run()
    task = await world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)
    assert world.main.count("download") == 0


async def test_a_run_cancelled_while_it_claims_gives_the_task_back(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    claim, claiming, go_on = world.queue.claim, asyncio.Event(), asyncio.Event()

    async def slow(**kwargs: Any) -> list[Task]:
        claiming.set()
        await go_on.wait()
        return await claim(**kwargs)

    world.queue.claim = slow  # type: ignore[method-assign]
    running = asyncio.create_task(world.worker().run())
    await claiming.wait()
    running.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(running, return_exceptions=True)
    task = await world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)


async def test_a_lease_that_lapsed_while_the_queue_was_away_ends_the_work(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    lease = timedelta(seconds=0.09)
    task = await world.claim(lease)

    async def away(*_: object, **__: object) -> None:
        raise OSError("database is away")

    async def hangs(*_: object, **__: object) -> Any:
        world.clock.moment += timedelta(hours=1)
        await asyncio.Event().wait()

    world.queue.renew = away  # type: ignore[method-assign]
    world.main.download = hangs  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        report = await world.run_task(lease)(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert world.child.count("set_images") == 0


async def test_one_renewal_that_fails_is_made_good_by_the_next(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    lease = timedelta(seconds=0.3)
    task = await world.claim(lease)
    renew, calls = world.queue.renew, list[int]()

    async def flaky(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("database is away")
        await renew(*args, **kwargs)

    world.queue.renew = flaky  # type: ignore[method-assign]
    downloads_wait_for_a_renewal(world)
    async with asyncio.timeout(5):
        assert (await world.run_task(lease)(task)).end is TaskEnd.COMPLETED
    assert (await world.task(task_id)).status is TaskStatus.COMPLETED


@pytest.mark.slow
async def test_the_lease_is_renewed_well_before_it_lapses(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    lease = timedelta(seconds=1.5)
    task = await world.claim(lease)
    loop = asyncio.get_running_loop()
    started = loop.time()
    renew, at = world.queue.renew, list[float]()

    async def timed(*args: Any, **kwargs: Any) -> None:
        await renew(*args, **kwargs)
        at.append(loop.time() - started)

    world.queue.renew = timed  # type: ignore[method-assign]
    downloads_wait_for_a_renewal(world)
    await world.run_task(lease)(task)
    assert at[0] < 1.5


async def test_a_lease_lost_at_the_very_end_is_reported(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    task = await world.claim()
    world.clock.moment += timedelta(hours=1)
    assert await world.queue.claim(lease=LEASE)
    report = await world.run_task()(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert "another worker holds the task" in (report.error or "")


async def test_a_broken_queue_ends_a_run_of_chosen_tasks(world: World) -> None:
    async def broken(**_: object) -> list[Task]:
        raise OSError("database is away")

    world.queue.claim = broken  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        with pytest.raises(OSError, match="away"):
            await world.worker().run(drain=True, only=[1])


async def test_a_task_queued_while_another_runs_is_started_at_once(world: World) -> None:
    world.pair(ONE)
    await world.enqueue()
    worker = world.worker()
    both = asyncio.Event()
    count = 0

    async def wait_for_the_other(*_: object, **__: object) -> Any:
        nonlocal count
        count += 1
        if count == 1:
            world.main.add("product", "B", [("b.png", png(9))], external_code="y")
            world.child.add("product", "B", external_code="y")
            plans = [p.request async for p in world.plan("main", "child")]
            assert plans[1] is not None
            await world.put(batch_payload(plans[1]), plans[1].dedupe_key)
        else:
            both.set()
        await both.wait()
        raise UnavailableError("enough")

    world.main.download = wait_for_the_other  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await worker.run(drain=True)
    assert count == 2


async def test_a_broken_queue_ends_a_drain_with_its_error(world: World) -> None:
    async def broken(**_: object) -> list[Task]:
        raise OSError("database is away")

    world.queue.claim = broken  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        with pytest.raises(OSError, match="away"):
            await world.worker().run(drain=True)


async def test_a_task_that_cannot_be_settled_does_not_end_the_worker(world: World) -> None:
    world.pair(ONE)
    first = await world.enqueue()
    second = await world.put({"images": []})
    worker = world.worker()

    async def broken(*_: object, **__: object) -> None:
        raise OSError("database is away")

    world.queue.complete = broken  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await worker.run(report=lambda _: worker.stop())
    assert (await world.task(first)).status is TaskStatus.PROCESSING
    assert (await world.task(second)).status is TaskStatus.FAILED


async def test_a_cancelled_run_gives_its_tasks_back_after_their_work_ended(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    started, ended = asyncio.Event(), list[str]()

    async def hangs(*_: object, **__: object) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append("work")

    release = world.queue.release

    async def noted(*args: Any, **kwargs: Any) -> None:
        ended.append("released")
        await release(*args, **kwargs)

    world.main.download = hangs  # type: ignore[method-assign]
    world.queue.release = noted  # type: ignore[method-assign]
    running = asyncio.create_task(world.worker().run())
    await started.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ended == ["work", "released"]
    task = await world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)


async def test_an_abort_before_a_task_has_begun_gives_it_back_too(world: World) -> None:
    world.pair(ONE)
    task_id = await world.enqueue()
    worker, claim = world.worker(), world.queue.claim
    loop = asyncio.get_running_loop()

    async def abort_right_after(**kwargs: Any) -> list[Task]:
        tasks = await claim(**kwargs)
        # Runs in the same turn of the loop in which the worker starts the task.
        loop.call_soon(lambda: loop.call_soon(worker.abort))
        return tasks

    world.queue.claim = abort_right_after  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await worker.run()
    task = await world.task(task_id)
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)


async def test_how_long_an_attempt_takes_is_measured_by_how_it_ends(world: World) -> None:
    measured: list[tuple[str, str, float]] = []

    class Meter(NoMeter):
        def task(self, kind: str, end: str, seconds: float) -> None:
            measured.append((kind, end, seconds))

    world.pair(ONE)
    await world.enqueue()
    await world.put({"images": 7})
    moments = iter(range(100))
    run_task = replace(world.run_task(), meter=Meter(), elapsed=lambda: float(next(moments)))
    await Worker(world.queue, run_task, LEASE, 1, 0.01).run(drain=True)
    assert sorted((kind, end) for kind, end, _ in measured) == [
        ("image_sync", "completed"),
        ("image_sync", "failed"),
    ]
    assert all(seconds >= 1 for _, _, seconds in measured)
