"""Adds many tasks in one statement."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.prepared import Prepared
from imgsync.adapters.sql.tables import storable
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.tasks import SYNC_OPERATION

_Place = tuple[str, str | int]
"""Kind and key of a task; its number where it has no key."""

_FIELDS = {
    "entity_type": "TEXT",
    "dedupe_key": "TEXT",
    "payload": "TEXT",
    "account_id": "TEXT",
    "entity_id": "TEXT",
    "priority": "INTEGER",
    "max_attempts": "INTEGER",
    "scheduled_at": "TIMESTAMP WITH TIME ZONE",
}
"""What differs from task to task, and its type in PostgreSQL."""

_SET = {
    "operation": f"'{SYNC_OPERATION}'",
    "attempts": "0",
    "crashes": "0",
    "parked_for": "NULL",
    "error": "NULL",
    "updated_at": "CAST(:now AS {time})",
}
_NEW = {"status": "'pending'", "warnings": "'[]'", "created_at": "CAST(:now AS {time})"}
_TAKEN_OVER = tuple(name for name in (*_FIELDS, *_SET) if name != "dedupe_key")
"""What a pending task of the same key takes over. That it asks to be checked stays."""

_SOURCE = {
    "sqlite": "FROM json_each(:rows) AS n WHERE true ORDER BY n.key",
    "postgresql": f"""
        FROM unnest({", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _FIELDS.items())})
        WITH ORDINALITY AS n ({", ".join(_FIELDS)}, place) ORDER BY n.place
    """,
}
_CREATED = {
    "sqlite": "id > :newest",
    "postgresql": "sync_queue.xmax = 0",  # no transaction has replaced such a row
}


_KINDS = {
    "sqlite": "IN (SELECT value FROM json_each(:over))",
    "postgresql": "= ANY (CAST(:over AS TEXT[]))",
}
_PENDING_OF_KEYS = {
    "sqlite": """
        SELECT id, dedupe_key, entity_type FROM sync_queue
        WHERE status = 'pending' AND dedupe_key IN (SELECT value FROM json_each(:keys))
    """,
    "postgresql": """
        SELECT id, dedupe_key, entity_type FROM sync_queue
        WHERE status = 'pending' AND dedupe_key = ANY (CAST(:keys AS TEXT[]))
    """,
}


class Enqueueing:
    """The statements of one dialect, for a queue of these kinds."""

    def __init__(self, dialect: str, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)
        self._dialect = dialect
        if dialect == "sqlite":
            fields = [f"json_extract(n.value, '$[{place}]')" for place in range(len(_FIELDS))]
        else:
            fields = [f"n.{name}" for name in _FIELDS]
            fields[2] = "CAST(n.payload AS JSON)"
        fixed = {
            name: value.format(time="TEXT" if dialect == "sqlite" else _FIELDS["scheduled_at"])
            for name, value in (_SET | _NEW).items()
        }
        self._upsert = Prepared(
            dialect,
            text(
                f"INSERT INTO sync_queue ({', '.join([*_FIELDS, *fixed])})"
                f" SELECT {', '.join([*fields, *fixed.values()])} {_SOURCE[dialect]}"
                " ON CONFLICT (dedupe_key) WHERE status = 'pending' DO UPDATE SET "
                + ", ".join(f"{name} = excluded.{name}" for name in _TAKEN_OVER)
                + " WHERE sync_queue.entity_type = excluded.entity_type"
                f" OR sync_queue.entity_type {_KINDS[dialect]}"
                f" RETURNING id, dedupe_key, {_CREATED[dialect]} AS created"
            ),
        )
        self._newest = Prepared(dialect, text("SELECT coalesce(max(id), 0) FROM sync_queue"))
        self._lock = Prepared(
            dialect,
            text(
                "SELECT id FROM sync_queue WHERE status = 'pending'"
                " AND dedupe_key = ANY (CAST(:keys AS TEXT[])) ORDER BY dedupe_key FOR UPDATE"
            ),
        )
        self._pending = Prepared(
            dialect,
            text(_PENDING_OF_KEYS[dialect]),
        )

    def put(
        self, connection: Connection, now: datetime, tasks: Sequence[NewTask]
    ) -> list[Enqueued]:
        """Adds the tasks; a pending task of the same key takes the newer one's place, where
        `NewTask` says so."""
        enqueued: dict[int, Enqueued] = {}
        # Nearly always all of them are alike. Those that yield come last: they do so to the others.
        groups: dict[tuple[bool, tuple[str, ...]], dict[int, NewTask]] = {}
        for number, task in enumerate(tasks):
            over = tuple(sorted(self._kinds.intersection(task.takes_over)))
            groups.setdefault((task.yields, over), {})[number] = task
        for (yields, over), group in sorted(groups.items(), key=lambda item: item[0]):
            enqueued |= self._put_alike(connection, now, group, over, yields=yields)
        return [enqueued[number] for number in range(len(tasks))]

    def _put_alike(
        self,
        connection: Connection,
        now: datetime,
        tasks: Mapping[int, NewTask],
        over: Sequence[str],
        *,
        yields: bool,
    ) -> dict[int, Enqueued]:
        """By number; `over`: of which kinds they take the place besides their own."""
        places = {number: _place(number, task) for number, task in tasks.items()}
        # The last of each key, at the first's place.
        rows = {places[number]: task for number, task in tasks.items()}
        found = self._put(connection, now, rows, over)
        missing = [place for place in rows if place not in found]
        if missing and yields:
            found |= self._yielded(connection, missing)
        if len(found) < len(rows):
            reason = "a task of another kind has the same key"
            raise IntegrityError("INSERT", None, ValueError(reason))
        enqueued = {}
        for number, place in places.items():
            task_id, created = found[place]
            enqueued[number] = Enqueued(task_id, created)
            found[place] = task_id, False
        return enqueued

    def _yielded(
        self, connection: Connection, places: Sequence[_Place]
    ) -> dict[_Place, tuple[int, bool]]:
        """The pending tasks that are in these places, which the conflict has locked."""
        there = self._pending.run(connection, keys=[key for _, key in places])
        ids = {row.dedupe_key: row.id for row in there if row.entity_type in self._kinds}
        return {(kind, key): (ids[key], False) for kind, key in places if key in ids}

    def _put(
        self,
        connection: Connection,
        now: datetime,
        rows: dict[_Place, NewTask],
        over: Sequence[str],
    ) -> dict[_Place, tuple[int, bool]]:
        """What became of each, but of those whose key a task of another kind has."""
        by_key = {place[1]: place for place in rows if isinstance(place[1], str)}
        values = [_values(place, task, now) for place, task in rows.items()]
        if self._dialect == "sqlite":
            newest = self._newest.run(connection).scalar_one()
            given: dict[str, Any] = {"newest": newest, "rows": values}
        else:
            # As others lock them, so that none waits in a circle.
            self._lock.run(connection, keys=list(by_key))
            given = dict(zip(_FIELDS, map(list, zip(*values, strict=True)), strict=True))
        found: dict[_Place, tuple[int, bool]] = {}
        added = []
        for row in self._upsert.run(connection, now=now, over=list(over), **given):
            if row.dedupe_key is None:
                added.append(row.id)
            else:
                found[by_key[row.dedupe_key]] = row.id, bool(row.created)
        keyless = [place for place in rows if isinstance(place[1], int)]
        found |= {place: (i, True) for place, i in zip(keyless, sorted(added), strict=True)}
        return found


def _place(number: int, task: NewTask) -> _Place:
    return task.kind, number if task.dedupe_key is None else storable(task.dedupe_key)


def _values(place: _Place, task: NewTask, now: datetime) -> list[Any]:
    """As `_FIELDS` has them."""
    return [
        task.kind,
        place[1] if isinstance(place[1], str) else None,
        json.dumps(task.payload),
        None if task.account_id is None else storable(task.account_id),
        None if task.entity_id is None else storable(task.entity_id),
        task.priority,
        task.max_attempts,
        now + task.delay,
    ]
