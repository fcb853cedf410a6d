"""imgsync settings: which images a child account receives, and what becomes of them."""

from typing import TYPE_CHECKING, Any

import click

from imgsync.application.accounts import find_account
from imgsync.domain.model import Account, LinkSettings
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.pictures import (
    as_dict,
    described,
    picture_changes,
    picture_options,
)
from imgsync.entrypoints.cli.runtime import child_option, json_option, pass_container, run_async
from imgsync.entrypoints.cli.schedules import (
    described_schedule,
    schedule_as_dict,
    schedule_changes,
    schedule_options,
)
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.group()
def settings() -> None:
    """Image settings of child accounts; both switches are off by default."""


@settings.command("show")
@click.option(
    "--child",
    "child_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="One account, by ID or name; all by default.",
)
@json_option
@pass_container
def show(container: "Container", child_id: str | None, as_json: bool) -> None:
    """Show the image settings."""
    accounts, stored = container.accounts(), container.settings()

    async def look() -> list[tuple[Account, LinkSettings]]:
        chosen = [await find_account(accounts, child_id)] if child_id else await accounts.all()
        return [(a, await stored.get(a.id)) for a in chosen]

    found = run_async(container, look)
    if as_json:
        print_json([_as_dict(a.id, s) for a, s in found])
        return
    if not found:
        say(gettext("No accounts yet; add one with 'imgsync account add'."))
        return
    print_table(
        (
            gettext("Account"),
            gettext("Name"),
            "sync_images",
            "sync_images_all",
            gettext("Images per entity"),
            gettext("Pictures"),
            gettext("Surveyed"),
        ),
        (
            (
                a.id,
                a.name,
                _on(s.sync_images),
                _on(s.sync_images_all),
                _per_entity(s),
                described(s.pictures),
                described_schedule(s.schedule, guard=s.guard),
            )
            for a, s in found
        ),
    )


@settings.command("set")
@child_option
@click.option("--sync-images/--no-sync-images", default=None, help="Copy the first image only.")
@click.option("--sync-images-all/--no-sync-images-all", default=None, help="Copy all images.")
@picture_options
@schedule_options
@json_option
@pass_container
def set_settings(
    container: "Container",
    /,
    child_id: str,
    sync_images: bool | None,
    sync_images_all: bool | None,
    sweep: str | None,
    survey_every: int | str | None,
    check_only: bool | None,
    guard: bool | None,
    as_json: bool,
    **pictures: Any,
) -> None:
    """Change the image settings of a child account. Turning one switch on clears the other.

    The next sync copies anew what a changed setting makes differently, and nothing else. A main
    account is refused: images are copied from it, never to it.
    """
    changes = picture_changes(**pictures)
    times = schedule_changes(sweep=sweep, survey_every=survey_every, check_only=check_only)
    surveys = bool(times) or guard is not None
    if sync_images is None and sync_images_all is None and not changes and not surveys:
        raise click.UsageError(
            gettext(
                "give --sync-images or --sync-images-all (or a --no- form), or an option "
                "for pictures or for surveys"
            )
        )
    if sync_images and sync_images_all:
        raise click.UsageError(gettext("--sync-images and --sync-images-all exclude each other"))
    change = container.change_settings()
    account, changed = run_async(
        container,
        lambda: change(
            child_id,
            first_only=sync_images,
            all_images=sync_images_all,
            picture_changes=changes,
            schedule_changes=times,
            guard=guard,
        ),
    )
    if as_json:
        print_json(_as_dict(account.id, changed))
        return
    told = f" ({described(changed.pictures)})" if changes else ""
    if surveys:
        told += f"; {described_schedule(changed.schedule, guard=changed.guard)}"
    say(
        gettext(
            "'%(name)s' now receives %(images)s%(told)s.",
            name=account.name,
            images=_describe(changed),
            told=told,
        )
    )


def _describe(settings: LinkSettings) -> str:
    if settings.sync_images_all:
        return gettext("all images")
    return gettext("the first image") if settings.sync_images else gettext("no images")


def _limit(settings: LinkSettings) -> int | None:
    """Images per entity; None for all that the entity's type may have."""
    return None if settings.sync_images_all else int(settings.sync_images)


def _per_entity(settings: LinkSettings) -> str:
    limit = _limit(settings)
    return gettext("all") if limit is None else str(limit)


def _as_dict(account_id: str, settings: LinkSettings) -> dict[str, object]:
    return {
        "account": account_id,
        "sync_images": settings.sync_images,
        "sync_images_all": settings.sync_images_all,
        "limit": _limit(settings),
        "pictures": as_dict(settings.pictures),
        "schedule": schedule_as_dict(settings.schedule),
        "guard": settings.guard,
    }


def _on(switch: bool) -> str:
    return gettext("on") if switch else gettext("off")
