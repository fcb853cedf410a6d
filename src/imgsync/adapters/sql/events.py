"""Events of webhooks, what is known of webhooks, and what is kept of entities that are no more."""

import json
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.prepared import Prepared
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import (
    changes,
    failed_images,
    storable,
    sync_records,
    webhook_events,
    webhook_requests,
    webhook_states,
)
from imgsync.domain.ports.clock import Clock
from imgsync.domain.webhooks import (
    Backlog,
    ClaimedEvents,
    Event,
    EventAction,
    WebhookState,
)

_event = webhook_events.c
_REQUEST = text(
    "INSERT INTO webhook_requests (request_id, received_at) VALUES (:request_id, :received_at)"
    " ON CONFLICT (request_id) DO NOTHING"
)
_EVENT = text(
    "INSERT INTO webhook_events"
    " (account_id, entity_type, entity_id, action, child_account_id, received_at)"
    " VALUES (:account_id, :entity_type, :entity_id, :action, '', :received_at)"
)
_ONE_CLAIMS = text("SELECT pg_advisory_xact_lock(hashtextextended('imgsync webhook events', 0))")
_MOST_CLAIMED = 20_000
"""Entities of one claim."""

_MOST_TOLD = 10**9
"""Webhooks that a stored state may count; more are damage."""

_MOST_NAMED = 500
"""Ids in one statement."""


class SqlEventStore:
    """Implements the port `EventStore`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._request = Prepared(database.dialect, _REQUEST)
        self._event = Prepared(database.dialect, _EVENT)

    async def receive(self, request_id: str, events: Sequence[Event]) -> bool:
        given = storable(request_id)
        rows = [
            {
                "account_id": storable(event.account_id),
                "entity_type": storable(event.entity_type),
                "entity_id": storable(event.entity_id),
                "action": event.action.value,
            }
            for event in events
        ]

        def work(connection: Connection) -> bool:
            now = now_of(connection, self._clock)
            came = self._request.run(connection, request_id=given, received_at=now)
            if came.rowcount != 1:
                return False
            if len(rows) == 1:
                self._event.run(connection, **rows[0], received_at=now)
            elif rows:
                values = [row | {"child_account_id": "", "received_at": now} for row in rows]
                connection.execute(insert(webhook_events), values)
            return True

        return await self._database.run(work)

    async def claim(
        self, *, quiet: timedelta, longest: timedelta, lease: timedelta
    ) -> ClaimedEvents | None:
        # Most looks find nothing, and a look that only reads waits for nobody.
        if not await self._database.run(
            lambda connection: self._due_group(connection, quiet, longest), reads=True
        ):
            return None

        def work(connection: Connection) -> ClaimedEvents | None:
            if connection.dialect.name == "postgresql":
                connection.execute(_ONE_CLAIMS)
            group = self._due_group(connection, quiet, longest)
            if group is None:
                return None
            now = now_of(connection, self._clock)
            token = secrets.token_hex(16)
            of_group = _is(*group)
            due = (
                select(_event.entity_type, _event.entity_id)
                .where(of_group)
                .group_by(_event.entity_type, _event.entity_id)
                .having(_is_due(now, quiet, longest))
                .limit(_MOST_CLAIMED)
            )
            entities = tuple_(_event.entity_type, _event.entity_id)
            held = update(webhook_events).where(of_group, entities.in_(due))
            connection.execute(held.values(lease_token=token, lease_expires_at=now + lease))
            claimed = self._claimed(connection, group, token)
            if claimed is not None and not group[1]:
                self._heard(connection, group[0], token)
            return claimed

        return await self._database.run(work, alone=True)

    def _due_group(
        self, connection: Connection, quiet: timedelta, longest: timedelta
    ) -> tuple[str, str] | None:
        """The account of which events are due and none are held, and the child that they are for;
        of several that with the oldest."""
        now = now_of(connection, self._clock)
        held = func.max(case((_is_held(now), 1), else_=0))
        entities = (
            select(
                _event.account_id,
                _event.child_account_id,
                func.min(_event.received_at).label("first"),
                held.label("held"),
                case((_is_due(now, quiet, longest), 1), else_=0).label("due"),
            )
            .group_by(
                _event.account_id, _event.child_account_id, _event.entity_type, _event.entity_id
            )
            .subquery()
        )
        first = func.min(entities.c.first)
        groups = (
            select(entities.c.account_id, entities.c.child_account_id)
            .group_by(entities.c.account_id, entities.c.child_account_id)
            .having(func.max(entities.c.held) == 0, func.max(entities.c.due) == 1)
            .order_by(first)
            .limit(1)
        )
        found = connection.execute(groups).first()
        return None if found is None else (found[0], found[1])

    def _claimed(
        self, connection: Connection, group: tuple[str, str], token: str
    ) -> ClaimedEvents | None:
        query = select(_event.entity_type, _event.entity_id, _event.action, _event.received_at)
        query = query.where(_event.lease_token == token).order_by(_event.id)
        last: dict[tuple[str, str], Event] = {}
        oldest = None
        for row in connection.execute(query):
            oldest = row.received_at if oldest is None else min(oldest, row.received_at)
            actions = set(EventAction)
            action = EventAction(row.action) if row.action in actions else EventAction.UPDATE
            key = row.entity_type, row.entity_id
            last[key] = Event(group[0], *key, action)
        if oldest is None:
            return None
        return ClaimedEvents(group[0], group[1], token, list(last.values()), oldest)

    def _heard(self, connection: Connection, account_id: str, token: str) -> None:
        """Notes when events of the account came last."""
        newest = select(func.max(_event.received_at)).where(_event.lease_token == token)
        values = {
            "account_id": account_id,
            "last_event_at": connection.execute(newest).scalar_one(),
        }
        known = update(webhook_states).where(webhook_states.c.account_id == account_id)
        if not connection.execute(known.values(values)).rowcount:
            new = values | {"state": {}}
            connection.execute(self._database.upsert(webhook_states, new))

    async def renew(self, token: str, lease: timedelta) -> bool:
        def work(connection: Connection) -> bool:
            now = now_of(connection, self._clock)
            held = update(webhook_events).where(
                _event.lease_token == token, _event.lease_expires_at > now
            )
            return connection.execute(held.values(lease_expires_at=now + lease)).rowcount > 0

        return await self._database.run(work)

    async def done(self, token: str) -> None:
        this = delete(webhook_events).where(_event.lease_token == token)
        await self._database.run(lambda connection: connection.execute(this))

    async def put_off(self, token: str, delay: timedelta) -> None:
        def work(connection: Connection) -> None:
            until = now_of(connection, self._clock) + delay
            held = update(webhook_events).where(_event.lease_token == token)
            connection.execute(held.values(lease_expires_at=until))

        await self._database.run(work)

    async def leave_to(self, token: str, child_ids: Collection[str], delay: timedelta) -> None:
        def work(connection: Connection) -> None:
            until = now_of(connection, self._clock) + delay
            for child_id in sorted(map(storable, child_ids)):
                self._copy(connection, token, child_id, until)
            connection.execute(delete(webhook_events).where(_event.lease_token == token))

        await self._database.run(work)

    @staticmethod
    def _copy(connection: Connection, token: str, child_id: str, until: datetime) -> None:
        """Each entity once, with what was done to it last, as old as its first event."""
        query = select(
            _event.account_id, _event.entity_type, _event.entity_id, _event.action,
            _event.received_at,
        )  # fmt: skip
        rows = connection.execute(query.where(_event.lease_token == token).order_by(_event.id))
        last: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows:
            key = row.entity_type, row.entity_id
            first = last[key]["received_at"] if key in last else row.received_at
            last[key] = dict(row._mapping) | {"received_at": first}
        values = {
            "child_account_id": child_id,
            "lease_token": secrets.token_hex(16),
            "lease_expires_at": until,
        }
        if last:
            connection.execute(insert(webhook_events), [one | values for one in last.values()])

    async def backlog(self) -> Backlog:
        query = select(func.count(), func.min(_event.received_at))
        row = await self._database.run(
            lambda connection: connection.execute(query).one(), reads=True
        )
        return Backlog(row[0], row[1])

    async def prune(self, older: timedelta, limit: int = 1000) -> int:
        def work(connection: Connection) -> int:
            until = now_of(connection, self._clock) - older
            gone = 0
            for table, key in (
                (webhook_requests, webhook_requests.c.request_id),
                (webhook_events, _event.id),
            ):
                old = select(key).where(table.c.received_at < until).limit(limit - gone)
                this = delete(table).where(key.in_(old.scalar_subquery()))
                gone += connection.execute(this).rowcount
            return gone

        return await self._database.run(work, alone=True)


class SqlWebhookStates:
    """Implements the port `WebhookStates`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def all(self) -> list[WebhookState]:
        query = select(*raw_of(self._database.dialect, webhook_states.c))
        rows = await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )
        return sorted(map(_state, rows), key=lambda state: state.account_id)

    async def put(self, state: WebhookState) -> None:
        values = {
            "account_id": storable(state.account_id),
            "url": state.url,
            "state": {
                "wanted": state.wanted,
                "working": state.working,
                "switched_off": state.switched_off,
                "problem": storable(state.problem),
            },
        }

        def work(connection: Connection) -> None:
            row = values | {"checked_at": now_of(connection, self._clock)}
            connection.execute(self._database.upsert(webhook_states, row))

        await self._database.run(work)

    async def forget(self, account_id: str) -> None:
        this = delete(webhook_states).where(webhook_states.c.account_id == storable(account_id))
        await self._database.run(lambda connection: connection.execute(this))


def _state(row: Row[Any]) -> WebhookState:
    read = Reader(row)
    try:
        kept = json.loads(read.text("state") or "{}")
    except (ValueError, RecursionError):
        kept = {}
    kept = kept if isinstance(kept, dict) else {}

    def count(name: str) -> int:
        value = kept.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return 0
        return value if 0 <= value <= _MOST_TOLD else 0

    return WebhookState(
        read.text("account_id") or "",
        read.text("url"),
        count("wanted"),
        count("working"),
        count("switched_off"),
        str(kept.get("problem") or ""),
        read.time_or_none("checked_at"),
        read.time_or_none("last_event_at"),
    )


class SqlEndedEntities:
    """Implements the port `EndedEntities`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_main(self, account_id: str, entity_type: str, ids: Collection[str]) -> int:
        main_id, kind = storable(account_id), storable(entity_type)

        def find(connection: Connection) -> set[tuple[str, str]]:
            found: set[tuple[str, str]] = set()
            for some in _batches(ids):
                row = changes.c
                known = select(row.child_account_id, row.child_entity_id).where(
                    row.main_account_id == main_id,
                    row.entity_type == kind,
                    row.main_entity_id.in_(some),
                )
                later = changes.alias()
                # The counterpart of another entity by now keeps what is kept of that.
                known = known.where(
                    ~select(later.c.id)
                    .where(
                        later.c.child_account_id == row.child_account_id,
                        later.c.entity_type == kind,
                        later.c.child_entity_id == row.child_entity_id,
                        later.c.id > row.id,
                        later.c.main_entity_id != row.main_entity_id,
                    )
                    .exists()
                )
                failed = failed_images.c
                failing = select(failed.child_account_id, failed.child_entity_id).where(
                    failed.main_account_id == main_id,
                    failed.entity_type == kind,
                    failed.main_entity_id.in_(some),
                )
                for query in (known, failing):
                    found |= {(one[0], one[1]) for one in connection.execute(query)}
            return found

        counterparts = await self._database.run(find, reads=True)
        by_child: dict[str, list[str]] = {}
        for child_id, entity_id in sorted(counterparts):
            by_child.setdefault(child_id, []).append(entity_id)
        gone = 0
        for child_id, entity_ids in by_child.items():
            gone += await self.of_child(child_id, kind, entity_ids)
        return gone

    async def of_child(self, account_id: str, entity_type: str, ids: Collection[str]) -> int:
        child_id, kind = storable(account_id), storable(entity_type)

        def work(connection: Connection) -> int:
            gone = 0
            for some in _batches(ids):
                for table in (sync_records, failed_images):
                    row = table.c
                    this = delete(table).where(
                        row.child_account_id == child_id,
                        row.entity_type == kind,
                        row.child_entity_id.in_(some),
                    )
                    ended = connection.execute(this).rowcount
                    gone += ended if table is sync_records else 0
            return gone

        return await self._database.run(work, alone=True)


def _batches(ids: Collection[str]) -> list[list[str]]:
    given = sorted(map(storable, ids))
    return [given[n : n + _MOST_NAMED] for n in range(0, len(given), _MOST_NAMED)]


def _is(account_id: str, child_id: str) -> ColumnElement[bool]:
    return and_(_event.account_id == account_id, _event.child_account_id == child_id)


def _is_held(now: datetime) -> ColumnElement[bool]:
    return and_(_event.lease_token.is_not(None), _event.lease_expires_at > now)


def _is_due(now: datetime, quiet: timedelta, longest: timedelta) -> ColumnElement[bool]:
    return or_(
        func.max(_event.received_at) <= now - quiet, func.min(_event.received_at) <= now - longest
    )
