"""Links: the main account of a child, and what of it the child receives, in ``sync_settings``."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    for name, kind in (
        ("main_account_id", sa.Text()),
        ("match_by", sa.Text()),
        ("types", sa.JSON()),
        ("folders", sa.JSON()),
    ):
        op.add_column("sync_settings", sa.Column(name, kind, nullable=True))
