"""Parking every task that waits for an account, in one statement.

Its child is a column, unless another program left it out. Its main account, and then the child too,
stands in the payload, which other programs write and no database may be made to decode: it is
looked for as text. A task of which that does not tell is parked by itself once it is claimed.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, func, or_, select, update

from imgsync.adapters.sql.tables import accounts, sync_queue
from imgsync.adapters.sql.types import storable
from imgsync.domain.tasks import TaskStatus

_task = sync_queue.c
_MAIN, _CHILD = "main_account_id", "child_account_id"
_SEPARATORS = (":", ": ")


def parked_until(connection: Connection, account_id: str, until: datetime) -> datetime | None:
    """Until when the account's tasks wait; None where its parking has been ended meanwhile.

    The account cannot be stored anew before the transaction ends, so that whoever frees it finds
    the tasks that are parked here. `until` counts where no such account is stored.
    """
    query = select(accounts.c.parked_until).where(accounts.c.id == account_id)
    row = connection.execute(query.with_for_update(read=True)).first()
    return until if row is None else row.parked_until


def park_waiting(
    connection: Connection,
    account_id: str,
    now: datetime,
    values: dict[str, Any],
    kinds: Sequence[str],
) -> int:
    """Writes `values` to the tasks that are due and name the account; how many they were.

    Those that wait for a later time of their own keep it, and those that another host is about to
    claim are left to it.
    """
    due = (
        select(_task.id)
        .where(
            _task.entity_type.in_(kinds),
            _task.status == TaskStatus.PENDING.value,
            _task.scheduled_at <= now,
            _names(connection, account_id),
        )
        .with_for_update(skip_locked=True)
    )
    return connection.execute(
        update(sync_queue).where(_task.id.in_(due)).values(**values, updated_at=now)
    ).rowcount


def _names(connection: Connection, account_id: str) -> ColumnElement[bool]:
    """Whether the task says that it is for the account.

    Without the column, the dedupe key (``CHILD/TYPE/ENTITY``) may name the child.
    """
    position = func.strpos if connection.dialect.name == "postgresql" else func.instr
    payload = cast(_task.payload, Text)

    def spelled(field: str) -> list[ColumnElement[bool]]:
        texts = dict.fromkeys(_spellings(field, account_id))
        return [position(payload, text) > 0 for text in texts]

    child = storable(account_id)
    prefix = func.substr(_task.dedupe_key, 1, len(child) + 1) == child + "/"
    return or_(
        _task.account_id == child,
        and_(_task.account_id.is_(None), or_(prefix, *spelled(_CHILD))),
        *spelled(_MAIN),
    )


def _spellings(field: str, account_id: str) -> Iterator[str]:
    """The field as programs write it. Inside of a JSON text the quotes would be escaped."""
    for separator in _SEPARATORS:
        for ascii_only in (True, False):
            value = json.dumps(account_id, ensure_ascii=ascii_only)
            yield storable(f'"{field}"{separator}{value}')
