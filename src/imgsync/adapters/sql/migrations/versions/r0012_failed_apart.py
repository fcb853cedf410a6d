"""Failed tasks are told apart by indexes alone."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    failed = sa.text("status || '' = 'failed'")
    cancelled = sa.text("status = 'failed' AND error = 'cancelled'")
    made: tuple[tuple[str, list[str], sa.TextClause], ...] = (
        ("sync_queue_failed", ["id", "dedupe_key"], failed),
        ("sync_queue_cancelled", ["entity_type", "account_id", "id"], cancelled),
    )
    for name, columns, where in made:
        op.create_index(name, "sync_queue", columns, sqlite_where=where, postgresql_where=where)
