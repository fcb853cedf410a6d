"""Rows that another program wrote badly: each fails alone, and the others run."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.application.work import TaskEnd, TaskReport
from imgsync.domain.tasks import TaskId, TaskStatus
from tests.application.world import png
from tests.sql.world import SqlWorld

pytestmark = pytest.mark.anyio
DEEP = "[" * 3000 + "]" * 3000
LONG = '{"n": ' + "9" * 5000 + "}"
CP1251 = '{"name": "Лампа"}'.encode("cp1251")

EVERYWHERE: list[tuple[str, Any, str]] = [
    ("payload", DEEP, "payload is nested deeper than 100 levels"),
    ("payload", "[" * 101 + "]" * 101, "payload is nested deeper than 100 levels"),
    ("payload", LONG, "payload is no JSON that can be read"),
    ("payload", None, "payload is NULL"),
    ("warnings", '{"a": 1}', "warnings is no list of texts"),
    ("warnings", "[1]", "warnings is no list of texts"),
    ("warnings", DEEP, "warnings is nested deeper than 100 levels"),
    ("warnings", None, "warnings is NULL"),
    ("attempts", None, "attempts is NULL, not a whole number"),
    ("max_attempts", None, "max_attempts is NULL, not a whole number"),
    ("priority", None, "priority is NULL, not a whole number"),
    ("created_at", None, "created_at is NULL, not a time that can be used"),
]
ON_SQLITE: list[tuple[str, Any, str]] = [
    ("payload", CP1251, "payload is no UTF-8 text"),
    ("payload", "{broken", "payload is no JSON that can be read"),
    ("payload", b"\xff\x00", "payload is no UTF-8 text"),
    ("attempts", "many", "attempts is many, not a whole number"),
    ("attempts", b"\xff", "attempts is \\ufffd, not a whole number"),
    ("attempts", 1.5, "attempts is 1.5, not a whole number"),
    ("attempts", 2**62, "attempts is 4611686018427387904, which is out of range"),
    ("priority", "high", "priority is high, not a whole number"),
    ("max_attempts", "3x", "max_attempts is 3x, not a whole number"),
    ("crashes", "x", "crashes is x, not a whole number"),
    ("scheduled_at", "2026-01-01 10:00:00 UTC", "scheduled_at is 2026-01-01 10:00:00 UTC"),
    ("created_at", "2026-01-01 10:00:00 MSK", "created_at is 2026-01-01 10:00:00 MSK"),
    ("updated_at", "2026-01-01 29:00:00", "updated_at is 2026-01-01 29:00:00"),
    ("scheduled_at", "0000-00-00 00:00:00", "scheduled_at is 0000-00-00 00:00:00"),
    ("warnings", 5, "warnings is no list of texts"),
    ("warnings", CP1251, "warnings is no UTF-8 text"),
]
ON_POSTGRESQL: list[tuple[str, Any, str]] = [
    (column, value, f"{column} is")
    for column in ("scheduled_at", "created_at", "updated_at")
    for value in ("-infinity", "infinity", "0044-03-15 00:00:00+00 BC", "99999-01-01 00:00:00+00")
    if (column, value[0]) != ("scheduled_at", "9")  # which is not due yet
]


@pytest.fixture
def lax(database: Database) -> Database:
    """A table that another program made: it allows NULL everywhere."""
    engine, columns = (
        database.engine,
        ("payload", "warnings", "attempts", "max_attempts", "priority", "created_at"),
    )
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for column in columns:
                connection.exec_driver_sql(
                    f"ALTER TABLE sync_queue ALTER COLUMN {column} DROP NOT NULL"
                )
        return database
    engine.dispose()
    with sqlite3.connect(engine.url.database or "") as file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'sync_queue'"
        )
    file.close()
    return database


def cases() -> list[Any]:
    every = [(kind, *case) for kind in ("sqlite", "postgresql") for case in EVERYWHERE]
    every += [("sqlite", *case) for case in ON_SQLITE]
    every += [("postgresql", *case) for case in ON_POSTGRESQL]
    return [
        pytest.param(kind, *case, id=f"{kind}-{case[0]}-{str(case[1])[:12]}-{n}")
        for n, (kind, *case) in enumerate(every)
    ]


async def run(world: SqlWorld) -> dict[TaskId, TaskReport]:
    reports: list[TaskReport] = []
    await world.worker().run(drain=True, report=reports.append)
    return {report.task.id: report for report in reports}


@pytest.mark.parametrize(
    ("database_url", "column", "value", "reason"), cases(), indirect=["database_url"]
)
async def test_a_row_that_cannot_be_read_fails_alone(
    lax: Database, column: str, value: object, reason: str
) -> None:
    world = await SqlWorld.open(lax)
    world.clock.moment = world.clock.moment.replace(year=2030)  # the rows are of the real time
    world.pair([("a.png", png(0))])
    good = await world.enqueue()
    row = {"payload": "{}", column: value}
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    insert = text(f"INSERT INTO sync_queue ({names}) VALUES ({values}) RETURNING id")  # noqa: S608
    with lax.engine.begin() as connection:
        bad = connection.execute(insert, row).scalar_one()
    assert {task.id for task in await world.queue.find()} == {good, bad}

    reports = await run(world)
    assert reports[good].end is TaskEnd.COMPLETED
    assert reports[bad].end is TaskEnd.FAILED
    failed = await world.task(bad)
    assert failed.status is TaskStatus.FAILED
    assert failed.error is not None
    assert f"The row of the task cannot be read: {reason}" in failed.error
    assert "\n" not in failed.error
    assert (await world.queue.counts())[TaskStatus.FAILED] == 1
    assert [task.id for task in await world.queue.find(TaskStatus.FAILED)] == [bad]
    json.dumps(failed.payload, indent=2)

    assert await world.queue.retry(None) == [bad]
    assert (await run(world))[bad].end is TaskEnd.FAILED


async def test_an_attempt_at_the_limit_of_its_column_does_not_overflow(database: Database) -> None:
    world = await SqlWorld.open(database)
    with database.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO sync_queue (payload, attempts) VALUES ('{}', 2147483647)")
        )
    world.clock.moment = world.clock.moment.replace(year=2030)
    reports = await run(world)
    assert [report.end for report in reports.values()] == [TaskEnd.FAILED]


async def test_crashes_at_the_limit_of_their_column_do_not_overflow(database: Database) -> None:
    world = await SqlWorld.open(database)
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO sync_queue (payload, status, crashes) "
                "VALUES ('{}', 'processing', 2147483647)"
            )
        )
    world.clock.moment = world.clock.moment.replace(year=2030)
    good = await world.put({"n": 1})
    (task,) = await world.queue.claim(lease=timedelta(minutes=1))
    assert task.id == good
    (lost,) = await world.queue.find(TaskStatus.FAILED)
    assert "its worker was lost" in (lost.error or "")


@pytest.mark.parametrize("token", [b"\xff", b"ab"])
async def test_a_task_under_a_token_that_cannot_be_read_is_freed(
    sqlite_database: Database, token: bytes
) -> None:
    world = await SqlWorld.open(sqlite_database)
    with sqlite_database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO sync_queue (payload, status, lease_token, lease_expires_at) "
                "VALUES ('{}', 'processing', :token, '2099-01-01 00:00:00')"
            ),
            {"token": token},
        )
    assert await world.queue.free(None) == [1]
    assert (await world.task(1)).status is TaskStatus.PENDING


async def test_a_lease_that_cannot_be_read_lapses(sqlite_database: Database) -> None:
    world = await SqlWorld.open(sqlite_database)
    world.pair([("a.png", png(0))])
    task_id = await world.enqueue()
    with sqlite_database.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE sync_queue SET status = 'processing', "
                "lease_expires_at = '2020-01-01 00:00:00 MSK'"
            )
        )
    assert (await run(world))[task_id].end is TaskEnd.COMPLETED


async def test_a_payload_of_a_sane_depth_is_read(database: Database) -> None:
    world = await SqlWorld.open(database)
    task_id = await world.put(json.loads("[" * 99 + "]" * 99))
    assert (await world.task(task_id)).damage is None


async def test_a_task_without_a_priority_may_be_the_oldest_that_waits(lax: Database) -> None:
    with lax.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO sync_queue (payload, priority, scheduled_at)"
            " VALUES ('{}', NULL, '2026-01-01 00:00:00')"
        )
    age = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()
    assert (await SqlFigures(lax)()).oldest_due == pytest.approx(age, abs=86_400)
