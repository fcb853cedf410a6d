"""Engines: which databases are accepted, and how a schema comes to be."""

import os
import socket
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.claiming import _next_due
from imgsync.adapters.sql.engine import create_engine_for
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.schema import create_schema
from imgsync.adapters.sql.transactions import DatabaseError
from imgsync.adapters.sql.types import storable
from imgsync.domain.tasks import TASK_ENTITY_TYPE, TaskStatus


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
    ],
)
def test_urls_that_cannot_hold_the_queue(url: str, text: str) -> None:
    with pytest.raises(DatabaseError, match=text):
        create_engine_for(url)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    engine = create_engine_for("postgresql://user:hush@127.0.0.1:1/imgsync?password=hush")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1") as caught:
        create_schema(engine)
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"this is a letter, not a database" * 100)
    path.chmod(0o644)
    with pytest.raises(DatabaseError, match=r"letter\.txt is not a database"):
        create_engine_for(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is a letter")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_database_that_is_damaged_further_on_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    engine = create_engine_for(f"sqlite:///{path}")
    with pytest.raises(DatabaseError, match="not a database"):
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
    with pytest.raises(DatabaseError, match=f"is a {kind}, not a file"):
        create_engine_for(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list(tmp_path.iterdir()) == [path]


def test_the_null_device_keeps_its_mode(tmp_path: Path) -> None:
    link = tmp_path / "q.db"
    link.symlink_to("/dev/null")
    mode = Path("/dev/null").stat().st_mode
    for path in ("/dev/null", link):
        with pytest.raises(DatabaseError, match="is a device, not a file"):
            create_engine_for(f"sqlite:///{path}")
    assert Path("/dev/null").stat().st_mode == mode


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.touch()
    engine = create_engine_for(f"sqlite:///{path}")
    create_schema(engine)
    engine.dispose()
    assert path.read_bytes().startswith(b"SQLite format 3")


def test_the_sqlite_file_is_private_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "q.db"
    engine = create_engine_for(f"sqlite:///{path}")
    create_schema(engine)
    SqlTaskQueue(engine).enqueue({})
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    engine.dispose()


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


def test_a_claim_does_not_wait_for_a_row_that_another_host_is_claiming(
    postgresql_url: str,
) -> None:
    engine = create_engine_for(postgresql_url)
    create_schema(engine)
    queue = SqlTaskQueue(engine)
    first, second = (queue.enqueue({}).task_id for _ in range(2))
    with engine.begin() as other:
        other.execute(text("SELECT id FROM sync_queue WHERE id = :id FOR UPDATE"), {"id": first})
        task = queue.claim(lease=timedelta(minutes=1))
    assert task is not None
    assert task.id == second
    engine.dispose()


def test_a_connection_that_the_server_ended_is_replaced(postgresql_url: str) -> None:
    engine = create_engine_for(postgresql_url)
    create_schema(engine)
    queue = SqlTaskQueue(engine)
    queue.counts()
    admin = create_engine_for(postgresql_url)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with admin.begin() as connection:
        connection.execute(text(end + " AND datname = current_database()"))
    assert sum(queue.counts().values()) == 0
    admin.dispose()
    engine.dispose()


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
    assert timeouts == ["10s", "30s", "30s"]
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


def test_the_next_task_is_found_without_sorting_the_waiting_ones(sqlite_engine: Engine) -> None:
    queue, now = SqlTaskQueue(sqlite_engine), datetime.now(UTC)
    queue.enqueue({})
    with sqlite_engine.connect() as connection:
        query = _next_due(connection, now, None, TASK_ENTITY_TYPE).compile(
            sqlite_engine, compile_kwargs={"literal_binds": True}
        )
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    assert "sync_queue_due" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_what_only_reads_takes_no_lock_of_sqlite(sqlite_engine: Engine) -> None:
    """A worker stopped while it asks for work must not keep the others from theirs."""
    queue = SqlTaskQueue(sqlite_engine)
    writer = create_engine_for(sqlite_engine.url.render_as_string())
    queue.enqueue({})
    with writer.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'failed'"))
        assert queue.counts()[TaskStatus.PENDING] == 1
        assert queue.claim(lease=timedelta(minutes=1), only=[99]) is None
        assert len(queue.find()) == 1
        assert SqlAccountRepository(sqlite_engine).all() == []
    writer.dispose()
