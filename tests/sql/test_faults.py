"""What becomes of a database that fails: one line, and a full disk told from other faults."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from imgsync.adapters.sql.database import Database, DatabaseClock
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import (
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSyncRecordRepository,
)
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import ImgsyncError, NoRoomError, StoreError
from imgsync.domain.model import Account, AccountRole, LinkSettings, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import TaskStatus

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=1)
KEY = EntityKey("c", "product", "e")
Call = Callable[[Database], Awaitable[object]]
CALLS: list[Call] = [
    lambda database: SqlTaskQueue(database).enqueue([NewTask({})]),
    lambda database: SqlTaskQueue(database).claim(lease=LEASE),
    lambda database: SqlTaskQueue(database).find(),
    lambda database: SqlTaskQueue(database).get(1),
    lambda database: SqlTaskQueue(database).counts(),
    lambda database: SqlTaskQueue(database).parked(),
    lambda database: SqlTaskQueue(database).unpark("a"),
    lambda database: SqlTaskQueue(database).retry(None),
    lambda database: SqlTaskQueue(database).free(None),
    lambda database: SqlAccountRepository(database).get("a"),
    lambda database: SqlAccountRepository(database).all(),
    lambda database: SqlAccountRepository(database).parking("a"),
    lambda database: SqlAccountRepository(database).set_role("a", AccountRole.MAIN),
    lambda database: SqlAccountRepository(database).add(Account("a", "A", TokenKind.USER, "t")),
    lambda database: SqlSettingsRepository(database).get("c"),
    lambda database: SqlSettingsRepository(database).put("c", LinkSettings()),
    lambda database: SqlSyncRecordRepository(database).get(KEY),
    lambda database: SqlSyncRecordRepository(database).put(KEY, SyncRecord((), (), (), True)),
    lambda database: SqlSyncRecordRepository(database).copied("c", "product"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_database_that_fails_is_one_line_of_the_domain(
    database: Database, call: Call
) -> None:
    with database.engine.begin() as connection:
        for table in ("sync_queue", "sync_counts", "accounts", "sync_settings", "sync_records"):
            connection.execute(text(f"DROP TABLE {table}"))
    with pytest.raises(StoreError, match="Cannot use the database") as caught:
        await call(database)
    assert isinstance(caught.value, ImgsyncError)
    assert caught.value.retryable
    assert "\n" not in str(caught.value)


def limit_pages(engine: Engine, most: int) -> None:
    """As a full disk: SQLite itself refuses to grow the file."""

    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}")

    event.listen(engine, "connect", limit)
    engine.dispose()


async def test_a_full_disk_under_sqlite_is_no_room_and_passes(sqlite_database: Database) -> None:
    queue = SqlTaskQueue(sqlite_database)
    await queue.enqueue([NewTask({})])
    limit_pages(sqlite_database.engine, 1)  # no fewer than there are
    with pytest.raises(NoRoomError, match=r"No room for the database .*disk is full"):
        await queue.enqueue([NewTask({"text": "x" * 1_000_000})])
    limit_pages(sqlite_database.engine, 1_000_000)
    await queue.enqueue([NewTask({"text": "x" * 1_000_000})])
    assert (await queue.counts())[TaskStatus.PENDING] == 2


async def fill(queue: SqlTaskQueue) -> None:
    for _ in range(1000):  # the log may have some pages left
        await queue.enqueue([NewTask({"text": "x" * 10_000})])


async def test_a_full_disk_under_sqlite_for_real(small_disk: Path) -> None:
    database = Database.open(f"sqlite:///{small_disk / 'q.db'}")
    queue = SqlTaskQueue(database)
    (queued,) = await queue.enqueue([NewTask({})])
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(NoRoomError, match="No room for the database"):
        await fill(queue)
    ballast.unlink()
    (task,) = await queue.claim(lease=LEASE)
    assert task.id == queued.task_id
    await queue.complete(task, result="done", warnings=[])
    database.close()


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger AS $$
BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$ LANGUAGE plpgsql;
CREATE TRIGGER full_disk BEFORE INSERT ON sync_queue EXECUTE FUNCTION full_disk();
"""


async def test_a_full_disk_under_postgresql_is_no_room(postgresql_url: str) -> None:
    """The server's own error, with its code."""
    database = Database.open(postgresql_url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(FULL)
    with pytest.raises(NoRoomError, match=r"No room for the database .*No space left") as caught:
        await SqlTaskQueue(database).enqueue([NewTask({})])
    assert "\n" not in str(caught.value)
    database.close()


async def test_what_a_database_refuses_is_one_line_too(database: Database) -> None:
    """As for a key that is pending for a task of another kind."""
    queue = SqlTaskQueue(database, kinds=["a", "b"])
    await queue.enqueue([NewTask({}, dedupe_key="k", kind="a")])
    with pytest.raises(StoreError, match=r"^The database .* refuses the change: ") as caught:
        await queue.enqueue([NewTask({}, dedupe_key="k", kind="b")])
    assert "\n" not in str(caught.value)


async def test_a_clock_without_its_database_is_told(database: Database) -> None:
    now = await DatabaseClock(database).now()
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)
    database.close()
    with pytest.raises(StoreError, match="is closed"):
        await DatabaseClock(database).now()


async def test_a_disk_that_is_full_when_sqlite_is_opened_is_told_at_once(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute is for other processes that start at the same time, and doctor has less."""
    url = f"sqlite:///{small_disk / 'q.db'}"
    Database.open(url).close()
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass

    def sleep(_: float) -> None:
        raise AssertionError("nobody makes room meanwhile")

    monkeypatch.setattr("imgsync.adapters.sql.database.time.sleep", sleep)
    with pytest.raises(NoRoomError, match="No room for the database"):
        await SqlTaskQueue(Database.open(url)).enqueue([NewTask({})])
