"""The code of the entity whose list was changed; of changes from before it is not known."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("entity_code", sa.Text, nullable=True))
