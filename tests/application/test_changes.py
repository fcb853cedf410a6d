"""What a sync changes is noted, and what it removes is saved before; undo puts it back."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.application.changes import Changes, PruneChanges
from imgsync.application.enqueue import task_of
from imgsync.application.payloads import stored_payload
from imgsync.application.undo import (
    AS_BEFORE,
    UNDONE,
    UNDONE_WITH_WARNINGS,
    Undo,
    UndoEntity,
    UndoHandler,
)
from imgsync.application.work import RunTask, TaskEnd, TaskReport, Worker
from imgsync.domain.changes import KIND_OF_UNDO, BackupError, Change, ChangeAction, UndoError
from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import (
    AuthorisationError,
    ChildChangedError,
    ImageRejectedError,
    ImgsyncError,
    NoImageUploadedError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.failures import FailedEntity, Failure
from imgsync.domain.model import AccountRole
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.runs import ChildProof
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncOutcome
from imgsync.testing import (
    UNLIMITED,
    MemoryBackups,
    MemoryChanges,
    MemoryFailedImages,
    MemoryStoreClock,
    MemoryTaskQueue,
)
from tests.application.world import LEASE, TYPES, World, png

pytestmark = pytest.mark.anyio

NEW = [("a.png", png(1)), ("b.png", png(2))]
OWN = [("old0.png", png(900)), ("old1.png", png(901))]


@dataclass
class Noted(World):
    """A world in which changes are noted, and saved where `saves`."""

    saves: bool = True
    run: str = "20261124-120000-0001"
    backups: MemoryBackups = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue = MemoryTaskQueue(self.store, [TASK_ENTITY_TYPE, KIND_OF_UNDO])
        self.log = MemoryChanges(self.store)
        self.backups = MemoryBackups(is_on=self.saves)
        self.begin(self.run)

    def begin(self, run: str) -> None:
        """Another run begins."""
        self.changes = Changes(run, self.log, self.backups, PillowCheck())
        self.sync_entity = replace(self.sync_entity, changes=self.changes)
        self.undo_entity = UndoEntity(
            self.accounts,
            self.records,
            self.factory,
            self.storage,
            TYPES,
            self.log,
            self.backups,
            self.changes,
        )
        self.undo = Undo(self.log, self.queue, self.undo_entity)

    async def all(self) -> list[Change]:
        """The changes, oldest first."""
        return (await self.log.find())[::-1]

    def run_task(self, lease: timedelta = LEASE) -> RunTask:
        run_task = super().run_task(lease)
        handler = UndoHandler(self.undo_entity, MemoryStoreClock(self.store))
        run_task.handlers = {**run_task.handlers, KIND_OF_UNDO: handler}
        return run_task

    async def undone(self, run: str | None = None, *, force: bool = False) -> TaskReport:
        """How the only task of an undo ended."""
        found = await self.undo.of_run(run or self.run)
        ids = await self.undo.put(found, force=force)
        reports: list[TaskReport] = []
        worker: Worker = self.worker()
        await worker.run(drain=True, only=ids, report=reports.append)
        (report,) = reports
        return report


def names(change: Change) -> tuple[list[str], list[str] | None]:
    after = change.after
    before = [image.filename for image in change.before]
    return before, None if after is None else [image.filename for image in after]


async def test_a_set_is_noted_and_what_it_removes_is_saved() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    (change,) = await world.all()
    assert names(change) == (["old0.png", "old1.png"], ["a.png", "b.png"])
    assert (change.run, change.action, change.entity_name) == (world.run, ChangeAction.SET, "Lamp")
    assert change.key == EntityKey("child", "product", child_id)
    assert change.main_entity_id == main_id
    assert [i.id for i in change.after or ()] == [
        i.id for i in world.child.entities["product"][child_id].images
    ]
    ((of, images, files),) = world.backups.saved.values()
    assert (of.account_name, of.entity_name, of.run) == ("child", "Lamp", world.run)
    assert [(i.filename, files[i.file]) for i in images] == OWN


async def test_an_unchanged_entity_notes_nothing() -> None:
    world = Noted()
    world.pair(NEW, old=1)
    await world.sync(await world.request())
    assert (await world.sync(await world.request())).outcome == SyncOutcome.UNCHANGED
    assert len(await world.all()) == 1


async def test_what_imgsync_put_there_is_not_saved() -> None:
    world = Noted()
    main_id, _ = world.pair(NEW, old=1)
    await world.sync(await world.request())
    world.main.change_images("product", main_id, [("c.png", png(3))])
    await world.sync(await world.request())
    assert len(await world.all()) == 2
    assert len(world.backups.saved) == 1


async def test_a_clear_is_noted_and_saves_what_is_not_imgsyncs() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW)
    await world.sync(await world.request())
    entity = world.child.entities["product"][child_id]
    world.child.change_images("product", child_id, OWN[:1])
    own = world.child.entities["product"][child_id].images
    world.child.entities["product"][child_id] = replace(entity, images=(*entity.images, *own))
    world.main.change_images("product", main_id, [])
    world.begin("20261124-120001-0002")
    await world.sync(await world.request())
    assert world.child.images("product", child_id) == []
    _, change = await world.all()
    assert (change.action, names(change)) == (
        ChangeAction.CLEAR, (["a.png", "b.png", "old0.png"], []),
    )  # fmt: skip
    ((_, images, files),) = world.backups.saved.values()
    assert [(i.order, files[i.file]) for i in images] == [(2, OWN[0][1])]
    report = await world.undone("20261124-120001-0002")
    assert report.result is not None
    assert world.child.images("product", child_id) == [OWN[0]]
    assert [w.partition(":")[0] for w in report.result.warnings] == ["a.png", "b.png"]


@pytest.mark.parametrize("strategy", ["atomic", "delete-then-upload"])
@pytest.mark.parametrize("trouble", ["full", "gone", "cut", "down"])
async def test_without_a_backup_nothing_is_removed(strategy: str, trouble: str) -> None:
    world = Noted(strategy)
    _, child_id = world.pair(NEW, old=2)
    request = await world.request()
    match trouble:
        case "full":
            world.backups.full = True
        case "gone":
            image = world.child.entities["product"][child_id].images[1]
            del world.child.blobs[image.id]
        case "cut":
            image = world.child.entities["product"][child_id].images[1]
            world.child.blobs[image.id] = world.child.blobs[image.id][:50]
        case _:
            world.child.fail = lambda call: (
                UnavailableError("503") if call.startswith("download") else None
            )
    with pytest.raises(BackupError, match="nothing was removed") as error:
        await world.sync(request)
    assert error.value.retryable
    images = world.child.entities["product"][child_id].images
    assert [image.filename for image in images] == ["old0.png", "old1.png"]
    assert world.child.count("set_images") + world.child.count("delete_images") == 0
    assert await world.all() == []
    assert world.backups.saved == {}
    record = await world.records.get(EntityKey("child", "product", child_id))
    assert record is None or not record.has_copies


async def test_what_was_added_since_the_survey_is_saved() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=1)
    request = await world.request()
    added = [("added.png", png(950))]
    world.child.change_images("product", child_id, added)
    await world.sync(request)
    ((_, images, files),) = world.backups.saved.values()
    assert [(i.filename, files[i.file]) for i in images] == added
    (change,) = await world.all()
    assert names(change) == (["added.png"], ["a.png", "b.png"])


async def test_what_comes_while_a_list_is_emptied_stays() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW)
    await world.sync(await world.request())
    world.main.change_images("product", main_id, [])
    request = await world.request()
    added = [("added.png", png(950))]

    def add(call: str) -> None:
        if call == "list_images" and world.child.count("delete_images") == 1:
            world.child.change_images("product", child_id, added)

    world.child.fail = add
    with pytest.raises(ChildChangedError, match="not saved"):
        await world.sync(request)
    assert world.child.images("product", child_id) == added


async def test_no_change_is_made_that_cannot_be_noted() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)

    async def fault(change: Change) -> int:
        raise StoreError("gone")

    world.log.begin = fault  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        await world.sync(await world.request())
    assert world.child.images("product", child_id) == OWN


async def test_an_end_that_cannot_be_noted_is_told_as_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)

    async def fault(change_id: int, after: object) -> None:
        raise StoreError("gone")

    finish, world.log.finish = world.log.finish, fault  # type: ignore[method-assign]
    assert (await world.sync(await world.request())).uploaded == 2
    assert "what was changed is not noted" in caplog.text
    (change,) = await world.all()
    assert change.after is None
    world.log.finish = finish  # type: ignore[method-assign]
    report = await world.undone()
    assert report.end is TaskEnd.FAILED
    assert "how the change ended is not known" in (report.error or "")
    assert world.child.images("product", child_id) == NEW
    assert (await world.undone(force=True)).end is TaskEnd.COMPLETED
    assert world.child.images("product", child_id) == OWN


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (UnavailableError("time-out"), False),
        (ImageRejectedError("51002"), True),
        (AuthorisationError("1056"), True),
    ],
)
async def test_a_write_that_fails_tells_what_is_known(error: ImgsyncError, known: bool) -> None:
    world = Noted()
    world.pair(NEW[:1], old=1)
    world.child.fail = lambda call: error if call == "set_images" else None
    with pytest.raises((type(error), NoImageUploadedError)):
        await world.sync(await world.request())
    (change,) = await world.all()
    assert (change.after == change.before) is known
    assert (change.after is None) is not known


async def test_one_that_is_broken_off_is_not_known() -> None:
    world = Noted()
    world.pair(NEW, old=1)
    world.child.seconds_per_write = 30
    begun, begin = asyncio.Event(), world.log.begin

    async def tell(change: Change) -> int:
        change_id = await begin(change)
        begun.set()
        return change_id

    world.log.begin = tell  # type: ignore[method-assign]
    syncing = asyncio.ensure_future(world.sync(await world.request()))
    await begun.wait()
    await asyncio.sleep(0.01)
    syncing.cancel()
    await asyncio.gather(syncing, return_exceptions=True)
    (change,) = await world.all()
    assert change.after is None


async def test_many_entities_in_one_request_are_saved_before_it() -> None:
    world = Noted()
    children = []
    for number in range(6):
        images = [(f"{number}.png", png(10 + number))]
        world.main.add("product", f"P{number}", images, external_code=f"x{number}")
        own = [(f"own{number}.png", png(700 + number))]
        children.append(world.child.add("product", f"P{number}", own, external_code=f"x{number}"))
    saved_at_the_request: list[int] = []

    def note(call: str) -> None:
        if call == "set_many":
            saved_at_the_request.append(len(world.backups.saved))

    world.child.fail = note
    tasks = [p.request async for p in world.plan("main", "child") if p.request is not None]
    for request in tasks:
        await world.put(stored_payload(request), request.dedupe_key)
    await world.worker().run(drain=True)
    assert saved_at_the_request
    assert sum(saved_at_the_request[:1]) >= 2
    assert len(world.backups.saved) == 6
    found = await world.all()
    assert {c.key.child_entity_id: names(c)[1] for c in found} == {
        child_id: [f"{n}.png"] for n, child_id in enumerate(children)
    }
    for n, changes in enumerate(await world.undo.of_run(world.run)):
        assert (await world.undo_entity.plan(changes, force=False)).uploads == 1, n


async def test_an_undo_puts_back_keeps_and_lets_go() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    key = EntityKey("child", "product", child_id)
    await world.sync(await world.request())
    found = await world.undo.of_run(world.run)
    plans = [plan async for plan in world.undo.plans(found, force=False)]
    assert [(p.kept, p.uploads, p.lost, p.problem) for p in plans] == [(0, 2, (), None)]
    assert world.child.images("product", child_id) == NEW
    report = await world.undone()
    assert report.result is not None
    assert (report.result.outcome, report.result.uploaded) == (UNDONE, 2)
    assert world.child.images("product", child_id) == OWN
    record = await world.records.get(key)
    assert record is not None
    assert not record.has_copies
    assert (await world.all())[-1].action is ChangeAction.UNDO
    again = await world.undone()
    assert again.result is not None
    assert again.result.outcome == AS_BEFORE
    # The main account loses its images: those of the child are its own, and stay.
    for entity_id in world.main.entities["product"]:
        world.main.change_images("product", entity_id, [])
    assert [p async for p in world.plan("main", "child")] == []


@pytest.mark.database
async def test_after_an_undo_nobody_calls_the_child_equal_before_all_is_compared(
    sqlite_database: Database,
) -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    proofs, now = SqlProofs(sqlite_database), world.clock.moment
    await proofs.put(ChildProof("child", "main", now, now, {"equal": 3}))
    world.undo_entity = replace(world.undo_entity, proofs=proofs)
    await world.undone()
    assert world.child.images("product", child_id) == OWN
    proof = await proofs.get("child")
    assert proof is not None
    assert (proof.is_equal, proof.may_settle) == (False, False)
    assert (proof.numbers["different"], proof.numbers["equal"]) == (1, 2)


async def test_an_undo_of_an_undo() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    world.begin("20261124-120001-0002")
    await world.undone()
    world.begin("20261124-120002-0003")
    report = await world.undone("20261124-120001-0002")
    assert report.result is not None
    assert report.result.outcome == UNDONE
    assert world.child.images("product", child_id) == NEW
    world.begin("20261124-120003-0004")
    await world.undone("20261124-120002-0003")
    assert world.child.images("product", child_id) == OWN


async def test_a_run_that_changed_an_entity_twice_is_undone_to_its_beginning() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW, old=1)
    await world.sync(await world.request())
    world.main.change_images("product", main_id, [("c.png", png(3))])
    await world.sync(await world.request())
    await world.undone()
    assert world.child.images("product", child_id) == OWN[:1]


async def test_what_was_not_saved_is_named() -> None:
    world = Noted(saves=False)
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    report = await world.undone()
    assert report.end is TaskEnd.FAILED
    assert "none of what was removed was saved: old0.png, old1.png" in (report.error or "")
    assert world.child.images("product", child_id) == NEW
    # One of them is there again.
    world.child.change_images("product", child_id, [*NEW, OWN[1]])
    change = (await world.all())[0]
    images = world.child.entities["product"][child_id].images
    before = (change.before[0], replace(change.before[1], id=images[2].id))
    world.store.changes[change.id] = replace(change, before=before)
    report = await world.undone(force=True)
    assert report.result is not None
    assert report.result.outcome == UNDONE_WITH_WARNINGS
    assert "old0.png: it was removed and not saved" in report.result.warnings[0]
    assert world.child.images("product", child_id) == [OWN[1]]


async def test_a_list_that_was_empty_is_emptied() -> None:
    world = Noted()
    _, child_id = world.pair(NEW)
    await world.sync(await world.request())
    report = await world.undone()
    assert report.result is not None
    assert report.result.outcome == UNDONE
    assert world.child.images("product", child_id) == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
async def test_a_backup_that_is_not_whole_is_used_by_force_only(damage: str) -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    ((place, (_, images, files)),) = world.backups.saved.items()
    if damage == "gone":
        del world.backups.saved[place]
    else:
        files[images[0].file] += b"x"
    report = await world.undone()
    assert report.end is TaskEnd.FAILED
    assert world.child.images("product", child_id) == NEW
    report = await world.undone(force=True)
    if damage == "gone":
        assert report.end is TaskEnd.FAILED
        assert world.child.images("product", child_id) == NEW
    else:
        assert world.child.images("product", child_id) == OWN[1:]


async def test_somebody_elses_change_is_left_alone_and_saved_by_force() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    theirs = [("theirs.png", png(960))]
    world.child.change_images("product", child_id, theirs)
    report = await world.undone()
    assert "somebody has changed its images since" in (report.error or "")
    assert world.child.images("product", child_id) == theirs
    await world.undone(force=True)
    assert world.child.images("product", child_id) == OWN
    assert len(world.backups.saved) == 2


async def test_changes_between_the_look_and_the_write_end_it() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    looks = 0

    def change(call: str) -> None:
        nonlocal looks
        looks += call == "list_images"
        if looks == 2:
            looks += 1
            world.child.change_images("product", child_id, OWN[:1])

    world.child.fail = change
    (changes,) = await world.undo.of_run(world.run)
    with pytest.raises(ChildChangedError):
        await world.undo_entity(changes, UNLIMITED, force=False)
    assert world.child.images("product", child_id) == OWN[:1]


async def test_a_main_account_is_never_written_to() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    account = world.store.accounts["child"]
    world.store.accounts["child"] = replace(account, role=AccountRole.MAIN)
    report = await world.undone(force=True)
    assert report.end is TaskEnd.FAILED
    assert "is a main account" in (report.error or "")
    assert world.child.images("product", child_id) == NEW


async def test_an_entity_is_found_by_name_id_or_code() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    entity = world.child.entities["product"][child_id]
    world.child.entities["product"][child_id] = replace(entity, code="C-1")
    for given in ("Lamp", main_id, child_id, "C-1"):
        ((change,),) = await world.undo.of_entity("child", given)
        assert change.key.child_entity_id == child_id
    for given in ("Desk", "c-1", ""):
        with pytest.raises(UndoError, match="known"):
            await world.undo.of_entity("child", given)
    with pytest.raises(UndoError, match="known"):
        await world.undo.of_run("20260101-000000-0000")


async def test_several_entities_of_one_name_are_told_apart() -> None:
    world = Noted()
    for number in range(2):
        world.main.add("product", "Lamp", NEW, external_code=f"x{number}")
        world.child.add("product", "Lamp", OWN, external_code=f"x{number}")
    for request in [p.request async for p in world.plan("main", "child")]:
        assert request is not None
        await world.sync(request)
    with pytest.raises(UndoError, match="several entities") as error:
        await world.undo.of_entity("child", "Lamp")
    assert all(child_id in str(error.value) for child_id in world.child.entities["product"])


@pytest.mark.parametrize(
    "payload", [None, {}, {"undo": 2}, {"undo": 1, "changes": []}, {"undo": 1, "changes": ["1"]}]
)
async def test_a_task_that_cannot_be_read_fails(payload: object) -> None:
    world = Noted()
    await world.queue.enqueue([NewTask(payload, kind=KIND_OF_UNDO)])
    reports: list[TaskReport] = []
    await world.worker().run(drain=True, report=reports.append)
    assert [report.end for report in reports] == [TaskEnd.FAILED]
    assert "Bad payload" in (reports[0].error or "")


async def test_changes_are_pruned() -> None:
    world = Noted()
    world.pair(NEW, old=2)
    await world.sync(await world.request())
    prune = PruneChanges(world.log, timedelta(days=90))
    assert await prune() == 0
    world.clock.advance(timedelta(days=91))
    assert await prune() == 1
    assert len(world.backups.saved) == 1
    with pytest.raises(UndoError):
        await world.undo.of_run(world.run)


async def test_failed_images_are_not_added_by_themselves_after_an_undo() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    failures = MemoryFailedImages(world.store)
    key = EntityKey("child", "product", child_id)
    entity = FailedEntity("main", "child", "product", "m1", child_id, "Lamp")
    failure = Failure("i9", "c.png", "v", "not downloaded", "503", settled=False)
    (noted,) = await failures.note(entity, [failure])
    assert noted.next_attempt_at is not None
    world.undo_entity = replace(world.undo_entity, failed=failures)
    await world.undone()
    (left,) = await failures.of(key)
    assert left.next_attempt_at is None


async def test_a_task_of_the_entity_that_waits_gives_way() -> None:
    world = Noted()
    main_id, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    world.main.change_images("product", main_id, [("c.png", png(3))])
    waiting = await world.enqueue()
    report = await world.undone()
    assert (report.task.id, report.end) == (waiting, TaskEnd.COMPLETED)
    assert world.child.images("product", child_id) == OWN


async def test_a_sync_leaves_an_undo_that_waits() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    (task_id,) = await world.undo.put(await world.undo.of_run(world.run), force=False)
    request = await world.request()
    (queued,) = await world.queue.enqueue([task_of(stored_payload(request), request)])
    assert (queued.task_id, queued.created) == (task_id, False)
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == OWN


async def test_no_undo_runs_beside_another_task_of_the_entity() -> None:
    world = Noted()
    _, child_id = world.pair(NEW, old=2)
    await world.sync(await world.request())
    await world.enqueue()
    held = await world.claim()
    ids = await world.undo.put(await world.undo.of_run(world.run), force=False)
    await world.worker().run(drain=True, only=ids)
    assert world.child.images("product", child_id) == NEW
    await world.queue.complete(held, result="unchanged", warnings=())
    await world.worker().run(drain=True, only=ids)
    assert world.child.images("product", child_id) == OWN
