"""imgsync api-key: keys by which programs use the HTTP API."""

from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.group("api-key")
def api_key() -> None:
    """Keys by which programs use the HTTP API of 'imgsync serve'."""


@api_key.command("add")
@click.argument("name")
@click.option("--write", "may_write", is_flag=True, help="It may change things, not only read.")
@json_option
@pass_container
def add(container: "Container", name: str, may_write: bool, as_json: bool) -> None:
    """Make a key, which is shown this once."""
    add_key = container.add_api_key()
    key = run_async(container, lambda: add_key(name, may_write=may_write))
    if as_json:
        print_json({"name": name, "write": may_write, "key": key})
        return
    say(key)


@api_key.command("list")
@json_option
@pass_container
def listed(container: "Container", as_json: bool) -> None:
    """List the keys by their names."""
    stored = container.api_keys()
    found = run_async(container, stored.all)
    if as_json:
        print_json(
            [
                {
                    "name": key.name,
                    "write": key.may_write,
                    "created_at": key.created_at.isoformat(),
                    "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
                }
                for key in found
            ]
        )
        return
    if not found:
        say(gettext("No keys yet; make one with 'imgsync api-key add NAME'."))
        return
    print_table(
        (gettext("Name"), gettext("May"), gettext("Last used (UTC)")),
        (
            (
                key.name,
                gettext("read and write") if key.may_write else gettext("read"),
                f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else gettext("never"),
            )
            for key in found
        ),
    )


@api_key.command("remove")
@click.argument("name")
@json_option
@pass_container
def remove(container: "Container", name: str, as_json: bool) -> None:
    """Remove a key: from now on it opens nothing."""
    stored = container.api_keys()
    if not run_async(container, lambda: stored.remove(name)):
        raise CommandError(gettext("There is no key '%(name)s'", name=name))
    if as_json:
        print_json({"removed": name})
    else:
        say(gettext("Key '%(name)s' is removed.", name=name))
