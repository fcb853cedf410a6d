"""Which rows a claim takes: whose turn it is, and what of that child is next.

A child is told by ``coalesce(account_id, '')``. Each child, and each of its priorities, is found by
one look into an index, however many rows wait: a child with a million parked rows costs as much as
one with a single row. Nothing of a row is read but its id, as other programs write there.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    TextClause,
    Update,
    bindparam,
    case,
    literal_column,
    select,
    text,
    true,
    update,
)

from imgsync.adapters.sql.prepared import Prepared, among
from imgsync.adapters.sql.rows import raw_columns_of, task_of
from imgsync.adapters.sql.tables import UtcDateTime, sync_queue
from imgsync.domain.tasks import MAX_CRASHES, Task, TaskId, TaskStatus

_task = sync_queue.c
_PROCESSING = TaskStatus.PROCESSING.value
_MOST = 1_000_000
"""Counters beyond it are damage; adding to them could overflow."""

_CHILD = "coalesce({row}.account_id, '')"
_FREE_KEY = """
    NOT EXISTS (
        SELECT 1 FROM sync_queue r WHERE r.status = 'processing' AND r.dedupe_key = q.dedupe_key
    )
"""
_IN_ORDER = "q.priority DESC, q.scheduled_at, q.id"
_WAITS, _NEVER_DUE, _LAPSE, _UNRANKED = range(4)
"""Why a row is to be taken."""


def _steps(name: str, status: str) -> str:
    """The children that have rows of this status, each found by one look into the index."""
    child = _CHILD.format(row="q")
    own = f"q.status = '{status}' AND q.entity_type = {{of}}.kind"
    first = own.format(of="k")
    next_one = own.format(of="c")
    return f"""
        {name} (kind, account) AS (
            SELECT k.kind, (
                SELECT {child} FROM sync_queue q WHERE {first} ORDER BY {child} LIMIT 1
            ) FROM kinds k
            UNION ALL
            SELECT c.kind, (
                SELECT {child} FROM sync_queue q
                WHERE {next_one} AND {child} > c.account ORDER BY {child} LIMIT 1
            ) FROM {name} c WHERE c.account IS NOT NULL
        )
    """


def _first_of_level(source: int, due: str) -> str:
    return f"""
        SELECT l.account, {source} AS source, (
            SELECT q.id FROM sync_queue q
            WHERE q.status = 'pending' AND q.entity_type = l.kind
                AND {_CHILD.format(row="q")} = l.account AND q.priority = l.priority
                AND {due} AND {_FREE_KEY}
            ORDER BY q.scheduled_at, q.id LIMIT 1
        ) AS id FROM levels l WHERE l.priority IS NOT NULL
    """


def _first_unranked(due: str) -> str:
    """Of rows without a priority, where another program's table takes such."""
    return f"""
        SELECT c.account, {_UNRANKED} AS source, (
            SELECT q.id FROM sync_queue q
            WHERE q.status = 'pending' AND q.entity_type = c.kind
                AND {_CHILD.format(row="q")} = c.account AND q.priority IS NULL
                AND {due} AND {_FREE_KEY}
            ORDER BY q.scheduled_at, q.id LIMIT 1
        ) AS id FROM children c WHERE c.account IS NOT NULL
    """


def _first_lapsed(lapsed: str) -> str:
    return f"""
        SELECT h.account, {_LAPSE} AS source, (
            SELECT q.id FROM sync_queue q
            WHERE q.status = 'processing' AND q.entity_type = h.kind
                AND {_CHILD.format(row="q")} = h.account AND {lapsed} LIMIT 1
        ) AS id FROM holders h WHERE h.account IS NOT NULL
    """


_LEVEL = """
    SELECT q.priority FROM sync_queue q
    WHERE q.status = 'pending' AND q.priority IS NOT NULL AND q.entity_type = {of}.kind
        AND coalesce(q.account_id, '') = {of}.account {below} ORDER BY q.priority DESC LIMIT 1
"""
_LEVELS = f"""
    levels (kind, account, priority) AS (
        SELECT c.kind, c.account, ({_LEVEL.format(of="c", below="")})
        FROM children c WHERE c.account IS NOT NULL
        UNION ALL
        SELECT l.kind, l.account, ({_LEVEL.format(of="l", below="AND q.priority < l.priority")})
        FROM levels l WHERE l.priority IS NOT NULL
    )
"""
# Not joined: PostgreSQL expects so many that it would read the whole table for it.
_BY_TURN = """
    SELECT f.id, f.source, dense_rank() OVER (ORDER BY f.account) AS child
    FROM found f LEFT JOIN sync_turns t ON t.account_id = f.account
    ORDER BY coalesce(t.turn, 0), (SELECT q.priority FROM sync_queue q WHERE q.id = f.id) DESC,
        (SELECT q.scheduled_at FROM sync_queue q WHERE q.id = f.id), f.id
"""
_FIRST_OF_EACH = """
    SELECT (
        SELECT q.scheduled_at FROM sync_queue q
        WHERE q.status = 'pending' AND q.entity_type = f.kind
            AND coalesce(q.account_id, '') = f.account AND q.priority {priority}
        ORDER BY q.scheduled_at LIMIT 1
    ) AS at FROM {of} f WHERE {there}
"""
_FIRST_DUE = text(
    f"""
    WITH RECURSIVE kinds (kind) AS (
        SELECT DISTINCT entity_type FROM sync_counts WHERE status = 'pending'
    ),
    {_steps("children", "pending")}, {_LEVELS}
    SELECT min(at) AS at FROM (
        {_FIRST_OF_EACH.format(priority="= f.priority", of="levels", there="priority IS NOT NULL")}
        UNION ALL
        {_FIRST_OF_EACH.format(priority="IS NULL", of="children", there="account IS NOT NULL")}
    ) AS firsts
    """
).columns(at=UtcDateTime)


def first_due(connection: Connection) -> datetime | None:
    """When the first of all tasks that wait, of whatever kind, is due or was; None where none
    waits. Found as a claim finds its own: a look into the index for each child and priority."""
    found: datetime | None = connection.execute(_FIRST_DUE).scalar()
    return found


_LAPSED = ("q.lease_expires_at <= :now", "q.lease_expires_at IS NULL")
_NEVER = "q.scheduled_at = 'infinity'"
"""Of PostgreSQL: such a row would wait for ever and never say why."""

_OF_THE_FIRST = """
    q.entity_type = (SELECT entity_type FROM sync_queue WHERE id = :first)
    AND coalesce(q.account_id, '') = (
        SELECT coalesce(account_id, '') FROM sync_queue WHERE id = :first
    )
"""
_SAME_PRIORITY = "q.priority = (SELECT priority FROM sync_queue WHERE id = :first)"
_TURN = {
    "sqlite": (
        """
        INSERT INTO sync_turns (account_id, turn)
        SELECT coalesce(account_id, ''), (SELECT coalesce(max(turn), 0) + 1 FROM sync_turns)
        FROM sync_queue WHERE id = :id
        ON CONFLICT (account_id) DO UPDATE SET turn = excluded.turn
        """,
    ),
    # Who takes a task of the child at this moment gives it its turn just as well: nobody waits.
    "postgresql": (
        """
        WITH this AS MATERIALIZED (
            SELECT account_id FROM sync_turns WHERE account_id = (
                SELECT coalesce(account_id, '') FROM sync_queue WHERE id = :id
            ) FOR UPDATE SKIP LOCKED
        )
        UPDATE sync_turns t SET turn = (SELECT max(turn) + 1 FROM sync_turns)
        FROM this WHERE t.account_id = this.account_id
        """,
        """
        INSERT INTO sync_turns (account_id, turn)
        SELECT coalesce(account_id, ''), (SELECT coalesce(max(turn), 0) + 1 FROM sync_turns)
        FROM sync_queue WHERE id = :id ON CONFLICT DO NOTHING
        """,
    ),
}


class Statements:
    """The statements of claims of some kinds in one dialect, put together once."""

    def __init__(self, dialect: str, kinds: Sequence[str]) -> None:
        locks = "FOR UPDATE OF q SKIP LOCKED" if dialect == "postgresql" else ""
        self.kinds = {f"kind{n}": kind for n, kind in enumerate(kinds)}
        # An index on times serves each of these by itself, and none of them together.
        due = {_WAITS: "q.scheduled_at <= :now"}
        if dialect == "postgresql":
            due[_NEVER_DUE] = _NEVER
        names = [f"CAST(:{name} AS TEXT)" for name in self.kinds]
        firsts = [_first_of_level(*one) for one in due.items()]
        firsts.append(_first_unranked(due[_WAITS]))
        firsts += [_first_lapsed(one) for one in _LAPSED]
        parts = [
            f"kinds (kind) AS ({' UNION ALL '.join(f'SELECT {name}' for name in names)})",
            _steps("children", "pending"),
            _LEVELS,
            _steps("holders", "processing"),
            f"found AS (SELECT * FROM ({' UNION ALL '.join(firsts)}) AS f WHERE id IS NOT NULL)",
        ]
        own = f"q.entity_type IN ({', '.join(names)})"
        waits = f"q.status = 'pending' AND ({' OR '.join(due.values())}) AND {_FREE_KEY}"
        lapses = f"q.status = 'processing' AND ({' OR '.join(_LAPSED)})"
        child, only, ids = _CHILD.format(row="q"), among(dialect, "only"), among(dialect, "ids")
        found_of = f"""
            WITH found AS (
                SELECT {child} AS account, {_WAITS} AS source, q.id FROM sync_queue q
                WHERE q.id {only} AND {own} AND {waits}
                UNION ALL
                SELECT {child}, {_LAPSE}, q.id FROM sync_queue q
                WHERE {own} AND {lapses} AND (
                    q.id {only}
                    OR q.dedupe_key IN (SELECT dedupe_key FROM sync_queue WHERE id {only})
                )
            )
        """
        some = f"LIMIT :limit {locks}"
        whole = raw_columns_of(dialect, "q")

        def prepared(statement: str) -> Prepared:
            return Prepared(dialect, _clause(statement))

        def rows(these: str) -> Prepared:
            """Read and locked at once, as they are before the claim, whose writing hides damage."""
            return Prepared(dialect, select(*whole).where(_clause(these)))

        self.turns = prepared(f"WITH RECURSIVE {', '.join(parts)} {_BY_TURN}")
        self.turns_of = prepared(found_of + _BY_TURN)
        self.rows = {
            source: rows(
                f"q.status = 'pending' AND {_OF_THE_FIRST} AND {_SAME_PRIORITY} AND {one}"
                f" AND {_FREE_KEY} ORDER BY q.scheduled_at, q.id {some}"
            )
            for source, one in due.items()
        }
        self.rows[_UNRANKED] = rows(
            f"q.status = 'pending' AND {_OF_THE_FIRST} AND q.priority IS NULL"
            f" AND {due[_WAITS]} AND {_FREE_KEY} ORDER BY q.scheduled_at, q.id {some}"
        )
        self.rows[_LAPSE] = rows(f"{_OF_THE_FIRST} AND {lapses} ORDER BY {_IN_ORDER} {some}")
        self.these = rows(f"q.id {ids} AND ({waits} OR {lapses}) ORDER BY {_IN_ORDER} {some}")
        self.in_order = prepared(
            f"SELECT q.id FROM sync_queue q WHERE q.id {ids} ORDER BY {_IN_ORDER} LIMIT :limit"
        )
        self.turn = [prepared(statement) for statement in _TURN[dialect]]
        token = {
            "sqlite": "lower(hex(randomblob(16)))",
            "postgresql": "md5(gen_random_uuid()::text)",
        }
        self.hold = Prepared(dialect, _hold(token[dialect], text(f"id {ids}")))


def _clause(statement: str) -> TextClause:
    clause = text(statement)
    if ":now" in statement:
        clause = clause.bindparams(bindparam("now", type_=UtcDateTime))
    return clause


@dataclass(frozen=True, slots=True)
class Claim:
    """At most `limit` due rows of one child, held from `now` for a lease; `only`: of these ids."""

    connection: Connection
    statements: Statements
    now: datetime
    lease: timedelta
    limit: int
    only: Sequence[int] | None

    def take(self) -> list[Task]:
        """Tasks that lost too many workers fail on the way."""
        while True:
            tasks = [task_of(row) for row in self._next()]
            if not tasks:
                return []
            lapsed = {task.id for task in tasks if task.status is TaskStatus.PROCESSING}
            dead = [t for t in tasks if t.id in lapsed and t.crashes + 1 >= MAX_CRASHES]
            if not dead:
                return self._hold(tasks, lapsed)
            for task in dead:
                self._give_up(task)

    def children(self) -> list[list[Row[Any]]]:
        """By child, the one first whose turn it is: what tells of rows that are due."""
        values: dict[str, Any] = {"now": self.now, **self.statements.kinds}
        if self.only is None:
            found = self._rows(self.statements.turns, **values)
        elif self.only:
            found = self._rows(self.statements.turns_of, only=self.only, **values)
        else:
            found = []
        by_child: dict[int, list[Row[Any]]] = {}
        for row in found:
            by_child.setdefault(row.child, []).append(row)
        return list(by_child.values())

    def _next(self) -> Sequence[Row[Any]]:
        """The next rows as they are, locked where a database does that."""
        for firsts in self.children():
            if found := self._these(firsts) if self.only is not None else self._of(firsts):
                return found
            # Others are about to take them, at this very moment.
        return []

    def _these(self, firsts: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        ids = [row.id for row in firsts]
        return self._rows(self.statements.these, ids=ids, limit=self.limit, now=self.now)

    def _of(self, firsts: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        """The next of the child: those of the highest priority first, unless rows of several
        kinds or with lapsed leases are among them, which are put in order with them."""
        in_order = len(self.statements.kinds) == 1 and all(r.source == _WAITS for r in firsts)
        found: dict[int, Row[Any]] = {}
        for first in firsts:
            rows = self._rows(
                self.statements.rows[first.source],
                first=first.id,
                limit=self.limit - len(found) if in_order else self.limit,
                now=self.now,
            )
            found |= {row.id: row for row in rows}
            if in_order and len(found) >= self.limit:
                break
        if not in_order and len(found) > 1:
            # By the database, as nobody knows what stands in them.
            rows = self._rows(self.statements.in_order, ids=list(found), limit=self.limit)
            return [found[row.id] for row in rows]
        return list(found.values())

    def _hold(self, tasks: Sequence[Task], lapsed: Set[TaskId]) -> list[Task]:
        until, ids = self.now + self.lease, [task.id for task in tasks]
        held = self._rows(self.statements.hold, ids=ids, now=self.now, until=until)
        tokens = {row.id: row.lease_token for row in held}
        for statement in self.statements.turn:
            if statement.run(self.connection, id=ids[0]).rowcount:
                break
        return [
            replace(
                task,
                status=TaskStatus.PROCESSING,
                lease_token=tokens[task.id],
                lease_expires_at=until,
                updated_at=self.now,
                parked_for=None,
                attempts=task.attempts + (task.id not in lapsed),
                crashes=task.crashes + (task.id in lapsed),
                check_again=task.check_again or task.id in lapsed,
            )
            for task in tasks
        ]

    def _give_up(self, task: Task) -> None:
        error = (
            f"its worker was lost {task.crashes + 1} times while it ran (killed, stopped or out of "
            "memory); it is not tried again"
        )
        self.connection.execute(
            update(sync_queue)
            .where(_task.id == task.id)
            .values(
                status=TaskStatus.FAILED.value,
                error=f"{error}; before it: {task.error}" if task.error else error,
                crashes=counted(_task.crashes, 1),
                lease_token=None,
                lease_expires_at=None,
                updated_at=self.now,
            )
        )

    def _rows(self, statement: Prepared, **values: Any) -> Sequence[Row[Any]]:
        return statement.run(self.connection, **values).all()


def _hold(token: str, chosen: TextClause) -> Update:
    """Puts rows under a lease each. The lapsed attempt is the one that goes on; its owner's last
    request may still come."""
    lapsed = _task.status == _PROCESSING
    return (
        update(sync_queue)
        .where(chosen)
        .values(
            status=_PROCESSING,
            lease_token=literal_column(token),
            lease_expires_at=bindparam("until", type_=UtcDateTime),
            updated_at=bindparam("now", type_=UtcDateTime),
            parked_for=None,
            attempts=case((lapsed, _task.attempts), else_=counted(_task.attempts, 1)),
            crashes=case((lapsed, counted(_task.crashes, 1)), else_=_task.crashes),
            check_again=case((lapsed, true()), else_=_task.check_again),
        )
        .returning(_task.id, _task.lease_token)
    )


def counted(column: ColumnElement[int], step: int) -> ColumnElement[int]:
    """A counter one up or down; one that is no sensible number stays as it is."""
    return case((column.between(max(0, -step), _MOST), column + step), else_=column)
