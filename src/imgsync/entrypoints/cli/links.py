"""imgsync link, unlink, links: which child receives what of which main account."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.accounts import find_account
from imgsync.domain.model import Account, Link, LinkSettings, MatchField, Parking, StoredLink
from imgsync.domain.pictures import AS_BY_DEFAULT
from imgsync.domain.text import natural_key
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.parkings import parking_as_dict, parking_in_words
from imgsync.entrypoints.cli.pictures import (
    described,
    picture_changes,
    picture_options,
)
from imgsync.entrypoints.cli.runtime import json_option, pass_container, run_async
from imgsync.entrypoints.cli.schedules import (
    described_schedule,
    schedule_changes,
    schedule_options,
)
from imgsync.entrypoints.cli.surveys import chosen_field, types_option
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.json_texts import link_as_dict
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.command()
@click.argument("main_id", metavar="MAIN", shell_complete=account_names)
@click.argument(
    "children", metavar="CHILD...", shell_complete=account_names, nargs=-1, required=True
)
@click.option("--sync-images", "first_only", is_flag=True, help="Copy the first image only.")
@click.option("--sync-images-all", "all_images", is_flag=True, help="Copy all images.")
@click.option(
    "--match-by",
    type=click.Choice([f.value for f in MatchField]),
    help="Field that finds counterparts (default: setting match_by, externalCode).",
)
@types_option
@click.option(
    "--folder",
    "folders",
    multiple=True,
    help="Only what is in the product folder of this name or path (A/B), or below it; may be "
    "repeated.",
)
@picture_options
@schedule_options
@json_option
@pass_container
def link(
    container: "Container",
    /,
    main_id: str,
    children: tuple[str, ...],
    first_only: bool,
    all_images: bool,
    match_by: str | None,
    types: tuple[str, ...],
    folders: tuple[str, ...],
    sweep: str | None,
    survey_every: int | str | None,
    check_only: bool | None,
    guard: bool | None,
    as_json: bool,
    **pictures: Any,
) -> ExitStatus:
    """Link child accounts to a main account: they receive images of it from now on.

    Accounts are named by ID or name. Linked again, a child has the settings that are given now.
    Without a switch a child goes on receiving what it does; all images where that is none. What
    becomes of its pictures, and when it is surveyed, stays as it is where nothing is said of it.
    """
    if first_only and all_images:
        raise click.UsageError(gettext("--sync-images and --sync-images-all exclude each other"))
    try:
        wanted = LinkSettings(
            first_only,
            all_images,
            chosen_field(match_by),
            tuple(dict.fromkeys(types)),
            tuple(dict.fromkeys(folders)),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    changes = picture_changes(**pictures)
    times = schedule_changes(sweep=sweep, survey_every=survey_every, check_only=check_only)
    accounts, link_accounts = container.accounts(), container.link_accounts()
    change = container.change_settings()

    async def put() -> list[Link]:
        main = await find_account(accounts, main_id)
        found = [await find_account(accounts, child) for child in children]
        made = await link_accounts(
            main, found, wanted, keep_switches=not wanted.enabled, picture_changes=changes
        )
        if not times and guard is None:
            return made
        for place, one in enumerate(made):
            _, changed = await change(one.child.id, schedule_changes=times, guard=guard)
            made[place] = replace(one, settings=changed)
        return made

    made = run_async(container, put)
    if as_json:
        stored = [StoredLink(m.main.id, m.child.id, m.settings) for m in made]
        print_json({"links": [_as_dict(one, {}) for one in stored]}, ExitStatus.DONE)
        return ExitStatus.DONE
    for one in made:
        receives = _images(one.settings)
        if one.settings.pictures != AS_BY_DEFAULT:
            receives += f" ({described(one.settings.pictures)})"
        if times or guard is not None:
            receives += f"; {described_schedule(one.settings.schedule, guard=one.settings.guard)}"
        say(
            gettext(
                "Linked '%(name)s' to '%(main)s': it receives %(receives)s.",
                name=one.child.name,
                main=one.main.name,
                receives=receives,
            )
        )
    return ExitStatus.DONE


@click.command()
@click.argument(
    "children", metavar="CHILD...", shell_complete=account_names, nargs=-1, required=True
)
@json_option
@pass_container
def unlink(container: "Container", children: tuple[str, ...], as_json: bool) -> ExitStatus:
    """End the links of child accounts: they receive nothing from now on, and keep what they have.

    Tasks that wait for them do nothing.
    """
    unlink_accounts = container.unlink_accounts()
    ended = run_async(container, lambda: unlink_accounts(children))
    if as_json:
        print_json({"unlinked": [child.id for child in ended]}, ExitStatus.DONE)
        return ExitStatus.DONE
    for child in ended:
        say(gettext("'%(name)s' receives nothing any more.", name=child.name))
    return ExitStatus.DONE


@click.command()
@json_option
@pass_container
def links(container: "Container", as_json: bool) -> ExitStatus:
    """List the links.

    Where an account of one is parked, it is said why, and what ends it.
    """
    accounts, settings = container.accounts(), container.settings()

    async def look() -> tuple[list[StoredLink], list[Account], dict[str, Parking | None]]:
        found, stored = await settings.links(), await accounts.all()
        ids = {one for link in found for one in (link.main_id, link.child_id)}
        return found, stored, {one: await accounts.parking(one) for one in ids}

    found, stored, parkings = run_async(container, look)
    names = {account.id: account.name for account in stored}

    def by_names(one: StoredLink) -> tuple[object, ...]:
        return tuple(natural_key(names.get(id_, id_)) for id_ in (one.main_id, one.child_id))

    found.sort(key=by_names)
    if as_json:
        told = [
            {
                **_as_dict(one, names),
                "parked": parking_as_dict(parkings[one.child_id]),
                "main_parked": parking_as_dict(parkings[one.main_id]),
            }
            for one in found
        ]
        print_json({"links": told}, ExitStatus.DONE)
        return ExitStatus.DONE
    if not found:
        say(gettext("No links yet; make one with 'imgsync link MAIN CHILD'."))
        return ExitStatus.DONE

    def parked(one: StoredLink) -> str:
        """Why nothing is copied; a main account's is that of all its children."""
        said = parking_in_words(parkings[one.child_id], names.get(one.child_id, one.child_id))
        main = parking_in_words(parkings[one.main_id], names.get(one.main_id, one.main_id))
        if main:
            main = gettext("the main account %(parking)s", parking=main)
        return "; ".join(filter(None, (said, main)))

    is_any_parked = any(parkings.values())
    print_table(
        (
            gettext("Main"),
            gettext("Child"),
            gettext("Child ID"),
            gettext("Receives"),
            gettext("Matched by"),
            gettext("Types"),
            gettext("Folders"),
            gettext("Pictures"),
            gettext("Surveyed"),
            *([gettext("Parked")] if is_any_parked else []),
        ),
        (
            (
                names.get(one.main_id, one.main_id),
                names.get(one.child_id, one.child_id),
                one.child_id,
                gettext("nothing, as it is damaged: %(why)s", why=one.damage)
                if one.damage
                else _images(one.settings),
                one.settings.match_by or "",
                ", ".join(one.settings.types) or gettext("all"),
                ", ".join(one.settings.folders) or gettext("all"),
                described(one.settings.pictures),
                described_schedule(one.settings.schedule, guard=one.settings.guard),
                *([parked(one)] if is_any_parked else []),
            )
            for one in found
        ),
    )
    return ExitStatus.DONE


def _images(settings: LinkSettings) -> str:
    if settings.sync_images_all:
        return gettext("all images")
    return gettext("the first image") if settings.sync_images else gettext("no images")


def _as_dict(link: StoredLink, names: dict[str, str]) -> dict[str, object]:
    told = link_as_dict(link)
    if names:
        told |= {"main_name": names.get(link.main_id), "child_name": names.get(link.child_id)}
    return told
