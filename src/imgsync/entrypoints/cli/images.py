"""imgsync images: those that could not be copied, and another attempt at them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.accounts import find_account
from imgsync.domain.failures import FailedImage
from imgsync.entrypoints.advice import ADVICE
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    MAX_ID,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.json_texts import failed_image_as_dict
from imgsync.entrypoints.translation import gettext, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_IDS_AT_ONCE = 1000

_children_option = click.option(
    "--child",
    "children",
    metavar="ACCOUNT",
    shell_complete=account_names,
    multiple=True,
    help="Child account, by ID or name; may be repeated (default: all).",
)


@click.group()
def images() -> None:
    """Images that could not be copied."""


@images.command("failed")
@_children_option
@click.option(
    "--reason",
    "text",
    metavar="TEXT",
    default="",
    help="Only those with this text in their reason, file name, or entity's name or code.",
)
@click.option(
    "--settled/--passing",
    "settled",
    default=None,
    help="Only those that no attempt can copy while they stay as they are, or only the others.",
)
@click.option("--limit", type=click.IntRange(1, MAX_ID), default=100, show_default=True)
@json_option
@pass_container
def failed(
    container: "Container",
    children: tuple[str, ...],
    text: str,
    settled: bool | None,
    limit: int,
    as_json: bool,
) -> None:
    """Images that are not on a child, why, and when they are tried again, oldest first.

    Those that may pass are tried again by themselves after 1, 5 and 30 minutes and 6 hours, then
    with the next sync of their entity, or by its task where nothing of it could be copied; the
    others once they change in the main account, or a setting that concerns them does. 'imgsync
    images retry' tries either at once.
    """
    accounts, stored = container.accounts(), container.failed_images()

    async def look() -> tuple[list[FailedImage], dict[str, str]]:
        chosen = [(await find_account(accounts, child)).id for child in children]
        rows = await stored.find(child_ids=chosen, text=text, settled=settled, limit=limit + 1)
        return rows, {account.id: account.name for account in await accounts.all()}

    rows, names = run_async(container, look)
    rows, is_more = rows[:limit], len(rows) > limit
    if as_json:
        print_json([_as_dict(row, names) for row in rows])
        return
    if not rows:
        say(gettext("No failed images."))
        return
    print_table(
        (
            gettext("ID"),
            gettext("Child"),
            gettext("Entity"),
            gettext("Image"),
            gettext("Reason"),
            gettext("Attempts"),
            gettext("Next attempt (UTC)"),
        ),
        (
            (
                str(row.id),
                names.get(row.entity.child_account_id, row.entity.child_account_id),
                translated(row.entity.label),
                row.failure.filename,
                f"{translated(row.failure.cause)}: {translated(row.failure.reason)}",
                str(row.attempts),
                _next_attempt(row),
            )
            for row in rows
        ),
    )
    for cause in dict.fromkeys(row.failure.cause for row in rows):
        if advice := {c.value: a for c, a in ADVICE.items()}.get(cause):
            say(
                gettext(
                    "What to do, %(cause)s: %(advice)s.",
                    cause=translated(cause),
                    advice=gettext(advice),
                )
            )
    if is_more:
        say(gettext("There are more than %(limit)s; see --limit.", limit=limit))


@images.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))
@_children_option
@json_option
@pass_container
def retry(
    container: "Container", ids: tuple[int, ...], children: tuple[str, ...], as_json: bool
) -> None:
    """Queue failed images for another attempt now: those with these IDs, or all of them.

    So are those that no attempt can copy while they stay as they are. A worker does it, which sets
    what is missing and leaves all other images alone; where the task of an entity waits already,
    that one does it.
    """
    accounts, stored, retry_failed = (
        container.accounts(),
        container.failed_images(),
        container.retry_failed(),
    )

    async def put() -> tuple[list[FailedImage], int]:
        chosen = [(await find_account(accounts, child)).id for child in children]
        if ids:
            rows: list[FailedImage] = []
            for start in range(0, len(ids), _IDS_AT_ONCE):
                rows += await stored.get_many(ids[start : start + _IDS_AT_ONCE])
            rows = [r for r in rows if not chosen or r.entity.child_account_id in chosen]
        else:
            rows = await retry_failed.all(chosen)
        return rows, await retry_failed(rows)

    rows, entities = run_async(container, put)
    found = [row.id for row in rows]
    missing = [str(one) for one in dict.fromkeys(ids) if one not in found]
    fields = {"retried": found, "entities": entities}
    if as_json and not missing:
        print_json(fields)
    if not as_json and rows:
        say(
            gettext(
                "%(images)s of %(entities)s left to 'imgsync worker'.",
                images=ngettext("%(num)s image", "%(num)s images", len(rows)),
                entities=ngettext("%(num)s entity", "%(num)s entities", entities),
            )
        )
    elif not as_json and not missing:
        say(gettext("No failed images."))
    if missing:
        raise CommandError(
            gettext("No failed image has this ID: %(ids)s", ids=", ".join(missing)), fields=fields
        )


def summary(waiting: int, images: int, first: Any) -> str:
    """One line of failed images, for the end of a sync."""
    text = ngettext(
        "%(num)s image failed; see 'imgsync images failed'",
        "%(num)s images failed; see 'imgsync images failed'",
        images,
    )
    if first is None:
        return text + "."
    again = gettext("it is") if images == 1 else gettext("they are")
    if waiting < images:
        again = ngettext("%(num)s of them is", "%(num)s of them are", waiting)
    return gettext(
        "%(text)s; %(again)s tried again by 'imgsync worker', first at %(at)s UTC.",
        text=text,
        again=again,
        at=f"{first:%Y-%m-%d %H:%M:%S}",
    )


def _as_dict(row: FailedImage, names: dict[str, str]) -> dict[str, Any]:
    child_id = row.entity.child_account_id
    return {**failed_image_as_dict(row), "child_name": names.get(child_id, child_id)}


def _next_attempt(row: FailedImage) -> str:
    if row.next_attempt_at is not None:
        return f"{row.next_attempt_at:%Y-%m-%d %H:%M:%S}"
    return (
        gettext("once it changes")
        if row.failure.settled
        else gettext("with its entity's next task")
    )


def waiting_of(counts: Sequence[Any]) -> tuple[int, int, Any]:
    """(images that are tried by themselves, all images, when the first is tried)."""
    first = min((c.next_attempt_at for c in counts if c.next_attempt_at), default=None)
    return sum(c.waiting for c in counts), sum(c.images for c in counts), first
