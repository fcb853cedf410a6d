"""Engines: which databases are accepted, and how a schema comes to be."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from imgsync.adapters.sql.engine import DatabaseError, create_engine_for, create_schema
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.types import storable
from imgsync.domain.errors import PayloadError
from imgsync.domain.payloads import BATCH, PayloadFormats


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://root@localhost/x", "'mysql' is neither"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "needs a file"),
        ("sqlite:////proc/nowhere/q.db", "/proc/nowhere/q.db"),
    ],
)
def test_urls_that_cannot_hold_the_queue(url: str, text: str) -> None:
    with pytest.raises(DatabaseError, match=text):
        create_engine_for(url)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    engine = create_engine_for("postgresql://user:hush@127.0.0.1:1/imgsync")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1") as caught:
        create_schema(engine)
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(b"this is a letter, not a database" * 100)
    engine = create_engine_for(f"sqlite:///{path}")
    with pytest.raises(DatabaseError, match="not a database"):
        create_schema(engine)
    assert path.read_bytes().startswith(b"this is a letter")


def test_the_sqlite_file_is_private_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "q.db"
    engine = create_engine_for(f"sqlite:///{path}")
    create_schema(engine)
    SqlTaskQueue(engine).enqueue({}, now=datetime.now(UTC))
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


def test_the_database_itself_refuses_both_settings_at_once(engine: Engine) -> None:
    both = "INSERT INTO child_settings VALUES ('c', true, true)"
    with pytest.raises(Exception, match="child_settings_exclusive"), engine.begin() as connection:
        connection.execute(text(both))


def test_a_payload_that_is_not_json_does_not_block_the_queue(sqlite_engine: Engine) -> None:
    queue = SqlTaskQueue(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.execute(text("INSERT INTO sync_queue (payload) VALUES ('{broken')"))
    task = queue.claim(now=datetime.now(UTC) + timedelta(minutes=1), lease=timedelta(minutes=1))
    assert task is not None
    with pytest.raises(PayloadError, match="must be a JSON object, not str"):
        PayloadFormats([BATCH]).parse(task.payload)


def test_a_time_without_a_zone_is_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(Exception, match="without a time zone"):
        SqlTaskQueue(sqlite_engine).enqueue({}, now=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("given", "kept"), [("a\x00b", "ab"), ("\ud800x", "?x"), ("текст 🙂", "текст 🙂")]
)
def test_storable_text(given: str, kept: str) -> None:
    assert storable(given) == kept
