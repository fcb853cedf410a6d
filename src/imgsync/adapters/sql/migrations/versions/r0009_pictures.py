"""What becomes of a child's pictures, in ``sync_settings``; failed images; the changes of lists."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("sync_settings", sa.Column("pictures", sa.JSON(), nullable=True))
    op.create_table(
        "failed_images",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("child_account_id", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("child_entity_id", sa.Text, nullable=False),
        sa.Column("image_id", sa.Text, nullable=False),
        sa.Column("main_account_id", sa.Text, nullable=False),
        sa.Column("main_entity_id", sa.Text, nullable=False),
        sa.Column("entity_name", sa.Text, nullable=False),
        sa.Column("entity_code", sa.Text),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("cause", sa.String(50), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True)),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(
        "failed_images_one",
        "failed_images",
        ["child_account_id", "entity_type", "child_entity_id", "image_id"],
        unique=True,
    )
    op.create_table(
        "changes",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("main_account_id", sa.Text, nullable=False),
        sa.Column("child_account_id", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("main_entity_id", sa.Text, nullable=False),
        sa.Column("child_entity_id", sa.Text, nullable=False),
        sa.Column("entity_name", sa.Text, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON()),
        sa.Column("backup", sa.Text),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("changes_run", "changes", ["run", "id"])
    op.create_index(
        "changes_entity",
        "changes",
        ["child_account_id", "entity_type", "child_entity_id", "id"],
    )
    op.create_index("changes_time", "changes", ["changed_at"])
