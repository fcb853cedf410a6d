"""The schema of imgsync 0.1 before migrations: queue, accounts, settings, records.

It stands here by itself: what it makes must not change with the program.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NOW = sa.text("CURRENT_TIMESTAMP")
_TIME = sa.DateTime(timezone=True)
_FORMAT = "[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*"
_TIMES = ("scheduled_at", "lease_expires_at", "created_at", "updated_at")


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    formats = [
        # SQLite compares times as text, so a row of another format would run late or never.
        sa.CheckConstraint(f"{name} GLOB '{_FORMAT}'", name=f"sync_queue_{name}_format")
        for name in _TIMES
        if on_sqlite
    ]
    op.create_table(
        "sync_queue",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("entity_type", sa.String(50), nullable=False, server_default="image_sync"),
        sa.Column("priority", sa.Integer, nullable=False, server_default="50"),
        sa.Column("status", sa.String(20), nullable=False, server_default="pending"),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("max_attempts", sa.Integer, nullable=False, server_default="3"),
        sa.Column("scheduled_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("lease_token", sa.String(32)),
        sa.Column("lease_expires_at", _TIME),
        sa.Column("dedupe_key", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("warnings", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("updated_at", _TIME, nullable=False, server_default=_NOW),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'completed', 'failed')", name="sync_queue_status"
        ),
        *formats,
    )
    op.create_index(
        "sync_queue_due",
        "sync_queue",
        ["entity_type", "status", sa.text("priority DESC"), "scheduled_at", "id"],
    )
    for status in ("pending", "processing"):
        where = sa.text(f"status = '{status}'")
        op.create_index(
            f"sync_queue_one_{status}",
            "sync_queue",
            ["dedupe_key"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_kind", sa.String(20), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("login", sa.Text),
    )
    op.create_table(
        "child_settings",
        sa.Column("child_account_id", sa.Text, primary_key=True),
        sa.Column("sync_images", sa.Boolean, nullable=False),
        sa.Column("sync_images_all", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "NOT (sync_images AND sync_images_all)", name="child_settings_exclusive"
        ),
    )
    op.create_table(
        "sync_records",
        sa.Column("child_account_id", sa.Text, primary_key=True),
        sa.Column("entity_type", sa.Text, primary_key=True),
        sa.Column("child_entity_id", sa.Text, primary_key=True),
        sa.Column("record", sa.JSON, nullable=False),
    )
