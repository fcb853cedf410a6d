"""The command group and its common options."""

import logging
from pathlib import Path

import click

from imgsync.entrypoints.cli import commands
from imgsync.entrypoints.cli.plugin_commands import PluginGroup
from imgsync.entrypoints.cli.runtime import STATUSES, close_container


@click.group(
    cls=PluginGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=STATUSES,
)
@click.version_option(package_name="imgsync")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with the configuration; IMGSYNC_* variables win over it.",
)
@click.pass_context
def main(ctx: click.Context, config_path: Path | None) -> None:
    """Copy product, bundle and variant images from a main MoySklad account to child accounts."""
    # Here, as --version and --help need neither.
    from imgsync.entrypoints.config import load_config
    from imgsync.entrypoints.container import Container, check_names

    config = load_config(config_path)
    logging.getLogger().setLevel(config.log_level)
    container = Container(config=config)
    check_names(container)
    ctx.obj = container
    ctx.call_on_close(lambda: close_container(container))


for command in commands.imgsync_commands():
    main.add_command(command)
