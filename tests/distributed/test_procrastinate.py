"""What the queue on procrastinate promises beyond its port: the engine's own jobs, its time, its
faults."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status

from imgsync.adapters.procrastinate import connections
from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
from imgsync.domain.errors import LeaseLostError, StoreError
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TASK_ENTITY_TYPE, Task, TaskStatus
from imgsync.plugins.builtin import imgsync_task_queues
from imgsync.plugins.parts import QueueSetup
from tests.distributed.conftest import Open
from tests.support.relay import Relay

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=2)
QUEUE = "imgsync.image_sync"


@pytest.fixture
def relay(postgresql_url: str) -> Iterator[Relay]:
    with Relay(postgresql_url).running() as relay:
        yield relay


def through(relay: Relay) -> str:
    return relay.url_of().replace("postgresql", "procrastinate", 1)


def execute(postgresql_url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


async def take(queue: ProcrastinateTaskQueue, lease: timedelta = LEASE) -> Task:
    (task,) = await queue.claim(lease=lease)
    return task


# The engine's own jobs


async def test_a_task_is_a_job_that_the_engine_s_tools_show(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    payload = {"main_account_id": "m", "имя": "Ж"}
    (put,) = await queue.enqueue([NewTask(payload, "c/product/1", "c", priority=70)])
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        (job,) = await app.job_manager.list_jobs_async()
        assert (job.id, job.queue, job.task_name) == (put.task_id, QUEUE, "imgsync:c")
        assert (job.lock, job.queueing_lock, job.priority) == ("c/product/1", "c/product/1", 70)
        assert (job.task_kwargs, job.status) == (payload, "todo")
        await queue.complete(await take(queue), result="done", warnings=[])
        (ended,) = await app.job_manager.list_jobs_async()
        assert (ended.status, ended.attempts) == ("succeeded", 1)
    events = execute(postgresql_url, "SELECT type::text FROM procrastinate_events ORDER BY id")
    assert {"deferred", "started", "succeeded"} <= {kind for (kind,) in events}


async def test_another_program_may_defer_a_task(open_queue: Open, postgresql_url: str) -> None:
    queue = open_queue()
    assert await queue.find() == []
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    payload: dict[str, Any] = {"main_account_id": "m", "images": []}
    async with app.open_async():
        deferred = app.configure_task(
            "imgsync", queue=QUEUE, lock="k", queueing_lock="k", priority=90
        )
        task_id = await deferred.defer_async(**payload)
        with pytest.raises(AlreadyEnqueued):
            await deferred.defer_async(**payload)
    (waiting,) = await queue.find(TaskStatus.PENDING)
    assert (waiting.id, waiting.payload, waiting.max_attempts) == (task_id, payload, 3)
    assert abs(waiting.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    task = await take(queue)
    assert (task.id, task.dedupe_key, task.attempts) == (task_id, "k", 1)
    await queue.reschedule(task, delay=timedelta(0), error="503")
    (put,) = await queue.enqueue([NewTask({"v": 2}, "k")])
    assert (put.task_id, put.created) == (task_id, False)
    again = await take(queue)
    assert (again.payload, again.attempts, again.warnings) == ({"v": 2}, 1, ())
    await queue.complete(again, result="done", warnings=["w"])
    assert (await queue.counts())[TaskStatus.COMPLETED] == 1


async def test_several_jobs_of_one_lock_run_one_by_one(
    open_queue: Open, postgresql_url: str
) -> None:
    """Another program may defer them without a queueing lock."""
    queue = open_queue()
    await queue.counts()
    for n in range(3):
        execute(
            postgresql_url,
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args)"
            " VALUES (%s, 'x', 'k', jsonb_build_object('n', %s::int))",
            QUEUE,
            n,
        )
    for n in range(3):
        (task,) = await queue.claim(lease=LEASE, limit=5)
        assert task.payload == {"n": n}
        assert await queue.claim(lease=LEASE, limit=5) == []
        await queue.complete(task, result="done", warnings=[])


async def test_jobs_with_odd_times_are_shown_and_stop_no_other(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    await queue.counts()
    for when in ("infinity", "-infinity", "12000-01-01"):
        execute(
            postgresql_url,
            "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
            " VALUES (%s, 'x', %s)",
            QUEUE,
            when,
        )
    execute(postgresql_url, "DELETE FROM procrastinate_events")
    assert [task.scheduled_at.year for task in await queue.find()] == [9999, 1, 9999]
    assert (await take(queue)).scheduled_at.year == 1
    assert await queue.claim(lease=LEASE) == []


async def test_a_job_that_another_program_put_back_is_checked_again(
    open_queue: Open, postgresql_url: str
) -> None:
    """As its remedy for workers that are gone does; this one is alive and may have written."""
    queue = open_queue()
    await queue.enqueue([NewTask({"v": 1}, "k")])
    lost = await take(queue)
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        for job in await app.job_manager.get_stalled_jobs(queue=QUEUE):
            assert job.id is not None
            await app.job_manager.retry_job_by_id_async(job.id, retry_at=datetime.now(UTC))
    with pytest.raises(LeaseLostError):
        await queue.renew(lost, lease=LEASE)
    heir = await take(queue)
    assert (heir.id, heir.check_again) == (lost.id, True)
    with pytest.raises(LeaseLostError):
        await queue.complete(lost, result="done", warnings=[])


async def test_a_job_cancelled_by_the_engine_s_tools_is_failed_and_may_be_retried(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    (put,) = await queue.enqueue([NewTask(1)])
    app = App(connector=SyncPsycopgConnector(conninfo=postgresql_url))
    with app.open():
        assert app.job_manager.cancel_job_by_id(int(put.task_id))
    (task,) = await queue.find(TaskStatus.FAILED)
    assert task.error == "cancelled in procrastinate"
    assert (await queue.counts())[TaskStatus.FAILED] == 1
    assert await queue.retry(None) == [put.task_id]
    assert (await take(queue)).payload == 1


async def test_a_job_that_is_to_be_aborted_is_not_tried_again(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    await queue.enqueue([NewTask(1)])
    task = await take(queue)
    app = App(connector=SyncPsycopgConnector(conninfo=postgresql_url))
    with app.open():
        app.job_manager.cancel_job_by_id(int(task.id), abort=True)
    await queue.reschedule(task, delay=timedelta(0), error="503")
    (failed,) = await queue.find(TaskStatus.FAILED)
    assert failed.error == "503"


async def test_jobs_that_the_engine_deletes_leave_nothing_behind(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    await queue.enqueue([NewTask(1)])
    await queue.complete(await take(queue), result="done", warnings=[])
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        await app.job_manager.delete_old_jobs(nb_hours=0)
    assert await queue.find() == []
    assert execute(postgresql_url, "SELECT count(*) FROM imgsync_tasks") == [(0,)]


async def test_jobs_in_other_queues_of_the_engine_are_left_alone(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    await queue.counts()
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        await app.configure_task("mail", queue="mail").defer_async(to="x")
        assert await queue.claim(lease=LEASE, limit=5) == []
        assert await queue.find() == []
        (job,) = await app.job_manager.list_jobs_async()
        assert job.status == Status.TODO.value


@pytest.mark.parametrize("schema", ["public", "apart"])
async def test_a_worker_of_the_engine_that_names_no_queues_is_kept_away_by_a_schema(
    open_queue: Open, engine_url: str, postgresql_url: str, schema: str
) -> None:
    execute(postgresql_url, "CREATE SCHEMA apart")
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        queue = open_queue(f"{engine_url}&options=-csearch_path%3D{schema}")
        await queue.enqueue([NewTask({"n": 1})])
        await app.run_worker_async(wait=False, listen_notify=False, install_signal_handlers=False)
    (task,) = await queue.find()
    spared = task.status is TaskStatus.PENDING
    assert spared is (schema == "apart")


async def test_the_limits_of_the_server_hold_beside_options_of_the_url(
    open_queue: Open, engine_url: str, postgresql_url: str
) -> None:
    await open_queue().counts()
    queue = open_queue(f"{engine_url}&options=-clock_timeout%3D200ms")
    await queue.enqueue([NewTask({"n": 1}, "k")])
    with psycopg.connect(postgresql_url) as holder:
        holder.execute("SELECT FROM procrastinate_jobs FOR UPDATE")
        with pytest.raises(StoreError, match="lock timeout"):
            await queue.enqueue([NewTask({"n": 2}, "k")])
        assert await queue.claim(lease=LEASE) == []  # it passes by what another holds


# Its tables


async def test_the_engine_s_tables_of_another_program_are_used(
    open_queue: Open, postgresql_url: str
) -> None:
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.configure_task("imgsync", queue=QUEUE).defer_async(n=1)
    assert (await take(open_queue())).payload == {"n": 1}


async def test_hosts_that_start_at_once_make_the_tables_once(open_queue: Open) -> None:
    queues = [open_queue() for _ in range(6)]
    await asyncio.gather(*(queue.enqueue([NewTask(1, "k")]) for queue in queues))
    assert len(await queues[0].find()) == 1


async def test_tables_of_version_1_are_brought_up_to_date_with_their_jobs(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    (put,) = await queue.enqueue([NewTask({"n": 1})])
    # As version 1 left them.
    for statement in (
        "DROP TABLE imgsync_turns",
        "DROP INDEX imgsync_jobs_due, imgsync_jobs_held, imgsync_jobs_ended",
        "CREATE INDEX imgsync_jobs_due ON procrastinate_jobs"
        " (queue_name, priority DESC, scheduled_at NULLS FIRST, id) WHERE status = 'todo'",
        "COMMENT ON TABLE imgsync_tasks IS 'version 1'",
    ):
        execute(postgresql_url, statement)
    new, other = open_queue(), open_queue()
    found = await asyncio.gather(new.get(put.task_id), other.get(put.task_id))
    assert [task is not None for task in found] == [True, True]
    assert (await take(new)).id == put.task_id


async def test_tables_of_another_version_are_refused(open_queue: Open, postgresql_url: str) -> None:
    await open_queue().counts()
    execute(postgresql_url, "COMMENT ON TABLE imgsync_tasks IS 'version 9'")
    with pytest.raises(StoreError, match="of version 9, this imgsync needs version 2"):
        await open_queue().counts()


async def test_an_engine_that_is_too_old_is_refused_and_left_as_it_is(
    open_queue: Open, postgresql_url: str
) -> None:
    app = App(connector=PsycopgConnector(conninfo=postgresql_url, min_size=1))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    execute(postgresql_url, "DROP FUNCTION procrastinate_retry_job_v2")
    with pytest.raises(StoreError, match="too old: it lacks procrastinate_retry_job_v2"):
        await open_queue().counts()
    assert execute(postgresql_url, "SELECT to_regclass('imgsync_tasks')") == [(None,)]


# The engine's time


async def test_the_time_is_the_engine_s_whatever_the_host_s(
    open_queue: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue()
    with monkeypatch.context() as host:
        host.setattr(time, "time", lambda: 4e9)
        await queue.enqueue([NewTask(1)])
        task = await take(queue)
    assert await open_queue().claim(lease=LEASE) == []
    assert task.lease_expires_at is not None
    left = task.lease_expires_at - datetime.now(UTC)
    assert LEASE - timedelta(seconds=30) < left <= LEASE + timedelta(seconds=1)


async def test_a_lease_of_the_engine_s_time_lapses(open_queue: Open) -> None:
    queue, another = open_queue(), open_queue()
    await queue.enqueue([NewTask(1)])
    lost = await take(queue, timedelta(seconds=0.2))
    assert await another.claim(lease=LEASE) == []
    await asyncio.sleep(0.3)
    taken = await take(another)
    assert (taken.id, taken.crashes, taken.check_again) == (lost.id, 1, True)


# Its faults


def test_an_engine_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("imgsync.adapters.procrastinate")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "procrastinate.schema", None)
    setup = QueueSetup("procrastinate://host/database", (), ProcrastinateTaskQueue, str)
    with pytest.raises(
        StoreError, match=r"pip install 'imgsync\[procrastinate\]' \(.*procrastinate"
    ):
        imgsync_task_queues()["procrastinate"](setup)


async def test_a_queue_that_is_closed_says_so(open_queue: Open) -> None:
    queue = open_queue()
    await queue.counts()
    await queue.close()
    with pytest.raises(StoreError, match="is closed"):
        await queue.counts()


async def test_an_engine_that_is_cut_off_is_a_store_error_until_it_is_back(
    open_queue: Open, relay: Relay
) -> None:
    queue = open_queue(through(relay))
    await queue.enqueue([NewTask(n) for n in range(3)])
    task = await take(queue)
    relay.cut()
    for _ in range(2):
        with pytest.raises(StoreError, match="Cannot use the queue procrastinate://"):
            await queue.renew(task, lease=LEASE)
        with pytest.raises(StoreError):
            await queue.claim(lease=LEASE)
    relay.mend()
    await queue.complete(task, result="done", warnings=[])
    assert (await take(queue)).payload == 1


async def test_connections_that_the_engine_dropped_are_replaced(
    open_queue: Open, postgresql_url: str
) -> None:
    queue = open_queue()
    await queue.enqueue([NewTask(n) for n in range(3)])
    await asyncio.gather(*(queue.counts() for _ in range(5)))
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    execute(postgresql_url, drop + " AND datname = current_database()")
    with pytest.raises(StoreError, match=r"terminating connection|closed"):
        await queue.counts()
    assert (await take(queue)).payload == 0
    await asyncio.sleep(1.1)
    execute(postgresql_url, drop + " AND datname = current_database()")
    assert (await take(queue)).payload == 1  # those that were idle for long are asked first


async def test_a_call_that_is_cancelled_costs_no_other_connection(
    open_queue: Open, postgresql_url: str
) -> None:
    sessions = """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'
    """
    queue = open_queue()
    await asyncio.gather(*(queue.counts() for _ in range(3)))
    before = set(execute(postgresql_url, sessions))
    assert len(before) == 3
    with psycopg.connect(postgresql_url) as other:
        other.execute("LOCK TABLE imgsync_tasks")
        call = asyncio.create_task(queue.enqueue([NewTask({})]))
        await asyncio.sleep(0.3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    left = set(execute(postgresql_url, sessions))
    assert len(before & left) == 2


async def test_a_call_to_an_engine_that_hangs_is_broken_off_at_once(
    open_queue: Open, relay: Relay
) -> None:
    queue = open_queue(through(relay))
    await queue.enqueue([NewTask(1)])
    task = await take(queue)
    relay.hang()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await queue.renew(task, lease=LEASE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await queue.complete(task, result="done", warnings=[])
    assert time.monotonic() - began < 15
    relay.mend()
    await queue.renew(task, lease=LEASE)


async def test_an_engine_that_hangs_is_a_store_error_in_the_end(
    open_queue: Open, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(through(relay))
    await queue.enqueue([NewTask(1)])
    monkeypatch.setattr(connections, "_LONGEST_SECONDS", 0.3)
    relay.hang()
    with pytest.raises(StoreError, match="it does not answer"):
        await queue.claim(lease=LEASE)
    relay.mend()
    assert (await take(queue)).payload == 1


def test_a_program_may_run_one_event_loop_after_another(engine_url: str) -> None:
    queue = ProcrastinateTaskQueue(engine_url)
    asyncio.run(_put_and_count(queue, 1))
    asyncio.run(_put_and_count(queue, 2))
    asyncio.run(queue.close())


async def _put_and_count(queue: ProcrastinateTaskQueue, there: int) -> None:
    await asyncio.gather(queue.enqueue([NewTask(1)]), *(queue.parked() for _ in range(12)))
    assert (await queue.counts())[TaskStatus.PENDING] == there


@pytest.mark.parametrize(
    "url",
    [
        "procrastinate:database",
        "procrastinate://user:sec@ret@host/database",
        "procrastinate://user:sec/ret@host/database",
        "procrastinate://user:12/sec@host/database",
        "procrastinate://host/database?sec=ret",
        "procrastinate://[sec/ret",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(StoreError, match="is not of the form procrastinate://USER") as raised:
        ProcrastinateTaskQueue(url)
    assert "sec" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_an_engine_that_is_not_there_is_named_without_the_password(open_queue: Open) -> None:
    queue = open_queue("procrastinate://user:s3cret@127.0.0.1:1/database?password=s3cret")
    with pytest.raises(StoreError) as raised:
        await queue.counts()
    assert str(raised.value).startswith(
        "Cannot use the queue procrastinate://user@127.0.0.1:1/database: "
    )
    assert "refused" in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.fixture
def asks_guests(postgresql_url: str) -> Iterator[None]:
    """The server asks the role `guest` for its password, as it asks nobody else."""
    ((shown,),) = execute(postgresql_url, "SHOW hba_file")
    rules = Path(str(shown))
    if not os.access(rules, os.W_OK):
        pytest.skip("only a server of this machine's can be told to ask for passwords")
    before = rules.read_text()
    execute(postgresql_url, "CREATE ROLE guest LOGIN SUPERUSER PASSWORD 'r1ght'")
    asks = "local all guest scram-sha-256\nhost all guest all scram-sha-256\n"
    rules.write_text(asks + before)
    execute(postgresql_url, "SELECT pg_reload_conf()")
    yield
    rules.write_text(before)
    execute(postgresql_url, "SELECT pg_reload_conf()")
    execute(postgresql_url, "REASSIGN OWNED BY guest TO CURRENT_USER")
    execute(postgresql_url, "DROP ROLE guest")


@pytest.mark.usefixtures("asks_guests")
async def test_a_wrong_password_is_not_shown(open_queue: Open, relay: Relay) -> None:
    def url(password: str) -> str:
        return through(relay).replace("postgres:@", f"guest:{password}@", 1)

    text = ""
    for _ in range(100):  # the server reads its rules when it comes to it
        queue = open_queue(url("wr0ng"))
        try:
            await queue.counts()
        except StoreError as error:
            text = str(error)
            break
        await queue.close()
        await asyncio.sleep(0.05)
    assert "guest@127.0.0.1" in text
    assert "password authentication failed" in text
    assert "wr0ng" not in text
    assert (await open_queue(url("r1ght")).counts())[TaskStatus.PENDING] == 0


async def test_payloads_that_postgresql_refuses_are_kept(open_queue: Open) -> None:
    queue = open_queue()
    payloads = [
        {"a": "\x00"},
        {"a": "\ud800"},
        {"a": "\\u0000"},
        {"$json": 1},
        {"a": float("inf")},
        {"a": "😀"},
        {"a": 10**400},
    ]
    await queue.enqueue([NewTask(payload) for payload in payloads])
    tasks = await queue.claim(lease=LEASE, limit=10)
    assert json.dumps([task.payload for task in tasks]) == json.dumps(payloads)


async def test_a_task_of_more_than_the_engine_can_hold_is_a_store_error(open_queue: Open) -> None:
    queue = open_queue()
    for task in (NewTask(1, priority=2**40), NewTask(1, delay=timedelta.max)):
        with pytest.raises(StoreError):
            await queue.enqueue([task])
    await queue.enqueue([NewTask(1, key := "k" * 100, kind="other")])
    with pytest.raises(StoreError, match=key):  # the kinds share the keys
        await queue.enqueue([NewTask(1, key)])


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_task_of_another_kind_never_takes_the_place_of_one(
    open_queue: Open, waiting: bool
) -> None:
    """Its payload would be done by the other's handler, or the other be lost without a word."""
    queue = open_queue(kinds=(TASK_ENTITY_TYPE, "other"))
    elder = NewTask("other's", "k", kind="other")
    if waiting:
        await queue.enqueue([elder])
    with pytest.raises(StoreError):
        await queue.enqueue(
            [NewTask(1, "k"), elder] if not waiting else [NewTask(1, "k"), NewTask(2, kind="other")]
        )
    found = [(task.payload, task.kind) for task in await queue.find()]
    assert found == ([("other's", "other")] if waiting else [])
