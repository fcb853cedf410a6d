"""What the queue does with rows, texts and times that the port says nothing of."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.model import Account, AccountRole, Parking, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import Task, TaskId, TaskStatus
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=2)
ACCOUNT = "a\u0439_%'\\" + '"'
"""An id with all that could go wrong in a search for it."""
FOREIGN = "INSERT INTO sync_queue (entity_type, payload, dedupe_key) VALUES ('x', '{}', :k)"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def queue(database: Database, clock: SetClock) -> SqlTaskQueue:
    return SqlTaskQueue(database, clock)


async def put(
    queue: SqlTaskQueue, payload: Any = None, key: str | None = None, **options: Any
) -> TaskId:
    (put,) = await queue.enqueue([NewTask(payload, key, **options)])
    return put.task_id


async def claim(queue: SqlTaskQueue, **options: Any) -> Task | None:
    claimed = await queue.claim(lease=LEASE, **options)
    return claimed[0] if claimed else None


async def take(queue: SqlTaskQueue, **options: Any) -> Task:
    task = await claim(queue, **options)
    assert task is not None
    return task


async def stored(queue: SqlTaskQueue, task_id: TaskId) -> Task:
    task = await queue.get(task_id)
    assert task is not None
    return task


def execute(database: Database, statement: str, **values: object) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(statement), values)


async def test_text_is_stored_without_what_postgresql_refuses(queue: SqlTaskQueue) -> None:
    await put(queue)
    await queue.reschedule(await take(queue), delay=timedelta(0), error="503 \x00")
    task = await take(queue)
    assert task.error == "503 "
    await queue.complete(task, result="done", warnings=["a\x00\ud800: b", "c"])
    assert (await stored(queue, task.id)).warnings == ("a?: b", "c")


async def test_a_lost_task_says_so_and_names_its_earlier_error(
    queue: SqlTaskQueue, clock: SetClock
) -> None:
    await put(queue)
    await queue.reschedule(await take(queue), delay=timedelta(0), error="503")
    for _ in range(4):
        lost = await take(queue)
        clock.advance(LEASE)
    assert await claim(queue) is None
    error = (await stored(queue, lost.id)).error or ""
    assert "worker was lost 4 times" in error
    assert "503" in error


async def test_a_superseded_task_names_the_newer_one(queue: SqlTaskQueue) -> None:
    for end in ("reschedule", "release"):
        await put(queue, key=end)
        old = await take(queue)
        newer = await put(queue, key=end)
        if end == "release":
            await queue.release(old)
        else:
            await queue.reschedule(old, delay=timedelta(0), error="503")
        error = (await stored(queue, old.id)).error or ""
        assert f"superseded by the newer task {newer}" in error
        assert error.startswith("given back" if end == "release" else "503")
        await take(queue)


async def test_other_kinds_of_rows_are_left_alone(
    queue: SqlTaskQueue, database: Database, clock: SetClock
) -> None:
    execute(database, "INSERT INTO sync_queue (entity_type, payload) VALUES ('price_sync', '{}')")
    clock.advance(timedelta(days=9999))
    assert await claim(queue) is None
    assert await queue.find() == []
    assert sum((await queue.counts()).values()) == 0
    assert await queue.retry(None) == []


async def test_retry_leaves_a_task_whose_entity_waits_in_an_older_one(
    queue: SqlTaskQueue, database: Database
) -> None:
    """Somebody has put the older row back by hand; the others are retried all the same."""
    for key in ("a/product/1", "a/product/1", "a/product/2"):
        await queue.enqueue([NewTask({}, dedupe_key=key)])
        (task,) = await queue.claim(lease=timedelta(minutes=1))
        await queue.fail(task, error="x")
    older, newer, other = sorted([task.id for task in await queue.find()])
    execute(database, "UPDATE sync_queue SET status = 'pending' WHERE id = :id", id=older)
    assert await queue.retry(None) == [other]
    assert await queue.retry([newer]) == []


async def test_another_program_may_insert_a_task(
    queue: SqlTaskQueue, database: Database, clock: SetClock
) -> None:
    execute(
        database,
        "INSERT INTO sync_queue (entity_type, payload) VALUES ('image_sync', :payload)",
        payload='{"image_url": "https://x/1"}',
    )
    clock.moment = datetime.now(UTC) + timedelta(minutes=1)
    task = await take(queue)
    assert task.payload == {"image_url": "https://x/1"}
    assert (task.priority, task.max_attempts, task.warnings) == (50, 3, ())
    assert abs(task.created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_row_marked_processing_without_a_lease_is_not_lost(
    queue: SqlTaskQueue, database: Database
) -> None:
    task_id = await put(queue)
    execute(database, "UPDATE sync_queue SET status = 'processing'")
    assert (await take(queue)).id == task_id


async def test_a_row_marked_processing_without_a_lease_is_freed(
    queue: SqlTaskQueue, database: Database
) -> None:
    task_id = await put(queue)
    execute(database, "UPDATE sync_queue SET status = 'processing'")
    assert await queue.free(None) == []
    assert await queue.free([task_id]) == [task_id]
    assert (await stored(queue, task_id)).status is TaskStatus.PENDING


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("give_back", ["reschedule", "release"])
async def test_a_task_put_back_is_not_superseded_by_one_of_another_key_or_kind(
    queue: SqlTaskQueue, database: Database, give_back: str, key: str | None
) -> None:
    task_id = await put(queue, key=key)
    task = await take(queue)
    await put(queue, key=None)
    await put(queue, key="other")
    execute(database, FOREIGN, k=key and f"{key}-foreign")
    if give_back == "release":
        await queue.release(task)
    else:
        await queue.reschedule(task, delay=timedelta(0), error="503")
    assert (await stored(queue, task_id)).status is TaskStatus.PENDING


async def test_a_task_that_another_program_ended_cannot_be_settled(
    queue: SqlTaskQueue, database: Database
) -> None:
    await put(queue)
    task = await take(queue)
    execute(database, "UPDATE sync_queue SET status = 'failed'")
    with pytest.raises(LeaseLostError):
        await queue.complete(task, result="done", warnings=[])


async def test_the_database_itself_refuses_an_unknown_status_and_two_running_of_one_key(
    queue: SqlTaskQueue, database: Database
) -> None:
    await put(queue)
    with pytest.raises(IntegrityError):
        execute(database, "UPDATE sync_queue SET status = 'done'")
    insert = "INSERT INTO sync_queue (payload, dedupe_key, status) VALUES ('{}', 'k', :status)"
    for status in ("pending", "processing"):
        execute(database, insert, status=status)
        with pytest.raises(IntegrityError):
            execute(database, insert, status=status)


async def test_a_failed_task_that_another_program_wrote_is_retried_alone(
    queue: SqlTaskQueue, database: Database
) -> None:
    first, second = [await put(queue) for _ in range(2)]
    execute(database, "UPDATE sync_queue SET status = 'failed'")
    assert await queue.retry([second]) == [second]
    assert (await stored(queue, first)).status is TaskStatus.FAILED


def of_account(**fields: object) -> dict[str, object]:
    return {"main_account_id": "main", "child_account_id": "child", **fields}


@pytest.mark.parametrize("role", [None, AccountRole.CHILD])
async def test_rows_of_other_programs_that_name_the_account_are_parked_with_it(
    queue: SqlTaskQueue, database: Database, clock: SetClock, role: AccountRole | None
) -> None:
    await put(queue, priority=99)
    until = clock.now() + timedelta(hours=1)
    if role is not None:  # what is known to be a child is looked for in fewer rows
        stored_accounts = SqlAccountRepository(database, clock)
        await stored_accounts.add(Account(ACCOUNT, "Shop", TokenKind.SOLUTION, "t", role=role))
        assert await stored_accounts.park(ACCOUNT, Parking("401", until))
    written = json.dumps(of_account(child_account_id=ACCOUNT), ensure_ascii=False)
    at = clock.now().strftime("%Y-%m-%d %H:%M:%S+00:00")
    for payload in (written, written.replace(": ", ":")):
        execute(
            database,
            "INSERT INTO sync_queue (payload, scheduled_at) VALUES (:payload, :at)",
            payload=payload,
            at=at,
        )
    named = [task.id for task in (await queue.find())[:2]]
    assert await queue.park(await take(queue), account_id=ACCOUNT, until=until, error="401") == 2
    for task_id in named:
        task = await stored(queue, task_id)
        assert (task.scheduled_at, task.parked_for, task.error) == (until, ACCOUNT, "401")
        assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)


def test_accounts_are_parked_in_one_event_loop_after_another(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = SqlTaskQueue(sqlite_database)

    def slowly(*_: object) -> list[int]:
        time.sleep(0.05)
        return []

    monkeypatch.setattr("imgsync.adapters.sql.queue._find_named", slowly)

    async def park(task: Task, delay: float) -> int:
        await asyncio.sleep(delay)
        until = datetime.now(UTC) + LEASE
        return await queue.park(task, account_id="a", until=until, error="401")

    async def park_some(run: int) -> list[int]:
        for number in range(4):
            await put(queue, of_account(child_account_id="a"), f"a/product/{run}{number}")
        tasks = await queue.claim(lease=LEASE, limit=4)
        return await asyncio.gather(*(park(t, 0.02 * n) for n, t in enumerate(tasks)))

    for run in range(2):
        assert asyncio.run(park_some(run)) == [0] * 4


async def test_rows_of_other_kinds_and_running_tasks_are_not_parked_along(
    queue: SqlTaskQueue, database: Database, clock: SetClock
) -> None:
    payload = of_account(child_account_id="a")
    first, running, foreign = [await put(queue, payload, f"a/product/{n}") for n in range(3)]
    execute(database, "UPDATE sync_queue SET entity_type = 'price_sync' WHERE id = :id", id=foreign)
    held, other = await take(queue, only=[first]), await take(queue, only=[running])
    until = clock.now() + LEASE
    assert await queue.park(held, account_id="a", until=until, error="401") == 0
    await queue.complete(other, result="done", warnings=[])
    with database.engine.connect() as connection:
        row = connection.execute(
            text("SELECT parked_for, error FROM sync_queue WHERE id = :id"), {"id": foreign}
        ).one()
    assert tuple(row) == (None, None)


async def test_an_account_cannot_be_stored_anew_between_its_parking_and_that_of_its_tasks(
    queue: SqlTaskQueue, database: Database, clock: SetClock
) -> None:
    """Or the tasks would wait for an account that nobody frees again."""
    accounts = SqlAccountRepository(database, clock)
    account = Account("a", "A", TokenKind.SOLUTION, "token")
    until = clock.now() + LEASE
    await accounts.add(account)
    await accounts.park("a", Parking("401", until))
    for n in range(2):
        await put(queue, of_account(child_account_id="a"), f"a/product/{n}")
    task, loop = await take(queue), asyncio.get_running_loop()
    renewing = list[Any]()

    async def renew() -> None:
        await accounts.add(account)
        await queue.unpark("a")

    def meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE sync_queue") and not renewing:
            renewing.append(asyncio.run_coroutine_threadsafe(renew(), loop))
            time.sleep(0.3)

    event.listen(database.engine, "before_cursor_execute", meanwhile)
    await queue.park(task, account_id="a", until=until, error="401")
    await asyncio.wrap_future(renewing[0])
    event.remove(database.engine, "before_cursor_execute", meanwhile)
    assert await queue.parked() == 0
    assert await claim(queue) is not None


async def test_the_time_is_the_database_s_whatever_the_host_s(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind = SqlTaskQueue(database), SqlTaskQueue(database)
    await put(ahead)
    task = await take(behind)
    with monkeypatch.context() as host:
        host.setattr(time, "time", lambda: 4e9)
        assert await claim(ahead) is None
    assert task.lease_expires_at is not None
    left = task.lease_expires_at - datetime.now(UTC)
    assert LEASE - timedelta(seconds=30) < left <= LEASE + timedelta(seconds=1)


async def test_a_lease_of_the_database_s_time_lapses(database: Database) -> None:
    queue = SqlTaskQueue(database)
    await put(queue)
    (lost,) = await queue.claim(lease=timedelta(seconds=0.05))
    await asyncio.sleep(0.1)
    taken = await take(queue)
    assert (taken.id, taken.crashes) == (lost.id, 1)
