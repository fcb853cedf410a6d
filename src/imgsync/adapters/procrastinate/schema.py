"""What the adapter keeps beside procrastinate's own tables, and how both are made.

The engine knows of a job its queue, arguments, priority, schedule, locks, attempts and status. What
it has no column for stands in `imgsync_tasks`, one row for each job, which goes with the job.
"""

from typing import Any, LiteralString

from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection

from imgsync.adapters.procrastinate.rows import CHILD
from imgsync.domain.errors import StoreError

VERSION = 2
_LOCK = 0x696D67_73796E63  # "imgsync": hosts that start at once make the tables one by one

_ENGINE_FUNCTIONS = (
    "procrastinate_defer_jobs_v1",
    "procrastinate_finish_job_v1",
    "procrastinate_retry_job_v2",
)

# The engine orders by priority and age, the port by priority, schedule and age. Its index of locks
# leaves out the jobs that have ended. `imgsync_order` tells whether a task was claimed before its
# account was freed.
_TABLES: LiteralString = """
CREATE SEQUENCE imgsync_order;
CREATE TABLE imgsync_tasks (
    job_id bigint PRIMARY KEY REFERENCES procrastinate_jobs ON DELETE CASCADE,
    max_attempts integer NOT NULL,
    crashes integer NOT NULL DEFAULT 0,
    check_again boolean NOT NULL DEFAULT false,
    parked_for text,
    account_id text,
    entity_id text,
    named text[] NOT NULL DEFAULT '{}',
    lease_token text,
    claim_number bigint,
    lease_expires_at timestamptz,
    result text,
    error text,
    warnings jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX imgsync_tasks_parked ON imgsync_tasks (parked_for) WHERE parked_for IS NOT NULL;
CREATE INDEX imgsync_jobs_lock ON procrastinate_jobs (lock) WHERE lock IS NOT NULL;
CREATE TABLE imgsync_unparked (account_id text PRIMARY KEY, number bigint NOT NULL);
"""

_TURNS = f"""
CREATE TABLE imgsync_turns (child text PRIMARY KEY, turn bigint NOT NULL);
DROP INDEX IF EXISTS imgsync_jobs_due;
CREATE INDEX imgsync_jobs_due ON procrastinate_jobs
    (queue_name, ({CHILD.format(job="procrastinate_jobs")}), priority DESC,
        scheduled_at NULLS FIRST, id)
    WHERE status = 'todo';
CREATE INDEX imgsync_jobs_held ON procrastinate_jobs (queue_name, id) WHERE status = 'doing';
CREATE INDEX imgsync_jobs_ended ON procrastinate_jobs (queue_name, id)
    WHERE status NOT IN ('todo', 'doing');
"""
"""What version 2 brought."""


async def make_schema(connection: AsyncConnection[dict[str, Any]]) -> None:
    """Makes the tables that are missing, or brings those of an earlier version up to date.

    StoreError where those there are of none that is known.
    """
    if await _version(connection) == VERSION:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        version = await _version(connection)
        if version == VERSION:
            return
        if version == 0:
            if await _table(connection, "procrastinate_jobs") is None:
                await connection.execute(SchemaManager.get_schema())
            await _check_engine(connection)
            await connection.execute(_TABLES)
        await connection.execute(_TURNS)
        await connection.execute(f"COMMENT ON TABLE imgsync_tasks IS 'version {VERSION}'")


async def _version(connection: AsyncConnection[dict[str, Any]]) -> int:
    """Of the tables that are there; 0 where there are none."""
    row = await _table(connection, "imgsync_tasks")
    if row is None:
        return 0
    for version in range(1, VERSION + 1):
        if row["version"] == f"version {version}":
            return version
    raise StoreError(
        f"The table imgsync_tasks of the queue is of {row['version'] or 'no known version'},"
        f" this imgsync needs version {VERSION}"
    )


async def _table(connection: AsyncConnection[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """What is written beside a table's name, if it is there.

    Not by to_regclass: a session may remember that there was none before it waited for the lock.
    """
    found = await connection.execute(
        "SELECT obj_description(oid, 'pg_class') AS version FROM pg_class"
        " WHERE relname = %s AND relkind = 'r' AND pg_table_is_visible(oid)",
        [name],
    )
    return await found.fetchone()


async def _check_engine(connection: AsyncConnection[dict[str, Any]]) -> None:
    """An engine that others installed long ago lacks functions that its migrations bring."""
    found = await connection.execute(
        "SELECT proname FROM pg_proc WHERE proname = ANY(%s) AND pg_function_is_visible(oid)",
        [list(_ENGINE_FUNCTIONS)],
    )
    present = {row["proname"] for row in await found.fetchall()}
    if missing := [name for name in _ENGINE_FUNCTIONS if name not in present]:
        raise StoreError(
            f"The schema of procrastinate in the queue's database is too old: it lacks {missing[0]}"
            " (apply procrastinate's migrations)"
        )
