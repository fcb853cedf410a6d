"""What accounts have shown that they can do."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "account_abilities",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("abilities", sa.JSON, nullable=False),
    )
