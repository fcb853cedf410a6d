"""Children take turns: whose it is, and indexes that find what is next of each child."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_CHILD = sa.text("coalesce(account_id, '')")
_INDEXES: dict[str, tuple[list[str | sa.TextClause], str]] = {
    "due": (
        ["entity_type", _CHILD, sa.text("priority DESC"), "scheduled_at", "id"],
        "status = 'pending'",
    ),
    "leases": (["entity_type", _CHILD, "lease_expires_at"], "status = 'processing'"),
    "key": (["dedupe_key", "id"], "dedupe_key IS NOT NULL"),
    "ended": (["entity_type", "status", "updated_at"], "status IN ('completed', 'failed')"),
}


def upgrade() -> None:
    op.create_table(
        "sync_turns",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("turn", sa.BigInteger, nullable=False),
    )
    op.drop_index("sync_queue_due", "sync_queue")
    for name, (columns, rows) in _INDEXES.items():
        where = sa.text(rows)
        op.create_index(
            f"sync_queue_{name}",
            "sync_queue",
            columns,
            sqlite_where=where,
            postgresql_where=where,
        )
