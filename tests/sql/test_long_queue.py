"""A claim costs the same however many rows wait, of however many children."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, event, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.domain.tasks import TaskStatus

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


@pytest.mark.slow
async def test_old_ended_tasks_are_found_among_many(database: Database) -> None:
    fill(database, 60_000, ENDED)
    queue = SqlTaskQueue(database)
    began = time.perf_counter()
    for _ in range(5):
        assert await queue.prune(completed=ZERO, failed=ZERO) == 500
    assert time.perf_counter() - began < 5
    counts = await queue.counts()
    assert counts[TaskStatus.COMPLETED] + counts[TaskStatus.FAILED] == 27_500
    assert counts[TaskStatus.PENDING] == 30_000
