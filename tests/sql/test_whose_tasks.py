"""Whose a task is, in columns that other programs filter by."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.ports.queue import NewTask

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=2)
WHOSE = text("SELECT account_id, entity_id, operation FROM sync_queue ORDER BY id")


def whose(engine: Engine) -> list[tuple[str | None, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(WHOSE)]


async def test_a_task_says_whose_it_is(database: Database) -> None:
    queue = SqlTaskQueue(database)
    (queued,) = await queue.enqueue([NewTask({}, account_id="child\x00", entity_id="e")])
    assert whose(database.engine) == [("child", "e", "sync")]
    task = await queue.get(queued.task_id)
    assert task is not None
    assert (task.account_id, task.entity_id) == ("child", "e")
    (claimed,) = await queue.claim(lease=LEASE)
    assert (claimed.account_id, claimed.entity_id) == ("child", "e")


async def test_a_task_that_takes_a_new_payload_takes_its_entity_too(database: Database) -> None:
    queue = SqlTaskQueue(database)
    for entity in ("old", "new"):
        await queue.enqueue([NewTask({}, dedupe_key="k", account_id="child", entity_id=entity)])
    assert whose(database.engine) == [("child", "new", "sync")]


async def test_the_later_check_of_a_task_says_whose_it_is(database: Database) -> None:
    queue = SqlTaskQueue(database)
    await queue.enqueue([NewTask({}, dedupe_key="k", account_id="child", entity_id="e")])
    (task,) = await queue.claim(lease=LEASE)
    await queue.release(task, check_again=True)
    (task,) = await queue.claim(lease=LEASE)
    await queue.complete(task, result="done", warnings=[])
    assert whose(database.engine) == [("child", "e", "sync")] * 2
