"""What becomes of a database that fails: one line, and a full disk told from other faults."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.engine import create_engine_for
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.schema import create_schema
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.adapters.sql.transactions import DatabaseError
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import ImgsyncError, NoRoomError
from imgsync.domain.model import Account, AccountRole, TokenKind
from imgsync.domain.settings import ChildSettings
from imgsync.domain.tasks import TaskStatus

LEASE = timedelta(minutes=1)
KEY = EntityKey("c", "product", "e")
Call = Callable[[Engine], object]
CALLS: list[Call] = [
    lambda engine: SqlTaskQueue(engine).enqueue({}),
    lambda engine: SqlTaskQueue(engine).claim(lease=LEASE),
    lambda engine: SqlTaskQueue(engine).find(),
    lambda engine: SqlTaskQueue(engine).get(1),
    lambda engine: SqlTaskQueue(engine).counts(),
    lambda engine: SqlTaskQueue(engine).parked(),
    lambda engine: SqlTaskQueue(engine).unpark("a"),
    lambda engine: SqlTaskQueue(engine).retry(None),
    lambda engine: SqlTaskQueue(engine).free(None),
    lambda engine: SqlAccountRepository(engine).get("a"),
    lambda engine: SqlAccountRepository(engine).all(),
    lambda engine: SqlAccountRepository(engine).parking("a"),
    lambda engine: SqlAccountRepository(engine).set_role("a", AccountRole.MAIN),
    lambda engine: SqlAccountRepository(engine).add(Account("a", "A", TokenKind.USER, "t")),
    lambda engine: SqlSettingsRepository(engine).get("c"),
    lambda engine: SqlSettingsRepository(engine).put("c", ChildSettings()),
    lambda engine: SqlSyncRecordRepository(engine).get(KEY),
    lambda engine: SqlSyncRecordRepository(engine).put(KEY, SyncRecord((), (), (), True)),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_database_that_fails_is_one_line_of_the_domain(engine: Engine, call: Call) -> None:
    with engine.begin() as connection:
        for table in ("sync_queue", "accounts", "sync_settings", "sync_records"):
            connection.execute(text(f"DROP TABLE {table}"))
    with pytest.raises(DatabaseError, match="Cannot use the database") as caught:
        call(engine)
    assert isinstance(caught.value, ImgsyncError)
    assert caught.value.retryable
    assert "\n" not in str(caught.value)


def limit_pages(engine: Engine, most: int) -> None:
    """As a full disk: SQLite itself refuses to grow the file."""

    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}")

    event.listen(engine, "connect", limit)
    engine.dispose()


def test_a_full_disk_under_sqlite_is_no_room_and_passes(sqlite_engine: Engine) -> None:
    queue = SqlTaskQueue(sqlite_engine)
    queue.enqueue({})
    limit_pages(sqlite_engine, 1)  # no fewer than there are
    with pytest.raises(NoRoomError, match=r"No room for the database .*disk is full"):
        queue.enqueue({"text": "x" * 1_000_000})
    limit_pages(sqlite_engine, 1_000_000)
    queue.enqueue({"text": "x" * 1_000_000})
    assert queue.counts()[TaskStatus.PENDING] == 2


def fill(queue: SqlTaskQueue) -> None:
    for _ in range(1000):  # the log may have some pages left
        queue.enqueue({"text": "x" * 10_000})


def test_a_full_disk_under_sqlite_for_real(small_disk: Path) -> None:
    engine = create_engine_for(f"sqlite:///{small_disk / 'q.db'}")
    create_schema(engine)
    queue = SqlTaskQueue(engine)
    task_id = queue.enqueue({}).task_id
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(NoRoomError, match="No room for the database"):
        fill(queue)
    ballast.unlink()
    task = queue.claim(lease=LEASE)
    assert task is not None
    assert task.id == task_id
    queue.complete(task, result="done", warnings=[])
    engine.dispose()


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger AS $$
BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$ LANGUAGE plpgsql;
CREATE TRIGGER full_disk BEFORE INSERT ON sync_queue EXECUTE FUNCTION full_disk();
"""


def test_a_full_disk_under_postgresql_is_no_room(postgresql_url: str) -> None:
    """The server's own error, with its code."""
    engine = create_engine_for(postgresql_url)
    create_schema(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(FULL)
    with pytest.raises(NoRoomError, match=r"No room for the database .*No space left") as caught:
        SqlTaskQueue(engine).enqueue({})
    assert "\n" not in str(caught.value)
    engine.dispose()
