"""Payloads as arguments of jobs, and jobs as tasks."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from imgsync.domain.tasks import MAX_ATTEMPTS, Task, TaskStatus

TASK_NAME = "imgsync"
_LONGEST_ACCOUNT = 100
"""The engine has 128 characters for a task's name."""

CHILD = f"CASE WHEN left({{job}}.task_name, 8) = '{TASK_NAME}:' THEN {{job}}.task_name ELSE '' END"
"""Tells whose a job is: in the engine's own table, so that one index finds each child's next."""

_QUEUE_PREFIX = "imgsync."
_JSON = "$json"
_SHOWN = 200

_STATUSES = {
    "todo": TaskStatus.PENDING,
    "doing": TaskStatus.PROCESSING,
    "succeeded": TaskStatus.COMPLETED,
}
"""All other statuses of the engine are kinds of failure, such as ``cancelled``."""

FAILED = ("failed", "cancelled", "aborted")


def shown_time(value: str) -> str:
    """A time that Python can hold: one of another program's jobs may be ``infinity``, or none."""
    return f"least(greatest({value}, '0001-01-02 00:00Z'), '9999-12-30 00:00Z')"


_BORN = "(SELECT min(at) FROM procrastinate_events WHERE job_id = j.id)"

COLUMNS = f"""
    j.id, j.queue_name, j.status::text, j.priority, j.lock, j.args::text, j.attempts,
    {shown_time(f"coalesce(j.scheduled_at, t.created_at, {_BORN})")} AS scheduled_at,
    {shown_time(f"coalesce(t.created_at, {_BORN})")} AS created_at,
    {shown_time(f"coalesce(t.updated_at, {_BORN})")} AS updated_at,
    t.max_attempts, t.crashes, t.check_again, t.parked_for, t.account_id, t.entity_id,
    t.lease_token,
    CASE WHEN t.lease_expires_at IS NOT NULL THEN {shown_time("t.lease_expires_at")} END
        AS lease_expires_at,
    t.result, t.error, t.warnings
"""
"""What `task_of` reads, of a job `j` and what stands beside it, `t`, which another program's job
has not."""


def queue_of(kind: str) -> str:
    """The engine's queue for tasks of a kind."""
    return _QUEUE_PREFIX + kind


def name_of(account_id: str | None) -> str:
    """The engine's name for a task of that child."""
    if account_id is None:
        return TASK_NAME
    account = storable(account_id)
    if len(account) > _LONGEST_ACCOUNT:
        account = hashlib.sha256(account.encode()).hexdigest()
    return f"{TASK_NAME}:{account}"


def status_condition(status: TaskStatus) -> str:
    names = [name for name, own in _STATUSES.items() if own is status]
    if names:
        return f"j.status = '{names[0]}'"
    return "j.status NOT IN (" + ", ".join(f"'{name}'" for name in _STATUSES) + ")"


def status_of(name: str) -> TaskStatus:
    return _STATUSES.get(name, TaskStatus.FAILED)


def arguments_of(payload: Any) -> str:
    """The payload as JSON of the arguments, themselves a JSON object that `jsonb` can hold.

    An object stands there as it is, for whoever looks at the engine's jobs; anything else, or text
    that PostgreSQL refuses (NUL, half a surrogate pair), in one text.
    """
    if isinstance(payload, Mapping) and _JSON not in payload:
        try:
            plain = json.dumps(payload, ensure_ascii=False, allow_nan=False)
            plain.encode()
        except ValueError:  # UnicodeEncodeError is one
            plain = "\\u0000"
        if "\\u0000" not in plain:
            return plain
    return json.dumps({_JSON: json.dumps(payload)})


def accounts_named(payload: Any, account_id: str | None, key: str | None) -> list[str]:
    """Ids of the accounts that a task is for: its main one, and its child.

    Who queued it says which child; else the payload or the key (``CHILD/TYPE/ENTITY``) may.
    """
    named = set(_values(payload, "main_account_id"))
    if account_id is not None:
        named.add(account_id)
    else:
        named.update(_values(payload, "child_account_id"))
        if key is not None and "/" in key:
            named.add(key.partition("/")[0])
    return sorted(map(storable, named))


def _values(payload: Any, name: str) -> Iterator[str]:
    inside = [payload]
    while inside:
        value = inside.pop()
        if isinstance(value, Mapping):
            if isinstance(found := value.get(name), str):
                yield found
            inside.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            inside.extend(value)


def storable(text: str) -> str:
    """The text without NUL and lone surrogates, which PostgreSQL refuses."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def storable_or_none(text: str | None) -> str | None:
    return None if text is None else storable(text)


def task_of(row: Mapping[str, Any]) -> Task:
    """The task of a row of `COLUMNS`."""
    payload, damage = _payload(row["args"])
    status = status_of(row["status"])
    running = status is TaskStatus.PROCESSING
    error = row["error"]
    if error is None and row["status"] in ("cancelled", "aborted"):
        error = f"{row['status']} in procrastinate"
    expires = row["lease_expires_at"]
    return Task(
        id=row["id"],
        payload=payload,
        status=status,
        priority=row["priority"],
        attempts=row["attempts"] + running,  # the engine counts those that have ended
        max_attempts=MAX_ATTEMPTS if row["max_attempts"] is None else row["max_attempts"],
        scheduled_at=_utc(row["scheduled_at"]),
        created_at=_utc(row["created_at"]),
        updated_at=_utc(row["updated_at"]),
        dedupe_key=row["lock"],
        lease_token=row["lease_token"],
        lease_expires_at=None if expires is None else _utc(expires),
        result=row["result"],
        error=error,
        warnings=tuple(row["warnings"] or ()),
        crashes=row["crashes"] or 0,
        check_again=bool(row["check_again"]),
        parked_for=row["parked_for"],
        account_id=row["account_id"],
        entity_id=row["entity_id"],
        damage=damage,
        kind=row["queue_name"].removeprefix(_QUEUE_PREFIX),
    )


def _payload(arguments: str) -> tuple[Any, str | None]:
    """The payload, and why it cannot be read where it cannot."""
    try:
        found = json.loads(arguments)
        return (json.loads(found[_JSON]) if set(found) == {_JSON} else found), None
    except RecursionError:
        reason = "is nested too deep"
    except (TypeError, ValueError) as error:
        reason = f"is no JSON that can be read: {error}"
    return arguments[:_SHOWN], f"payload {reason}"


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
