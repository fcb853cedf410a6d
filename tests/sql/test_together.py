"""Calls that write at the same time share a transaction, and nothing else."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from imgsync.adapters.sql.database import Database, create_engine_for
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.errors import LeaseLostError, NoRoomError, StoreError
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.tasks import Task, TaskStatus

pytestmark = pytest.mark.anyio
LEASE = timedelta(minutes=1)
ADD = text("INSERT INTO sync_turns (account_id, turn) VALUES (:name, 1)")
END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def add(name: str, error: Exception | None = None) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(ADD, {"name": name})
        if error is not None:
            raise error
        return name

    return work


async def names(database: Database) -> set[str]:
    query = text("SELECT account_id FROM sync_turns")
    return set(await database.run(lambda c: c.execute(query).scalars().all(), reads=True))


async def all_of(database: Database, *works: Callable[[Connection], Any]) -> list[Any]:
    return await asyncio.gather(*map(database.run, works), return_exceptions=True)


async def claimed(queue: SqlTaskQueue, count: int) -> list[Task]:
    await queue.enqueue([NewTask({"n": n}, f"k{n}", "child") for n in range(count)])
    return await queue.claim(lease=LEASE, limit=count)


async def test_calls_at_the_same_time_are_one_transaction(database: Database) -> None:
    queue, commits = SqlTaskQueue(database), list[object]()
    tasks = await claimed(queue, 100)
    event.listen(database.engine, "commit", commits.append)
    await asyncio.gather(*(queue.renew(task, lease=LEASE) for task in tasks))
    await asyncio.gather(*(queue.complete(t, result="done", warnings=[]) for t in tasks))
    assert len(commits) == 2
    assert (await queue.counts())[TaskStatus.COMPLETED] == 100


async def test_an_error_of_one_is_its_alone(database: Database) -> None:
    queue = SqlTaskQueue(database)
    tasks = await claimed(queue, 20)
    await queue.free([tasks[3].id, tasks[7].id])
    ends = await asyncio.gather(
        *(queue.complete(task, result="done", warnings=[]) for task in tasks),
        database.run(add("a", ValueError("mine"))),
        database.run(lambda connection: connection.execute(text("SELECT nonsense"))),
        database.run(add("b")),
        return_exceptions=True,
    )
    lost = [number for number, end in enumerate(ends[:20]) if isinstance(end, LeaseLostError)]
    assert lost == [3, 7]
    assert [str(ends[20]), ends[22]] == ["mine", "b"]
    assert isinstance(ends[21], StoreError)
    assert await names(database) == {"child", "b"}
    assert (await queue.counts())[TaskStatus.COMPLETED] == 18


async def test_a_key_that_another_call_added_is_that_call_s_error(database: Database) -> None:
    ends = await all_of(database, add("a"), add("b"), add("a"), add("c"))
    assert (ends[0], ends[1], ends[3]) == ("a", "b", "c")
    assert isinstance(ends[2], StoreError)
    assert await names(database) == {"a", "b", "c"}


async def test_nobody_is_told_before_the_commit_whose_failure_is_all_s(database: Database) -> None:
    told = list[str]()

    async def note(name: str) -> None:
        told.append(await database.run(add(name)))

    def refuse(_: object) -> None:
        told.append("commit")
        raise OperationalError("COMMIT", None, Exception("the disk is gone"))

    event.listen(database.engine, "commit", refuse)
    ends = await asyncio.gather(note("a"), note("b"), note("c"), return_exceptions=True)
    event.remove(database.engine, "commit", refuse)
    assert told == ["commit"]
    assert [type(end) for end in ends] == [StoreError] * 3
    assert await names(database) == set()


async def test_who_hides_a_failed_statement_costs_itself_only(postgresql_url: str) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a rollback that is no error."""
    database = Database.open(postgresql_url)

    def hide(connection: Connection) -> str:
        connection.execute(ADD, {"name": "hidden"})
        with suppress(SQLAlchemyError):
            connection.execute(text("SELECT nonsense"))
        return "hidden"

    first, hidden, last = await all_of(database, add("a"), hide, add("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(hidden, StoreError)
    assert await names(database) == {"a", "b"}
    database.close()


async def test_a_full_disk_takes_what_still_has_room(sqlite_database: Database) -> None:
    queue = SqlTaskQueue(sqlite_database)
    await queue.enqueue([NewTask({})])

    def limit(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # no fewer than there are

    event.listen(sqlite_database.engine, "connect", limit)
    sqlite_database.engine.dispose()
    big = NewTask({"text": "x" * 1_000_000})
    ends = await asyncio.gather(
        queue.enqueue([big]),
        sqlite_database.run(add("small")),
        queue.enqueue([big]),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [NoRoomError, str, NoRoomError]
    assert await names(sqlite_database) == {"small"}
    assert (await queue.counts())[TaskStatus.PENDING] == 1


async def test_who_is_cancelled_takes_nobody_along(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits(connection: Connection) -> None:
        begun.set()
        go_on.wait(10)

    first = asyncio.create_task(database.run(waits))
    await asyncio.to_thread(begun.wait, 10)
    calls = [asyncio.create_task(database.run(add(name))) for name in "abc"]
    await asyncio.sleep(0.05)
    first.cancel()
    calls[1].cancel()
    go_on.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert (ends[0], ends[2]) == ("a", "c")
    assert {"a", "c"} <= await names(database)


async def test_a_connection_that_was_ended_costs_no_call_its_outcome(postgresql_url: str) -> None:
    database = Database.open(postgresql_url)
    admin = create_engine_for(postgresql_url)
    tries = list[int]()

    def is_ended(connection: Connection) -> None:
        tries.append(1)
        if len(tries) == 1:
            with admin.begin() as other:
                other.execute(text(END_OTHERS))
        connection.execute(ADD, {"name": "ended"})

    await database.run(add("before"))
    assert await all_of(database, add("a"), is_ended, add("b")) == ["a", None, "b"]
    assert len(tries) == 2
    with admin.begin() as other:
        other.execute(text(END_OTHERS))
    assert await database.run(add("alone"), alone=True) == "alone"
    assert await names(database) == {"before", "a", "ended", "b", "alone"}
    database.close()
    admin.dispose()


async def test_a_row_that_another_host_holds_keeps_only_its_transaction_waiting(
    postgresql_url: str,
) -> None:
    database = Database.open(postgresql_url)
    held = text("UPDATE sync_turns SET turn = 2 WHERE account_id = 'held'")
    await database.run(add("held"))
    with database.engine.begin() as other:
        other.execute(held)
        waits = asyncio.create_task(database.run(lambda connection: connection.execute(held)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            assert await all_of(database, add("a"), add("b")) == ["a", "b"]
        assert not waits.done()
    await waits
    database.close()


async def test_hosts_whose_transactions_wait_for_each_other_both_succeed(
    postgresql_url: str,
) -> None:
    one, other = Database.open(postgresql_url), Database.open(postgresql_url)
    await all_of(one, add("a"), add("b"))
    both_hold, tries = threading.Barrier(2), list[int]()

    def change(name: str, *, wait: bool = False) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            if wait:
                tries.append(1)
                if len(tries) <= 2:
                    both_hold.wait(10)
            this = text("UPDATE sync_turns SET turn = turn + 1 WHERE account_id = :name")
            connection.execute(this, {"name": name})

        return work

    ends = await asyncio.gather(
        all_of(one, change("a"), change("b", wait=True)),
        all_of(other, change("b"), change("a", wait=True)),
    )
    assert list(ends) == [[None, None], [None, None]]
    turns = text("SELECT turn FROM sync_turns WHERE account_id IN ('a', 'b')")
    assert await one.run(lambda c: c.execute(turns).scalars().all(), reads=True) == [3, 3]
    one.close()
    other.close()


async def test_a_connection_in_use_when_the_database_is_closed_is_closed_later(
    database_url: str,
) -> None:
    database = Database.open(database_url)
    began, goes_on, closed = threading.Event(), threading.Event(), threading.Event()
    event.listen(database.engine, "close", lambda *_: closed.set())

    def waits(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        began.set()
        goes_on.wait(10)

    call = asyncio.create_task(database.run(waits, reads=True))
    await asyncio.to_thread(began.wait, 10)
    database.close()
    assert not closed.is_set()
    goes_on.set()
    await call
    assert await asyncio.to_thread(closed.wait, 10)
