"""What a task may do while its lease holds, and what becomes of it once it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from imgsync.application.work import LeasePermit, TaskEnd
from imgsync.domain.diff import NOTHING_LEFT, EntityKey
from imgsync.domain.errors import ImgsyncError, LeaseLostError
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.tasks import Task, TaskStatus
from imgsync.uptime import uptime
from tests.application.world import LEASE, TYPES, World, png

pytestmark = pytest.mark.anyio
ONE = [("a.png", png(0))]


@dataclass
class Stopwatch:
    """Time that passes only as told, such as while a process is stopped."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def claimed(world: World, lease: timedelta = LEASE) -> Task:
    world.pair(ONE)
    await world.enqueue()
    return await world.claim(lease)


def renewing(world: World, act: Callable[[], Awaitable[object]]) -> None:
    """`act` happens while the queue renews a lease."""
    renew = world.queue.renew

    async def renewed(*args: Any, **kwargs: Any) -> None:
        await renew(*args, **kwargs)
        await act()

    world.queue.renew = renewed  # type: ignore[method-assign]


def test_the_clock_of_leases_goes_on() -> None:
    first = uptime()
    assert 0 <= uptime() - first < 10


async def test_a_write_may_last_as_long_as_the_lease_less_a_margin(world: World) -> None:
    watch = Stopwatch()
    permit = LeasePermit(world.queue, await claimed(world), LEASE, watch)
    assert not permit.used
    world.clock.moment += LEASE / 2
    assert await permit.confirm() == 60 - 5
    assert permit.used
    assert (await world.task(1)).lease_expires_at == world.clock.moment + LEASE


async def test_the_time_of_the_renewal_itself_counts_from_before_it_was_sent(world: World) -> None:
    watch = Stopwatch()
    permit = LeasePermit(world.queue, await claimed(world), LEASE, watch)

    async def slow() -> None:
        watch.seconds += 20

    renewing(world, slow)
    assert await permit.confirm() == 60 - 5 - 20


async def test_a_process_stopped_during_the_renewal_may_not_write(world: World) -> None:
    watch = Stopwatch()
    permit = LeasePermit(world.queue, await claimed(world), LEASE, watch)

    async def stopped() -> None:
        watch.seconds += 600

    renewing(world, stopped)
    with pytest.raises(LeaseLostError, match="too late"):
        await permit.confirm()


async def test_a_lease_that_another_took_permits_nothing(world: World) -> None:
    permit = LeasePermit(world.queue, await claimed(world), LEASE)
    world.clock.moment += LEASE
    assert await world.queue.claim(lease=LEASE)
    with pytest.raises(LeaseLostError, match="another worker"):
        await permit.confirm()
    assert not permit.used


async def test_a_lease_that_lapsed_and_that_nobody_took_is_held_again(world: World) -> None:
    permit = LeasePermit(world.queue, await claimed(world), LEASE)
    world.clock.moment += 10 * LEASE
    assert await permit.confirm() > 0
    assert await world.queue.claim(lease=LEASE) == []


async def test_a_queue_that_fails_permits_nothing(world: World) -> None:
    permit = LeasePermit(world.queue, await claimed(world), LEASE)

    async def away() -> None:
        raise OSError("database is away")

    renewing(world, away)
    with pytest.raises(LeaseLostError, match=r"^the lease cannot be confirmed: .* is away"):
        await permit.confirm()


async def test_a_queue_that_does_not_answer_permits_nothing(world: World) -> None:
    lease = timedelta(seconds=0.3)
    permit = LeasePermit(world.queue, await claimed(world, lease), lease)
    renewing(world, asyncio.Event().wait)
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLostError, match="does not answer"):
            await permit.confirm()


async def test_nothing_is_written_once_the_lease_is_lost_and_no_record_is_left(
    world: World,
) -> None:
    task = await claimed(world)

    async def taken_meanwhile(*args: Any, **kwargs: Any) -> TempFile:
        world.clock.moment += LEASE
        assert await world.queue.claim(lease=LEASE)
        return await download(*args, **kwargs)

    download, world.main.download = world.main.download, taken_meanwhile  # type: ignore[method-assign]
    report = await world.run_task()(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert world.child.count("set_images") == 0
    assert (await world.task(task.id)).status is TaskStatus.PROCESSING


async def test_a_lease_lost_after_the_write_leaves_only_that_it_was_begun(world: World) -> None:
    task = await claimed(world)
    (child_id,) = world.child.entities["product"]
    set_images = world.child.set_images

    async def then_lost(*args: Any, **kwargs: Any) -> Any:
        images = await set_images(*args, **kwargs)
        world.clock.moment += LEASE
        assert await world.queue.claim(lease=LEASE)
        return images

    world.child.set_images = then_lost  # type: ignore[method-assign]
    assert (await world.run_task()(task)).end is TaskEnd.LEASE_LOST
    left = await world.records.get(EntityKey("child", "product", child_id))
    assert left == NOTHING_LEFT.begun([])


async def test_a_write_broken_off_with_its_lease_is_tried_and_checked_again(world: World) -> None:
    task = await claimed(world)
    world.child.fail = lambda call: (
        LeaseLostError("the write took too long") if call == "set_images" else None
    )
    report = await world.run_task()(task)
    assert report.end is TaskEnd.RETRYING
    waiting = await world.task(task.id)
    assert (waiting.error, waiting.check_again) == ("the write took too long", True)


async def test_an_entity_whose_task_changed_hands_is_checked_later(world: World) -> None:
    lost = await claimed(world)
    world.clock.moment += LEASE
    taken = await world.claim()
    run = world.run_task()
    assert (await run(taken)).end is TaskEnd.COMPLETED
    # The request that the stopped worker had sent arrives after all.
    (child_id,) = world.child.entities["product"]
    entity = world.child.entities["product"][child_id]
    old = [("old.png", png(900))]
    stale = world.child.add("product", "tmp", old)
    world.child._replace(
        TYPES.get("product"), entity, world.child.entities["product"][stale].images
    )
    assert world.child.images("product", child_id) == old
    assert await world.queue.claim(lease=LEASE) == []
    world.clock.moment += timedelta(minutes=6)
    check = await world.claim()
    assert (check.id != lost.id, check.payload) == (True, lost.payload)
    assert (await run(check)).end is TaskEnd.COMPLETED
    assert world.child.images("product", child_id) == ONE
    assert (await world.queue.counts())[TaskStatus.PENDING] == 0


async def test_the_keeper_of_a_process_that_was_stopped_asks_the_queue(world: World) -> None:
    """Its lease has lapsed by its own clock, and the queue does not answer: the work ends."""
    watch, lease = Stopwatch(), timedelta(seconds=0.3)
    task = await claimed(world, lease)
    started = asyncio.Event()

    async def stopped(*_: object, **__: object) -> Any:
        watch.seconds += 600
        started.set()
        await asyncio.Event().wait()

    async def away(*_: object, **__: object) -> None:
        raise ImgsyncError("the database is away")

    world.main.download = stopped  # type: ignore[method-assign]
    world.queue.renew = away  # type: ignore[method-assign]
    run = world.run_task(lease)
    run.elapsed = watch
    async with asyncio.timeout(5):
        report = await run(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert report.error == "it has lapsed, as it could not be renewed: the database is away"
    assert started.is_set()


async def test_an_abort_during_a_write_asks_for_a_check(world: World) -> None:
    task = await claimed(world)
    writing = asyncio.Event()

    async def hangs(*args: Any, **_: Any) -> Any:
        await args[-1].confirm()
        writing.set()
        await asyncio.Event().wait()

    world.child.set_images = hangs  # type: ignore[method-assign]
    running = asyncio.create_task(world.run_task()(task))
    await writing.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    given_back = await world.task(task.id)
    assert (given_back.status, given_back.attempts) == (TaskStatus.PENDING, 0)
    assert given_back.check_again
