"""What commands and the HTTP API tell as JSON, in the same words."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from imgsync.domain.failures import FailedImage
from imgsync.domain.model import StoredLink
from imgsync.domain.runs import Run


def link_as_dict(link: StoredLink) -> dict[str, Any]:
    """A link with its settings; accounts by id."""
    settings = link.settings
    return {
        "main": link.main_id,
        "child": link.child_id,
        "sync_images": settings.sync_images,
        "sync_images_all": settings.sync_images_all,
        "match_by": settings.match_by and settings.match_by.value,
        "types": list(settings.types),
        "folders": list(settings.folders),
        "pictures": asdict(settings.pictures),
        "schedule": asdict(settings.schedule),
        "guard": settings.guard,
        "damage": link.damage,
    }


def failed_image_as_dict(row: FailedImage) -> dict[str, Any]:
    """Times in ISO 8601, accounts and entities by id."""
    entity, failure = row.entity, row.failure
    return {
        "id": row.id,
        "main": entity.main_account_id,
        "child": entity.child_account_id,
        "type": entity.entity_type,
        "name": entity.name,
        "code": entity.code,
        "main_entity_id": entity.main_entity_id,
        "child_entity_id": entity.child_entity_id,
        "image_id": failure.image_id,
        "filename": failure.filename,
        "cause": failure.cause,
        "reason": failure.reason,
        "settled": failure.settled,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at and row.next_attempt_at.isoformat(),
        "first_failed_at": row.first_failed_at.isoformat(),
        "last_failed_at": row.last_failed_at.isoformat(),
    }


def run_as_dict(run: Run, now: datetime) -> dict[str, Any]:
    """A run as it stands now; children by id, times in ISO 8601."""
    return {
        "id": run.id,
        "kind": run.kind.value,
        "cause": run.cause.value,
        "status": run.status(now).value,
        "children": list(run.child_ids),
        "began": run.began.isoformat(),
        "ended": run.ended and run.ended.isoformat(),
        "seconds": run.seconds,
        "numbers": dict(run.numbers),
        "by_child": {child_id: dict(numbers) for child_id, numbers in run.by_child.items()},
        "error": run.error,
    }
