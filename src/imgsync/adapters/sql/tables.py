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
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    literal_column,
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
# By id at their end, for pages of them; as a sum, so that no database takes the primary key for the
# same order and walks over all that is newer. That by status is said so that SQLite, which does not
# know how many rows there are of each, takes it for nothing else.
_by_id = sync_queue.c.id + literal_column("0")
Index("sync_queue_account", sync_queue.c.account_id, sync_queue.c.status, _by_id)
Index("sync_queue_status", text("coalesce(status, '')"), _by_id)
WARNED = text("length(CAST(warnings AS TEXT)) > 2")
"""Whether a task has warnings, as the index has it."""
for _name, _of in (("sync_queue_warned", ()), ("sync_queue_warned_account", (_child,))):
    Index(_name, *_of, _by_id, sqlite_where=WARNED, postgresql_where=WARNED)
FAILED = text("status || '' = 'failed'")
"""As the index that has these alone says it, and nothing else does: PostgreSQL would look for a
single key in it. By the ids and keys in it those that a newer task has superseded are found, and no
row is read. It has no more than these, so that whatever fits into the index of keys fits into it.
"""
CANCELLED_ONES = text("status = 'failed' AND error = 'cancelled'")
_failed = (sync_queue.c.id, sync_queue.c.dedupe_key)
Index("sync_queue_failed", *_failed, sqlite_where=FAILED, postgresql_where=FAILED)
Index(
    "sync_queue_cancelled",
    sync_queue.c.entity_type,
    sync_queue.c.account_id,
    sync_queue.c.id,
    sqlite_where=CANCELLED_ONES,
    postgresql_where=CANCELLED_ONES,
)
_parked = sync_queue.c.parked_for.is_not(None)
Index(
    "sync_queue_parked",
    sync_queue.c.parked_for,
    sync_queue.c.status,
    sync_queue.c.entity_type,  # so that they are counted without a look at each
    sqlite_where=_parked,
    postgresql_where=_parked,
)
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

# How many tasks there are, written by triggers of sync_queue; '' stands for those of no child. On
# PostgreSQL several rows may stand for the same: their sum counts.
sync_counts = Table(
    "sync_counts",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("entity_type", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("tasks", BigInteger, nullable=False),
)
Index("sync_counts_of", sync_counts.c.entity_type, sync_counts.c.account_id, sync_counts.c.status)

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
    Column("pictures", JSON(none_as_null=True)),
    Column("schedule", JSON(none_as_null=True)),
    Column("guard", Boolean, nullable=False, server_default=false()),
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

# Images that could not be copied, one row for each of an entity; `image_id` is main's.
failed_images = Table(
    "failed_images",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("child_account_id", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("child_entity_id", Text, nullable=False),
    Column("image_id", Text, nullable=False),
    Column("main_account_id", Text, nullable=False),
    Column("main_entity_id", Text, nullable=False),
    Column("entity_name", Text, nullable=False),
    Column("entity_code", Text),
    Column("filename", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("cause", String(50), nullable=False),
    Column("reason", Text, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("first_failed_at", UtcDateTime, nullable=False),
    Column("last_failed_at", UtcDateTime, nullable=False),
)
Index(
    "failed_images_one",
    failed_images.c.child_account_id,
    failed_images.c.entity_type,
    failed_images.c.child_entity_id,
    failed_images.c.image_id,
    unique=True,
)

# Every set and clear of a child's list; `after` is empty while it is under way.
changes = Table(
    "changes",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("run", Text, nullable=False),
    Column("action", String(20), nullable=False),
    Column("main_account_id", Text, nullable=False),
    Column("child_account_id", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("main_entity_id", Text, nullable=False),
    Column("child_entity_id", Text, nullable=False),
    Column("entity_name", Text, nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON(none_as_null=True)),
    Column("backup", Text),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("entity_code", Text),
)
Index("changes_run", changes.c.run, changes.c.id)
Index(
    "changes_entity",
    changes.c.child_account_id,
    changes.c.entity_type,
    changes.c.child_entity_id,
    changes.c.id,
)
Index("changes_time", changes.c.changed_at)

# When a job of the schedule is due; one process at a time runs it, and one job of a subject.
schedule = Table(
    "schedule",
    metadata,
    Column("job", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("lease_token", String(32)),
    Column("lease_expires_at", UtcDateTime),
)

# What a sweep, a survey, a check or a sync found and did, in numbers by name.
runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("cause", String(20), nullable=False),
    Column("child_account_ids", JSON, nullable=False),
    Column("began", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    Column("numbers", JSON, nullable=False),
    Column("error", Text),
    Column("by_child", JSON, nullable=False, server_default="{}"),
    Column("noted", UtcDateTime),
)
Index("runs_time", runs.c.began)

# What an account has taken, by the hour: requests, units, answers 429, images and bytes; events of
# webhooks.
usage = Table(
    "usage",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("units", BigInteger, nullable=False, server_default="0"),
    Column("too_many", BigInteger, nullable=False, server_default="0"),
    Column("images", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("events", BigInteger, nullable=False, server_default="0"),
    Column("dropped", BigInteger, nullable=False, server_default="0"),
)

# How many attempts at tasks took no longer than `bound` seconds, and longer than the bound before.
task_times = Table(
    "task_times",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("ended", Text, primary_key=True),
    Column("bound", Text, primary_key=True),
    Column("tasks", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
)

# When a child was last compared as a whole, and when it was last found equal.
proofs = Table(
    "proofs",
    metadata,
    Column("child_account_id", Text, primary_key=True),
    Column("main_account_id", Text, nullable=False),
    Column("compared_at", UtcDateTime, nullable=False),
    Column("equal_at", UtcDateTime),
    Column("numbers", JSON, nullable=False),
)

# Events of MoySklad that nobody has acted upon yet, and the requests that brought events: one that
# comes again is dropped.
webhook_requests = Table(
    "webhook_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
)
Index("webhook_requests_time", webhook_requests.c.received_at)
webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("account_id", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("action", String(20), nullable=False),
    # The child alone that it still concerns, '' for all.
    Column("child_account_id", Text, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("lease_token", String(32)),
    Column("lease_expires_at", UtcDateTime),
)
Index("webhook_events_lease", webhook_events.c.lease_token)
Index("webhook_events_account", webhook_events.c.account_id, webhook_events.c.id)

# What the last look at an account's webhooks found.
webhook_states = Table(
    "webhook_states",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("url", Text),
    Column("state", JSON, nullable=False),
    Column("checked_at", UtcDateTime),
    Column("last_event_at", UtcDateTime),
)

# What the web server keeps to itself: the hash of the password, keys that sign.
web_secrets = Table(
    "web_secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("address", Text, nullable=False),
    Column("failed_at", UtcDateTime, nullable=False),
)
Index("login_failures_address", login_failures.c.address, login_failures.c.failed_at)

# Keys of programs that use the HTTP API, by their hash.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("key_hash", Text, nullable=False, unique=True),
    Column("may_write", Boolean, nullable=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
)

# Every change that somebody made by the pages, the HTTP API or as a solution.
audit = Table(
    "audit",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", String(50), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)
Index("audit_time", audit.c.at)

# Our solutions, and the accounts that have installed them: with `token` while it is valid, and when
# MoySklad signed the last call that was heeded.
solutions = Table(
    "solutions",
    metadata,
    Column("app_id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("is_draft", Boolean, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
)
installations = Table(
    "installations",
    metadata,
    Column("app_id", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("token", Text),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)

# The key that secrets are encrypted with, by its fingerprint, in one row; `to_wipe` while what
# secrets were before may still be in what the database has freed.
encryption = Table(
    "encryption",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", String(8), nullable=False),
    Column("to_wipe", Boolean, nullable=False, server_default=false()),
)

# By hash, the tokens and the requests of MoySklad's calls, which serve once; `call` tells which
# call it was.
used_tokens = Table(
    "used_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("call", Text, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("used_tokens_time", used_tokens.c.expires_at)

# Requests of the HTTP API that may be sent again, by a hash of who sent them and of their key.
repeats = Table(
    "repeats",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("token", String(32), nullable=False),
    Column("began", UtcDateTime, nullable=False),
    Column("leased_until", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("location", Text),
)
Index("repeats_time", repeats.c.began)

# The last comparison of each child, and the entities that it found different.
comparisons = Table(
    "comparisons",
    metadata,
    Column("child_account_id", Text, primary_key=True),
    Column("main_account_id", Text, nullable=False),
    Column("began", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    # When the one began whose findings are kept.
    Column("found_at", UtcDateTime),
    Column("counts", JSON, nullable=False),
    Column("left_out", Integer, nullable=False),
    Column("error", Text),
    # Of the one that was begun last: what it is known by, and its last sign of life.
    Column("token", String(32), nullable=False),
    Column("alive_at", UtcDateTime, nullable=False),
)
differences = Table(
    "differences",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("child_account_id", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("difference", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("main_entity_id", Text, nullable=False),
    Column("child_entity_id", Text, nullable=False),
    Column("main_images", JSON, nullable=False),
    Column("child_images", JSON(none_as_null=True)),
    Column("will_change", Boolean, nullable=False),
)
Index("differences_child", differences.c.child_account_id, differences.c.id)
# By these the pictures are found that a page shows.
Index("differences_main_entity", differences.c.main_entity_id)
Index("differences_child_entity", differences.c.child_entity_id)
Index("failed_images_main_entity", failed_images.c.main_entity_id)
