"""The task queue on procrastinate's jobs."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from imgsync.adapters.procrastinate.claiming import Claim
from imgsync.adapters.procrastinate.connections import Connection, Connections
from imgsync.adapters.procrastinate.rows import (
    COLUMNS,
    FAILED,
    accounts_named,
    arguments_of,
    name_of,
    queue_of,
    status_condition,
    status_of,
    storable,
    storable_or_none,
    task_of,
)
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    MAX_ATTEMPTS,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)

_LONGEST_LEASE = timedelta(days=1)
_LAST_ID = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")

_NOW = "coalesce(%(clock)s::timestamptz, clock_timestamp())"
"""The database's time, or that of a test's clock."""

_PENDING_OF_KEYS = f"""
    SELECT {_NOW} AS now, (
        SELECT coalesce(json_agg(json_build_array(queue_name, queueing_lock, id)), '[]') FROM (
            SELECT queue_name, queueing_lock, id FROM procrastinate_jobs
            WHERE queueing_lock = ANY(%(keys)s) AND status = 'todo' AND queue_name = ANY(%(queues)s)
            ORDER BY id FOR UPDATE
        ) AS pending
    ) AS pending
"""
_FIELDS = """
    jsonb_to_recordset(%(new)s::jsonb) AS n (
        id bigint, place integer, args text, priority integer, delay double precision, key text,
        name text, queue text, max_attempts integer, account_id text, entity_id text, named text[]
    )
"""
_TAKE_OVER = f"""
    UPDATE procrastinate_jobs j SET
        args = n.args::jsonb, priority = n.priority, attempts = 0, task_name = n.name,
        queue_name = n.queue,
        scheduled_at = %(now)s + make_interval(secs => n.delay)
    FROM {_FIELDS} WHERE j.id = n.id
"""
# The engine gives the ids of its jobs in the order in which they were given to it.
_DEFER = f"""
    WITH n AS MATERIALIZED (
        SELECT *, row_number() OVER (ORDER BY place) AS nth FROM {_FIELDS} WHERE id IS NULL
    ), deferred AS MATERIALIZED (
        SELECT procrastinate_defer_jobs_v1(array_agg(
            ROW(
                queue, name, priority, key, key, args::jsonb,
                %(now)s + make_interval(secs => delay)
            )::procrastinate_job_to_defer_v1 ORDER BY nth
        )) AS ids FROM n
    ), beside AS (
        INSERT INTO imgsync_tasks
            (job_id, max_attempts, account_id, entity_id, named, created_at, updated_at)
        SELECT job.id, n.max_attempts, n.account_id, n.entity_id, n.named, %(now)s, %(now)s
        FROM deferred, unnest(deferred.ids) WITH ORDINALITY AS job (id, nth) JOIN n USING (nth)
    )
    SELECT ids FROM deferred
"""
_TAKEN_OVER = f"""
    INSERT INTO imgsync_tasks AS t
        (job_id, max_attempts, account_id, entity_id, named, created_at, updated_at)
    SELECT n.id, n.max_attempts, n.account_id, n.entity_id, n.named, %(now)s, %(now)s
    FROM {_FIELDS} WHERE n.id IS NOT NULL
    ON CONFLICT (job_id) DO UPDATE SET
        max_attempts = excluded.max_attempts, account_id = excluded.account_id,
        entity_id = excluded.entity_id, named = excluded.named, updated_at = excluded.updated_at,
        crashes = 0, parked_for = NULL, error = NULL
"""
_RENEW = f"""
    UPDATE imgsync_tasks t SET lease_expires_at = {_NOW} + %(lease)s, updated_at = {_NOW}
    FROM procrastinate_jobs j
    WHERE j.id = t.job_id AND j.status = 'doing' AND t.job_id = %(id)s AND t.lease_token = %(token)s
    RETURNING t.job_id
"""
# The job is locked first, as a claim does it; whoever holds it now is read after that.
_HELD = f"""
    WITH j AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs WHERE id = %(id)s AND status = 'doing' FOR UPDATE
    ), held AS (
        UPDATE imgsync_tasks t SET
            lease_token = NULL, lease_expires_at = NULL, updated_at = {_NOW},
            result = coalesce(%(result)s, result), error = %(error)s, parked_for = %(parked_for)s,
            warnings = coalesce(%(warnings)s::jsonb, warnings),
            check_again = check_again OR %(check_again)s
        FROM j WHERE t.job_id = j.id AND t.lease_token = %(token)s
        RETURNING t.job_id, t.check_again
    )
"""
_FINISH = _HELD + (
    "SELECT check_again, procrastinate_finish_job_v1(job_id, %(status)s, false) FROM held"
)
_PUT_BACK = _HELD + (
    "SELECT check_again, procrastinate_retry_job_v2(job_id, %(at)s, NULL, NULL, NULL) FROM held"
)
_NEWER = f"""
    SELECT {_NOW} AS now, t.error, (
        SELECT n.id FROM procrastinate_jobs n
        WHERE n.queueing_lock = j.queueing_lock AND n.status = 'todo' AND n.id <> j.id
    ) AS newer, EXISTS (
        SELECT FROM procrastinate_jobs n
        WHERE n.queueing_lock = j.queueing_lock AND n.status = 'todo' AND n.id <> j.id
            AND n.queue_name <> j.queue_name
    ) AS of_another_kind
    FROM procrastinate_jobs j JOIN imgsync_tasks t ON t.job_id = j.id
    WHERE j.id = %(id)s AND t.lease_token = %(token)s FOR UPDATE OF j
"""
_LOCK_ACCOUNT = "SELECT pg_advisory_xact_lock(hashtextextended('imgsync ' || %s, 0))"
_FREED_SINCE = f"""
    SELECT {_NOW} AS now, EXISTS (
        SELECT FROM imgsync_unparked u JOIN imgsync_tasks t ON t.claim_number < u.number
        WHERE u.account_id = %(account)s AND t.job_id = %(id)s
    ) AS freed
"""
# Those that wait for a later time of their own keep it, and those that another host is about to
# claim are left to it.
_PARK_WAITING = """
    WITH due AS MATERIALIZED (
        SELECT j.id FROM procrastinate_jobs j JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE j.status = 'todo' AND j.queue_name = ANY(%(queues)s) AND j.scheduled_at <= %(now)s
            AND %(account)s = ANY(t.named)
        FOR UPDATE OF j SKIP LOCKED
    ), moved AS (
        UPDATE procrastinate_jobs j SET scheduled_at = %(until)s FROM due WHERE j.id = due.id
    )
    UPDATE imgsync_tasks t SET
        parked_for = %(account)s, error = %(error)s, updated_at = %(now)s
    FROM due WHERE t.job_id = due.id
"""
_UNPARK = f"""
    WITH marked AS (
        INSERT INTO imgsync_unparked VALUES (%(account)s, nextval('imgsync_order'))
        ON CONFLICT (account_id) DO UPDATE SET number = excluded.number
    ), parked AS MATERIALIZED (
        SELECT j.id FROM procrastinate_jobs j JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE t.parked_for = %(account)s AND j.status = 'todo' AND j.queue_name = ANY(%(queues)s)
        ORDER BY j.id FOR UPDATE OF j
    ), moved AS (
        UPDATE procrastinate_jobs j SET scheduled_at = {_NOW} FROM parked WHERE j.id = parked.id
    )
    UPDATE imgsync_tasks t SET parked_for = NULL, updated_at = {_NOW}
    FROM parked WHERE t.job_id = parked.id
"""
_PARKED = """
    SELECT count(*) AS number FROM imgsync_tasks t JOIN procrastinate_jobs j ON j.id = t.job_id
    WHERE t.parked_for IS NOT NULL AND j.status = 'todo' AND j.queue_name = ANY(%(queues)s)
"""
# Under a token of this call: a worker may settle its task at this very moment.
_FREE = f"""
    INSERT INTO imgsync_tasks AS t (job_id, max_attempts, lease_token, created_at, updated_at)
    SELECT id, {MAX_ATTEMPTS}, gen_random_uuid(), {_NOW}, {_NOW} FROM (
        SELECT j.id FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE j.status = 'doing' AND j.queue_name = ANY(%(queues)s) AND (
            j.id = ANY(%(ids)s)
            OR %(ids)s::bigint[] IS NULL AND t.lease_expires_at > {_NOW} + %(longest)s
        )
        ORDER BY j.id FOR UPDATE OF j
    ) AS chosen
    ON CONFLICT (job_id) DO UPDATE SET lease_token = excluded.lease_token
    RETURNING job_id, lease_token
"""
_UNCOUNT = "UPDATE procrastinate_jobs SET attempts = attempts - 1 WHERE id = %s AND attempts > 0"
_ASK_FOR_CHECK = "UPDATE imgsync_tasks SET check_again = true WHERE job_id = %s"
_PENDING_OF_SAME_KEY = """
    SELECT n.id FROM procrastinate_jobs n JOIN procrastinate_jobs j ON n.queueing_lock = j.lock
    WHERE n.status = 'todo' AND j.id = %(id)s
"""
_DEFER_AGAIN = f"""
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        queue_name, task_name, priority, lock, lock, args, {_NOW} + %(delay)s
    )::procrastinate_job_to_defer_v1]) AS ids FROM procrastinate_jobs WHERE id = %(id)s
"""
_BESIDE_AGAIN = f"""
    INSERT INTO imgsync_tasks
        (job_id, max_attempts, account_id, entity_id, named, created_at, updated_at)
    SELECT %(again)s, max_attempts, account_id, entity_id, named, {_NOW}, {_NOW}
    FROM imgsync_tasks WHERE job_id = %(id)s
"""
_TASKS = f"""
    SELECT {COLUMNS} FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
    WHERE j.queue_name = ANY(%(queues)s)
"""
_WAITING = """
    SELECT lock AS key FROM procrastinate_jobs
    WHERE lock = ANY(%(keys)s) AND queue_name = ANY(%(queues)s) AND status IN ('todo', 'doing')
"""
_RETRY = f"""
    WITH chosen AS MATERIALIZED (
        SELECT j.id FROM procrastinate_jobs j
        WHERE j.status = ANY(%(failed)s::procrastinate_job_status[])
            AND j.queue_name = ANY(%(queues)s)
            AND (%(ids)s::bigint[] IS NULL OR j.id = ANY(%(ids)s))
            AND NOT EXISTS (
                SELECT FROM procrastinate_jobs o
                WHERE o.lock = j.lock AND (o.id > j.id OR o.status = 'todo')
            )
        ORDER BY j.id FOR UPDATE OF j
    ), beside AS (
        UPDATE imgsync_tasks t SET
            crashes = 0, warnings = '[]', parked_for = NULL, error = NULL, updated_at = {_NOW}
        FROM chosen WHERE t.job_id = chosen.id
    )
    UPDATE procrastinate_jobs j SET status = 'todo', attempts = 0, scheduled_at = {_NOW}
    FROM chosen WHERE j.id = chosen.id RETURNING j.id
"""
_PRUNE = f"""
    WITH gone AS MATERIALIZED (
        SELECT j.id FROM procrastinate_jobs j LEFT JOIN imgsync_tasks t ON t.job_id = j.id
        WHERE j.queue_name = ANY(%(queues)s) AND j.status NOT IN ('todo', 'doing')
            AND coalesce(t.updated_at, (
                SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id
            ), '-infinity') < {_NOW} - CASE
                WHEN j.status = 'succeeded' OR EXISTS (
                    SELECT FROM procrastinate_jobs o
                    WHERE o.lock = j.lock AND (o.id > j.id OR o.status = 'todo')
                )
                THEN %(completed)s::interval ELSE %(failed)s::interval
            END
            AND NOT EXISTS (
                SELECT FROM procrastinate_jobs o WHERE o.lock = j.lock AND o.id < j.id
                    AND o.status = ANY(%(statuses)s::procrastinate_job_status[])
            )
        ORDER BY j.id LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED
    )
    DELETE FROM procrastinate_jobs j USING gone WHERE j.id = gone.id
"""


class ProcrastinateTaskQueue:
    """Implements the port `TaskQueue` on the jobs of procrastinate.

    `url`: ``procrastinate://USER:PASSWORD@HOST:PORT/DATABASE`` of a PostgreSQL database; the
    engine's tables are made where there are none. `kinds`: a task of each is a job in the engine's
    queue ``imgsync.KIND``. A job that another program defers there is a task too, whose payload
    its arguments are. `clock` is for tests; without it the time is the database's.
    """

    def __init__(
        self, url: str, kinds: Sequence[str] = (TASK_ENTITY_TYPE,), clock: Clock | None = None
    ) -> None:
        self._connections = Connections(url)
        self._queues = [queue_of(kind) for kind in kinds]
        self._clock = clock

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        if not tasks:
            return []

        async def put(connection: Connection) -> list[Enqueued]:
            keys = [storable(task.dedupe_key) for task in tasks if task.dedupe_key is not None]
            queues = sorted({*self._queues, *(queue_of(task.kind) for task in tasks)})
            values = self._values(keys=keys, queues=queues)
            found = await _one(connection, _PENDING_OF_KEYS, values)
            pending = {key: (queue, id_) for queue, key, id_ in found["pending"]}
            # Of equal keys the first has the place and the last the payload. Those of kinds that do
            # not give way are left to the engine, which refuses them.
            fields, places = list[dict[str, Any]](), list[int]()
            place_of: dict[str, int] = {}
            for task in tasks:
                new, place = _fields(task), len(fields)
                key = new["key"]
                if key in place_of:
                    place = place_of[key]
                elif key in pending:
                    queue, id_ = pending[key]
                    fields.append({"id": id_, "queue": queue})
                else:
                    fields.append({"id": None})
                there = fields[place].get("queue", new["queue"])
                own = there in self._queues
                if there != new["queue"] and not (own and there in map(queue_of, task.takes_over)):
                    if own and task.yields:
                        new = {}
                    else:
                        place = len(fields)
                        fields.append({"id": None})
                if key is not None:
                    place_of.setdefault(key, place)
                fields[place] |= new | {"place": place}
                places.append(place)
            created = [new["id"] is None for new in fields]
            changed = [new for new in fields if "args" in new]
            values = {"now": found["now"], "new": json.dumps(changed)}
            if not all(created):
                await connection.execute(_TAKE_OVER, values)
                await connection.execute(_TAKEN_OVER, values)
            if any(created):
                ids = iter((await _one(connection, _DEFER, values))["ids"])
                for new in fields:
                    new["id"] = next(ids) if new["id"] is None else new["id"]
            seen: set[int] = set()
            result = []
            for place in places:
                result.append(Enqueued(fields[place]["id"], created[place] and place not in seen))
                seen.add(place)
            return result

        return await self._connections.run(put)

    async def claim(
        self, *, lease: timedelta, limit: int = 1, only: Sequence[TaskId] | None = None
    ) -> list[Task]:
        chosen = None if only is None else _ids(only)
        if limit < 1 or chosen == []:
            return []

        async def take(connection: Connection) -> list[Task]:
            now = (await _one(connection, f"SELECT {_NOW} AS now", self._values()))["now"]
            return await Claim(self._queues, now, lease, limit, chosen).take(connection)

        return await self._connections.run(take)

    async def renew(self, task: Task, *, lease: timedelta) -> None:
        values = self._values(id=task.id, token=task.lease_token, lease=lease)
        if not await self._rows(_RENEW, values):
            raise _lost()

    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        values = self._ended(
            task,
            "succeeded",
            result=storable(result),
            warnings=json.dumps([storable(text) for text in warnings], ensure_ascii=False),
        )

        async def end(connection: Connection) -> None:
            if await _settle(connection, _FINISH, values):
                await self._check_again(connection, task.id)

        await self._connections.run(end)

    async def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        async def put_back(connection: Connection) -> None:
            back = _Back(storable(error), check_again, counted=True, delay=delay)
            await self._put_back(connection, task.id, task.lease_token, back)

        await self._connections.run(put_back)

    async def fail(self, task: Task, *, error: str) -> None:
        values = self._ended(task, "failed", error=storable(error))

        async def end(connection: Connection) -> None:
            await _settle(connection, _FINISH, values)

        await self._connections.run_alone(end)

    async def release(self, task: Task, *, check_again: bool = False) -> None:
        async def put_back(connection: Connection) -> None:
            back = _Back(check_again=check_again)
            await self._put_back(connection, task.id, task.lease_token, back)

        await self._connections.run(put_back)

    async def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        account = storable(account_id)

        async def put_off(connection: Connection) -> int:
            # Whoever frees the account after this finds the tasks that are parked here.
            await connection.execute(_LOCK_ACCOUNT, [account])
            values = self._values(id=task.id, token=task.lease_token, account=account)
            now = await _one(connection, _FREED_SINCE, values)
            if now["freed"]:
                await self._put_back(connection, task.id, task.lease_token, _Back())
                return 0
            back = _Back(error=storable(error), parked_for=account, until=until)
            await self._put_back(connection, task.id, task.lease_token, back)
            values |= {"queues": self._queues, "until": until, "error": storable(error), **now}
            return (await connection.execute(_PARK_WAITING, values)).rowcount

        return await self._connections.run(put_off)

    async def unpark(self, account_id: str) -> int:
        values = self._values(account=storable(account_id), queues=self._queues)

        async def put_forward(connection: Connection) -> int:
            await connection.execute(_LOCK_ACCOUNT, [values["account"]])
            return (await connection.execute(_UNPARK, values)).rowcount

        return await self._connections.run(put_forward)

    async def parked(self) -> int:
        return int((await self._rows(_PARKED, self._values(queues=self._queues)))[0]["number"])

    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        values = self._values(
            queues=self._queues,
            ids=None if ids is None else _ids(ids),
            longest=_LONGEST_LEASE,
        )

        async def release_all(connection: Connection) -> list[TaskId]:
            held = await _rows(connection, _FREE, values)
            for row in sorted(held, key=lambda row: row["job_id"]):
                # Whoever held it may be alive and have sent a request.
                back = _Back(check_again=True)
                await self._put_back(connection, row["job_id"], row["lease_token"], back)
            return sorted(row["job_id"] for row in held)

        return await self._connections.run(release_all)

    async def counts(self) -> dict[TaskStatus, int]:
        query = (
            "SELECT j.status::text, count(*) AS number FROM procrastinate_jobs j"
            " WHERE j.queue_name = ANY(%(queues)s) GROUP BY j.status"
        )
        result = dict.fromkeys(TaskStatus, 0)
        for row in await self._rows(query, {"queues": self._queues}):
            result[status_of(row["status"])] += row["number"]
        return result

    async def waiting(self, keys: Collection[str]) -> set[str]:
        stored = {key: storable(key) for key in keys}
        values = {"queues": self._queues, "keys": sorted(set(stored.values()))}
        there = {row["key"] for row in await self._rows(_WAITING, values)}
        return {key for key, text in stored.items() if text in there}

    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        chosen = "" if status is None else f" AND {status_condition(status)}"
        query = f"{_TASKS}{chosen} ORDER BY j.id DESC LIMIT %(limit)s OFFSET %(offset)s"
        values = {"queues": self._queues, "limit": limit, "offset": offset}
        return [task_of(row) for row in await self._rows(query, values)]

    async def get(self, task_id: TaskId) -> Task | None:
        for number in _ids([task_id]):
            values = {"queues": self._queues, "id": number}
            for row in await self._rows(f"{_TASKS} AND j.id = %(id)s", values):
                return task_of(row)
        return None

    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        chosen = None if ids is None else _ids(ids)
        values = self._values(queues=self._queues, ids=chosen, failed=list(FAILED))
        return sorted(row["id"] for row in await self._rows(_RETRY, values))

    async def prune(self, *, completed: timedelta, failed: timedelta, limit: int = 500) -> int:
        values = self._values(
            queues=self._queues,
            completed=completed,
            failed=failed,
            limit=limit,
            statuses=list(FAILED),
        )

        async def delete_some(connection: Connection) -> int:
            return (await connection.execute(_PRUNE, values)).rowcount

        return await self._connections.run_alone(delete_some)

    async def close(self) -> None:
        await self._connections.close()

    async def _put_back(
        self, connection: Connection, task_id: TaskId, token: str | None, back: "_Back"
    ) -> None:
        """Makes the task pending; failed where a newer pending task does its work."""
        values = self._values(id=task_id, token=token)
        found = await _rows(connection, _NEWER, values)
        if not found:
            raise _lost()
        row = found[0]
        error = row["error"] if back.error is None else back.error
        values |= {"result": None, "warnings": None, "check_again": back.check_again}
        if row["newer"] is None:
            values |= {"error": error, "parked_for": back.parked_for}
            at = row["now"] + back.delay if back.until is None else back.until
            await _settle(connection, _PUT_BACK, values | {"at": at})
            if not back.counted:
                await connection.execute(_UNCOUNT, [task_id])
            return
        reason = f"{error or 'given back'}; superseded by the newer task {row['newer']}"
        values |= {"error": reason, "parked_for": None, "status": "failed"}
        # One of another kind does not do all of this one's work.
        if await _settle(connection, _FINISH, values) or row["of_another_kind"]:
            await connection.execute(_ASK_FOR_CHECK, [row["newer"]])

    async def _check_again(self, connection: Connection, task_id: TaskId) -> None:
        """Queues the later check of a task that changed hands; see `TaskQueue.complete`."""
        values = self._values(id=task_id, delay=CHECK_AGAIN_DELAY)
        if newer := await _rows(connection, _PENDING_OF_SAME_KEY, values):
            await connection.execute(_ASK_FOR_CHECK, [newer[0]["id"]])
            return
        again = (await _one(connection, _DEFER_AGAIN, values))["ids"][0]
        await connection.execute(_BESIDE_AGAIN, values | {"again": again})

    def _ended(self, task: Task, status: str, **values: Any) -> dict[str, Any]:
        kept = dict.fromkeys(("result", "error", "parked_for", "warnings"))
        named = {"id": task.id, "token": task.lease_token, "status": status, "check_again": False}
        return self._values(**kept | named | values)

    def _values(self, **values: Any) -> dict[str, Any]:
        """With the time that a test's clock shows."""
        return {"clock": None if self._clock is None else self._clock.now(), **values}

    async def _rows(self, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await self._connections.run_alone(
            lambda connection: _rows(connection, query, values)
        )


@dataclass(frozen=True, slots=True)
class _Back:
    """How a task is given back: due `until` a time, or after `delay`; `error` None keeps it."""

    error: str | None = None
    check_again: bool = False
    counted: bool = False
    delay: timedelta = timedelta(0)
    until: datetime | None = None
    parked_for: str | None = None


def _fields(task: NewTask) -> dict[str, Any]:
    """The columns of a new task."""
    return {
        "args": arguments_of(task.payload),
        "priority": task.priority,
        "delay": task.delay.total_seconds(),
        "key": storable_or_none(task.dedupe_key),
        "name": name_of(task.account_id),
        "queue": queue_of(task.kind),
        "max_attempts": task.max_attempts,
        "account_id": storable_or_none(task.account_id),
        "entity_id": storable_or_none(task.entity_id),
        "named": accounts_named(task.payload, task.account_id, task.dedupe_key),
    }


async def _rows(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return await (await connection.execute(query, values)).fetchall()


async def _one(connection: Connection, query: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return (await _rows(connection, query, values))[0]


async def _settle(connection: Connection, query: str, values: Mapping[str, Any]) -> bool:
    """Whether the task asks to be checked again; LeaseLostError where this claim holds it no
    more."""
    found = await _rows(connection, query, values)
    if not found:
        raise _lost()
    return bool(found[0]["check_again"])


def _lost() -> LeaseLostError:
    return LeaseLostError("another worker holds the task now")


def _ids(ids: Iterable[TaskId]) -> list[int]:
    """The ids that a job can have; a text may be the number as a user writes it."""
    numbers = (int(i) if isinstance(i, str) and _DIGITS.fullmatch(i) else i for i in ids)
    return [n for n in numbers if isinstance(n, int) and 0 < n <= _LAST_ID]
