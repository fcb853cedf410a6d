"""Planning: pages, counterparts, skipped entities; cleanup and the daily job."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from imgsync.application.clean import Cleaned, CleanupTemp, run_daily
from imgsync.application.payloads import BATCH, batch_payload
from imgsync.application.survey import allowed_clears
from imgsync.domain.errors import (
    ImgsyncError,
    UnknownAccountError,
    UnknownEntityTypeError,
    WrongAccountError,
)
from imgsync.domain.model import AccountRole, Entity, EntityType, EntityTypes, MatchField
from imgsync.domain.ports.storage import StaleFile
from imgsync.testing import SetClock
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
ONE = [("a.png", png(0))]


async def test_entities_of_every_type_are_matched_by_external_code(world: World) -> None:
    ids = {}
    for kind in ("product", "bundle", "variant"):
        world.main.add(kind, kind, ONE, external_code=f"x-{kind}")
        ids[kind] = world.child.add(kind, "another name", external_code=f"x-{kind}")
    planned = [p async for p in world.plan("main", "child")]
    assert [p.entity_type for p in planned] == ["product", "bundle", "variant"]
    for p in planned:
        assert p.request is not None
        assert p.request.child_entity_id == ids[p.entity_type]
        assert p.request.images[0].size == 100
        assert p.request.images[0].fingerprint is not None


@pytest.mark.parametrize("field", list(MatchField))
async def test_the_match_field_is_an_option(world: World, field: MatchField) -> None:
    names = {
        MatchField.EXTERNAL_CODE: "external_code",
        MatchField.CODE: "code",
        MatchField.ARTICLE: "article",
    }
    key: dict[str, Any] = {names[field]: "k"} if field in names else {}
    name = "k" if field is MatchField.NAME else "A"
    world.main.add("product", name, ONE, **key)
    child_id = world.child.add("product", name, **key)
    (planned,) = [p async for p in world.plan("main", "child", match_field=field)]
    assert planned.request is not None
    assert planned.request.child_entity_id == child_id


async def test_entities_without_images_are_no_tasks_and_ask_nothing_of_the_child(
    world: World,
) -> None:
    world.main.add("product", "plain", external_code="x")
    assert [p async for p in world.plan("main", "child")] == []
    assert world.child.calls == []


async def test_entities_without_a_counterpart_are_named_with_the_reason(world: World) -> None:
    world.main.add("product", "Lost", ONE, external_code="x")
    world.main.add("product", "Twice", ONE, external_code="y")
    world.child.add("product", "1", external_code="y")
    world.child.add("product", "2", external_code="y")
    planned = [p async for p in world.plan("main", "child")]
    assert [(p.name, p.request) for p in planned] == [("Lost", None), ("Twice", None)]
    assert "no child entity" in planned[0].reason
    assert "several" in planned[1].reason


async def test_many_pages(world: World) -> None:
    for n in range(250):
        world.main.add("product", str(n), ONE, external_code=str(n))
        world.child.add("product", str(n), external_code=str(n))
    planned = [p async for p in world.plan("main", "child")]
    assert [p.name for p in planned] == [str(n) for n in range(250)]
    assert world.main.count("list_entities") == 3
    assert world.child.count("list_entities") == 3


async def test_only_some_types(world: World) -> None:
    for kind in ("product", "bundle"):
        world.main.add(kind, kind, ONE, external_code="x")
        world.child.add(kind, kind, external_code="x")
    planned = [p async for p in world.plan("main", "child", only_types=["bundle"] * 2)]
    assert [p.entity_type for p in planned] == ["bundle"]


@pytest.mark.parametrize(
    ("main", "child", "types", "error"),
    [
        ("main", "main", (), ImgsyncError),
        ("main", "nobody", (), UnknownAccountError),
        ("main", "child", ("service",), UnknownEntityTypeError),
    ],
)
async def test_plans_that_cannot_be_made(
    world: World, main: str, child: str, types: tuple[str, ...], error: type[ImgsyncError]
) -> None:
    with pytest.raises(error):
        _ = [p async for p in world.plan(main, child, only_types=types)]


async def test_cleanup_deletes_only_old_files_and_counts_them(world: World) -> None:
    clock = SetClock(datetime.now(UTC))
    cleanup = CleanupTemp(world.storage, clock)
    seen: list[StaleFile] = []
    world.storage.leave_behind(b"123")
    world.storage.leave_behind(b"45")
    assert await cleanup.find(timedelta(hours=24)) == []
    clock.moment += timedelta(hours=25)
    files = await cleanup.find(timedelta(hours=24))
    assert await cleanup.delete(files, seen.append) == Cleaned(2, 5)
    assert seen == files


async def test_the_daily_job_runs_at_its_time_and_survives_its_errors() -> None:
    now = datetime(2026, 11, 24, 2, 59, tzinfo=UTC)
    runs: list[datetime] = []

    async def job() -> None:
        runs.append(now)
        raise RuntimeError("first run fails")

    daily = asyncio.create_task(run_daily(job, time(3), lambda: now, check_seconds=0.005))
    await asyncio.sleep(0.05)
    assert runs == []
    for day in (24, 25):
        now = datetime(2026, 11, day, 3, 0, tzinfo=UTC)
        await asyncio.sleep(0.05)
    daily.cancel()
    await asyncio.gather(daily, return_exceptions=True)
    assert [r.day for r in runs] == [24, 25]


async def test_a_counterpart_is_planned_once(world: World) -> None:
    ids = {world.main.add("product", name, ONE, article="k"): name for name in ("A", "B")}
    first, second = (ids[one] for one in sorted(ids))
    world.child.add("product", "C", article="k")
    planned = [p async for p in world.plan("main", "child", match_field=MatchField.ARTICLE)]
    assert {p.name: p.request is not None for p in planned} == {first: True, second: False}
    assert "its counterpart is already that of another product" in planned[0].reason


async def test_a_file_that_is_gone_already_frees_nothing(world: World) -> None:
    cleanup = CleanupTemp(world.storage, SetClock())
    gone = StaleFile("task-1/0000.png", 9, datetime.now(UTC))
    assert (await cleanup.delete([gone])).freed_bytes == 0


def change(world: World, entity_id: str, **changes: Any) -> None:
    entity = world.main.entities["product"][entity_id]
    world.main.entities["product"][entity_id] = replace(entity, **changes)


async def copied(world: World, name: str, key: str) -> tuple[str, str]:
    """A main product and its counterpart, with one image copied."""
    main_id = world.main.add("product", name, [(f"{key}.png", png(ord(key[0])))], external_code=key)
    child_id = world.child.add("product", name, external_code=key)
    planned = [p async for p in world.plan("main", "child")]
    request = next(p.request for p in planned if p.request and p.request.main_entity_id == main_id)
    await world.sync(request)
    return main_id, child_id


async def test_an_entity_that_lost_its_images_is_planned_as_a_clear(world: World) -> None:
    main_id, child_id = await copied(world, "Lamp", "x")
    change(world, main_id, images=())
    (planned,) = [p async for p in world.plan("main", "child")]
    assert planned.clears
    assert (planned.name, planned.images) == ("Lamp", 0)
    assert planned.request is not None
    assert planned.request.images == ()
    assert planned.request.child_entity_id == child_id
    await world.sync(planned.request)
    assert world.child.images("product", child_id) == []
    assert [p async for p in world.plan("main", "child")] == []


async def test_entities_that_never_had_images_are_no_clears(world: World) -> None:
    main_id, _ = await copied(world, "Lamp", "x")
    world.main.add("product", "Plain", external_code="y")
    world.child.add("product", "Plain", [("own.png", png(9))], external_code="y")
    planned = [p async for p in world.plan("main", "child")]
    assert planned == []
    change(world, main_id, images=())
    assert [p.name async for p in world.plan("main", "child")] == ["Lamp"]


async def test_clears_come_after_the_copies_of_their_type(world: World) -> None:
    first, _ = await copied(world, "A", "a")
    await copied(world, "B", "b")
    world.main.add("product", "C", ONE, external_code="c")
    world.child.add("product", "C", external_code="c")
    change(world, first, images=())
    planned = [p async for p in world.plan("main", "child")]
    assert [(p.name, p.clears) for p in planned] == [("C", False), ("A", True)]


async def test_a_counterpart_that_another_entity_fills_is_not_cleared(world: World) -> None:
    main_id, child_id = await copied(world, "Old", "x")
    change(world, main_id, images=())
    world.main.add("product", "New", [("new.png", png(3))], external_code="x")
    planned = [p async for p in world.plan("main", "child")]
    assert [(p.name, p.clears) for p in planned] == [("New", False)]
    assert planned[0].request is not None
    assert planned[0].request.child_entity_id == child_id


async def test_images_that_cannot_be_read_are_not_taken_for_none(world: World) -> None:
    main_id, _ = await copied(world, "Lamp", "x")
    change(world, main_id, images=(), unreadable=("row 1: no meta",))
    (planned,) = [p async for p in world.plan("main", "child")]
    assert planned.request is None
    assert not planned.clears
    assert "Lamp" in planned.reason


async def test_images_that_the_list_does_not_tell_are_asked_for_before_a_clear(
    world: World,
) -> None:
    main_id, child_id = await copied(world, "Lamp", "x")
    images = world.main.entities["product"][main_id].images
    change(world, main_id, images=(), images_known=False)
    (planned,) = [p async for p in world.plan("main", "child")]
    assert planned.clears
    assert planned.request is not None
    change(world, main_id, images=images)
    await world.sync(planned.request)
    assert world.child.images("product", child_id) == [("x.png", png(ord("x")))]
    change(world, main_id, images=(), images_known=False)
    await world.sync(planned.request)
    assert world.child.images("product", child_id) == []


async def test_what_is_not_told_and_has_nothing_to_clear_is_named(world: World) -> None:
    main_id, _ = await copied(world, "Lamp", "x")
    other = world.main.add("product", "Vase", external_code="y")
    world.child.add("product", "Vase", external_code="y")
    change(world, other, images_known=False)
    planned = [p async for p in world.plan("main", "child")]
    assert [(p.name, p.reason) for p in planned if p.request is None] == [
        ("Vase", "the main account does not tell its images")
    ]
    change(world, main_id, images=(), images_known=False)
    planned = [p async for p in world.plan("main", "child")]
    assert [(p.name, p.clears) for p in planned] == [("Vase", False), ("Lamp", True)]


async def test_an_image_that_cannot_be_used_costs_only_itself(world: World) -> None:
    images = [("a.png", png(0)), ("b.png", png(1))]
    main_id = world.main.add("product", "Lamp", images, external_code="x")
    world.child.add("product", "Lamp", external_code="x")
    good, nowhere = world.main.entities["product"][main_id].images
    change(
        world,
        main_id,
        images=(good, replace(nowhere, download_href="")),
        unreadable=("row 3: no meta",),
    )
    *told, planned = [p async for p in world.plan("main", "child")]
    assert [p.reason for p in told] == [
        "'Lamp': an image is left out: row 3: no meta",
        "'Lamp': an image is left out: b.png: it has no download address",
    ]
    assert {p.label for p in told} == {"child: product 'Lamp'"}
    assert planned.request is not None
    assert [i.filename for i in planned.request.images] == ["a.png"]


async def test_an_entity_none_of_whose_images_can_be_used_is_no_clear(world: World) -> None:
    main_id, child_id = await copied(world, "Lamp", "x")
    (image,) = world.main.entities["product"][main_id].images
    change(world, main_id, images=(replace(image, download_href=""),))
    planned = [p async for p in world.plan("main", "child")]
    assert [p.request for p in planned] == [None, None]
    assert world.child.images("product", child_id)


async def test_what_a_list_does_not_tell_of_an_image_is_unknown(world: World) -> None:
    main_id, _ = world.pair(ONE)
    (image,) = world.main.entities["product"][main_id].images
    change(world, main_id, images=(replace(image, filename="", size=0, updated=""),))
    request = await world.request()
    (source,) = request.images
    assert (source.filename, source.size, source.updated) == ("image", None, None)
    assert BATCH.parse(batch_payload(request)) == request


@pytest.mark.parametrize("address", ["ftp://x/download/1", "https://x\x00/1"])
async def test_an_address_that_leads_elsewhere_costs_its_entity_only(
    world: World, address: str
) -> None:
    main_id, _ = world.pair(ONE)
    (image,) = world.main.entities["product"][main_id].images
    change(world, main_id, images=(replace(image, download_href=address),))
    world.main.add("product", "Chair", ONE, external_code="y")
    world.child.add("product", "Chair", external_code="y")
    lamp, chair = [p async for p in world.plan("main", "child")]
    assert (lamp.name, lamp.request, chair.request is not None) == ("Lamp", None, True)
    assert lamp.reason.startswith("images.0.download_href: must be an")


async def test_rows_that_cannot_be_read_are_told_and_the_others_planned(world: World) -> None:
    world.pair(ONE)
    world.main.unreadable_rows = ["product 'Bad': id: missing"]
    world.child.unreadable_rows = ["product 'Worse': id: missing"]
    planned = [p async for p in world.plan("main", "child", only_types=["product"])]
    assert [(p.name, p.reason) for p in planned if p.request is None] == [
        ("", "main account: product 'Bad': id: missing"),
        ("", "child account: product 'Worse': id: missing"),
    ]
    assert [p.name for p in planned if p.request] == ["Lamp"]


async def test_a_type_with_a_matcher_of_its_own_heeds_no_match_field(world: World) -> None:
    class Backwards:
        name = "name backwards"

        def key(self, entity: Entity) -> str | None:
            return str(entity.fields.get("shown") or "") or None

    world.survey = replace(
        world.survey, entity_types=EntityTypes([EntityType("product", matcher=Backwards())])
    )
    main_id, child_id = world.pair(ONE)
    for account, entity_id in ((world.main, main_id), (world.child, child_id)):
        entity = account.entities["product"][entity_id]
        shown = replace(entity, external_code=None, fields={"shown": "card"})
        account.entities["product"][entity_id] = shown
    request = await world.request()
    assert request.child_entity_id == child_id


@pytest.mark.parametrize(
    ("account_id", "role"), [("main", AccountRole.CHILD), ("child", AccountRole.MAIN)]
)
async def test_accounts_on_the_wrong_sides_are_refused_before_any_request(
    world: World, account_id: str, role: AccountRole
) -> None:
    world.pair(ONE)
    await world.accounts.set_role(account_id, role)
    with pytest.raises(WrongAccountError, match=f"'{account_id}' .* is a {role} account"):
        _ = [p async for p in world.plan("main", "child")]
    assert world.main.calls == world.child.calls == []


async def test_roles_are_noted_where_they_are_new(world: World) -> None:
    await world.survey.note_roles(world.link)
    assert (await world.accounts.get("main")).role is AccountRole.MAIN
    assert (await world.accounts.get("child")).role is AccountRole.CHILD
    await world.survey.note_roles(world.link)
    with pytest.raises(WrongAccountError):
        _ = [p async for p in world.plan("child", "main")]


@pytest.mark.parametrize(
    ("compared", "allowed"), [(0, 20), (1999, 20), (2100, 21), (100_000, 1000), (400_000, 2500)]
)
def test_so_many_may_be_cleared_in_one_run(compared: int, allowed: int) -> None:
    assert allowed_clears(compared) == allowed
