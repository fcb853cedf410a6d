"""The settings of a child under the names that other programs use: ``sync_settings.account_id``.

Made for ``UPDATE sync_settings SET sync_images = true WHERE account_id = …`` from any SQL client:
every account has its row, and the switch that is turned on turns the other off.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_SWITCHES = ("sync_images", "sync_images_all")

# SQLite has no way to change the row that a trigger is about, but to update it anew. It is one
# trigger for both switches, as each of two would judge by what the row was before the other.
_SQLITE = (
    """
    CREATE TRIGGER sync_settings_put AFTER INSERT ON sync_settings
    WHEN NEW.sync_images AND NEW.sync_images_all
    BEGIN
      UPDATE sync_settings SET sync_images = 0 WHERE account_id = NEW.account_id;
    END
    """,
    """
    CREATE TRIGGER sync_settings_switch AFTER UPDATE ON sync_settings
    WHEN NEW.sync_images AND NEW.sync_images_all
    BEGIN
      UPDATE sync_settings
      SET sync_images = OLD.sync_images_all AND NOT OLD.sync_images,
        sync_images_all = NOT (OLD.sync_images_all AND NOT OLD.sync_images)
      WHERE account_id = NEW.account_id;
    END
    """,
    """
    CREATE TRIGGER accounts_settings AFTER INSERT ON accounts
    BEGIN
      INSERT INTO sync_settings (account_id) SELECT NEW.id
      WHERE NOT EXISTS (SELECT 1 FROM sync_settings WHERE account_id = NEW.id);
    END
    """,
)
_POSTGRESQL = (
    """
    CREATE FUNCTION sync_settings_switch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.sync_images AND NEW.sync_images_all THEN
        IF TG_OP = 'UPDATE' AND OLD.sync_images_all AND NOT OLD.sync_images THEN
          NEW.sync_images_all = false;
        ELSE
          NEW.sync_images = false;
        END IF;
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER sync_settings_switch BEFORE INSERT OR UPDATE ON sync_settings
    FOR EACH ROW EXECUTE FUNCTION sync_settings_switch()
    """,
    """
    CREATE FUNCTION accounts_settings() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
    BEGIN
      INSERT INTO sync_settings (account_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER accounts_settings AFTER INSERT ON accounts
    FOR EACH ROW EXECUTE FUNCTION accounts_settings()
    """,
)


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    checks = [
        # SQLite would store the text 'true', which is false.
        sa.CheckConstraint(f"{name} IN (0, 1)", name=f"sync_settings_{name}")
        for name in _SWITCHES
        if on_sqlite
    ]
    op.create_table(
        "sync_settings",
        sa.Column("account_id", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())
            for name in _SWITCHES
        ),
        *checks,
    )
    op.execute(
        "INSERT INTO sync_settings SELECT child_account_id, sync_images IS TRUE, "
        "sync_images_all IS TRUE FROM child_settings"
    )
    op.drop_table("child_settings")
    op.execute(
        "INSERT INTO sync_settings (account_id) SELECT id FROM accounts "
        "WHERE id NOT IN (SELECT account_id FROM sync_settings)"
    )
    for statement in _SQLITE if on_sqlite else _POSTGRESQL:
        op.execute(statement)
