"""The command group and its common options."""

from pathlib import Path

import click

from imgsync.entrypoints.cli import commands
from imgsync.entrypoints.cli.logs import configure_logging
from imgsync.entrypoints.cli.output import be_quiet
from imgsync.entrypoints.cli.plugin_commands import PluginGroup
from imgsync.entrypoints.cli.runtime import STATUSES, close_container
from imgsync.entrypoints.translation import gettext, speak


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
@click.option("-q", "--quiet", is_flag=True, help="Log errors only, and show no progress.")
@click.option("-v", "--verbose", is_flag=True, help="Log everything, such as each step of a copy.")
@click.pass_context
def main(ctx: click.Context, config_path: Path | None, quiet: bool, verbose: bool) -> None:
    """Copy product, bundle and variant images from a main MoySklad account to child accounts."""
    if quiet and verbose:
        raise click.UsageError(gettext("-q and -v are opposites: say one of them"))
    # Here, as --version and --help need neither.
    from imgsync.entrypoints.config import load_config
    from imgsync.entrypoints.container import Container, check_names

    if quiet:
        be_quiet(ctx)  # before the configuration, which may warn
    config = load_config(config_path)
    if config.language is not None:
        speak(config.language)
    level = "ERROR" if quiet else "DEBUG" if verbose else config.log_level
    configure_logging(level, config.log_format)
    container = Container(config=config)
    check_names(container)
    ctx.obj = container
    ctx.call_on_close(lambda: close_container(container))


for command in commands.imgsync_commands():
    main.add_command(command)
