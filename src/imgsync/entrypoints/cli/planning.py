"""What enqueue and sync share: planning and queueing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from imgsync.application.plan_sync import Planned, allowed_clears
from imgsync.domain.entity_types import MatchField
from imgsync.domain.errors import ClearLimitError
from imgsync.domain.payloads import SyncRequest, batch_payload
from imgsync.entrypoints.cli.output import say
from imgsync.entrypoints.container import Container

match_option = click.option(
    "--match-by",
    type=click.Choice([f.value for f in MatchField]),
    help="Field that finds the child's counterpart (default: setting match_by, externalCode).",
)
types_option = click.option(
    "--type", "types", multiple=True, help="Only this entity type; may be repeated."
)
max_clear_option = click.option(
    "--max-clear",
    type=click.IntRange(0),
    help="Clear the images of no more child entities than this; of none where it would be more "
    "(default: 20, or 1 % of those compared, whichever is more).",
)


@dataclass(slots=True)
class PlanOutcome:
    """What a plan found, and the ids of the tasks it queued.

    `entities`: those whose images are copied; `clears`: those whose counterparts lose theirs;
    `clears_refused`: those that would, were they not more than `clears_allowed`.
    """

    entities: int = 0
    images: int = 0
    clears: int = 0
    clears_refused: int = 0
    clears_allowed: int = 0
    created: int = 0
    updated: int = 0
    task_ids: list[int] = field(default_factory=list)
    skipped: list[Planned] = field(default_factory=list)

    @property
    def found(self) -> int:
        """All that was planned, whatever becomes of it."""
        return self.entities + self.clears + self.clears_refused + len(self.skipped)

    @property
    def clear_limit_error(self) -> ClearLimitError | None:
        """Why the images of no entity are cleared."""
        if not self.clears_refused:
            return None
        return ClearLimitError(self.clears_refused, self.clears_allowed)

    def as_dict(self) -> dict[str, Any]:
        return {
            "entities": self.entities,
            "images": self.images,
            "clears": self.clears,
            "clears_refused": self.clears_refused,
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
    max_clear: int | None = None,
    progress: Callable[[Planned], None] = lambda _: None,
    outcome: PlanOutcome | None = None,
) -> PlanOutcome:
    """Plans main → child and queues one task per entity (none in a dry run).

    What clears a child's images comes last, once all is compared: none where it is more than
    `max_clear`, or than `allowed_clears`. `outcome` is filled as the planning goes on, so that it
    tells what was queued where the planning ends early.
    """
    outcome = PlanOutcome() if outcome is None else outcome
    plan_sync = container.plan_sync()
    clears: list[SyncRequest] = []

    def queue(request: SyncRequest) -> None:
        if dry_run:
            return
        queued = container.queue().enqueue(
            batch_payload(request),
            dedupe_key=request.dedupe_key,
            account_id=request.child_account_id,
            entity_id=request.main_entity_id,
        )
        outcome.task_ids.append(queued.task_id)
        outcome.created += queued.created
        outcome.updated += not queued.created

    plan = plan_sync(
        main_id,
        child_id,
        match_field=MatchField(match_by) if match_by else container.config().match_by,
        only_types=types,
    )
    async for planned in plan:
        progress(planned)
        if planned.request is None:
            outcome.skipped.append(planned)
        elif planned.clears:
            clears.append(planned.request)
        else:
            outcome.entities += 1
            outcome.images += planned.images
            queue(planned.request)
    compared = outcome.entities + len(clears)
    outcome.clears_allowed = allowed_clears(compared) if max_clear is None else max_clear
    if len(clears) > outcome.clears_allowed:
        outcome.clears_refused = len(clears)
    else:
        outcome.clears = len(clears)
        for request in clears:
            queue(request)
    if not dry_run:
        await plan_sync.note_roles(main_id, child_id)
    return outcome


def print_skipped(outcome: PlanOutcome) -> None:
    """Says on stderr what a plan leaves out, and why."""
    for p in outcome.skipped:
        what = f"{p.entity_type} '{p.name}'" if p.name else p.entity_type
        say(f"Skipped {what}: {p.reason}", err=True)
    if outcome.clear_limit_error is not None:
        say(str(outcome.clear_limit_error), err=True)
