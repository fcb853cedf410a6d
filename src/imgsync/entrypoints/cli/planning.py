"""What enqueue and sync share: planning and queueing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from imgsync.application.plan_sync import Planned
from imgsync.domain.entity_types import MatchField
from imgsync.domain.payloads import batch_payload
from imgsync.entrypoints.container import Container

match_option = click.option(
    "--match-by",
    type=click.Choice([f.value for f in MatchField]),
    help="Field that finds the child's counterpart (default: setting match_by, externalCode).",
)
types_option = click.option(
    "--type", "types", multiple=True, help="Only this entity type; may be repeated."
)


@dataclass(slots=True)
class PlanOutcome:
    """What a plan found, and the ids of the tasks it queued."""

    entities: int = 0
    images: int = 0
    created: int = 0
    updated: int = 0
    task_ids: list[int] = field(default_factory=list)
    skipped: list[Planned] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "entities": self.entities,
            "images": self.images,
            "created": self.created,
            "updated": self.updated,
            "task_ids": self.task_ids,
            "skipped": [
                {"type": p.entity_type, "name": p.name, "reason": p.reason} for p in self.skipped
            ],
        }


async def plan_and_queue(
    container: Container,
    main_id: str,
    child_id: str,
    *,
    match_by: str | None,
    types: Sequence[str],
    dry_run: bool = False,
    progress: Callable[[Planned], None] = lambda _: None,
) -> PlanOutcome:
    """Plans main → child and queues one task per entity (none in a dry run)."""
    outcome = PlanOutcome()
    plan = container.plan_sync()(
        main_id,
        child_id,
        match_field=MatchField(match_by) if match_by else container.config().match_by,
        only_types=types,
    )
    async for planned in plan:
        progress(planned)
        if planned.request is None:
            outcome.skipped.append(planned)
            continue
        outcome.entities += 1
        outcome.images += planned.images
        if dry_run:
            continue
        queued = container.queue().enqueue(
            batch_payload(planned.request),
            dedupe_key=planned.request.dedupe_key,
        )
        outcome.task_ids.append(queued.task_id)
        outcome.created += queued.created
        outcome.updated += not queued.created
    return outcome


def warn_if_disabled(container: Container, child_id: str) -> None:
    """Says on stderr that the child receives no images. UnknownAccountError for no account."""
    container.accounts().get(child_id)
    if not container.settings().get(child_id).enabled:
        click.echo(
            f"Note: image sync is disabled for child '{child_id}'; "
            "tasks will complete without copying (see 'imgsync settings set').",
            err=True,
        )


def print_skipped(outcome: PlanOutcome) -> None:
    for p in outcome.skipped:
        click.echo(f"Skipped {p.entity_type} '{p.name}': {p.reason}", err=True)
