"""How many child entities may lose their images in one run."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgsync.application.copy import CopyImagesHandler
from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.payloads import BATCH, PayloadFormats, RawPayload
from imgsync.application.work import RunTask, TaskEnd
from imgsync.domain.model import AccountRole
from imgsync.domain.tasks import TASK_ENTITY_TYPE, TaskStatus
from imgsync.entrypoints.cli import surveys
from imgsync.entrypoints.cli.surveys import print_skipped
from imgsync.entrypoints.config import Config
from imgsync.entrypoints.container import Container
from imgsync.testing import MemoryStoreClock
from tests.application.world import LEASE, World, png

pytestmark = [pytest.mark.anyio, pytest.mark.database]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def container(world: World, tmp_path: Path) -> Container:
    config = Config(database_url=f"sqlite:///{tmp_path / 'turns.db'}", temp_dir=tmp_path)
    made = Container(config=config)
    for name in ("queue", "accounts", "settings", "records"):
        getattr(made, name).override(getattr(world, name))
    made.survey.override(world.survey)
    return made


async def shop_with_emptied(world: World, emptied: int, full: int = 1) -> list[str]:
    """Child entities whose copies the main account has removed since; `full` others have images."""
    for n in range(emptied + full):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=str(n))
        world.child.add("product", f"P{n}", external_code=str(n))
    planned = [p async for p in world.plan("main", "child")]
    requests = [p.request for p in planned if p.request]
    for request in requests[:emptied]:
        await world.sync(request)
        entity = world.main.entities["product"][request.main_entity_id]
        world.main.entities["product"][entity.id] = replace(entity, images=())
    return [r.child_entity_id for r in requests[:emptied]]


async def plan(
    container: Container, *, max_clear: int | None = None, dry_run: bool = False
) -> EnqueueOutcome:
    links = await container.find_links()("main", ["child"])
    return await container.enqueue()(links, max_clear=max_clear, dry_run=dry_run)


async def test_a_few_clears_are_queued_after_the_copies(world: World, container: Container) -> None:
    emptied = await shop_with_emptied(world, 2)
    outcome = await plan(container)
    assert (outcome.entities, outcome.clears, outcome.clears_refused) == (1, 2, 0)
    assert outcome.clear_limit_error is None
    requests = [BATCH.parse((await world.task(task_id)).payload) for task_id in outcome.task_ids]
    assert [len(r.images) for r in requests] == [1, 0, 0]
    assert [r.child_entity_id for r in requests[1:]] == emptied


async def test_a_format_that_takes_everything_never_sees_what_a_survey_queued(
    world: World, container: Container
) -> None:
    class Greedy:
        name = "greedy"

        def matches(self, payload: RawPayload) -> bool:
            raise AssertionError("asked for a task of a survey's")

        parse = BATCH.parse

    main_id, child_id = world.pair([("0.png", png(0))])
    await plan(container)
    formats = PayloadFormats([Greedy()])
    copy = CopyImagesHandler(
        world.accounts, formats, world.sync_entity, MemoryStoreClock(world.store)
    )
    run = RunTask(world.queue, {TASK_ENTITY_TYPE: copy}, LEASE)
    assert (await run(await world.claim())).end is TaskEnd.COMPLETED
    assert world.child.images("product", child_id) == world.main.images("product", main_id)


@pytest.mark.parametrize(("emptied", "max_clear"), [(21, None), (3, 2), (1, 0)])
async def test_over_the_limit_none_is_cleared_and_the_copies_go_on(
    world: World,
    container: Container,
    emptied: int,
    max_clear: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await shop_with_emptied(world, emptied)
    outcome = await plan(container, max_clear=max_clear)
    assert (outcome.entities, outcome.clears, outcome.clears_refused) == (1, 0, emptied)
    assert len(outcome.task_ids) == 1
    assert outcome.as_dict()["clears_refused"] == emptied
    allowed = 20 if max_clear is None else max_clear
    print_skipped(outcome)
    message = capsys.readouterr().err
    assert f"The images of {emptied} child entities would be cleared" in message
    named = ", ".join(f"child: product 'P{n}'" for n in range(min(emptied, 3)))
    assert f"(among them {named})" in message
    assert f"over the limit of {allowed}" in message
    assert f"--max-clear {emptied}" in message


@pytest.mark.parametrize(("emptied", "max_clear"), [(20, None), (21, 21), (0, 0)])
async def test_up_to_the_limit_all_are_cleared(
    world: World, container: Container, emptied: int, max_clear: int | None
) -> None:
    await shop_with_emptied(world, emptied)
    outcome = await plan(container, max_clear=max_clear)
    assert (outcome.clears, outcome.clears_refused) == (emptied, 0)
    assert len(outcome.task_ids) == emptied + 1


async def test_the_limit_grows_with_the_entities_compared(
    world: World, container: Container
) -> None:
    await shop_with_emptied(world, 21, full=2100 - 21)
    assert (await plan(container)).clears == 21


async def test_a_dry_run_tells_the_clears_and_changes_nothing(
    world: World, container: Container
) -> None:
    await shop_with_emptied(world, 2)
    assert (await plan(container, dry_run=True)).as_dict() == {
        "entities": 1,
        "images": 1,
        "unchanged": 0,
        "adopted": 0,
        "clears": 2,
        "clears_refused": 0,
        "created": 0,
        "updated": 0,
        "task_ids": [],
        "skipped": [],
        "warnings": [],
        "off": [],
        "failed": [],
    }
    assert (await world.queue.counts())[TaskStatus.PENDING] == 0
    assert (await world.accounts.get("main")).role is None


async def test_a_plan_that_breaks_off_clears_nothing(world: World, container: Container) -> None:
    await shop_with_emptied(world, 1, full=150)
    world.main.add("bundle", "B", [("b.png", png(1))], external_code="b")
    asked = 0

    def fail(call: str) -> Exception | None:
        nonlocal asked
        asked += call == "list_entities"
        return OSError("gone half-way") if asked == 3 else None

    world.main.fail = fail
    outcome = EnqueueOutcome()
    with pytest.raises(OSError, match="half-way"):
        await container.enqueue()([world.link], outcome=outcome)
    assert 0 < len(outcome.task_ids) == outcome.entities  # what was planned by then is queued
    queued = [await world.task(task_id) for task_id in outcome.task_ids]
    assert all(task.payload["images"] for task in queued)
    assert (await world.accounts.get("main")).role is None


async def test_a_plan_notes_which_account_is_which(world: World, container: Container) -> None:
    await shop_with_emptied(world, 0)
    await plan(container)
    assert (await world.accounts.get("main")).role is AccountRole.MAIN
    assert (await world.accounts.get("child")).role is AccountRole.CHILD


async def test_rows_that_cannot_be_read_are_told(
    world: World,
    container: Container,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await shop_with_emptied(world, 0)
    world.main.unreadable_rows = ["product 'Bad': id: missing"]
    monkeypatch.setattr(surveys, "is_watched", lambda: True)
    print_skipped(await plan(container))
    told = "child: product: skipped: main account: product 'Bad': id: missing\n"
    assert capsys.readouterr().err == told


async def test_a_survey_of_what_has_changed_says_so(
    world: World, container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    """ "Nothing to copy" would be taken for all that there is."""
    await shop_with_emptied(world, 0)
    outcome = await plan(container)
    outcome.log.since = datetime(2026, 11, 27, 3, tzinfo=UTC)
    print_skipped(outcome)
    told = "Only what has changed since 2026-11-27 03:00 UTC was surveyed.\n"
    assert capsys.readouterr().err == told
