"""How long a person and a worker wait for a queue of a million tasks, on SQLite and PostgreSQL."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text

from benchmarks.tables import NONE, Answer
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.adapters.sql.overview import SqlOverview
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.tables import UtcDateTime
from imgsync.adapters.sql.tasklist import SqlTaskList
from imgsync.application.clean import PruneQueue
from imgsync.domain.tasks import Task, TaskStatus

ROWS = 1_000_000
CHILDREN = 30
GOAL_MS = 50.0
PRUNED = 100_000
"""Those that ended longest ago."""
_WAITING, _FAILED, _HELD = 20_000, 5_000, 100
_DAYS = 30
_ROUNDS = 15
_LEASE = timedelta(minutes=2)
_KEYS = 210_000
_AT_ONCE = 50_000
"""Rows that one statement fills in: none may take longer than the server's patience."""
_ABSENT = "this stands nowhere"

# In the order in which they were queued, over 30 days: of each 200 one failed, of those a quarter
# is superseded by a later task of its key, and some were cancelled; of the completed ones each
# thirtieth has warnings. The last are under way, parked, or wait.
_FILL = """
    WITH RECURSIVE n (n) AS (
        SELECT CAST(:first AS INTEGER) UNION ALL SELECT n + 1 FROM n WHERE n < :last
    ),
    kinds AS (
        SELECT n, n % :children AS child, CASE
            WHEN n >= :rows - :waiting THEN 'pending'
            WHEN n >= :rows - :waiting - :held THEN 'processing'
            WHEN n % :each_failed = 7 THEN 'failed' ELSE 'completed' END AS status
        FROM n
    )
    INSERT INTO sync_queue (payload, account_id, entity_id, operation, dedupe_key, status, attempts,
        result, error, warnings, parked_for, lease_token, lease_expires_at,
        scheduled_at, created_at, updated_at)
    SELECT CAST('{{"main_account_id": "5f1b8d1e-0000-0000-0000-000000000001", "child_account_id": '
        || '"child' || child || '", "parent_entity_type": "product", "parent_entity_id": "main'
        || (n % :keys) || '", "child_entity_id": "own' || (n % :keys) || '", "name": "Lamp '
        || n || '", "images": [{{"filename": "lamp-' || n || '.jpg", "size": 812345, "updated": '
        || '"2026-01-01 00:00:00.000", "meta": {{"downloadHref": "https://api.moysklad.ru/api/remap/'
        || '1.2/download/5f1b8d1e-aaaa-bbbb-cccc-000000000001"}}}}, {{"filename": "side-' || n
        || '.jpg", "size": 512345, "updated": "2026-01-01 00:00:00.000", "meta": {{"downloadHref": '
        || '"https://api.moysklad.ru/api/remap/1.2/download/5f1b8d1e-aaaa-bbbb-cccc-00000002"}}}}]}}'
            AS {json}),
        'child' || child, 'main' || (n % :keys), 'sync',
        CASE WHEN status = 'failed' AND n / 199 % 4 <> 1 THEN 'gone' || n
            ELSE 'child' || child || '/product/own' || (n % :keys) END,
        status, 1, CASE WHEN status = 'completed' THEN 'completed' END,
        CASE WHEN status = 'failed' THEN
            CASE WHEN n / 199 % 16 = 3 THEN 'cancelled' ELSE 'lamp.jpg: answer 503' END END,
        CAST(CASE WHEN status = 'completed' AND n % 31 = 11 THEN '["side.jpg: 12 MB, limit 10 MB"]'
            ELSE '[]' END AS {json}),
        CASE WHEN status = 'pending' AND n % 11 = 3 THEN 'child3' END,
        CASE WHEN status = 'processing' THEN 'held' || n END,
        CASE WHEN status = 'processing' THEN :later END,
        CASE WHEN status = 'pending' AND n % 11 = 3 THEN :later ELSE {at} END,
        {at}, {at}
    FROM kinds
"""
_AT = {
    "sqlite": "datetime(:began, '+' || (n * :step) || ' seconds') || '.000000'",
    "postgresql": "CAST(:began AS timestamptz) + n * CAST(:step AS double precision)"
    " * interval '1 second'",
}
_JSON = {"sqlite": "TEXT", "postgresql": "JSON"}


def fill(database: Database, rows: int = ROWS) -> datetime:
    """As after 30 days of work, the last task queued a minute ago; when the first of them was. No
    statistics are gathered."""
    kind = database.dialect
    began = datetime.now(UTC) - timedelta(days=_DAYS, minutes=1)
    statement = _FILL.format(json=_JSON[kind], at=_AT[kind])
    share = rows / ROWS
    named = {
        "rows": rows,
        "children": CHILDREN,
        "waiting": int(_WAITING * share),
        "held": max(1, int(_HELD * share)),
        "each_failed": 199,
        "keys": int(_KEYS * share),
        "step": _DAYS * 86_400 / rows,
    }
    times = {"began": began, "later": datetime(2999, 1, 1, tzinfo=UTC)}
    clause = text(statement).bindparams(*(bindparam(name, type_=UtcDateTime) for name in times))
    for first in range(0, rows, _AT_ONCE):
        some = {"first": first, "last": min(first + _AT_ONCE, rows) - 1}
        with database.engine.begin() as connection:
            connection.execute(clause, named | times | some)
    return began


@dataclass(slots=True)
class Times:
    """Milliseconds of each time that something was done."""

    ms: list[float] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.ms.append((time.perf_counter() - began) * 1000)

    def within(self, share: float) -> float:
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Measured = dict[str, Times]


async def measure(database: Database, began: datetime, *, rows: int = ROWS) -> Measured:
    """What people ask for first, then what workers do, then the pruning beside them."""
    found: Measured = {}
    for name, ask in asked(database, began, rows).items():
        times = found.setdefault(name, Times())
        await ask()  # not measured: the statements are put together
        for _ in range(_ROUNDS):
            with times.one():
                await ask()
    queue = SqlTaskQueue(database)
    await _claims(queue, found.setdefault("one claim", Times()), 1, max(30, 200 * rows // ROWS))
    await _claims(
        queue,
        found.setdefault("claim of 100, a turn of each child", Times()),
        max(2, 100 * rows // ROWS),
        30,
    )
    await _prune(database, began, rows, found)
    return found


def asked(
    database: Database, began: datetime, rows: int
) -> dict[str, Callable[[], Awaitable[Any]]]:
    tasks, queue = SqlTaskList(database), SqlTaskQueue(database)
    overview, figures = SqlOverview(database), SqlFigures(database)
    of_child: dict[str, Any] = {"child": "child7"}
    a_day_ago = began + timedelta(days=_DAYS - 1)

    async def status() -> None:
        await queue.counts()
        await queue.parked()
        await tasks.count_ended()

    async def api_status() -> None:
        await queue.counts()
        await overview.states()
        await queue.parked()

    def page(**by: Any) -> Callable[[], Awaitable[Any]]:
        async def ask() -> None:
            found = await tasks.find(**by)
            if not found.tasks and _ABSENT not in by.get("text", ""):
                raise RuntimeError(f"no task is listed for {by}")

        return ask

    async def show() -> None:
        task = await queue.get(rows // 2)
        if task is None:
            raise RuntimeError("no task is there")

    async def show_failed() -> None:
        await queue.get(207)
        await tasks.find(before=208, limit=1)

    deep = {"before": rows // 10}
    done, failed = {"status": TaskStatus.COMPLETED}, {"status": TaskStatus.FAILED}
    return {
        "queue status": status,
        "queue list": page(),
        "queue list, deep page": page(**deep),
        "--child": page(**of_child),
        "--child, deep page": page(**of_child, **deep),
        "--status pending": page(status=TaskStatus.PENDING),
        "--status processing": page(status=TaskStatus.PROCESSING),
        "--status completed": page(**done),
        "--status completed, deep page": page(**done, **deep),
        "--status failed": page(**failed, superseded=False),
        "--status failed, deep page": page(**failed, superseded=False, **deep),
        "--status superseded": page(**failed, superseded=True),
        "--status superseded, deep page": page(**failed, superseded=True, **deep),
        "--status completed-with-warnings": page(**done, warned=True),
        "--status completed-with-warnings, deep page": page(**done, warned=True, **deep),
        "--child --status completed": page(**of_child, **done),
        "--child --status failed": page(**of_child, **failed, superseded=False),
        "--child --status completed-with-warnings": page(**of_child, **done, warned=True),
        "--since (a day)": page(since=a_day_ago),
        "--since (20 days), deep page": page(
            since=began + timedelta(days=_DAYS - 20), before=rows // 2
        ),
        "--child --since": page(**of_child, since=a_day_ago),
        "--text in many": page(text="Lamp"),
        "--text in none, one look": page(text=_ABSENT),
        "--child --text in none, one look": page(**of_child, text=_ABSENT),
        "queue show": show,
        "queue show, a failed one": show_failed,
        "API: status": api_status,
        "page: overview": overview.states,
        "page: whether anything has changed": overview.fingerprint,
        "metrics": figures,
    }


async def _claims(queue: SqlTaskQueue, times: Times, limit: int, number: int) -> None:
    """The tasks are completed, which is not measured."""
    for _ in range(number):
        with times.one():
            claimed = await queue.claim(lease=_LEASE, limit=limit)
        if not claimed:
            raise RuntimeError("no task is due")
        await _complete(queue, claimed)


async def _complete(queue: SqlTaskQueue, tasks: Sequence[Task]) -> None:
    await asyncio.gather(*(queue.complete(t, result="completed", warnings=[]) for t in tasks))


async def _prune(database: Database, began: datetime, rows: int, found: Measured) -> None:
    """By another process of the same host: by connections and threads of its own."""
    url = database.engine.url.render_as_string(hide_password=False)
    other = Database.open(url)
    whole = PRUNED * rows // ROWS
    keep = datetime.now(UTC) - began - timedelta(days=_DAYS) * whole / rows
    batches = found.setdefault("prune: one batch", Times())

    class Timed(SqlTaskQueue):
        async def prune(self, **ages: Any) -> int:
            with batches.one():
                return await super().prune(**ages)

    queue, claims = SqlTaskQueue(database), found.setdefault("one claim, beside prune", Times())
    pruning = asyncio.create_task(PruneQueue(Timed(other), keep)())
    while not pruning.done():
        await _claims(queue, claims, 1, 1)
        await asyncio.sleep(0.02)
    gone = await pruning
    other.close()
    if gone < whole * 0.9:
        raise RuntimeError(f"{gone} tasks were pruned, not {whole}")
    found["prune: all"] = Times([sum(batches.ms)])


def answer(found: dict[str, Measured], rows: int = ROWS) -> Answer:
    """`found`: by database."""
    shown = Answer(
        f"How long does one wait for a queue of {rows:,} tasks?",
        ("ms", "Goal", *(f"{name}, {what}" for name in found for what in ("median", "95 %"))),
        notes=(
            f"{CHILDREN} children; {_WAITING:,} wait, a tenth of them parked; {_FAILED:,} failed, "
            "of which a fifth is superseded; of the completed ones each thirtieth has warnings. "
            "Payloads of 0.6 kB. A deep page begins at the oldest tenth.",
            f"A look for a text is at so many tasks at once and no more; {PRUNED:,} tasks are "
            "pruned in batches, by connections of their own.",
        ),
    )
    for name in next(iter(found.values())):
        cells = [
            f"{one[name].within(share):,.1f}" for one in found.values() for share in (0.5, 0.95)
        ]
        shown.add(name, NONE if name == "prune: all" else f"< {GOAL_MS:.0f}", *cells)
    return shown
