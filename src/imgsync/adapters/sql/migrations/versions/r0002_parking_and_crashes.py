"""Sides and parkings of accounts; crashes, checks and parkings of tasks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("role", sa.String(20)))
    op.add_column("accounts", sa.Column("parked_until", sa.DateTime(timezone=True)))
    op.add_column("accounts", sa.Column("parked_reason", sa.Text))
    op.add_column(
        "sync_queue", sa.Column("crashes", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column(
        "sync_queue",
        sa.Column("check_again", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("sync_queue", sa.Column("parked_for", sa.Text))
    parked = sa.text("parked_for IS NOT NULL")
    op.create_index(
        "sync_queue_parked",
        "sync_queue",
        ["parked_for"],
        sqlite_where=parked,
        postgresql_where=parked,
    )
