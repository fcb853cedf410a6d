"""Our solutions, the accounts that have installed them, and MoySklad's calls."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.repositories import account_of, account_rows, values_of
from imgsync.adapters.sql.secrets import SqlSecrets
from imgsync.adapters.sql.tables import accounts, installations, solutions, storable, used_tokens
from imgsync.adapters.sql.web import note_of
from imgsync.domain.errors import DamagedRowError
from imgsync.domain.model import Account, TokenKind
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.solutions import Decide
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.solutions import (
    CallMethod,
    Consequence,
    Installation,
    InstallationState,
    Solution,
    SolutionCall,
    Verdict,
)

KEPT_AT_LEAST = timedelta(days=2)
"""MoySklad repeats a request for up to 24 hours."""

_INSTALLED = select(installations, solutions.c.is_draft).join(
    solutions, solutions.c.app_id == installations.c.app_id, isouter=True
)


class _RefusedError(Exception):
    """Rolls back what a refused call has left."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class SqlSolutions:
    """Implements the port `Solutions`. Without `secrets` those of solutions and tokens are stored
    as they are. `clock` is for tests; without it the time is the database's."""

    def __init__(
        self, database: Database, clock: Clock | None = None, secrets: SqlSecrets | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._secrets = secrets or SqlSecrets(database)

    async def put(self, solution: Solution) -> None:
        kind = TokenKind.DRAFT if solution.is_draft else TokenKind.SOLUTION
        tokens = select(installations.c.token).where(
            installations.c.app_id == solution.app_id, installations.c.token.is_not(None)
        )
        of_solutions = (TokenKind.DRAFT.value, TokenKind.SOLUTION.value)
        theirs = select(accounts.c.id, accounts.c.secret).where(
            accounts.c.token_kind.in_(of_solutions), accounts.c.token_kind != kind.value
        )

        def work(connection: Connection) -> None:
            values = {
                "app_id": solution.app_id,
                "secret": self._secrets.seal(connection, solution.secret),
                "is_draft": solution.is_draft,
                "added_at": now_of(connection, self._clock),
            }
            connection.execute(self._database.upsert(solutions, values))
            given = {
                self._secrets.readable(token) for token in connection.execute(tokens).scalars()
            } - {None}
            if not given:
                return
            if connection.dialect.name == "postgresql":
                stored = connection.execute(theirs.with_for_update()).all()
            else:
                stored = connection.execute(theirs).all()
            for row in stored:
                if self._secrets.readable(row.secret) in given:
                    of_row = update(accounts).where(accounts.c.id == row.id)
                    connection.execute(of_row.values(token_kind=kind.value))

        await self._database.run(work)

    async def get(self, app_id: str) -> Solution | None:
        query = select(solutions).where(solutions.c.app_id == app_id)
        row = await self._database.run(lambda c: c.execute(query).first(), reads=True)
        return None if row is None else self._solution(row)

    async def all(self) -> list[Solution]:
        query = select(solutions).order_by(solutions.c.app_id)
        rows = await self._database.run(lambda c: c.execute(query).all(), reads=True)
        return [self._solution(row) for row in rows]

    async def remove(self, app_id: str) -> bool:
        this = delete(solutions).where(solutions.c.app_id == app_id)
        return bool(await self._database.run(lambda connection: connection.execute(this).rowcount))

    async def ids(self) -> list[str]:
        query = select(solutions.c.app_id).order_by(solutions.c.app_id)
        return await self._database.run(lambda c: list(c.execute(query).scalars()), reads=True)

    async def take_over(self, given: Sequence[Installation]) -> None:
        def work(connection: Connection) -> None:
            for one in given:
                row = self._row(connection, one)
                new = self._insert(installations).values(row)
                key = [column.name for column in installations.primary_key]
                later = new.on_conflict_do_update(
                    index_elements=key,
                    set_={name: new.excluded[name] for name in row if name not in key},
                    where=installations.c.issued_at <= new.excluded.issued_at,
                )
                connection.execute(later)

        await self._database.run(work)

    async def installations(self) -> list[Installation]:
        query = _INSTALLED.order_by(installations.c.app_id, installations.c.account_id)
        rows = await self._database.run(lambda c: c.execute(query).all(), reads=True)
        return [self._installation(row) for row in rows]

    async def take(self, call: SolutionCall, decide: Decide, entry: AuditEntry) -> Consequence:
        def work(connection: Connection) -> Consequence:
            return self._take(connection, call, decide, entry)

        try:
            # Alone, as the calls of an account wait for one another.
            return await self._database.run(work, alone=True)
        except _RefusedError as refused:
            return Consequence(refused.verdict)

    def _take(
        self, connection: Connection, call: SolutionCall, decide: Decide, entry: AuditEntry
    ) -> Consequence:
        if connection.dialect.name == "postgresql":
            # Rows that are not there yet cannot be locked.
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:account, 0))")
            connection.execute(lock, {"account": f"imgsync {call.account_id}"})
        of_solution = select(solutions).where(solutions.c.app_id == call.app_id)
        known = connection.execute(of_solution).first()
        if known is None:
            raise _RefusedError(Verdict.UNKNOWN)
        of_account = _INSTALLED.where(installations.c.account_id == call.account_id)
        there = [self._installation(row) for row in connection.execute(of_account)]
        account = _account(connection, call.account_id, self._secrets)
        if self._was_taken(connection, call):
            before = next((one for one in there if one.app_id == call.app_id), None)
            return Consequence(Verdict.REPEATED, before, account)
        taken = decide(call, self._solution(known), there, account)
        if taken.verdict.is_refusal:
            raise _RefusedError(taken.verdict)
        if taken.verdict is Verdict.DONE and call.method is not CallMethod.GET:
            self._store(connection, taken)
            connection.execute(note_of(entry, now_of(connection, self._clock)))
        return taken

    def _was_taken(self, connection: Connection, call: SolutionCall) -> bool:
        """Notes a call as heeded; whether it was before. _RefusedError for the token of another."""
        now = now_of(connection, self._clock)
        connection.execute(delete(used_tokens).where(used_tokens.c.expires_at <= now))
        this = [call.app_id, call.account_id, call.method.value, call.request_id]
        told = _hash("call", *this)
        until = max(call.expires_at, now + KEPT_AT_LEAST)
        if not self._is_new(connection, _hash("token", call.app_id, call.token_id), told, until):
            query = select(used_tokens.c.call).where(
                used_tokens.c.id == _hash("token", call.app_id, call.token_id)
            )
            if call.request_id is None or connection.execute(query).scalar_one() != told:
                raise _RefusedError(Verdict.REPLAYED)
            return True
        return call.request_id is not None and not self._is_new(connection, told, told, until)

    def _is_new(self, connection: Connection, key: str, told: str, until: Any) -> bool:
        new = self._insert(used_tokens).values(id=key, call=told, expires_at=until)
        noted = new.on_conflict_do_nothing().returning(used_tokens.c.id)
        return connection.execute(noted).first() is not None

    def _insert(self, table: Table) -> Any:
        kind = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        return kind(table)

    def _row(self, connection: Connection, one: Installation) -> dict[str, Any]:
        return {
            "app_id": one.app_id,
            "account_id": one.account_id,
            "state": one.state.value,
            "token": one.token and self._secrets.seal(connection, one.token),
            "issued_at": one.issued_at,
            "changed_at": now_of(connection, self._clock),
        }

    def _store(self, connection: Connection, taken: Consequence) -> None:
        if taken.installation is not None:
            values = self._row(connection, taken.installation)
            connection.execute(self._database.upsert(installations, values))
        if taken.account is not None:
            name = storable(taken.account.name) or taken.account.id
            sealed = self._secrets.seal(connection, taken.account.secret)
            row = values_of(replace(taken.account, name=name), sealed, taken.parking)
            connection.execute(self._database.upsert(accounts, row))

    def _solution(self, row: Row[Any]) -> Solution:
        try:
            secret = self._secrets.unseal(row.secret)
        except ValueError as error:
            raise DamagedRowError(
                f"The stored solution {row.app_id!a} is damaged: {error}; "
                "add it anew with 'imgsync solution add'"
            ) from None
        return Solution(row.app_id, secret, bool(row.is_draft))

    def _installation(self, row: Row[Any]) -> Installation:
        try:
            state = InstallationState(row.state)
        except ValueError:  # of another version
            state = InstallationState.REMOVED
        token = None if row.token is None else self._secrets.readable(row.token)
        return Installation(
            row.app_id, row.account_id, state, row.issued_at, token, bool(row.is_draft)
        )


def _account(connection: Connection, account_id: str, secrets: SqlSecrets) -> Account | None:
    """The stored account, however its id was written; None also for a damaged row."""
    query = account_rows(connection).where(func.lower(accounts.c.id) == account_id)
    query = query.order_by(accounts.c.id.desc()).limit(1)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update()
    row = connection.execute(query).first()
    try:
        return None if row is None else account_of(row, secrets)
    except DamagedRowError:
        return None


def _hash(*parts: str | None) -> str:
    """Of texts of any length, and such as no database stores."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
