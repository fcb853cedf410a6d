"""imgsync plugins: who brings what."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.output import print_json, print_table
from imgsync.entrypoints.cli.runtime import json_option, pass_container
from imgsync.entrypoints.translation import gettext
from imgsync.plugins.manager import PluginInfo

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PARTS = (
    "entity_types",
    "payload_formats",
    "task_handlers",
    "task_queues",
    "content_stores",
    "replace_strategies",
    "transformations",
    "listeners",
    "commands",
)


@click.command()
@json_option
@pass_container
def plugins(container: "Container", as_json: bool) -> None:
    """List the plugins and what each of them brings."""
    loaded = container.plugins().plugins
    if as_json:
        print_json([asdict(plugin) for plugin in loaded])
        return
    print_table(
        (gettext("Plugin"), gettext("Package"), gettext("Part"), gettext("Brought")),
        (
            (plugin.name, f"{plugin.distribution} {plugin.version}", part, brought)
            for plugin in loaded
            for part, brought in _brought(plugin)
        ),
    )


def _brought(plugin: PluginInfo) -> list[tuple[str, str]]:
    """Each kind of part in words, and the names of those that the plugin brings."""
    named = [(part, getattr(plugin, part)) for part in _PARTS]
    found = [(gettext(part.replace("_", " ")), ", ".join(names)) for part, names in named if names]
    return found or [("", gettext("nothing"))]
