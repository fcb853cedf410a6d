"""Webhooks, the schedule, runs, and what the web server keeps."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)

# As other programs write to sync_queue too, triggers count. SQLite's heed no ON CONFLICT of their
# own where the statement that fires them has one.
_ADD = """
    INSERT INTO sync_counts (entity_type, account_id, status, tasks)
    SELECT NEW.entity_type, coalesce(NEW.account_id, ''), NEW.status, 0 WHERE NOT EXISTS (
      SELECT 1 FROM sync_counts WHERE entity_type IS NEW.entity_type
        AND account_id IS coalesce(NEW.account_id, '') AND status IS NEW.status
    );
    UPDATE sync_counts SET tasks = tasks + 1 WHERE entity_type IS NEW.entity_type
      AND account_id IS coalesce(NEW.account_id, '') AND status IS NEW.status;
"""
_TAKE = """
    UPDATE sync_counts SET tasks = tasks - 1 WHERE entity_type IS OLD.entity_type
      AND account_id IS coalesce(OLD.account_id, '') AND status IS OLD.status;
"""
_SQLITE = (
    f"CREATE TRIGGER sync_queue_put AFTER INSERT ON sync_queue BEGIN {_ADD} END",
    f"CREATE TRIGGER sync_queue_gone AFTER DELETE ON sync_queue BEGIN {_TAKE} END",
    f"""
    CREATE TRIGGER sync_queue_moved AFTER UPDATE OF entity_type, account_id, status ON sync_queue
    WHEN OLD.status IS NOT NEW.status OR OLD.account_id IS NOT NEW.account_id
      OR OLD.entity_type IS NOT NEW.entity_type
    BEGIN {_TAKE} {_ADD} END
    """,
)
# One row of several that stand for the same is changed, whichever no other transaction holds: so
# nobody waits, and there are as many as have ever been written to at once. A transaction of a
# stricter isolation would fail at a row that has been changed since it began, so it adds one.
_POSTGRESQL = (
    """
    CREATE FUNCTION sync_counts_add(kind text, account text, state text, number bigint)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      IF current_setting('transaction_isolation') = 'read committed' THEN
        UPDATE sync_counts SET tasks = tasks + number WHERE id = (
          SELECT id FROM sync_counts
          WHERE entity_type = kind AND account_id = account AND status = state
          LIMIT 1 FOR UPDATE SKIP LOCKED
        );
        IF FOUND THEN
          RETURN;
        END IF;
      END IF;
      INSERT INTO sync_counts (entity_type, account_id, status, tasks)
      VALUES (kind, account, state, number);
    END $$
    """,
    # With the rights of their owner, as another program may have none but to insert tasks.
    """
    CREATE FUNCTION sync_queue_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
    BEGIN
      PERFORM sync_counts_add(OLD.entity_type, coalesce(OLD.account_id, ''), OLD.status, -1);
      PERFORM sync_counts_add(NEW.entity_type, coalesce(NEW.account_id, ''), NEW.status, 1);
      RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION sync_queue_counted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM sync_counts;
        RETURN NULL;
      END IF;
      PERFORM sync_counts_add(
        kind, account, state, CASE TG_OP WHEN 'INSERT' THEN number ELSE -number END
      ) FROM (
        SELECT entity_type AS kind, coalesce(account_id, '') AS account, status AS state,
          count(*) AS number
        FROM counted GROUP BY 1, 2, 3
      ) AS these;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER sync_queue_put AFTER INSERT ON sync_queue REFERENCING NEW TABLE AS counted
    FOR EACH STATEMENT EXECUTE FUNCTION sync_queue_counted()
    """,
    """
    CREATE TRIGGER sync_queue_gone AFTER DELETE ON sync_queue REFERENCING OLD TABLE AS counted
    FOR EACH STATEMENT EXECUTE FUNCTION sync_queue_counted()
    """,
    """
    CREATE TRIGGER sync_queue_moved AFTER UPDATE OF entity_type, account_id, status ON sync_queue
    FOR EACH ROW WHEN (
      (OLD.entity_type, OLD.account_id, OLD.status)
      IS DISTINCT FROM (NEW.entity_type, NEW.account_id, NEW.status)
    ) EXECUTE FUNCTION sync_queue_moved()
    """,
    """
    CREATE TRIGGER sync_queue_emptied AFTER TRUNCATE ON sync_queue
    FOR EACH STATEMENT EXECUTE FUNCTION sync_queue_counted()
    """,
)


def upgrade() -> None:
    by_id = sa.column("id", sa.BigInteger) + sa.literal_column("0")
    op.drop_index("sync_queue_account", "sync_queue")
    op.create_index("sync_queue_account", "sync_queue", ["account_id", "status", by_id])
    op.create_index("sync_queue_status", "sync_queue", [sa.text("coalesce(status, '')"), by_id])
    warned = sa.text("length(CAST(warnings AS TEXT)) > 2")
    parked = sa.text("parked_for IS NOT NULL")
    op.drop_index("sync_queue_parked", "sync_queue")
    made: tuple[tuple[str, list[Any], sa.TextClause], ...] = (
        ("sync_queue_warned", [by_id], warned),
        ("sync_queue_warned_account", [sa.text("coalesce(account_id, '')"), by_id], warned),
        ("sync_queue_parked", ["parked_for", "status", "entity_type"], parked),
    )
    for name, columns, where in made:
        op.create_index(name, "sync_queue", columns, sqlite_where=where, postgresql_where=where)
    _count()
    op.add_column("sync_settings", sa.Column("schedule", sa.JSON(), nullable=True))
    op.add_column(
        "sync_settings",
        sa.Column("guard", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "schedule",
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("lease_token", sa.String(32)),
        sa.Column("lease_expires_at", _TIME),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("cause", sa.String(20), nullable=False),
        sa.Column("child_account_ids", sa.JSON, nullable=False),
        sa.Column("began", _TIME, nullable=False),
        sa.Column("ended", _TIME),
        sa.Column("numbers", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("by_child", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("noted", _TIME),
    )
    op.create_index("runs_time", "runs", ["began"])
    op.create_table(
        "usage",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("hour", _TIME, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("units", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("too_many", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("images", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("events", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("dropped", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "task_times",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("ended", sa.Text, primary_key=True),
        sa.Column("bound", sa.Text, primary_key=True),
        sa.Column("tasks", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    op.create_table(
        "proofs",
        sa.Column("child_account_id", sa.Text, primary_key=True),
        sa.Column("main_account_id", sa.Text, nullable=False),
        sa.Column("compared_at", _TIME, nullable=False),
        sa.Column("equal_at", _TIME),
        sa.Column("numbers", sa.JSON, nullable=False),
    )
    op.create_table(
        "webhook_requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("received_at", _TIME, nullable=False),
    )
    op.create_index("webhook_requests_time", "webhook_requests", ["received_at"])
    op.create_table(
        "webhook_events",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("child_account_id", sa.Text, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("lease_token", sa.String(32)),
        sa.Column("lease_expires_at", _TIME),
    )
    op.create_index("webhook_events_lease", "webhook_events", ["lease_token"])
    op.create_index("webhook_events_account", "webhook_events", ["account_id", "id"])
    op.create_table(
        "webhook_states",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("url", sa.Text),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("checked_at", _TIME),
        sa.Column("last_event_at", _TIME),
    )
    op.create_table(
        "web_secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "login_failures",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("failed_at", _TIME, nullable=False),
    )
    op.create_index("login_failures_address", "login_failures", ["address", "failed_at"])
    op.create_table(
        "api_keys",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("key_hash", sa.Text, nullable=False, unique=True),
        sa.Column("may_write", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("last_used_at", _TIME),
    )
    op.create_table(
        "audit",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("audit_time", "audit", ["at"])
    op.create_table(
        "solutions",
        sa.Column("app_id", sa.Text, primary_key=True),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("is_draft", sa.Boolean, nullable=False),
        sa.Column("added_at", _TIME, nullable=False),
    )
    op.create_table(
        "installations",
        sa.Column("app_id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
    )
    op.create_table(
        "used_tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
    )
    op.create_index("used_tokens_time", "used_tokens", ["expires_at"])
    op.create_table(
        "repeats",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("began", _TIME, nullable=False),
        sa.Column("leased_until", _TIME, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text),
        sa.Column("location", sa.Text),
    )
    op.create_index("repeats_time", "repeats", ["began"])
    op.create_table(
        "comparisons",
        sa.Column("child_account_id", sa.Text, primary_key=True),
        sa.Column("main_account_id", sa.Text, nullable=False),
        sa.Column("began", _TIME, nullable=False),
        sa.Column("ended", _TIME),
        sa.Column("found_at", _TIME),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("left_out", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("alive_at", _TIME, nullable=False),
    )
    op.create_table(
        "differences",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("child_account_id", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("difference", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("main_entity_id", sa.Text, nullable=False),
        sa.Column("child_entity_id", sa.Text, nullable=False),
        sa.Column("main_images", sa.JSON, nullable=False),
        sa.Column("child_images", sa.JSON()),
        sa.Column("will_change", sa.Boolean, nullable=False),
    )
    op.create_index("differences_child", "differences", ["child_account_id", "id"])
    op.create_index("differences_main_entity", "differences", ["main_entity_id"])
    op.create_index("differences_child_entity", "differences", ["child_entity_id"])
    op.create_index("failed_images_main_entity", "failed_images", ["main_entity_id"])
    op.create_table(
        "encryption",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.String(8), nullable=False),
        sa.Column("to_wipe", sa.Boolean, nullable=False, server_default=sa.false()),
    )


def _count() -> None:
    op.create_table(
        "sync_counts",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("tasks", sa.BigInteger, nullable=False),
    )
    op.create_index("sync_counts_of", "sync_counts", ["entity_type", "account_id", "status"])
    op.execute(
        "INSERT INTO sync_counts (entity_type, account_id, status, tasks)"
        " SELECT entity_type, coalesce(account_id, ''), status, count(*) FROM sync_queue"
        " GROUP BY 1, 2, 3"
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
