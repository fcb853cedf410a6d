"""Tasks are counted by the database itself, whoever writes them and however."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import bindparam, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.adapters.sql.tasklist import SqlTaskList
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TaskStatus

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=2)
COUNTED = "SELECT entity_type, account_id, status, tasks FROM sync_counts"
THERE = """
SELECT entity_type, coalesce(account_id, ''), status, count(*) FROM sync_queue GROUP BY 1, 2, 3
"""
PUT = "INSERT INTO sync_queue (payload, account_id, dedupe_key) VALUES ('{}', :child, :key)"


def assert_counted(database: Database) -> None:
    """Of PostgreSQL several rows may stand for the same."""
    with database.engine.begin() as connection:
        counted = Counter[tuple[str, ...]]()
        for *of, number in connection.execute(text(COUNTED)):
            counted[tuple(of)] += number
        there = {tuple(of): number for *of, number in connection.execute(text(THERE))}
    assert {of: number for of, number in counted.items() if number} == there


async def test_every_change_of_a_queue_is_counted(database: Database) -> None:
    queue, tasks = SqlTaskQueue(database), SqlTaskList(database)
    new = [NewTask({"n": n}, f"{n % 3}/product/{n}", str(n % 3)) for n in range(12)]
    await queue.enqueue(new)
    await queue.enqueue(new[:5])  # those that wait take it over
    assert_counted(database)
    held = await queue.claim(lease=LEASE, limit=4)
    await queue.complete(held[0], result="done", warnings=["x"])
    await queue.fail(held[1], error="503")
    await queue.release(held[2])
    await queue.renew(held[3], lease=LEASE)
    assert_counted(database)
    counts = await queue.counts()
    assert counts == {
        TaskStatus.PENDING: 9,
        TaskStatus.PROCESSING: 1,
        TaskStatus.COMPLETED: 1,
        TaskStatus.FAILED: 1,
    }
    await queue.retry(None)
    waiting = await tasks.find(status=TaskStatus.PENDING)
    await tasks.cancel([task.id for task in waiting.tasks[:3]])
    await tasks.delete([task.id for task in waiting.tasks[2:6]])
    assert_counted(database)
    assert await queue.prune(completed=timedelta(0), failed=timedelta(0)) > 0
    assert_counted(database)


BY_HAND: list[str | tuple[str, ...]] = [
    "UPDATE sync_queue SET account_id = 'other' WHERE id % 2 = 0",
    "UPDATE sync_queue SET account_id = NULL",
    "UPDATE sync_queue SET entity_type = 'price_sync' WHERE id % 3 = 0",
    "UPDATE sync_queue SET id = id + 1000, status = 'completed'",
    "DELETE FROM sync_queue WHERE id % 2 = 0",
    "DELETE FROM sync_queue",
    "INSERT INTO sync_queue (payload, account_id, dedupe_key) VALUES ('{}', 'c', 'k1')"
    " ON CONFLICT (dedupe_key) WHERE status = 'pending' DO UPDATE SET payload = '{}'",
    "INSERT INTO sync_queue (payload, account_id, dedupe_key) VALUES ('{}', 'c', 'k1')"
    " ON CONFLICT DO NOTHING",
]


@pytest.mark.parametrize("statement", BY_HAND)
async def test_what_other_programs_do_is_counted(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        for n in range(7):
            connection.execute(text(PUT), {"child": None if n == 5 else "c", "key": f"k{n}"})
        connection.execute(text(statement))
    assert_counted(database)


async def test_a_change_that_is_rolled_back_is_not_counted(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.execute(text(PUT), {"child": "c", "key": "k"})
        connection.rollback()
    assert_counted(database)
    assert (await SqlTaskQueue(database).counts())[TaskStatus.PENDING] == 0


async def test_an_emptied_table_counts_nothing(postgresql_url: str) -> None:
    database = Database.open(postgresql_url)
    await SqlTaskQueue(database).enqueue([NewTask({}), NewTask({})])
    with database.engine.begin() as connection:
        connection.execute(text("TRUNCATE sync_queue"))
    assert_counted(database)
    database.close()


async def test_transactions_that_count_the_same_do_not_wait_for_one_another(
    postgresql_url: str,
) -> None:
    """Two that are open at once, of which each writes to what the other one has written to."""
    database = Database.open(postgresql_url)
    await SqlTaskQueue(database).enqueue([NewTask({"n": 0}, account_id="c")])
    engine = database.engine

    def put(first: str, second: str, then: Callable[[], None]) -> None:
        with engine.connect() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            connection.execute(text(PUT), {"child": first, "key": None})
            then()
            connection.execute(text(PUT), {"child": second, "key": None})
            connection.commit()

    put("c", "d", lambda: put("d", "c", lambda: None))
    assert_counted(database)
    with engine.connect() as connection:
        strict = connection.execution_options(isolation_level="REPEATABLE READ")
        strict.execute(text("SELECT count(*) FROM sync_queue"))
        put("c", "d", lambda: None)
        strict.execute(text(PUT), {"child": "c", "key": None})
        strict.commit()
    assert_counted(database)
    database.close()


async def test_what_is_counted_apart_is_merged_as_the_queue_is_pruned(postgresql_url: str) -> None:
    database = Database.open(postgresql_url)
    queue = SqlTaskQueue(database)
    await queue.enqueue([NewTask({"n": 0}, account_id="c")])
    for _ in range(5):
        with database.engine.connect() as connection:
            strict = connection.execution_options(isolation_level="REPEATABLE READ")
            strict.execute(text(PUT), {"child": "c", "key": None})
            strict.commit()

    def rows() -> int:
        with database.engine.begin() as connection:
            return int(connection.execute(text("SELECT count(*) FROM sync_counts")).scalar_one())

    assert rows() == 6
    await queue.prune(completed=timedelta(days=30), failed=timedelta(days=90))
    assert rows() == 1
    assert_counted(database)
    database.close()


async def test_hosts_that_work_at_once_count_all(database: Database, database_url: str) -> None:
    others = [Database.open(database_url) for _ in range(2)]
    queues = [SqlTaskQueue(one) for one in (database, *others)]

    async def work(number: int, queue: SqlTaskQueue) -> None:
        for round_ in range(8):
            await queue.enqueue(
                [NewTask({"n": n}, f"c/product/{number}-{round_}-{n}", "c") for n in range(3)]
            )
            for task in await queue.claim(lease=LEASE, limit=3):
                await queue.complete(task, result="done", warnings=[])

    await asyncio.gather(*(work(number, queue) for number, queue in enumerate(queues)))
    assert_counted(database)
    assert sum((await queues[0].counts()).values()) == 72
    for one in others:
        one.close()


async def test_the_oldest_task_that_waits_is_found_whosever_it_is(database: Database) -> None:
    """In seconds since it was due, whatever its child, kind and priority."""
    figures = SqlFigures(database)
    assert (await figures()).oldest_due == 0
    rows = (
        ("c", "image_sync", 50, 600),
        ("d", "image_sync", 50, 700),
        ("d", "image_sync", 90, 650),
        ("d", "image_sync", 10, 800),
        (None, "image_sync", 50, 900),
        ("c", "price_sync", 50, 1000),
        ("c", "image_sync", -7, 1100),
    )
    put = text(
        "INSERT INTO sync_queue (payload, account_id, entity_type, priority, scheduled_at)"
        " VALUES ('{}', :child, :kind, :priority, :at)"
    ).bindparams(bindparam("at", type_=UtcDateTime))
    now = datetime.now(UTC)
    for child, kind, priority, age in rows:
        values = {"child": child, "kind": kind, "priority": priority}
        with database.engine.begin() as connection:
            connection.execute(put, values | {"at": now - timedelta(seconds=age)})
        assert (await figures()).oldest_due >= age - 1, (child, kind, priority)
        assert (await figures()).oldest_due < age + 60
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'completed'"))
    assert (await figures()).oldest_due == 0


async def test_the_numbers_for_prometheus_tell_superseded_ones_apart(database: Database) -> None:
    queue, tasks = SqlTaskQueue(database), SqlTaskList(database)
    new = [NewTask({"n": n}, f"c/product/{n}", "c") for n in range(3)]
    (cancelled,) = await queue.enqueue(new[:1])
    await tasks.cancel([cancelled.task_id])
    await queue.enqueue(new[1:])
    for task in await queue.claim(lease=LEASE, limit=2):
        await queue.fail(task, error="503")
    await queue.enqueue(new[1:2])
    found = (await SqlFigures(database)()).tasks
    assert found == {
        ("c", "pending"): 1,
        ("c", "failed"): 1,
        ("c", "cancelled"): 1,
        ("c", "superseded"): 1,
    }
