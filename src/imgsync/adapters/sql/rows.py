"""Rows of sync_queue as tasks."""

from typing import Any

from sqlalchemy import Row

from imgsync.domain.tasks import Task, TaskStatus


def task_of(row: Row[Any]) -> Task:
    """The task in a whole row."""
    warnings = row.warnings if isinstance(row.warnings, list) else []
    return Task(
        id=row.id,
        payload=row.payload,
        status=TaskStatus(row.status),
        priority=row.priority,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        scheduled_at=row.scheduled_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        dedupe_key=row.dedupe_key,
        lease_token=row.lease_token,
        lease_expires_at=row.lease_expires_at,
        result=row.result,
        error=row.error,
        warnings=tuple(map(str, warnings)),
    )
