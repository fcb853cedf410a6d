"""What enqueue and sync share: their options, and what they say of a plan."""

import click

from imgsync.application.enqueue import PlanOutcome
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.model import Account, MatchField
from imgsync.entrypoints.cli.output import say
from imgsync.entrypoints.cli.runtime import with_hint

match_option = click.option(
    "--match-by",
    type=click.Choice([f.value for f in MatchField]),
    help="Field that finds the child's counterpart "
    "(default: the configured match_by, externalCode).",
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


def chosen_field(match_by: str | None) -> MatchField | None:
    """The field that `match_option` names."""
    return MatchField(match_by) if match_by else None


def print_skipped(outcome: PlanOutcome) -> None:
    """Says on stderr what a plan leaves out, and why."""
    for p in outcome.skipped:
        what = f"{p.entity_type} '{p.name}'" if p.name else p.entity_type
        say(f"Skipped {what}: {p.reason}", err=True)
    if outcome.clear_limit_error is not None:
        say(with_hint(outcome.clear_limit_error), err=True)


def off_message(child: Account) -> str:
    """What is said of a child that receives no images."""
    return with_hint(SyncIsOffError(child.name, child.id))
