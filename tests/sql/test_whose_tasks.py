"""Whose a task is, in columns that other programs filter by."""

from datetime import timedelta

from sqlalchemy import Engine, text

from imgsync.adapters.sql.queue import SqlTaskQueue

LEASE = timedelta(minutes=2)
WHOSE = text("SELECT account_id, entity_id, operation FROM sync_queue ORDER BY id")


def whose(engine: Engine) -> list[tuple[str | None, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(WHOSE)]


def test_a_task_says_whose_it_is(engine: Engine) -> None:
    queue = SqlTaskQueue(engine)
    task_id = queue.enqueue({}, account_id="child\x00", entity_id="e").task_id
    assert whose(engine) == [("child", "e", "sync")]
    task = queue.get(task_id)
    assert task is not None
    assert (task.account_id, task.entity_id) == ("child", "e")
    claimed = queue.claim(lease=LEASE)
    assert claimed is not None
    assert (claimed.account_id, claimed.entity_id) == ("child", "e")


def test_a_task_that_takes_a_new_payload_takes_its_entity_too(engine: Engine) -> None:
    queue = SqlTaskQueue(engine)
    for entity in ("old", "new"):
        queue.enqueue({}, dedupe_key="k", account_id="child", entity_id=entity)
    assert whose(engine) == [("child", "new", "sync")]


def test_the_later_check_of_a_task_says_whose_it_is(engine: Engine) -> None:
    queue = SqlTaskQueue(engine)
    queue.enqueue({}, dedupe_key="k", account_id="child", entity_id="e")
    task = queue.claim(lease=LEASE)
    assert task is not None
    queue.release(task, check_again=True)
    task = queue.claim(lease=LEASE)
    assert task is not None
    queue.complete(task, result="done", warnings=[])
    assert whose(engine) == [("child", "e", "sync")] * 2
