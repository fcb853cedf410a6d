"""Rows that the program which fills `sync_queue` writes: all its columns, two kinds of payload."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.application.payloads import batch_payload
from imgsync.application.work import TaskEnd, TaskReport
from imgsync.domain.errors import AuthorisationError
from imgsync.domain.tasks import TaskId, TaskStatus
from tests.application.world import png
from tests.sql.world import SqlWorld

pytestmark = pytest.mark.anyio
INSERT = text(
    "INSERT INTO sync_queue (account_id, entity_type, entity_id, operation, priority, status,"
    " attempts, max_attempts, scheduled_at, payload, created_at, updated_at)"
    " VALUES (:account_id, :entity_type, :entity_id, 'sync', 50, 'pending', 0, 3,"
    " '2026-01-01 10:00:00', :payload, '2026-01-01 10:00:00', '2026-01-01 10:00:00') RETURNING id"
)


@pytest.fixture
async def world(database: Database) -> SqlWorld:
    made = await SqlWorld.open(database)
    made.clock.moment = datetime.now(UTC)
    return made


def insert(world: SqlWorld, payload: Any, entity_id: str, **changed: str | None) -> int:
    row = {"account_id": "child", "entity_type": "image_sync", "entity_id": entity_id} | changed
    with world.database.engine.begin() as connection:
        return int(connection.execute(INSERT, {**row, "payload": json.dumps(payload)}).scalar_one())


async def drain(world: SqlWorld) -> dict[TaskId, TaskReport]:
    reports: list[TaskReport] = []
    await world.worker().run(drain=True, report=reports.append)
    return {report.task.id: report for report in reports}


async def batch(world: SqlWorld) -> dict[str, Any]:
    """What that program makes of the only pair: rows of the API as they are, the type under
    another name than ours."""
    payload = batch_payload(await world.request())
    payload["entity_type"] = payload.pop("parent_entity_type")
    for image in payload["images"]:
        image |= {"title": "a", "tiny": {"href": "x"}, "miniature": {"downloadHref": None}}
    del payload["name"]
    return payload


@pytest.mark.parametrize("names_the_child", [True, False])
async def test_a_batch_is_copied(world: SqlWorld, names_the_child: bool) -> None:
    _, child_id = world.pair([("a.png", png(0)), ("b.png", png(1))])
    payload = await batch(world)
    if not names_the_child:
        del payload["child_account_id"]  # it stands in the column
    task_id = insert(world, payload, payload["parent_entity_id"])
    report = (await drain(world))[task_id]
    assert report.end is TaskEnd.COMPLETED, report.error
    assert [content for _, content in world.child.images("product", child_id)] == [png(0), png(1)]
    task = await world.task(task_id)
    assert (task.account_id, task.entity_id) == ("child", payload["parent_entity_id"])


async def test_one_image_is_copied_whose_row_is_called_by_its_file(world: SqlWorld) -> None:
    _, child_id = world.pair([("a.png", png(0))])
    payload = batch_payload(await world.request())
    (image,) = payload.pop("images")
    payload |= {"image_url": image["meta"]["downloadHref"], "filename": "a.png"}
    task_id = insert(world, payload, "a.png")
    report = (await drain(world))[task_id]
    assert report.end is TaskEnd.COMPLETED, report.error
    assert [content for _, content in world.child.images("product", child_id)] == [png(0)]


async def test_other_kinds_of_that_program_are_left_alone(world: SqlWorld) -> None:
    world.pair([("a.png", png(0))])
    task_id = insert(world, await batch(world), "x", entity_type="product")
    assert await drain(world) == {}
    with world.database.engine.begin() as connection:
        query = text("SELECT status FROM sync_queue WHERE id = :id")
        assert connection.execute(query, {"id": task_id}).scalar() == "pending"


async def test_a_row_for_another_account_than_its_payload_is_not_run(world: SqlWorld) -> None:
    world.pair([("a.png", png(0))])
    task_id = insert(world, await batch(world), "x", account_id="another")
    report = (await drain(world))[task_id]
    assert report.end is TaskEnd.FAILED
    assert report.error == (
        "Bad payload: field 'account_id': the row is for account 'another', its payload for 'child'"
    )
    assert world.child.calls == ["list_entities"]  # the planning's


@pytest.mark.parametrize("account_id", [None, "", " child "])
async def test_a_row_without_an_account_is_run_as_its_payload_says(
    world: SqlWorld, account_id: str | None
) -> None:
    world.pair([("a.png", png(0))])
    payload = await batch(world)
    task_id = insert(world, payload, "x", account_id=account_id)
    report = (await drain(world))[task_id]
    assert report.end is TaskEnd.COMPLETED, report.error


async def test_rows_whose_column_alone_names_the_child_are_parked_with_it(world: SqlWorld) -> None:
    world.pair([("a.png", png(0))])
    payload = await batch(world)
    del payload["child_account_id"]
    for _ in range(50):
        insert(world, payload, "x")
    other = insert(world, payload, "x", account_id="another")
    world.child.fail = lambda _: AuthorisationError("401", "child")
    assert len(await drain(world)) < 10
    assert await world.queue.parked() == 50
    assert (await world.task(other)).status is TaskStatus.FAILED
