"""What surveys leave behind for later ones."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "surveys",
        sa.Column("main_account_id", sa.Text, primary_key=True),
        sa.Column("child_account_id", sa.Text, primary_key=True),
        sa.Column("entity_type", sa.Text, primary_key=True),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("seen", sa.LargeBinary, nullable=False),
        sa.Column("moved", sa.Integer, nullable=False),
    )
