"""Commands that plugins bring, beside the built-in ones."""

from importlib.metadata import entry_points

import click

from imgsync.domain.errors import PluginError
from imgsync.entrypoints.cli import commands
from imgsync.entrypoints.cli.help import speaks
from imgsync.entrypoints.cli.output import say
from imgsync.entrypoints.cli.runtime import ImgsyncGroup
from imgsync.entrypoints.translation import gettext

_ENTRY_POINTS = "imgsync"
"""`hookspecs.PROJECT`, which is not imported for the sake of those who have no plugins."""


class PluginGroup(ImgsyncGroup):
    """A group with the commands of the plugins, which are loaded only where one is asked for: the
    built-in commands run whatever is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._brought(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        return own or self._brought(ctx).get(cmd_name)

    def _brought(self, ctx: click.Context) -> dict[str, click.Command]:
        """By name; of a plugin that cannot be loaded, --help says so and goes on."""
        found: dict[str, click.Command] | None = ctx.meta.get(__name__)
        if found is None:
            try:
                found = _loaded() if entry_points(group=_ENTRY_POINTS) else {}
            except PluginError as error:
                say(gettext("Warning: %(why)s", why=error), err=True)
                found = {}
            ctx.meta[__name__] = found
        return found


def _loaded() -> dict[str, click.Command]:
    from imgsync.plugins.manager import load_plugins

    return {name: speaks(one) for name, one in load_plugins(commands).commands.items()}
