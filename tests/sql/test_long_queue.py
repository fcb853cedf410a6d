"""A claim costs the same however many rows wait, of however many children; no look at a long queue
reads all of it."""

import json
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, event, text

from benchmarks import longqueue
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.adapters.sql.tasklist import SqlTaskList
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TaskStatus
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close

pytestmark = [pytest.mark.anyio]
LEASE = timedelta(minutes=2)
ZERO = timedelta(0)
# Parked, of two priorities, due: of 30 children each, the parked ones ahead of the others.
ROWS = """
    WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < :rows - 1)
    INSERT INTO sync_queue (payload, account_id, dedupe_key, priority, parked_for, scheduled_at)
    SELECT '{}', 'child' || (n % 30), 'key' || n, CASE WHEN n % 60 < 30 THEN 90 ELSE 50 + n % 3 END,
        CASE WHEN n % 60 < 30 THEN 'main' END, CASE WHEN n % 60 < 30 THEN :later ELSE :now END
    FROM n
"""
LAPSED = """
    UPDATE sync_queue SET status = 'processing', lease_token = 'x', lease_expires_at = :now,
        priority = 1
    WHERE id % 101 = 1 AND parked_for IS NULL
"""
ENDED = """
    UPDATE sync_queue SET status = CASE WHEN id % 4 = 0 THEN 'failed' ELSE 'completed' END
    WHERE parked_for IS NULL
"""


def fill(database: Database, rows: int, *statements: str) -> None:
    """As other programs do it: no statistics have been gathered of it."""
    values: dict[str, Any] = {
        "rows": rows,
        "now": datetime(2026, 1, 1, tzinfo=UTC),
        "later": datetime(2999, 1, 1, tzinfo=UTC),
    }
    with database.engine.begin() as connection:
        for statement in (ROWS, *statements):
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            times = [bindparam(name, type_=UtcDateTime) for name in named if name != "rows"]
            connection.execute(text(statement).bindparams(*times), named)


@pytest.mark.slow
@pytest.mark.parametrize("lapsed", [[], [LAPSED]], ids=["none lapsed", "some lapsed"])
async def test_a_claim_stays_quick_at_100_000_waiting_tasks(
    database: Database, lapsed: list[str]
) -> None:
    fill(database, 200_000, *lapsed)
    queue, seconds, children = SqlTaskQueue(database), list[float](), list[str]()
    assert (await queue.counts())[TaskStatus.PENDING] >= 190_000
    for _ in range(60):
        began = time.perf_counter()
        (task,) = await queue.claim(lease=LEASE)
        seconds.append(time.perf_counter() - began)
        children.append(task.account_id or "")
        await queue.complete(task, result="done", warnings=[])
    # The quickest quarter: what else runs on the machine makes others slow.
    assert statistics.quantiles(seconds)[0] < 0.02
    assert sorted(children[:30]) == sorted(children[30:])
    assert len(set(children)) == 30


@pytest.mark.parametrize("limit", [1, 7])
async def test_no_statement_of_a_claim_looks_at_all_that_waits(
    sqlite_database: Database, limit: int
) -> None:
    fill(sqlite_database, 300, LAPSED)
    queue, statements = SqlTaskQueue(sqlite_database), list[tuple[str, object]]()

    def note(_: Connection, _cursor: object, statement: str, values: object, *__: object) -> None:
        if "sync_queue" in statement:
            statements.append((statement, values))

    event.listen(sqlite_database.engine, "before_cursor_execute", note)
    for _ in range(40):
        for task in await queue.claim(lease=LEASE, limit=limit):
            await queue.complete(task, result="done", warnings=[])
    await queue.waiting([f"child {n}/product/{n}" for n in range(500)])
    event.remove(sqlite_database.engine, "before_cursor_execute", note)
    plans = set()
    with sqlite_database.engine.connect() as connection:
        for statement, values in statements:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()  # type: ignore[arg-type]
            plans |= {row[3] for row in rows}
    assert any("sync_queue_due" in step for step in plans)
    assert any("sync_queue_leases" in step for step in plans)
    tables = ("sync_queue", "q", "r")
    assert [step for step in plans if step.split()[:2] in [["SCAN", name] for name in tables]] == []


async def test_no_statement_of_a_look_or_a_prune_reads_all_tasks(database: Database) -> None:
    """Of PostgreSQL it is asked whether it could do without, as it may read a small table whole."""
    began = longqueue.fill(database, 3000)
    statements = list[tuple[str, Any]]()

    def note(_: Connection, _cursor: object, statement: str, values: object, *__: object) -> None:
        if "sync_queue" in statement:
            statements.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    for ask in longqueue.asked(database, began, 3000).values():
        await ask()
    assert await SqlTaskQueue(database).prune(
        completed=timedelta(days=29), failed=timedelta(days=29), limit=20
    )
    event.remove(database.engine, "before_cursor_execute", note)
    assert len(statements) > 60
    with database.engine.connect() as connection:
        wrong = {one: steps for one, by in statements if (steps := reads_all(connection, one, by))}
    assert wrong == {}


def reads_all(connection: Connection, statement: str, values: Any) -> list[str]:
    """The steps of its plan that look at every task."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        scans = [row.detail for row in rows if row.detail.split()[:2] == ["SCAN", "sync_queue"]]
        scans = [one for one in scans if not one.endswith((CANCELLED, NEWEST_FAILED))]
        if not statement.rstrip().endswith("LIMIT ? OFFSET ?"):
            return scans
        # Up to the limit, backwards by the id or in an index of few.
        return [one for one in scans if NEWEST not in statement and "sync_queue_warned" not in one]
    connection.exec_driver_sql("SET enable_seqscan = off")
    connection.exec_driver_sql("SET enable_sort = off")  # as looks have it
    (found,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).one()
    plan = json.loads(found) if isinstance(found, str) else found
    return list(unbounded(plan[0]["Plan"], within_limit=False))


async def test_failed_and_waiting_tasks_are_counted_by_indexes_alone(database: Database) -> None:
    """Neither the rows of failed tasks nor all that waits are read for `queue status`, the metrics
    and the list of superseded ones."""
    longqueue.fill(database, 3000)
    queue, tasks = SqlTaskQueue(database), SqlTaskList(database)
    plans = list[str]()

    def explain(connection: Connection, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "sync_queue" not in statement:
            return
        if database.dialect == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            cursor.execute(f"EXPLAIN {statement}", values)
            plans.extend(row[0] for row in cursor.fetchall())
        else:
            plans.extend(read_rows(cursor, statement, values))

    event.listen(database.engine, "before_cursor_execute", explain)
    assert await queue.parked() > 0
    assert sum((await tasks.count_ended()).values()) > 0
    await SqlFigures(database)()
    await tasks.find(status=TaskStatus.FAILED, superseded=True)
    event.remove(database.engine, "before_cursor_execute", explain)
    if database.dialect == "sqlite":
        # The superseded ones alone, for their child, twice; the page, and which of it are.
        assert plans == ["sync_queue"] * 4
        return
    scans = [one for one in plans if "Scan" in one and " on sync_queue" in one]
    # Not for the newer ones of a key, among which PostgreSQL would look at all that failed.
    assert not any("sync_queue_failed on sync_queue newer" in one for one in scans)
    for name in ("failed", "cancelled", "parked", "key"):
        found = [one for one in scans if f"using sync_queue_{name}" in one]
        assert found
        assert [one for one in found if "Index Only Scan" not in one] == []
    assert [one for one in scans if "Seq Scan" in one] == []


def read_rows(cursor: Any, statement: str, values: Any) -> list[str]:
    """A word for each table of tasks of which rows are read, and not only an index: by the program
    that SQLite makes of the statement."""
    cursor.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sync_queue'")
    (root,) = cursor.fetchone()
    cursor.execute(f"EXPLAIN {statement}", values)
    steps = cursor.fetchall()
    tables = {step[2] for step in steps if step[1] == "OpenRead" and step[3] == root}
    return ["sync_queue" for one in tables if any(s[1:3] == ("Column", one) for s in steps)]


async def test_what_a_task_supersedes_is_looked_for_by_its_key(database: Database) -> None:
    """And not among all that failed, where no statistics say how many these are."""
    fill(database, 2000, ENDED)
    plans = list[str]()

    def explain(connection: Connection, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "older" in statement:
            kind = "EXPLAIN" if database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
            cursor.execute(f"{kind} {statement}", values)
            plans.extend(str(row[-1]) for row in cursor.fetchall())

    event.listen(database.engine, "before_cursor_execute", explain)
    await SqlTaskQueue(database).prune(completed=ZERO, failed=ZERO, limit=10_000)
    event.remove(database.engine, "before_cursor_execute", explain)
    assert [one for one in plans if "sync_queue_key" in one]
    assert [one for one in plans if "sync_queue_failed" in one] == []


NEWEST = "ORDER BY sync_queue.id DESC"
CANCELLED, NEWEST_FAILED = "USING INDEX sync_queue_cancelled", "USING INDEX sync_queue_failed"
"""Of few, and up to a limit."""


def unbounded(node: dict[str, Any], *, within_limit: bool) -> Iterator[str]:
    """Steps of a plan of PostgreSQL. Below a limit an index is followed up to it, unless something
    comes between."""
    name = node["Node Type"]
    is_free = node.get("Relation Name") == "sync_queue" and name != "ModifyTable"
    if is_free and not within_limit and not any(map(is_bounded, [node, *below(node)])):
        yield f"{name} {node.get('Index Name', '')}"
    for one in node.get("Plans", ()):
        passes = name in ("Limit", "Subquery Scan", "Append", "LockRows", "Result")
        yield from unbounded(one, within_limit=name == "Limit" or (within_limit and passes))


def below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in node.get("Plans", ()):
        yield one
        yield from below(one)


def is_bounded(node: dict[str, Any]) -> bool:
    return "Index Cond" in node or node.get("Index Name") in SMALL


SMALL = ("sync_queue_due", "sync_queue_leases", "sync_queue_parked", "sync_queue_cancelled")
"""Indexes of what waits or is under way, and of what somebody cancelled."""


async def test_a_fresh_queue_is_pruned_by_age_without_being_told(tmp_path: Path) -> None:
    """With the defaults of the configuration: 30 days, failed ones 90, superseded ones as long as
    completed ones."""
    container = Container(config=fixed_config(database_url=f"sqlite:///{tmp_path / 'q.db'}"))
    database, queue = container.database(), container.queue()
    tasks = [NewTask({"n": n}, f"c/product/{n}", "c") for n in range(4)]
    ids = [(await queue.enqueue([one]))[0].task_id for one in tasks]
    for task in await queue.claim(lease=LEASE, limit=4):
        if task.payload["n"] < 2:
            await queue.complete(task, result="done", warnings=[])
        else:
            await queue.fail(task, error="503")
    (again,) = await queue.enqueue([tasks[3]])  # the last failed one is superseded

    def age(days: float, *which: object) -> None:
        at = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
        with database.engine.begin() as connection:
            for one in which:
                connection.exec_driver_sql(
                    "UPDATE sync_queue SET updated_at = ? WHERE id = ?", (at, one)
                )

    age(31, ids[0], ids[2], ids[3])
    age(29, ids[1])
    assert await container.prune_queue()() == 2
    left = {task.id for task in await queue.find()}
    assert left == {ids[1], ids[2], again.task_id}
    age(91, ids[2])
    assert await container.prune_queue()() == 1
    assert (await queue.counts())[TaskStatus.FAILED] == 0
    await close(container)


@pytest.mark.slow
async def test_old_ended_tasks_are_found_among_many(database: Database) -> None:
    fill(database, 12_000, ENDED)
    queue = SqlTaskQueue(database)
    began = time.perf_counter()
    for _ in range(5):
        assert await queue.prune(completed=ZERO, failed=ZERO) == 500
    assert time.perf_counter() - began < 5
    counts = await queue.counts()
    assert counts[TaskStatus.COMPLETED] + counts[TaskStatus.FAILED] == 3_500
    assert counts[TaskStatus.PENDING] == 6_000
