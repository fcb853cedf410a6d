"""Insert or replace a row by its primary key."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, Table
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.transactions import transaction


def put_row(engine: Engine, table: Table, values: Mapping[str, Any]) -> None:
    """Writes the whole row, replacing the one with its primary key."""
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    keys = [column.name for column in table.primary_key]
    statement = insert(table).values(values)
    with transaction(engine) as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={name: statement.excluded[name] for name in values if name not in keys},
            )
        )
