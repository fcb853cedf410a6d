"""Whose a task is: ``account_id`` (the child), ``entity_id`` (main's entity), ``operation``.

Rows that are there get them as far as their payload tells.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ROWS_AT_ONCE = 500
_LONGEST_ID = 200


def upgrade() -> None:
    op.add_column("sync_queue", sa.Column("account_id", sa.Text))
    op.add_column("sync_queue", sa.Column("entity_id", sa.Text))
    op.add_column("sync_queue", sa.Column("operation", sa.String(50)))
    _fill(op.get_bind())
    op.create_index("sync_queue_account", "sync_queue", ["account_id", "status"])


def _fill(connection: sa.Connection) -> None:
    # Not by the database's JSON functions: they fail as a whole at one row that is no JSON.
    kind = sa.LargeBinary if connection.dialect.name == "sqlite" else sa.Text
    payload, key = (sa.cast(sa.column(n), kind).label(n) for n in ("payload", "dedupe_key"))
    rows = (
        sa.select(sa.column("id", sa.BigInteger), payload, key)
        .select_from(sa.table("sync_queue"))
        .where(sa.column("id") > sa.bindparam("after"))
        .where(sa.column("entity_type") == "image_sync")
        .order_by(sa.column("id"))
        .limit(_ROWS_AT_ONCE)
    )
    fill = sa.text(
        "UPDATE sync_queue SET account_id = :account, entity_id = :entity, operation = 'sync' "
        "WHERE id = :id"
    )
    after = -(2**63)
    while found := connection.execute(rows, {"after": after}).all():
        after = found[-1].id
        told = [values for row in found for values in _told(row._mapping)]
        if told:
            connection.execute(fill, told)


def _told(row: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    payload = _decoded(row["payload"])
    account = _id(payload.get("child_account_id")) or _id(
        _text(row["dedupe_key"]).rpartition("/")[0].rpartition("/")[0]
    )
    entity = _id(payload.get("parent_entity_id"))
    if account or entity:
        yield {"id": row["id"], "account": account, "entity": entity}


def _decoded(payload: bytes | str | None) -> dict[str, Any]:
    try:
        found = json.loads(_text(payload))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _id(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > _LONGEST_ID or not value.isprintable():
        return None
    return value.strip() or None
