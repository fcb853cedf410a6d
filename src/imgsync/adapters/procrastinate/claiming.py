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
from imgsync.adapters.procrastinate.rows import CHILD, COLUMNS, shown_time, task_of
from imgsync.domain.tasks import MAX_ATTEMPTS, MAX_CRASHES, Task

_FREE_LOCK = """
    NOT EXISTS (SELECT FROM procrastinate_jobs r WHERE r.lock = j.lock AND r.status = 'doing')
"""
_LAPSED = "j.status = 'doing' AND (t.lease_expires_at IS NULL OR t.lease_expires_at <= %(now)s)"
_DUE = ("j.scheduled_at IS NULL", "j.scheduled_at <= %(now)s")
"""An index serves each by itself, and both together by looking at all that is not due."""

_CHILD = CHILD.format(job="j")
_IN_ORDER = "j.priority DESC, j.scheduled_at NULLS FIRST, j.id"
_OF_LEVEL = f"""
    j.queue_name = l.queue AND {_CHILD} = l.child AND j.priority = l.priority AND j.status = 'todo'
"""
_JOBS = f"""
    SELECT j.id, j.lock, {_CHILD} AS child, j.priority, j.status::text, t.crashes,
        {shown_time("coalesce(j.scheduled_at, '0001-01-02')")} AS due
    FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
"""


def _first(column: str, descending: bool, condition: str) -> str:
    order = f"{column} DESC" if descending else column
    return f"""(
        SELECT {column} FROM procrastinate_jobs j
        WHERE j.status = 'todo' AND {condition} ORDER BY {order} LIMIT 1
    )"""


_OF_CHILD = f"j.queue_name = {{of}}.queue AND {_CHILD} = {{of}}.child"
_BELOW = f"{_OF_CHILD.format(of='l')} AND j.priority < l.priority"
# Each child and each of its priorities is found by one look into an index, however many wait.
_LEVELS = f"""
    WITH RECURSIVE children (queue, child) AS (
        SELECT queue, {_first(_CHILD, False, "j.queue_name = queue")}
        FROM unnest(%(queues)s::text[]) AS queue
        UNION ALL
        SELECT queue, {_first(_CHILD, False, f"j.queue_name = c.queue AND {_CHILD} > c.child")}
        FROM children c WHERE child IS NOT NULL
    ), levels (queue, child, priority) AS (
        SELECT queue, child, {_first("j.priority", True, _OF_CHILD.format(of="c"))}
        FROM children c WHERE child IS NOT NULL
        UNION ALL
        SELECT queue, child, {_first("j.priority", True, _BELOW)}
        FROM levels l WHERE priority IS NOT NULL
    )
"""
_FIRSTS = " UNION ALL ".join(
    f"""
        SELECT l.queue, l.child, l.priority, j.scheduled_at, j.id, {source} AS source FROM levels l,
        LATERAL (
            SELECT j.scheduled_at, j.id FROM procrastinate_jobs j
            WHERE {_OF_LEVEL} AND {due} AND {_FREE_LOCK}
            ORDER BY j.scheduled_at NULLS FIRST, j.id LIMIT 1
        ) AS j
        WHERE l.priority IS NOT NULL
    """
    for source, due in enumerate(_DUE)
)
_LAPSE = len(_DUE)
_BY_TURN = """
    SELECT f.queue, f.child, f.priority, f.id, f.source
    FROM found f LEFT JOIN imgsync_turns n ON n.child = f.child
    ORDER BY coalesce(n.turn, 0), f.priority DESC, f.scheduled_at NULLS FIRST, f.id
"""
_TURNS = f"""
    {_LEVELS}, found AS (
        {_FIRSTS}
        UNION ALL
        SELECT * FROM (
            SELECT DISTINCT ON (j.queue_name, {_CHILD})
                j.queue_name, {_CHILD}, j.priority, j.scheduled_at, j.id, {_LAPSE}
            FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
            WHERE j.queue_name = ANY(%(queues)s) AND {_LAPSED}
            ORDER BY j.queue_name, {_CHILD}, {_IN_ORDER}
        ) AS lapsed
    )
    {_BY_TURN}
"""
_WAITS = f"j.status = 'todo' AND ({' OR '.join(_DUE)}) AND {_FREE_LOCK}"
_TURNS_OF = f"""
    WITH found AS (
        SELECT j.queue_name AS queue, {_CHILD} AS child, j.priority, j.scheduled_at, j.id,
            0 AS source
        FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE j.queue_name = ANY(%(queues)s) AND (
            j.id = ANY(%(only)s) AND (({_WAITS}) OR ({_LAPSED}))
            OR ({_LAPSED}) AND j.lock IN (
                SELECT lock FROM procrastinate_jobs WHERE id = ANY(%(only)s)
            )
        )
    )
    {_BY_TURN}
"""
_LOCKED = "LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED"
_OF_FIRST = f"j.queue_name = %(queue)s AND {_CHILD} = %(child)s"
_NEXT = {
    source: f"""
        {_JOBS} WHERE j.status = 'todo' AND {_OF_FIRST} AND j.priority = %(priority)s AND {due}
            AND {_FREE_LOCK}
        ORDER BY j.scheduled_at NULLS FIRST, j.id {_LOCKED}
    """
    for source, due in enumerate(_DUE)
}
_NEXT[_LAPSE] = f"{_JOBS} WHERE {_OF_FIRST} AND {_LAPSED} ORDER BY {_IN_ORDER} {_LOCKED}"
_THESE = f"""
    {_JOBS} WHERE j.id = ANY(%(ids)s) AND (({_WAITS}) OR ({_LAPSED})) ORDER BY {_IN_ORDER} {_LOCKED}
"""
# Who takes a job of the child at this moment gives it its turn just as well: nobody waits.
_TURN = """
    WITH this AS MATERIALIZED (
        SELECT child FROM imgsync_turns WHERE child = %(child)s FOR UPDATE SKIP LOCKED
    ), turned AS (
        UPDATE imgsync_turns t SET turn = nextval('imgsync_order') FROM this
        WHERE t.child = this.child
    )
    INSERT INTO imgsync_turns SELECT %(child)s, nextval('imgsync_order')
    WHERE NOT EXISTS (SELECT FROM imgsync_turns WHERE child = %(child)s)
    ON CONFLICT DO NOTHING
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
        while await self._look(connection):
            pass
        return await self._hold(connection) if self._taken else []

    async def _look(self, connection: Connection) -> bool:
        """Takes what is next; whether a job failed that stood in the way of others."""
        self._taken.clear()
        values = {"now": self.now, "queues": list(self.queues), "only": self.only}
        query = _TURNS if self.only is None else _TURNS_OF
        firsts = await (await connection.execute(query, values)).fetchall()
        found: list[dict[str, Any]] = []
        for child in dict.fromkeys(first["child"] for first in firsts):
            of_child = [first for first in firsts if first["child"] == child]
            found = await self._of(connection, of_child)
            if found:  # else others are about to take them, at this very moment
                break
        dead = [job for job in found if _is_dead(job)]
        for job in dead:
            await _give_up(connection, job, self.now)
        locks: set[str] = set()
        for job in found:
            # Another program may have queued several of one lock.
            if job not in dead and job["lock"] not in locks and len(self._taken) < self.limit:
                self._taken.append(job)
                locks.update({job["lock"]} - {None})
        return bool(dead)

    async def _of(
        self, connection: Connection, firsts: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The next of a child, of which these are the first of each priority."""
        values: dict[str, Any] = {"now": self.now, "limit": self.limit}
        if self.only is not None:
            ids = [first["id"] for first in firsts]
            return await (await connection.execute(_THESE, values | {"ids": ids})).fetchall()
        sources = {(first["queue"], first["source"]) for first in firsts}
        found: list[dict[str, Any]] = []
        for first in firsts:
            rows = await connection.execute(_NEXT[first["source"]], values | first)
            found += await rows.fetchall()
            # Of one queue, the next priority comes after all of this one.
            if len(sources) == 1 and len(found) >= self.limit:
                break
        return sorted(found, key=_order) if len(sources) > 1 else found

    async def _hold(self, connection: Connection) -> list[Task]:
        values = {
            "ids": [job["id"] for job in self._taken],
            "lapsed": [job["id"] for job in self._taken if job["status"] == "doing"],
            "now": self.now,
            "lease": self.lease,
        }
        rows = await (await connection.execute(_HOLD, values)).fetchall()
        await connection.execute(_TURN, {"child": self._taken[0]["child"]})
        tasks = {task.id: task for task in map(task_of, rows)}
        return [tasks[job["id"]] for job in self._taken]


def _order(job: dict[str, Any]) -> tuple[int, datetime, int]:
    return -job["priority"], job["due"], job["id"]


def _is_dead(job: dict[str, Any]) -> bool:
    return job["status"] == "doing" and (job["crashes"] or 0) + 1 >= MAX_CRASHES


async def _give_up(connection: Connection, job: dict[str, Any], now: datetime) -> None:
    crashes = job["crashes"] + 1
    error = (
        f"its worker was lost {crashes} times while it ran (killed, stopped or out of memory); "
        "it is not tried again"
    )
    values = {"id": job["id"], "now": now, "crashes": crashes, "error": error}
    await connection.execute(_GIVE_UP, values)
    await connection.execute("SELECT procrastinate_finish_job_v1(%(id)s, 'failed', false)", values)
