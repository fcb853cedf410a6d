"""Planning: pages, counterparts, skipped entities; cleanup and the daily job."""

import asyncio
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from imgsync.application.cleanup import Cleaned, CleanupTemp
from imgsync.application.daily import run_daily
from imgsync.domain.entity_types import MatchField
from imgsync.domain.errors import ImgsyncError, UnknownAccountError, UnknownEntityTypeError
from imgsync.domain.ports.storage import StaleFile
from tests.application.world import TestClock, World, png

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
    assert world.child.count("list_entities") == 1


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


def test_cleanup_deletes_only_old_files_and_counts_them(world: World) -> None:
    clock = TestClock(datetime.now(UTC))
    cleanup = CleanupTemp(world.storage, clock)
    seen: list[StaleFile] = []
    world.storage.leave_behind(b"123")
    world.storage.leave_behind(b"45")
    assert cleanup.find(timedelta(hours=24)) == []
    clock.moment += timedelta(hours=25)
    files = cleanup.find(timedelta(hours=24))
    assert cleanup.delete(files, seen.append) == Cleaned(2, 5)
    assert seen == files


async def test_the_daily_job_runs_at_its_time_and_survives_its_errors() -> None:
    now = datetime(2026, 11, 24, 2, 59, tzinfo=UTC)
    runs: list[datetime] = []

    def job() -> None:
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
    for name in ("A", "B"):
        world.main.add("product", name, ONE, article="k")
    world.child.add("product", "C", article="k")
    planned = [p async for p in world.plan("main", "child", match_field=MatchField.ARTICLE)]
    assert [p.request is not None for p in planned] == [True, False]
    assert "its counterpart is already that of another product" in planned[1].reason


def test_a_file_that_is_gone_already_frees_nothing(world: World) -> None:
    cleanup = CleanupTemp(world.storage, TestClock())
    gone = StaleFile("task-1/0000.png", 9, datetime.now(UTC))
    assert cleanup.delete([gone]).freed_bytes == 0
