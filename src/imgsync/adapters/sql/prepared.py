"""Statements that each task needs, put together once."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.elements import ClauseElement

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": SQLiteDialect_pysqlite(paramstyle="named"),
    "postgresql": PGDialect_psycopg(),  # type: ignore[no-untyped-call]
}
_LIST = {
    "sqlite": "IN (SELECT value FROM json_each(:{name}))",
    "postgresql": "= ANY (CAST(:{name} AS BIGINT[]))",
}
_TIME = "%Y-%m-%d %H:%M:%S.%f"


def among(dialect: str, name: str) -> str:
    """``IN`` of a parameter that is a list of ids: however long, the statement stays the same."""
    return _LIST[dialect].format(name=name)


class Prepared:
    """One for a dialect. SQLAlchemy would look for it in its cache each time, by all of its parts,
    which takes longer than most of them do.

    Values go to the driver as they are, but for times and lists; rows come as it reads them.
    """

    def __init__(self, dialect: str, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECTS[dialect])
        self._text = str(compiled)
        self._values = dict(compiled.params)
        self._driver_value = _SQLITE if dialect == "sqlite" else {}

    def run(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        """`values` by the names of the parameters; those of others are left out."""
        given = {name: values.get(name, value) for name, value in self._values.items()}
        for kind, change in self._driver_value.items():
            for name, value in given.items():
                if isinstance(value, kind):
                    given[name] = change(value)
        return connection.exec_driver_sql(self._text, given)


def _stored(moment: datetime) -> str:
    """As DateTime stores it: six digits, so that times compare as text."""
    return moment.astimezone(UTC).strftime(_TIME)


_SQLITE: Mapping[type, Any] = {datetime: _stored, list: partial(json.dumps, default=_stored)}
