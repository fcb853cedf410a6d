"""Failed images: what is kept of them, and how they are tried again alone."""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from imgsync.application.accounts import UnlinkAccounts
from imgsync.application.copy import CopyImagesHandler
from imgsync.application.enqueue import task_of
from imgsync.application.failures import NoteFailures, RetryFailed
from imgsync.application.payloads import (
    BATCH,
    LEGACY,
    PayloadFormats,
    batch_payload,
    stored_payload,
)
from imgsync.application.retry import LEFT_TO_SYNC, NOTHING_FAILED, RetryImagesHandler
from imgsync.application.survey import Difference, Surveyed
from imgsync.application.work import RunTask, TaskEnd, TaskReport
from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import (
    AuthorisationError,
    ImageRejectedError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.failures import IMAGE_RETRY, IMAGE_RETRY_DELAYS, FailedImage
from imgsync.domain.model import LinkSettings, SourceImage
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncOutcome, Task, TaskId, TaskStatus
from imgsync.testing import (
    MemoryContentStore,
    MemoryFailedImages,
    MemoryStoreClock,
    MemoryTaskQueue,
)
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
THREE = [(f"{n}.png", png(n)) for n in range(3)]
MINUTE = timedelta(minutes=1)


@dataclass
class RetryWorld(World):
    """A world whose worker tries failed images again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue = MemoryTaskQueue(self.store, (TASK_ENTITY_TYPE, IMAGE_RETRY))
        self.failed = MemoryFailedImages(self.store)
        self.store.mains["child"] = "main"
        noting = NoteFailures(self.failed, self.queue)
        self.sync_entity = replace(self.sync_entity, failures=noting)

    def run_task(self, lease: timedelta = LEASE) -> RunTask:
        clock, formats = MemoryStoreClock(self.store), PayloadFormats([BATCH, LEGACY])
        whole = CopyImagesHandler(self.accounts, formats, self.sync_entity, clock)
        return RunTask(
            self.queue,
            {
                TASK_ENTITY_TYPE: whole,
                IMAGE_RETRY: RetryImagesHandler(
                    self.accounts, self.failed, self.sync_entity, clock, whole
                ),
            },
            lease,
        )

    async def enqueue(self) -> TaskId:
        request = await self.request()
        (put,) = await self.queue.enqueue([task_of(stored_payload(request), request)])
        return put.task_id

    async def is_at_rest(self) -> bool:
        """Whether a sync would find nothing to do."""
        surveyed = [found async for found in self.survey([self.link])]
        return all(isinstance(s, Surveyed) and s.request is None for s in surveyed)

    async def run(self) -> list[TaskReport]:
        """Every task that is due."""
        reports: list[TaskReport] = []
        await self.worker().run(drain=True, report=reports.append)
        return reports

    async def run_one(self) -> TaskReport:
        (report,) = await self.run()
        return report

    async def sync_all(self) -> TaskReport:
        await self.enqueue()
        (report,) = await self.run()
        return report

    async def rows(self) -> list[FailedImage]:
        return await self.failed.find()

    async def waiting(self) -> Task | None:
        found = [t for t in self.store.tasks.values() if t.kind == IMAGE_RETRY]
        return found[-1] if found and found[-1].status == "pending" else None

    async def retry_all(self) -> int:
        retry = RetryFailed(self.failed, self.queue)
        return await retry(await retry.all())

    def image_id(self, main_id: str, place: int) -> str:
        return self.main.entities["product"][main_id].images[place].id

    def break_downloads(self, *image_ids: str) -> None:
        def fail(call: str) -> Exception | None:
            return UnavailableError("503") if any(i in call for i in image_ids) else None

        self.main.fail = fail

    def mend(self) -> None:
        self.main.fail = self.child.fail = lambda _: None

    async def with_one_failed(self, place: int = 1) -> tuple[str, str]:
        """A pair of which one image could not be downloaded."""
        main_id, child_id = self.pair(THREE)
        self.break_downloads(self.image_id(main_id, place))
        report = await self.sync_all()
        assert report.result is not None
        assert report.result.outcome == SyncOutcome.COMPLETED_WITH_WARNINGS
        self.main.calls.clear()
        self.child.calls.clear()
        return main_id, child_id


@pytest.fixture
def world() -> RetryWorld:
    return RetryWorld()


def writes(world: World) -> list[str]:
    return [call for call in world.child.calls if not call.startswith(("list", "content"))]


async def test_a_failed_image_is_kept_with_all_that_a_person_needs(world: RetryWorld) -> None:
    main_id, child_id = await world.with_one_failed()
    (row,) = await world.rows()
    entity = row.entity
    assert (entity.main_account_id, entity.child_account_id) == ("main", "child")
    assert (entity.entity_type, entity.name) == ("product", "Lamp")
    assert (entity.main_entity_id, entity.child_entity_id) == (main_id, child_id)
    assert row.failure.image_id == world.image_id(main_id, 1)
    assert (row.failure.filename, row.failure.cause) == ("1.png", "not downloaded")
    assert (row.failure.reason, row.failure.settled, row.attempts) == ("503", False, 1)
    assert row.next_attempt_at == world.clock.now() + MINUTE


async def test_it_is_tried_again_alone_and_stands_in_its_place(world: RetryWorld) -> None:
    _, child_id = await world.with_one_failed()
    before = world.child.entities["product"][child_id].images
    world.mend()
    assert await world.run() == []
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.task.kind == IMAGE_RETRY
    assert report.result is not None
    assert (report.result.outcome, report.result.uploaded) == (SyncOutcome.COMPLETED, 1)
    assert world.child.images("product", child_id) == THREE
    after = world.child.entities["product"][child_id].images
    assert [after[0], after[2]] == list(before)
    assert [call.split()[0] for call in world.main.calls] == ["list_images", "download"]
    assert [call.split()[0] for call in world.child.calls] == ["list_images", "set_images"]
    assert await world.rows() == []
    assert await world.is_at_rest()


async def test_it_is_tried_after_each_delay_and_then_waits_for_a_sync(world: RetryWorld) -> None:
    await world.with_one_failed()
    for attempts, delay in enumerate(IMAGE_RETRY_DELAYS, start=1):
        (row,) = await world.rows()
        assert (row.attempts, row.next_attempt_at) == (attempts, world.clock.now() + delay)
        world.clock.advance(delay - timedelta(seconds=1))
        assert await world.run() == []
        world.clock.advance(timedelta(seconds=1))
        report = await world.run_one()
        assert report.result is not None
        assert report.result.outcome == SyncOutcome.COMPLETED_WITH_WARNINGS
    (row,) = await world.rows()
    assert (row.attempts, row.next_attempt_at) == (5, None)
    assert await world.waiting() is None
    assert writes(world) == []
    world.mend()
    await world.sync_all()
    assert await world.rows() == []


async def test_what_is_settled_is_not_tried_alone(world: RetryWorld) -> None:
    world.pair([THREE[0], ("b.png", b"no picture at all")])
    await world.sync_all()
    (row,) = await world.rows()
    assert (row.failure.cause, row.failure.settled) == ("no picture", True)
    assert row.next_attempt_at is None
    assert await world.waiting() is None


async def test_what_the_child_refuses_is_settled(world: RetryWorld) -> None:
    world.pair(THREE[:1])
    world.child.fail = lambda call: ImageRejectedError("51005") if call == "set_images" else None
    report = await world.sync_all()
    assert report.end is TaskEnd.FAILED
    (row,) = await world.rows()
    assert (row.failure.cause, row.failure.reason) == ("refused", "51005")
    assert row.failure.settled


async def test_settled_ones_are_tried_where_somebody_asks(world: RetryWorld) -> None:
    _, child_id = world.pair([THREE[0], ("b.png", b"no picture at all"), THREE[2]])
    await world.sync_all()
    world.main.calls.clear()
    world.child.calls.clear()
    assert await world.retry_all() == 1
    report = await world.run_one()
    assert report.task.kind == IMAGE_RETRY
    assert world.main.calls[0].startswith("list_images")
    (row,) = await world.rows()
    assert row.attempts == 2
    assert writes(world) == []
    assert world.child.images("product", child_id) == [THREE[0], THREE[2]]


async def test_those_that_are_asked_for_one_by_one_are_all_tried(world: RetryWorld) -> None:
    world.pair([("a.png", b"no picture"), ("b.png", b"none either"), THREE[0]])
    await world.sync_all()
    one, two = await world.rows()
    retry = RetryFailed(world.failed, world.queue)
    await retry([one])
    await retry([two])
    await world.run_one()
    assert [(r.attempts, r.next_attempt_at) for r in await world.rows()] == [(2, None)] * 2


async def test_one_that_is_asked_for_while_another_is_tried_is_tried_at_once(
    world: RetryWorld,
) -> None:
    main_id, _ = world.pair([("a.png", b"no picture"), *THREE])
    world.break_downloads(world.image_id(main_id, 2))
    await world.sync_all()
    broken, asked = world.main.fail, False

    def ask_meanwhile(call: str) -> Exception | None:
        nonlocal asked
        asked = asked or "download" in call
        return broken(call)

    note = world.failed.note

    async def noting(*args: Any, **options: Any) -> list[FailedImage]:
        nonlocal asked
        if asked:
            asked = False
            await world.retry_all()
        return await note(*args, **options)

    world.main.fail = ask_meanwhile
    world.failed.note = noting  # type: ignore[method-assign]
    world.clock.advance(MINUTE)
    reports = await world.run()
    assert [report.task.kind for report in reports][:2] == [IMAGE_RETRY] * 2
    settled = next(row for row in await world.rows() if row.failure.settled)
    assert (settled.attempts, settled.next_attempt_at) == (2, None)


async def test_a_settled_one_stays_as_it_is_while_another_is_tried(world: RetryWorld) -> None:
    main_id, child_id = world.pair([("a.png", b"no picture"), *THREE])
    world.break_downloads(world.image_id(main_id, 2))
    await world.sync_all()
    world.mend()
    world.main.calls.clear()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == SyncOutcome.COMPLETED_WITH_WARNINGS
    assert world.main.count("download") == 1
    assert world.child.images("product", child_id) == THREE
    (row,) = await world.rows()
    assert (row.failure.filename, row.attempts) == ("a.png", 1)
    assert await world.is_at_rest()


async def test_an_entity_of_which_nothing_was_copied_has_its_images_there_too(
    world: RetryWorld,
) -> None:
    main_id, child_id = world.pair(THREE)
    world.break_downloads(*(world.image_id(main_id, n) for n in range(3)))
    report = await world.sync_all()
    assert report.end is TaskEnd.RETRYING
    rows = await world.rows()
    assert [row.failure.filename for row in rows] == ["0.png", "1.png", "2.png"]
    # Its own task tries them again, as ever.
    assert {row.next_attempt_at for row in rows} == {None}
    assert await world.waiting() is None
    world.mend()
    world.clock.advance(MINUTE)
    await world.run()
    assert world.child.images("product", child_id) == THREE
    assert await world.rows() == []


async def test_the_first_image_takes_the_place_of_its_stand_in(world: RetryWorld) -> None:
    world.store.settings["child"] = LinkSettings(sync_images=True)
    main_id, child_id = world.pair(THREE)
    world.break_downloads(world.image_id(main_id, 0))
    await world.sync_all()
    assert world.child.images("product", child_id) == [THREE[1]]
    world.mend()
    world.clock.advance(MINUTE)
    await world.run_one()
    assert world.child.images("product", child_id) == [THREE[0]]
    assert await world.rows() == []
    assert await world.is_at_rest()


async def test_a_sync_takes_the_place_of_a_retry_that_waits(world: RetryWorld) -> None:
    _, child_id = await world.with_one_failed()
    waiting = await world.waiting()
    assert waiting is not None
    world.mend()
    report = await world.sync_all()
    assert (report.task.id, report.task.kind) == (waiting.id, TASK_ENTITY_TYPE)
    assert world.child.images("product", child_id) == THREE
    assert await world.rows() == []


async def test_a_retry_leaves_a_sync_that_waits_alone(world: RetryWorld) -> None:
    _, child_id = await world.with_one_failed()
    world.mend()
    task_id = await world.enqueue()
    assert await world.retry_all() == 1
    assert (await world.task(task_id)).kind == TASK_ENTITY_TYPE
    await world.run_one()
    assert world.child.images("product", child_id) == THREE


async def test_a_failure_of_an_entity_with_a_newer_sync_leaves_that_to_it(
    world: RetryWorld,
) -> None:
    main_id, child_id = world.pair(THREE)
    world.break_downloads(world.image_id(main_id, 1))
    await world.enqueue()
    task = await world.claim()
    newer = await world.enqueue()
    assert newer != task.id
    await world.run_task()(task)
    assert (await world.task(newer)).kind == TASK_ENTITY_TYPE
    assert await world.waiting() is None
    world.mend()
    await world.run_one()
    assert world.child.images("product", child_id) == THREE


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "turned"])
async def test_where_the_main_account_has_changed_it_is_left_to_the_next_sync(
    world: RetryWorld, change: str
) -> None:
    main_id, child_id = await world.with_one_failed()
    images = {
        "added": [*THREE, ("3.png", png(3))],
        "removed": THREE[1:],
        "replaced": [("9.png", png(9)), *THREE[1:]],
        "turned": THREE[::-1],
    }[change]
    world.main.change_images("product", main_id, images)
    before = world.child.images("product", child_id)
    world.mend()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == LEFT_TO_SYNC
    assert "the main account's images are others" in report.result.warnings[0]
    assert (writes(world), world.child.images("product", child_id)) == ([], before)
    assert [row.next_attempt_at for row in await world.rows()] == [None]
    await world.sync_all()
    assert world.child.images("product", child_id) == images
    assert await world.rows() == []


async def test_where_the_child_has_changed_it_is_left_to_the_next_sync(world: RetryWorld) -> None:
    _, child_id = await world.with_one_failed()
    foreign = [*world.child.images("product", child_id), ("own.png", png(77))]
    world.child.change_images("product", child_id, foreign)
    world.mend()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == LEFT_TO_SYNC
    assert world.child.images("product", child_id) == foreign
    assert writes(world) == []


async def test_where_main_has_no_images_any_more_nothing_failed(world: RetryWorld) -> None:
    main_id, child_id = await world.with_one_failed()
    world.main.change_images("product", main_id, [])
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == NOTHING_FAILED
    assert await world.rows() == []
    assert writes(world) == []
    assert len(world.child.images("product", child_id)) == 2


@pytest.mark.parametrize("side", ["main", "child"])
async def test_where_an_entity_is_gone_nothing_failed(world: RetryWorld, side: str) -> None:
    main_id, child_id = await world.with_one_failed()
    shop, entity_id = (world.main, main_id) if side == "main" else (world.child, child_id)
    del shop.entities["product"][entity_id]
    world.mend()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == NOTHING_FAILED
    assert await world.rows() == []


async def test_where_the_link_is_off_they_wait(world: RetryWorld) -> None:
    await world.with_one_failed()
    world.store.settings["child"] = LinkSettings()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == SyncOutcome.DISABLED
    assert [row.next_attempt_at for row in await world.rows()] == [None]
    assert world.main.calls == world.child.calls == []


async def test_an_unlinked_child_lacks_nothing(world: RetryWorld) -> None:
    await world.with_one_failed()
    await UnlinkAccounts(world.accounts, world.settings, world.failed)(["child"])
    assert await world.rows() == []
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == NOTHING_FAILED


async def test_what_failed_while_the_link_was_being_ended_goes_with_the_retry(
    world: RetryWorld,
) -> None:
    main_id, _ = world.pair(THREE)
    image_id = world.image_id(main_id, 1)
    unlink = UnlinkAccounts(world.accounts, world.settings, world.failed)
    note = world.failed.note

    async def unlinked_right_before(*args: Any, **options: Any) -> list[FailedImage]:
        world.failed.note = note  # type: ignore[method-assign]
        await unlink(["child"])
        return await note(*args, **options)

    world.failed.note = unlinked_right_before  # type: ignore[method-assign]
    world.break_downloads(image_id)
    await world.sync_all()
    assert len(await world.rows()) == 1
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.result is not None
    assert report.result.outcome == SyncOutcome.DISABLED
    assert await world.rows() == []


async def test_a_retry_waits_for_a_parked_account(world: RetryWorld) -> None:
    await world.with_one_failed()
    world.mend()
    world.main.fail = lambda call: AuthorisationError("401", "main")
    world.clock.advance(MINUTE)
    assert (await world.run_one()).end is TaskEnd.PARKED
    assert [row.attempts for row in await world.rows()] == [1]
    waiting = await world.waiting()
    assert waiting is not None
    assert waiting.parked_for == "main"


@pytest.mark.parametrize("strategy", ["atomic", "delete-then-upload"])
async def test_what_a_parked_task_could_not_set_is_left_to_it(strategy: str) -> None:
    """A retry that waited in its place would end it as failed, and come at a time of its own."""
    world = RetryWorld(strategy=strategy)
    large = [(f"{n}.png", png(n, 60_000)) for n in range(3)]
    _, child_id = world.pair(large, old=1)
    limits = world.child.limits
    world.child.limits = replace(limits, request=replace(limits.request, max_bytes=90_000))
    sets = 0

    def fail(call: str) -> Exception | None:
        nonlocal sets
        sets += call == "set_images"
        return AuthorisationError("401", "child") if sets == 2 else None

    world.child.fail = fail
    report = await world.sync_all()
    assert (report.end, len(await world.rows())) == (TaskEnd.PARKED, 2)
    assert [t.status for t in world.store.tasks.values()] == [TaskStatus.PENDING]
    assert await world.waiting() is None
    world.mend()
    world.clock.advance(timedelta(days=1))
    report = await world.run_one()
    assert (report.end, report.task.kind) == (TaskEnd.COMPLETED, TASK_ENTITY_TYPE)
    assert world.child.images("product", child_id) == large
    assert await world.rows() == []


async def test_an_image_that_stands_there_twice_fails_and_passes_as_one(
    world: RetryWorld,
) -> None:
    main_id, child_id = world.pair(THREE)
    entity = world.main.entities["product"][main_id]
    twice = replace(entity, images=(entity.images[1], *entity.images))
    world.main.entities["product"][main_id] = twice
    world.break_downloads(entity.images[1].id)
    await world.sync_all()
    (row,) = await world.rows()
    assert row.attempts == 1
    world.mend()
    world.clock.advance(MINUTE)
    await world.run_one()
    assert world.child.images("product", child_id) == [THREE[1], *THREE]
    assert await world.rows() == []


async def test_a_write_that_broke_off_has_the_whole_entity_synced(world: RetryWorld) -> None:
    main_id, child_id = await world.with_one_failed()
    key = EntityKey("child", "product", child_id)
    record = world.store.records[key]
    world.store.records[key] = record.begun(record.child_image_ids)
    images = [*THREE, ("3.png", png(3))]
    world.main.change_images("product", main_id, images)
    world.mend()
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert report.task.kind == IMAGE_RETRY
    assert world.child.images("product", child_id) == images
    assert await world.rows() == []


async def test_a_retry_that_is_to_check_syncs_the_whole_entity(world: RetryWorld) -> None:
    """A late request of an owner that was lost has left an old list."""
    _, child_id = await world.with_one_failed()
    world.child.change_images("product", child_id, [("old.png", png(50))])
    waiting = await world.waiting()
    assert waiting is not None
    world.store.tasks[waiting.id] = replace(waiting, check_again=True)
    world.mend()
    world.clock.advance(MINUTE)
    await world.run()
    assert world.child.images("product", child_id) == THREE


async def test_a_worker_that_is_lost_before_the_record_notes_it_again(world: RetryWorld) -> None:
    main_id, child_id = world.pair(THREE)
    world.break_downloads(world.image_id(main_id, 1))
    await world.enqueue()
    put, left = world.records.put, [1]

    async def lost(key: EntityKey, record: Any) -> None:
        if record.begun_on is None and left:
            left.pop()
            raise StoreError("gone")
        await put(key, record)

    world.records.put = lost  # type: ignore[method-assign]
    reports = await world.run()
    assert reports[0].end is not TaskEnd.COMPLETED
    world.clock.advance(MINUTE)
    world.mend()
    await world.run()
    world.clock.advance(timedelta(hours=7))
    await world.run()
    assert world.child.images("product", child_id) == THREE
    assert await world.rows() == []


async def test_a_worker_without_its_lease_notes_nothing(world: RetryWorld) -> None:
    main_id, _ = world.pair(THREE)
    world.break_downloads(world.image_id(main_id, 1))
    await world.enqueue()
    task = await world.claim()
    note, noted = world.failed.note, []

    async def watched(*args: Any, **options: Any) -> list[FailedImage]:
        noted.append(args)
        return await note(*args, **options)

    world.failed.note = watched  # type: ignore[method-assign]
    set_images = world.child.set_images

    async def stopped(*args: Any) -> Any:
        answer = await set_images(*args)
        world.clock.advance(LEASE * 2)
        await world.claim()
        return answer

    world.child.set_images = stopped  # type: ignore[assignment,method-assign]
    report = await world.run_task()(task)
    assert report.end is TaskEnd.LEASE_LOST
    assert noted == []


async def test_two_workers_set_it_once(world: RetryWorld) -> None:
    _, child_id = await world.with_one_failed()
    world.mend()
    await world.retry_all()
    await asyncio.gather(world.run(), world.run())
    assert world.child.count("set_images") == 1
    assert world.child.images("product", child_id) == THREE


async def test_an_image_without_an_id_is_a_warning_alone(world: RetryWorld) -> None:
    main_id, _ = world.pair(THREE)
    request = await world.request()
    nameless = SourceImage("https://other.example/x.png", "x.png")
    world.main.fail = lambda call: UnavailableError("503") if "other.example" in call else None
    result = await world.sync(replace(request, images=(*request.images, nameless)))
    assert [w.partition(":")[0] for w in result.warnings] == ["x.png"]
    assert await world.rows() == []
    assert main_id


async def test_a_payload_that_is_none_fails_its_task(world: RetryWorld) -> None:
    world.pair(THREE)
    for payload in (None, {}, {"main_account_id": "main"}, {"also": 5}):
        await world.queue.enqueue([NewTask(payload, kind=IMAGE_RETRY)])
        report = await world.run_one()
        assert report.end is TaskEnd.FAILED
        assert (report.error or "").startswith("Bad payload: field ")


@pytest.mark.parametrize("stored", [True, False])
async def test_a_retry_whose_payload_another_program_replaced_is_a_sync(
    world: RetryWorld, stored: bool
) -> None:
    main_id, child_id = await world.with_one_failed()
    world.mend()
    world.main.change_images("product", main_id, [("new.png", png(77))])
    request = await world.request()
    payload = stored_payload(request) if stored else batch_payload(request)
    waiting = await world.waiting()
    assert waiting is not None
    there = world.store.tasks[waiting.id]
    world.store.tasks[waiting.id] = replace(there, payload=json.dumps(payload))
    world.clock.advance(MINUTE)
    report = await world.run_one()
    assert (report.end, report.task.kind) == (TaskEnd.COMPLETED, IMAGE_RETRY)
    assert world.child.images("product", child_id) == [("new.png", png(77))]


BROKEN = [("a.png", b"no picture"), ("b.png", b"nor this")]


async def test_an_entity_of_which_nothing_can_be_copied_comes_to_rest(world: RetryWorld) -> None:
    main_id, child_id = world.pair(BROKEN, old=1)
    own = world.child.images("product", child_id)
    assert (await world.sync_all()).end is TaskEnd.FAILED
    assert await world.is_at_rest()
    assert world.child.images("product", child_id) == own
    (found,) = [found async for found in world.survey([world.link])]
    assert isinstance(found, Surveyed)
    assert "a.png" in found.reason
    assert found.difference is Difference.DIFFERENT
    # A new version of one of them is looked at.
    world.main.change_images("product", main_id, [("a.png", png(1)), BROKEN[1]])
    assert not await world.is_at_rest()
    assert (await world.sync_all()).result is not None
    assert world.child.images("product", child_id) == [("a.png", png(1))]
    assert [row.failure.filename for row in await world.rows()] == ["b.png"]


async def test_what_nothing_could_be_copied_of_is_tried_again_when_asked(world: RetryWorld) -> None:
    _, child_id = world.pair([("a.png", png(1))], old=1)
    refused = ImageRejectedError("51002")
    world.child.fail = lambda call: refused if call.startswith("set") else None
    assert (await world.sync_all()).end is TaskEnd.FAILED
    assert await world.is_at_rest()
    world.mend()
    assert await world.retry_all() == 1
    await world.run()
    assert world.child.images("product", child_id) == [("a.png", png(1))]
    assert await world.rows() == []
    assert await world.is_at_rest()


async def test_what_a_retry_finds_to_pass_later_is_left_to_the_next_sync(world: RetryWorld) -> None:
    main_id, _ = world.pair([("a.png", b"no picture")])
    await world.sync_all()
    assert await world.is_at_rest()
    world.break_downloads(world.image_id(main_id, 0))
    world.sync_entity = replace(world.sync_entity, storage=MemoryContentStore())
    await world.retry_all()
    await world.run()
    assert not await world.is_at_rest()


async def test_nothing_failed_where_a_sync_finds_all_there(world: RetryWorld) -> None:
    """As where a setting that refused them is taken back, or somebody uploads them by hand."""
    main_id, child_id = world.pair([("a.png", png(1))])
    world.break_downloads(world.image_id(main_id, 0))
    await world.sync_all()
    assert len(await world.rows()) == 1
    world.mend()
    world.child.change_images("product", child_id, [("a.png", png(1))])
    await world.sync_all()
    assert await world.rows() == []


async def test_what_is_wanted_no_more_has_not_failed(world: RetryWorld) -> None:
    """Of a child that receives the first image from now on."""
    _, child_id = world.pair([("a.png", png(1)), ("b.png", b"no picture")])
    await world.sync_all()
    assert len(await world.rows()) == 1
    await world.settings.put("child", LinkSettings(sync_images=True))
    assert not await world.is_at_rest()
    report = await world.sync_all()
    assert report.result is not None
    assert (report.result.warnings, report.result.uploaded) == ((), 0)
    assert world.child.images("product", child_id) == [("a.png", png(1))]
    assert await world.rows() == []
    assert await world.is_at_rest()
