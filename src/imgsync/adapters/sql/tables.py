"""The tables, as the newest migration leaves them, and what every supported database can store.

Defaults are the database's own, so that another program may insert tasks.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

from imgsync.domain.tasks import DEFAULT_PRIORITY, MAX_ATTEMPTS, TASK_ENTITY_TYPE, TaskStatus


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, stored and returned in UTC; a naive one is refused with ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        aware: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC)


def storable(text: str) -> str:
    """The text without NUL and lone surrogates, which PostgreSQL refuses."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


metadata = MetaData()

_NOW = text("CURRENT_TIMESTAMP")
_ID = BigInteger().with_variant(Integer, "sqlite")
_STATUSES = ", ".join(f"'{status}'" for status in TaskStatus)

sync_queue = Table(
    "sync_queue",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("entity_type", String(50), nullable=False, server_default=TASK_ENTITY_TYPE),
    Column("priority", Integer, nullable=False, server_default=str(DEFAULT_PRIORITY)),
    Column("status", String(20), nullable=False, server_default=TaskStatus.PENDING.value),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False, server_default=str(MAX_ATTEMPTS)),
    Column("scheduled_at", UtcDateTime, nullable=False, server_default=_NOW),
    Column("lease_token", String(32)),
    Column("lease_expires_at", UtcDateTime),
    Column("dedupe_key", Text),
    Column("result", Text),
    Column("error", Text),
    Column("warnings", JSON, nullable=False, server_default="[]"),
    Column("created_at", UtcDateTime, nullable=False, server_default=_NOW),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_NOW),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("check_again", Boolean, nullable=False, server_default=false()),
    Column("parked_for", Text),
    Column("account_id", Text),
    Column("entity_id", Text),
    Column("operation", String(50)),
    CheckConstraint(f"status IN ({_STATUSES})", name="sync_queue_status"),
)
_DAY, _TIME = "[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]", "[0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
for _column in sync_queue.c:
    if isinstance(_column.type, UtcDateTime):
        # SQLite compares times as text, so a row of another format would run late or never.
        sync_queue.append_constraint(
            CheckConstraint(
                f"{_column.name} GLOB '{_DAY} {_TIME}*'", name=f"sync_queue_{_column.name}_format"
            ).ddl_if(dialect="sqlite")
        )
_child = text("coalesce(account_id, '')")
_ended = text("status IN ('completed', 'failed')")
for _name, _columns, _where in (
    (
        "due",
        (sync_queue.c.priority.desc(), sync_queue.c.scheduled_at, sync_queue.c.id),
        text("status = 'pending'"),
    ),
    ("leases", (sync_queue.c.lease_expires_at,), text("status = 'processing'")),
):
    # By child, as those take turns.
    Index(
        f"sync_queue_{_name}",
        sync_queue.c.entity_type,
        _child,
        *_columns,
        sqlite_where=_where,
        postgresql_where=_where,
    )
Index(
    "sync_queue_ended",
    sync_queue.c.entity_type,
    sync_queue.c.status,
    sync_queue.c.updated_at,
    sqlite_where=_ended,
    postgresql_where=_ended,
)
_keyed = sync_queue.c.dedupe_key.is_not(None)
Index(
    "sync_queue_key",
    sync_queue.c.dedupe_key,
    sync_queue.c.id,
    sqlite_where=_keyed,
    postgresql_where=_keyed,
)
Index("sync_queue_account", sync_queue.c.account_id, sync_queue.c.status)
_parked = sync_queue.c.parked_for.is_not(None)
Index("sync_queue_parked", sync_queue.c.parked_for, sqlite_where=_parked, postgresql_where=_parked)
for _status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
    # At most one waiting and one running task of a child entity.
    _where = text(f"status = '{_status}'")
    Index(
        f"sync_queue_one_{_status}",
        sync_queue.c.dedupe_key,
        unique=True,
        sqlite_where=_where,
        postgresql_where=_where,
    )

# When a task of a child was claimed last, in claims; '' stands for those of no child.
sync_turns = Table(
    "sync_turns",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token_kind", String(20), nullable=False),
    Column("secret", Text, nullable=False),
    Column("login", Text),
    Column("role", String(20)),
    Column("parked_until", UtcDateTime),
    Column("parked_reason", Text),
)

# What an account has shown, which is shown anew where it is lost: no other table names it.
account_abilities = Table(
    "account_abilities",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("abilities", JSON, nullable=False),
)

# A child, and the main account that it is linked to. Triggers keep it so that one switch at most is
# on, and that each account has its row.
sync_settings = Table(
    "sync_settings",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("sync_images", Boolean, nullable=False, server_default=false()),
    Column("sync_images_all", Boolean, nullable=False, server_default=false()),
    Column("main_account_id", Text),
    Column("match_by", Text),
    Column("types", JSON(none_as_null=True)),
    Column("folders", JSON(none_as_null=True)),
)
for _column in (sync_settings.c.sync_images, sync_settings.c.sync_images_all):
    sync_settings.append_constraint(
        CheckConstraint(f"{_column.name} IN (0, 1)", name=f"sync_settings_{_column.name}").ddl_if(
            dialect="sqlite"
        )
    )

sync_records = Table(
    "sync_records",
    metadata,
    Column("child_account_id", Text, primary_key=True),
    Column("entity_type", Text, primary_key=True),
    Column("child_entity_id", Text, primary_key=True),
    Column("record", JSON, nullable=False),
)

# What the last survey of a child left; of child '' the catalogue of the main account.
surveys = Table(
    "surveys",
    metadata,
    Column("main_account_id", Text, primary_key=True),
    Column("child_account_id", Text, primary_key=True),
    Column("entity_type", Text, primary_key=True),
    Column("began", UtcDateTime, nullable=False),
    Column("settings", Text, nullable=False),
    Column("seen", LargeBinary, nullable=False),
    Column("moved", Integer, nullable=False),
)
