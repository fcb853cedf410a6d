"""imgsync settings: which images a child account receives."""

from typing import TYPE_CHECKING

import click

from imgsync.application.accounts import find_account
from imgsync.domain.model import Account, LinkSettings
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import child_option, json_option, pass_container, run_async

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.group()
def settings() -> None:
    """Image settings of child accounts; both switches are off by default."""


@settings.command("show")
@click.option(
    "--child", "child_id", metavar="ACCOUNT", help="One account, by ID or name; all by default."
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
        say("No accounts yet; add one with 'imgsync account add'.")
        return
    print_table(
        ("Account", "Name", "sync_images", "sync_images_all", "Images per entity"),
        (
            (a.id, a.name, _on(s.sync_images), _on(s.sync_images_all), _per_entity(s))
            for a, s in found
        ),
    )


@settings.command("set")
@child_option
@click.option("--sync-images/--no-sync-images", default=None, help="Copy the first image only.")
@click.option("--sync-images-all/--no-sync-images-all", default=None, help="Copy all images.")
@json_option
@pass_container
def set_settings(
    container: "Container",
    child_id: str,
    sync_images: bool | None,
    sync_images_all: bool | None,
    as_json: bool,
) -> None:
    """Change the image settings of a child account. Turning one switch on clears the other.

    A main account is refused: images are copied from it, never to it.
    """
    if sync_images is None and sync_images_all is None:
        raise click.UsageError("give --sync-images or --sync-images-all (or a --no- form)")
    if sync_images and sync_images_all:
        raise click.UsageError("--sync-images and --sync-images-all exclude each other")
    change = container.change_settings()
    account, changed = run_async(
        container, lambda: change(child_id, first_only=sync_images, all_images=sync_images_all)
    )
    if as_json:
        print_json(_as_dict(account.id, changed))
        return
    say(f"'{account.name}' now receives {_describe(changed)}.")


def _describe(settings: LinkSettings) -> str:
    if settings.sync_images_all:
        return "all images"
    return "the first image" if settings.sync_images else "no images"


def _limit(settings: LinkSettings) -> int | None:
    """Images per entity; None for all that the entity's type may have."""
    return None if settings.sync_images_all else int(settings.sync_images)


def _per_entity(settings: LinkSettings) -> str:
    limit = _limit(settings)
    return "all" if limit is None else str(limit)


def _as_dict(account_id: str, settings: LinkSettings) -> dict[str, object]:
    return {
        "account": account_id,
        "sync_images": settings.sync_images,
        "sync_images_all": settings.sync_images_all,
        "limit": _limit(settings),
    }


def _on(switch: bool) -> str:
    return "on" if switch else "off"
