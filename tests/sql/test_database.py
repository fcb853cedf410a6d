"""Which databases are accepted, how a schema comes to be, and their threads."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, inspect, make_url, text

from imgsync.adapters.sql.database import Database, create_engine_for, create_schema
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.adapters.sql.tables import storable
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TaskId, TaskStatus
from tests.support.relay import Relay

pytestmark = pytest.mark.anyio
HANGS = """
import asyncio, sys, time
from imgsync.adapters.sql.database import Database

async def main():
    try:
        async with asyncio.timeout(0.5):
            await database.run(lambda connection: time.sleep(3600))
    except TimeoutError:
        print("gave up")

database = Database.open(sys.argv[1])
asyncio.run(main())
database.close()
"""


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://root@localhost/x", "'mysql' is neither"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "needs a file"),
        ("postgresql://u:p@ss:w0rd@h/d", "not a database URL"),
        ("sqlite:////proc/nowhere/q.db", "/proc/nowhere/q.db"),
        ("sqlite://host/q.db", "needs a file"),
        ("sqlite://user:hush@/q.db", "needs a file"),
        ("sqlite:///q.db?timeout=hush", "not a database URL"),
        ("sqlite:///q\0.db", "not a database URL"),
        ("postgresql://u:p@hush@h/d", "in a password, '@'"),
        ("postgresql://u:p@hu/sh@h/d", "in a password, '@'"),
    ],
)
def test_urls_that_cannot_hold_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=text) as caught:
        create_engine_for(url).connect()
    assert "hu" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    engine = create_engine_for("postgresql://user:hush@127.0.0.1:1/imgsync?password=hush")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
        create_schema(engine)
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"this is a letter, not a database" * 100)
    path.chmod(0o644)
    with pytest.raises(StoreError, match=r"letter\.txt is not a database"):
        create_engine_for(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is a letter")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_database_that_is_damaged_further_on_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    engine = create_engine_for(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="not a database"):
        create_schema(engine)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(Path.mkdir, "folder"), (os.mkfifo, "pipe"), (bind_socket, "socket")],
)
def test_what_is_no_file_is_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / "thing"
    make(path)
    path.chmod(0o755)
    with pytest.raises(StoreError, match=f"is a {kind}, not a file"):
        create_engine_for(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list(tmp_path.iterdir()) == [path]


def test_the_null_device_keeps_its_mode(tmp_path: Path) -> None:
    link = tmp_path / "q.db"
    link.symlink_to("/dev/null")
    mode = Path("/dev/null").stat().st_mode
    for path in ("/dev/null", link):
        with pytest.raises(StoreError, match="is a device, not a file"):
            create_engine_for(f"sqlite:///{path}")
    assert Path("/dev/null").stat().st_mode == mode


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.touch()
    engine = create_engine_for(f"sqlite:///{path}")
    create_schema(engine)
    engine.dispose()
    assert path.read_bytes().startswith(b"SQLite format 3")


async def test_the_sqlite_file_is_private_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "q.db"
    database = Database.open(f"sqlite:///{path}")
    await SqlTaskQueue(database).enqueue([NewTask({})])
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    database.close()


@pytest.mark.empty_database
def test_the_schema_is_made_once_by_hosts_that_start_at_once(database_url: str) -> None:
    barrier, errors = threading.Barrier(4), []

    def start() -> None:
        engine = create_engine_for(database_url)
        barrier.wait()
        try:
            create_schema(engine)
        except BaseException as error:
            errors.append(error)
        engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    engine = create_engine_for(database_url)
    assert "sync_queue" in inspect(engine).get_table_names()
    engine.dispose()


@pytest.mark.parametrize(
    ("given", "kept"), [("a\x00b", "ab"), ("\ud800x", "?x"), ("текст 🙂", "текст 🙂")]
)
def test_storable_text(given: str, kept: str) -> None:
    assert storable(given) == kept


async def test_a_claim_does_not_wait_for_a_row_that_another_host_is_claiming(
    postgresql_url: str,
) -> None:
    database = Database.open(postgresql_url)
    queue = SqlTaskQueue(database)
    first, second, third = await queue.enqueue([NewTask({})] * 3)
    with database.engine.begin() as other:
        held = {"id": first.task_id}
        other.execute(text("SELECT id FROM sync_queue WHERE id = :id FOR UPDATE"), held)
        tasks = await queue.claim(lease=timedelta(minutes=1), limit=5)
    assert [task.id for task in tasks] == [second.task_id, third.task_id]
    database.close()


async def test_a_connection_that_the_server_ended_is_replaced(postgresql_url: str) -> None:
    database = Database.open(postgresql_url)
    queue = SqlTaskQueue(database)
    await queue.counts()
    admin = create_engine_for(postgresql_url)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with admin.begin() as connection:
        connection.execute(text(end + " AND datname = current_database()"))
    assert sum((await queue.counts()).values()) == 0
    admin.dispose()
    database.close()


def test_a_server_that_hangs_does_not_hold_a_worker_for_long(postgresql_url: str) -> None:
    engine = create_engine_for(postgresql_url)
    with engine.begin() as connection:
        timeouts = [
            connection.execute(text(f"SHOW {name}")).scalar()
            for name in (
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
            )
        ]
    assert timeouts == ["20s", "30s", "8s"]
    engine.dispose()


def test_options_in_the_url_leave_the_limits_of_time_in_force(postgresql_url: str) -> None:
    sep = "&" if "?" in postgresql_url else "?"
    options = "options=-c%20search_path%3Dapart%20-c%20statement_timeout%3D7s"
    engine = create_engine_for(f"{postgresql_url}{sep}{options}")
    with engine.connect() as connection:
        for name, value in (
            ("search_path", "apart"),
            ("statement_timeout", "7s"),
            ("lock_timeout", "20s"),
        ):
            assert connection.execute(text(f"SHOW {name}")).scalar() == value
    engine.dispose()


def test_sqlite_is_durable_and_readers_do_not_wait(sqlite_engine: Engine) -> None:
    with sqlite_engine.begin() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous")
        ]
    assert pragmas == ["wal", 2]


def test_a_new_folder_is_private_and_a_public_file_is_made_so(tmp_path: Path) -> None:
    create_engine_for(f"sqlite:///{tmp_path / 'new' / 'q.db'}").dispose()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    public = tmp_path / "public.db"
    public.touch(0o644)
    create_engine_for(f"sqlite:///{public}").dispose()
    assert stat.S_IMODE(public.stat().st_mode) == 0o600


def test_the_home_folder_may_be_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    create_engine_for("sqlite:///~/q.db").dispose()
    assert (tmp_path / "q.db").exists()


@pytest.mark.parametrize("when", ["2026-11-24T08:00:00Z", "", "5", "tomorrow"])
def test_sqlite_refuses_a_time_that_it_could_not_compare(sqlite_engine: Engine, when: str) -> None:
    insert = "INSERT INTO sync_queue (payload, scheduled_at) VALUES ('{}', :when)"
    with (
        pytest.raises(Exception, match="scheduled_at_format"),
        sqlite_engine.begin() as connection,
    ):
        connection.execute(text(insert), {"when": when})


async def test_what_only_reads_takes_no_lock_of_sqlite(sqlite_database: Database) -> None:
    """A worker stopped while it asks for work must not keep the others from theirs."""
    queue = SqlTaskQueue(sqlite_database)
    writer = create_engine_for(sqlite_database.engine.url.render_as_string())
    await queue.enqueue([NewTask({})])
    with writer.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'failed'"))
        assert (await queue.counts())[TaskStatus.PENDING] == 1
        assert await queue.claim(lease=timedelta(minutes=1), only=[99]) == []
        assert len(await queue.find()) == 1
        assert await SqlAccountRepository(sqlite_database).all() == []
    writer.dispose()


@pytest.mark.parametrize("task_id", ["x", "", "١", "-1", 2**63, -(2**63), "9" * 5000])
async def test_an_id_that_no_row_can_have_is_of_no_task(
    database: Database, task_id: int | str
) -> None:
    queue = SqlTaskQueue(database)
    (queued,) = await queue.enqueue([NewTask({})])
    assert await queue.get(task_id) is None
    assert await queue.claim(lease=timedelta(minutes=1), only=[task_id]) == []
    assert await queue.retry([task_id]) == []
    assert await queue.free([task_id]) == []
    task = await queue.get(str(queued.task_id))
    assert task is not None
    assert task.id == queued.task_id


async def test_many_tasks_are_queued_and_claimed_in_one_transaction(database: Database) -> None:
    commits = 0

    def note(_connection: object) -> None:
        nonlocal commits
        commits += 1

    queue, count = SqlTaskQueue(database), 2500  # more than are looked for at once
    await queue.enqueue([NewTask({"n": n}, dedupe_key=f"k{n}") for n in range(0, count, 2)])
    event.listen(database.engine, "commit", note)
    queued = await queue.enqueue([NewTask({"n": n}, dedupe_key=f"k{n}") for n in range(count)])
    assert commits == 1
    assert [one.created for one in queued] == [False, True] * (count // 2)
    found = await queue.find(limit=count)
    assert {task.id: task.payload["n"] for task in found} == {
        one.task_id: n for n, one in enumerate(queued)
    }
    new = [one.task_id for one in queued if one.created]
    assert new == sorted(new, key=int)
    commits = 0
    assert len(await queue.claim(lease=timedelta(minutes=1), limit=50)) == 50
    assert commits <= 2  # on SQLite the look whether there is any is another
    event.remove(database.engine, "commit", note)


async def test_hosts_that_wait_for_each_other_s_rows_do_not_end_each_other(
    postgresql_url: str,
) -> None:
    """PostgreSQL ends one of the two transactions; it is made again."""
    database = Database.open(postgresql_url)
    ids = [one.task_id for one in await SqlTaskQueue(database).enqueue([NewTask({})] * 2)]
    both_hold, tries = threading.Barrier(2), list[int]()

    def lock(order: list[TaskId]) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            tries.append(1)
            for number, task_id in enumerate(order):
                if number and len(tries) <= 2:
                    both_hold.wait(10)
                change = text("UPDATE sync_queue SET priority = priority + 1 WHERE id = :id")
                connection.execute(change, {"id": task_id})

        return work

    other = Database.open(postgresql_url)
    await asyncio.gather(database.run(lock(ids)), other.run(lock(ids[::-1])))
    assert len(tries) >= 3  # and on a busy machine the second try may meet the other too
    assert {task.priority for task in await SqlTaskQueue(database).find()} == {52}
    other.close()
    database.close()


async def test_transactions_run_beside_the_loop_and_each_other(database: Database) -> None:
    inside, all_in = 0, threading.Barrier(12)

    def work(connection: Connection) -> bool:
        nonlocal inside
        inside += 1
        connection.execute(text("SELECT 1"))
        all_in.wait(10)
        return threading.current_thread().daemon

    assert await asyncio.gather(*(database.run(work, reads=True) for _ in range(12))) == [True] * 12
    waiting = asyncio.gather(*(database.run(work, reads=True) for _ in range(24)))
    assert await waiting == [True] * 24
    assert sum(thread.name == "database" for thread in threading.enumerate()) <= 12
    assert inside == 36


async def test_a_cancelled_transaction_goes_on_by_itself(database: Database) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        begun.set()
        go_on.wait(10)
        connection.execute(text("INSERT INTO sync_queue (payload) VALUES ('{}')"))
        ended.set()

    waiting = asyncio.create_task(database.run(work))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await asyncio.to_thread(ended.wait, 10)
    queue = SqlTaskQueue(database)
    async with asyncio.timeout(10):
        while not await queue.find():  # noqa: ASYNC110 (the database tells nobody)
            await asyncio.sleep(0.01)


@pytest.mark.process
def test_a_database_that_hangs_does_not_keep_the_process_from_ending(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, database_url],
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "gave up\n")


@pytest.mark.database
@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not Relay.can_lose(), reason="needs CAP_NET_ADMIN")
async def test_an_answer_that_nobody_will_send_is_not_waited_for(postgresql_url: str) -> None:
    """As where the server's host has died, or a router has forgotten the connection."""
    with Relay(postgresql_url).running() as relay:
        url = make_url(relay.url_of()).update_query_dict({"keepalives_idle": "1"})
        database = Database(create_engine_for(url.render_as_string(hide_password=False)))
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(connection: Connection) -> None:
            if not began.is_set():
                loop.call_soon_threadsafe(began.set)
                connection.execute(text("SELECT pg_sleep(25)"))

        waiting = asyncio.create_task(database.run(wait))
        await began.wait()
        await asyncio.sleep(0.2)  # the question is on its way; the server is at it
        relay.lose()
        # Once more, over a new connection; the server's own limits would take 30 seconds.
        async with asyncio.timeout(20):
            await waiting
        database.close()


@pytest.mark.database
@pytest.mark.process
def test_the_kernel_asks_whether_the_server_is_still_there(postgresql_url: str) -> None:
    with Relay(postgresql_url).running() as relay:
        engine = create_engine_for(relay.url_of())
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with socket.socket(fileno=os.dup(driver.fileno())) as one:
                idle, between, count = (
                    one.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
        engine.dispose()
    assert idle + between * count <= 30
