"""The history of runs, in the table runs."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    cast,
    delete,
    insert,
    select,
    type_coerce,
    update,
)

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import runs, storable
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.runs import NONE_YET
from imgsync.domain.runs import Run, RunCause, RunKind

_row = runs.c


class SqlRunHistory:
    """Implements the port `RunHistory`. `clock` is for tests; without it the time is the
    database's."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, run: Run) -> None:
        values = {
            "id": storable(run.id),
            "kind": run.kind.value,
            "cause": run.cause.value,
            "child_account_ids": [storable(child_id) for child_id in run.child_ids],
            "began": run.began,
            "numbers": dict(run.numbers),
            "by_child": _written(run.by_child),
            "noted": run.noted or run.began,
        }
        await self._database.run(lambda c: c.execute(insert(runs).values(values)))

    async def note(
        self,
        run_id: str,
        numbers: Mapping[str, int],
        by_child: Mapping[str, Mapping[str, int]] = NONE_YET,
    ) -> None:
        this = update(runs).where(_row.id == storable(run_id))
        this = this.values(numbers=dict(numbers), by_child=_written(by_child))

        def change(connection: Connection) -> None:
            connection.execute(this.values(noted=now_of(connection, self._clock)))

        await self._database.run(change)

    async def end(
        self,
        run_id: str,
        numbers: Mapping[str, int],
        error: str | None = None,
        by_child: Mapping[str, Mapping[str, int]] = NONE_YET,
    ) -> None:
        this = update(runs).where(_row.id == storable(run_id))
        this = this.values(numbers=dict(numbers), by_child=_written(by_child))
        told = None if error is None else storable(error)

        def change(connection: Connection) -> None:
            now = now_of(connection, self._clock)
            connection.execute(this.values(error=told, ended=now, noted=now))

        await self._database.run(change)

    async def get(self, run_id: str) -> Run | None:
        found = await self._read([_row.id == storable(run_id)], 1, 0)
        return found[0] if found else None

    async def find(
        self,
        *,
        child_id: str | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        wanted: list[ColumnElement[bool]] = []
        if child_id is not None:
            # As it was written, quotes and all: no id is part of another one so.
            listed = type_coerce(cast(_row.child_account_ids, Text), Text)
            wanted.append(listed.contains(json.dumps(storable(child_id)), autoescape=True))
        if kind is not None:
            wanted.append(_row.kind == kind.value)
        if since is not None:
            wanted.append(_row.began >= since)
        if until is not None:
            wanted.append(_row.began < until)
        return await self._read(wanted, limit, offset)

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        def work(connection: Connection) -> int:
            until = now_of(connection, self._clock) - older
            old = select(_row.id).where(_row.began < until).order_by(_row.began).limit(limit)
            return connection.execute(
                delete(runs).where(_row.id.in_(old.scalar_subquery()))
            ).rowcount

        return await self._database.run(work, alone=True)

    async def _read(self, wanted: list[ColumnElement[bool]], limit: int, offset: int) -> list[Run]:
        query = select(*raw_of(self._database.dialect, runs.c)).where(*wanted)
        query = query.order_by(_row.began.desc(), _row.id.desc()).limit(limit).offset(offset)

        def read(connection: Connection) -> list[Run]:
            return [_run(row) for row in connection.execute(query)]

        return await self._database.run(read, reads=True)


def numbers_of(read: Reader, name: str) -> dict[str, int]:
    """Of a column whose JSON is numbers by name; what is no number is left out."""
    return _numbers(read.json(name))


def _numbers(found: Any) -> dict[str, int]:
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if type(value) is int}


def _written(by_child: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {storable(child_id): dict(numbers) for child_id, numbers in by_child.items()}


def _run(row: Row[Any]) -> Run:
    """Of a row that is damaged what can be read."""
    read = Reader(row)
    kind, cause, told = read.text("kind"), read.text("cause"), read.json("by_child")
    by_child: dict[str, Any] = told if isinstance(told, dict) else {}
    return Run(
        row.id,
        RunKind(kind) if kind in set(RunKind) else RunKind.SYNC,
        RunCause(cause) if cause in set(RunCause) else RunCause.COMMAND,
        read.texts("child_account_ids"),
        read.time("began"),
        read.time_or_none("ended"),
        numbers_of(read, "numbers"),
        read.text("error"),
        {child_id: _numbers(found) for child_id, found in by_child.items()},
        read.time_or_none("noted"),
    )
