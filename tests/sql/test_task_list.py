"""The list of tasks: filters, pages, cancelling, deleting; quick with very many rows."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, event, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.adapters.sql.tasklist import SqlTaskList
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.tasks import CANCELLED, TaskState, filter_by, state_of
from imgsync.domain.tasks import TaskId, TaskStatus

pytestmark = [pytest.mark.anyio]
LEASE = timedelta(minutes=2)
ROWS = """
    WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < :rows - 1)
    INSERT INTO sync_queue (payload, account_id, dedupe_key, status, scheduled_at)
    SELECT CAST('{"name": "Lamp ' || n || '"}' AS JSON), 'child' || (n % 30), 'key' || n,
        CASE WHEN n < 10 THEN 'failed' WHEN n < :rows / 2 THEN 'completed' ELSE 'pending' END, :now
    FROM n
"""


def fill(database: Database, rows: int) -> None:
    rows_of = ROWS if database.dialect != "sqlite" else ROWS.replace("AS JSON", "AS TEXT")
    statement = text(rows_of).bindparams(bindparam("now", type_=UtcDateTime))
    with database.engine.begin() as connection:
        values = {"rows": rows, "now": datetime(2026, 1, 1, tzinfo=UTC)}
        connection.execute(statement, values)


@pytest.fixture
def queue(database: Database) -> SqlTaskQueue:
    return SqlTaskQueue(database)


@pytest.fixture
def tasks(database: Database) -> SqlTaskList:
    return SqlTaskList(database)


async def put(queue: SqlTaskQueue, *given: NewTask) -> list[TaskId]:
    return [(await queue.enqueue([one]))[0].task_id for one in given]


def of_child(child: str, number: int, **payload: Any) -> NewTask:
    return NewTask({"n": number, **payload}, f"{child}/product/{number}", child, f"main{number}")


async def test_failed_ones_are_told_apart(
    queue: SqlTaskQueue, tasks: SqlTaskList, database: Database
) -> None:
    """One that failed, one whose key has a newer task, and a cancelled one that has, too."""
    first, old, cancelled = await put(queue, *(of_child("a", n) for n in (1, 2, 3)))
    await tasks.cancel([first, old, cancelled])
    with database.engine.begin() as connection:
        told = text("UPDATE sync_queue SET error = 'broken' WHERE id <> :id")
        connection.execute(told, {"id": cancelled})
    assert await tasks.count_ended() == {"cancelled": 1, "superseded": 0}
    await put(queue, of_child("a", 2), of_child("a", 3))
    assert await tasks.count_ended() == {"cancelled": 1, "superseded": 1}
    page = await tasks.find(status=TaskStatus.FAILED)
    assert page.superseded == {old, cancelled}
    found = await tasks.find(status=TaskStatus.FAILED, superseded=False)
    assert [task.id for task in found.tasks] == [first]
    found = await tasks.find(superseded=True)
    assert [task.id for task in found.tasks] == [cancelled, old]


async def test_each_state_finds_the_tasks_that_stand_so_and_no_others(
    queue: SqlTaskQueue, tasks: SqlTaskList, database: Database
) -> None:
    (plain,) = await put(queue, of_child("a", 7))
    for task in await queue.claim(lease=LEASE):
        await queue.complete(task, result="completed", warnings=[])
    (warned,) = await put(queue, of_child("a", 8))
    for task in await queue.claim(lease=LEASE):
        await queue.complete(task, result="completed", warnings=["a.jpg: broken"])
    failed, old, cancelled, both = await put(queue, *(of_child("a", n) for n in (1, 2, 3, 4)))
    await tasks.cancel([failed, old, cancelled, both])
    with database.engine.begin() as connection:
        told = text("UPDATE sync_queue SET error = :error WHERE id = :id")
        connection.execute(told, [{"error": "broken", "id": old}, {"error": None, "id": failed}])
    under_way, *waiting = await put(queue, *(of_child("a", n) for n in (5, 2, 4)))
    assert [task.id for task in await queue.claim(lease=LEASE, limit=1)] == [under_way]
    wanted = {
        TaskState.PENDING: waiting[::-1],
        TaskState.PROCESSING: [under_way],
        TaskState.COMPLETED: [warned, plain],
        TaskState.WARNED: [warned],
        TaskState.FAILED: [failed],
        TaskState.CANCELLED: [both, cancelled],
        TaskState.SUPERSEDED: [old],
    }
    pages = {state: await tasks.find(**filter_by(state)) for state in TaskState}
    assert {state: [task.id for task in page.tasks] for state, page in pages.items()} == wanted
    everything = await tasks.find(**filter_by(None))
    told_as = {task.id: state_of(task, everything.superseded) for task in everything.tasks}
    assert told_as == {
        task_id: state
        for state, ids in wanted.items()
        for task_id in ids
        if state is not TaskState.COMPLETED or task_id == plain
    }


async def test_those_with_warnings_and_those_since_a_moment(
    queue: SqlTaskQueue, tasks: SqlTaskList, database: Database
) -> None:
    ids = await put(queue, *(of_child("a", n) for n in range(4)))
    with database.engine.begin() as connection:
        at = bindparam("at", type_=UtcDateTime)
        connection.execute(
            text("UPDATE sync_queue SET created_at = :at WHERE id <= :id").bindparams(at),
            {"at": datetime(2020, 1, 1, tzinfo=UTC), "id": ids[1]},
        )
    for task in await queue.claim(lease=LEASE, limit=2):
        await queue.complete(task, result="completed", warnings=["a.jpg: broken"])
    warned = await tasks.find(warned=True)
    assert [task.id for task in warned.tasks] == [ids[1], ids[0]]
    assert len((await tasks.find(warned=False)).tasks) == 2
    since = await tasks.find(since=datetime(2021, 1, 1, tzinfo=UTC))
    assert [task.id for task in since.tasks] == [ids[3], ids[2]]
    assert since.before is None


async def test_filters_by_child_status_and_text_join(
    queue: SqlTaskQueue, tasks: SqlTaskList
) -> None:
    lamp, chair, other = await put(
        queue,
        of_child("a", 1, name="Лампа"),
        of_child("a", 2, name="Chair 100%"),
        of_child("b", 1, name="Лампа"),
    )
    await tasks.cancel([chair])

    async def found(**by: Any) -> list[TaskId]:
        return [task.id for task in (await tasks.find(**by)).tasks]

    assert await found() == [other, chair, lamp]
    assert await found(child="a") == [chair, lamp]
    assert await found(status=TaskStatus.PENDING) == [other, lamp]
    assert await found(child="a", status=TaskStatus.FAILED) == [chair]
    assert await found(text="лампа") == [other, lamp]
    assert await found(text="ЛАМПА", child="b") == [other]
    assert await found(text="cHAIR 100%") == [chair]
    assert await found(text="Chair_100") == []
    assert await found(text="CANCEL") == [chair]
    assert await found(text="a/product/1") == [lamp]
    assert await found(text="' OR 1=1 --\x00\ud800") == []
    assert await found(child="") == []


async def test_pages_follow_one_another_to_the_end(queue: SqlTaskQueue, tasks: SqlTaskList) -> None:
    ids = await put(queue, *(of_child("a" if n % 3 else "b", n) for n in range(25)))
    for by in ({}, {"child": "a"}, {"status": TaskStatus.PENDING}, {"text": "product"}):
        seen: list[TaskId] = []
        before: TaskId | None = None
        while True:
            page = await tasks.find(before=before, limit=4, **by)
            seen += [task.id for task in page.tasks]
            before = page.before
            if before is None:
                break
        wanted = [i for n, i in enumerate(ids) if n % 3] if "child" in by else ids
        assert seen == wanted[::-1], by


@pytest.mark.parametrize("before", [0, -5, 10**30, "9" * 40, "none", "\x00"])
async def test_a_page_before_an_id_that_no_task_has_is_no_error(
    queue: SqlTaskQueue, tasks: SqlTaskList, before: TaskId
) -> None:
    await put(queue, of_child("a", 1))
    assert (await tasks.find(before=before)).tasks == ()


async def test_only_what_waits_can_be_cancelled_and_it_can_be_retried(
    queue: SqlTaskQueue, tasks: SqlTaskList
) -> None:
    first, second = await put(queue, of_child("a", 1), of_child("b", 2))
    (held,) = await queue.claim(lease=LEASE)
    waits = second if held.id == first else first
    assert await tasks.cancel([first, second, 10**30, "x"]) == [waits]
    cancelled = await queue.get(waits)
    assert cancelled is not None
    assert (cancelled.status, cancelled.error) == (TaskStatus.FAILED, CANCELLED)
    assert await queue.claim(lease=LEASE) == []
    await queue.complete(held, result="done", warnings=[])  # untouched
    assert await tasks.cancel([waits]) == []
    assert await queue.retry([waits]) == [waits]


async def test_a_task_that_is_being_processed_is_not_deleted(
    queue: SqlTaskQueue, tasks: SqlTaskList
) -> None:
    (held_id,) = await put(queue, of_child("a", 1))
    (held,) = await queue.claim(lease=LEASE)
    assert await tasks.delete([held_id]) == []
    await queue.complete(held, result="done", warnings=[])
    assert await tasks.delete([held_id, held_id]) == [held_id]
    assert await queue.get(held_id) is None


async def test_no_task_that_is_out_of_date_can_be_retried_after_a_deletion(
    queue: SqlTaskQueue, tasks: SqlTaskList
) -> None:
    (old,) = await put(queue, of_child("a", 1))
    await tasks.cancel([old])
    new, other = await put(queue, of_child("a", 1), of_child("a", 2))
    assert new != old
    assert await tasks.delete([new]) == [new]
    assert await queue.retry(None) == []
    assert [task.id for task in (await tasks.find()).tasks] == [other]
    (old,) = await put(queue, of_child("a", 1))
    await tasks.cancel([old])
    assert await tasks.delete([other]) == [other]
    assert await queue.get(old) is not None  # of another key


async def test_tasks_of_other_kinds_are_neither_shown_nor_changed(database: Database) -> None:
    foreign = SqlTaskQueue(database, kinds=("price_sync",))
    tasks = SqlTaskList(database)
    (given,) = await foreign.enqueue([NewTask({}, kind="price_sync")])
    assert (await tasks.find()).tasks == ()
    assert await tasks.cancel([given.task_id]) == await tasks.delete([given.task_id]) == []


async def test_superseded_tasks_come_in_pages_without_those_of_other_kinds(
    database: Database, queue: SqlTaskQueue, tasks: SqlTaskList
) -> None:
    foreign = SqlTaskQueue(database, kinds=("price_sync",))
    others = SqlTaskList(database, kinds=("price_sync",))
    old = list[TaskId]()
    for n in range(9):
        old += await put(queue, of_child("a" if n % 2 else "b", n))
        (other,) = await foreign.enqueue([NewTask({}, f"a/price/{n}", "a", kind="price_sync")])
        await others.cancel([other.task_id])
        await foreign.enqueue([NewTask({}, f"a/price/{n}", "a", kind="price_sync")])
    last = await put(queue, of_child("a", 99))
    await tasks.cancel([*old, *last])
    await put(queue, *(of_child("a" if n % 2 else "b", n) for n in range(6)))
    for by, wanted in (
        ({"superseded": True}, old[:6]),
        ({"superseded": True, "status": TaskStatus.FAILED}, old[:6]),
        ({"superseded": False, "status": TaskStatus.FAILED}, [*old[6:], *last]),
        ({"superseded": True, "child": "a"}, old[1:6:2]),
        ({"superseded": True, "text": "a/product"}, old[1:6:2]),
    ):
        seen: list[TaskId] = []
        before: TaskId | None = None
        while True:
            page = await tasks.find(before=before, limit=2, **by)
            assert len(page.tasks) <= 2
            seen += [task.id for task in page.tasks]
            before = page.before
            if before is None:
                break
        assert seen == wanted[::-1], by
    assert (await tasks.find(superseded=True, status=TaskStatus.PENDING)).tasks == ()
    assert await tasks.count_ended() == {"cancelled": 10, "superseded": 0}
    assert await others.count_ended() == {"cancelled": 9, "superseded": 0}


async def test_a_text_is_found_in_capitals_or_not_wherever_it_stands(
    queue: SqlTaskQueue, tasks: SqlTaskList, database: Database
) -> None:
    (lamp,) = await put(queue, of_child("a", 1, name="Desk LAMP Ä"))
    with database.engine.begin() as connection:
        told = text("UPDATE sync_queue SET error = 'No ANSWER', result = 'Left Alone'")
        connection.execute(told)
    for one in (
        "lamp",
        "LAMP",
        "lAmP",
        "no answer",
        "left ALONE",
        "A/Product/1",
        "lamp Ä",
        "LaMp ä",
    ):
        assert [task.id for task in (await tasks.find(text=one)).tasks] == [lamp], one
    assert (await tasks.find(text="lamp b")).tasks == ()


async def test_no_statement_of_a_page_looks_at_all_tasks(sqlite_database: Database) -> None:
    fill(sqlite_database, 3_000)
    tasks, plans = SqlTaskList(sqlite_database), list[str]()
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if "sync_queue" in statement:
            statements.append((statement, values))

    event.listen(sqlite_database.engine, "before_cursor_execute", note)
    for by in ({}, {"child": "child3"}, {"status": TaskStatus.FAILED}, {"text": "Lamp"}):
        await tasks.find(limit=5, **by)
    event.remove(sqlite_database.engine, "before_cursor_execute", note)
    with sqlite_database.engine.connect() as connection:
        for statement, values in statements:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            plans += [row.detail for row in rows]
    assert [plan for plan in plans if plan.startswith("SCAN sync_queue")] in (
        [],
        ["SCAN sync_queue"] * 2,  # backwards by the id, up to the limit
    )
    assert not any("TEMP B-TREE" in p for p in plans if "sync_queue" in p)


@pytest.mark.slow
@pytest.mark.parametrize("analysed", [False, True])
async def test_a_page_of_a_hundred_thousand_tasks_takes_a_moment(
    database: Database, analysed: bool
) -> None:
    """Whether the database knows how many rows there are of each status, or takes all for few. Of
    a million the benchmark tells (`listing`), and the plans are the same."""
    fill(database, 100_000)
    if analysed:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
    tasks = SqlTaskList(database)
    for by, most in (
        ({}, 0.05),
        ({"child": "child7"}, 0.05),
        ({"status": TaskStatus.FAILED}, 0.05),
        ({"status": TaskStatus.COMPLETED}, 0.05),  # all of which are older than all others
        ({"status": TaskStatus.COMPLETED, "before": 40_000}, 0.05),
        ({"status": TaskStatus.COMPLETED, "child": "child7"}, 0.05),
        ({"status": TaskStatus.PENDING, "child": "child7"}, 0.05),
        ({"text": "лампа"}, 1.0),
        ({"text": "Lamp 9", "child": "child9"}, 1.0),
    ):
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            await tasks.find(**by)
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < most, by
