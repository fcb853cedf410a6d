"""Taking jobs: which are next, and the lease that holds them.

Not by the engine's `procrastinate_fetch_job_v2`: it knows neither some jobs only nor leases, and of
equal priorities it takes the older job, not the one that was due first. Its unique index of locks
still keeps two jobs of one key from running at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from imgsync.adapters.procrastinate.connections import Connection
from imgsync.adapters.procrastinate.rows import COLUMNS, shown_time, task_of
from imgsync.domain.tasks import MAX_ATTEMPTS, MAX_CRASHES, Task

_WAITING = """
    j.status = 'todo' AND (j.scheduled_at IS NULL OR j.scheduled_at <= %(now)s)
    AND NOT EXISTS (
        SELECT FROM procrastinate_jobs r WHERE r.lock = j.lock AND r.status = 'doing'
    )
"""
_LAPSED = "j.status = 'doing' AND (t.lease_expires_at IS NULL OR t.lease_expires_at <= %(now)s)"

_SOME_LAPSED = f"""
    SELECT EXISTS (
        SELECT FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE j.queue_name = ANY(%(queues)s) AND {_LAPSED}
    ) AS some
"""
_DUE = shown_time("j.scheduled_at")
_NEXT_WAITING = f"""
    SELECT j.id, j.lock, j.priority, {_DUE} AS due, false AS lapsed, 0 AS crashes
    FROM procrastinate_jobs j
    WHERE j.queue_name = %(queue)s AND {_WAITING}
"""
_NEXT = f"""
    SELECT j.id, j.lock, j.priority, {_DUE} AS due, j.status = 'doing' AS lapsed, t.crashes
    FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
    WHERE j.queue_name = %(queue)s AND (({_WAITING}) OR ({_LAPSED}))
"""
_ONLY_WAITING = " AND j.id = ANY(%(only)s)"
_ONLY = f"""
    AND (j.id = ANY(%(only)s) OR ({_LAPSED}) AND j.lock IN (
        SELECT lock FROM procrastinate_jobs WHERE id = ANY(%(only)s)
    ))
"""
_IN_ORDER = """
    ORDER BY j.priority DESC, j.scheduled_at NULLS FIRST, j.id
    LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED
"""
# A token that stands there yet is that of a worker that lost the job, by its lease or as another
# program put the job back: its last request may still reach the child.
_HOLD = f"""
    WITH j AS (
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL
        WHERE id = ANY(%(ids)s) RETURNING *
    ), t AS (
        INSERT INTO imgsync_tasks AS held
            (job_id, max_attempts, lease_token, claim_number, lease_expires_at, created_at,
             updated_at)
        SELECT id, {MAX_ATTEMPTS}, gen_random_uuid(), nextval('imgsync_order'),
            %(now)s + %(lease)s, %(now)s, %(now)s
        FROM j
        ON CONFLICT (job_id) DO UPDATE SET
            lease_token = excluded.lease_token,
            claim_number = excluded.claim_number,
            lease_expires_at = excluded.lease_expires_at,
            updated_at = excluded.updated_at,
            parked_for = NULL,
            crashes = held.crashes + (held.job_id = ANY(%(lapsed)s))::int,
            check_again = held.check_again OR held.lease_token IS NOT NULL
        RETURNING *
    )
    SELECT {COLUMNS} FROM j JOIN t ON t.job_id = j.id
"""
_GIVE_UP = """
    UPDATE imgsync_tasks SET
        lease_token = NULL, lease_expires_at = NULL, updated_at = %(now)s, crashes = %(crashes)s,
        error = %(error)s || coalesce('; before it: ' || error, '')
    WHERE job_id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Up to `limit` due jobs of these queues, held from `now` for a lease."""

    queues: Sequence[str]
    now: datetime
    lease: timedelta
    limit: int
    only: Sequence[int] | None
    _taken: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, connection: Connection) -> list[Task]:
        """The jobs as tasks. Those that lost too many workers fail on the way."""
        values = {"now": self.now, "queues": list(self.queues)}
        row = await (await connection.execute(_SOME_LAPSED, values)).fetchone()
        lapsed = row is not None and row["some"]
        while await self._look(connection, lapsed=lapsed):
            pass
        return await self._hold(connection) if self._taken else []

    async def _look(self, connection: Connection, *, lapsed: bool) -> bool:
        """Takes what is next; whether a job failed that stood in the way of others."""
        self._taken.clear()
        query = _NEXT if lapsed else _NEXT_WAITING
        if self.only is not None:
            query += _ONLY if lapsed else _ONLY_WAITING
        values = {"now": self.now, "only": self.only, "limit": self.limit}
        found: list[dict[str, Any]] = []
        for queue in self.queues:  # each by itself, as the index gives the next of one unsorted
            rows = await connection.execute(query + _IN_ORDER, values | {"queue": queue})
            found += await rows.fetchall()
        if len(self.queues) > 1:
            found.sort(key=_order)
        dead = [job for job in found if job["lapsed"] and (job["crashes"] or 0) + 1 >= MAX_CRASHES]
        for job in dead:
            await _give_up(connection, job, self.now)
        locks: set[str] = set()
        for job in found:
            # Another program may have queued several of one lock.
            if job not in dead and job["lock"] not in locks and len(self._taken) < self.limit:
                self._taken.append(job)
                locks.update({job["lock"]} - {None})
        return bool(dead)

    async def _hold(self, connection: Connection) -> list[Task]:
        values = {
            "ids": [job["id"] for job in self._taken],
            "lapsed": [job["id"] for job in self._taken if job["lapsed"]],
            "now": self.now,
            "lease": self.lease,
        }
        rows = await (await connection.execute(_HOLD, values)).fetchall()
        tasks = {task.id: task for task in map(task_of, rows)}
        return [tasks[job["id"]] for job in self._taken]


def _order(job: dict[str, Any]) -> tuple[int, datetime, int]:
    return -job["priority"], job["due"], job["id"]


async def _give_up(connection: Connection, job: dict[str, Any], now: datetime) -> None:
    crashes = job["crashes"] + 1
    error = (
        f"its worker was lost {crashes} times while it ran (killed, stopped or out of memory); "
        "it is not tried again"
    )
    values = {"id": job["id"], "now": now, "crashes": crashes, "error": error}
    await connection.execute(_GIVE_UP, values)
    await connection.execute("SELECT procrastinate_finish_job_v1(%(id)s, 'failed', false)", values)
