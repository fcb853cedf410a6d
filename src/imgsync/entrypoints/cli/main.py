"""The command group and its common options."""

import logging
from pathlib import Path

import click

from imgsync.entrypoints.cli.accounts import account
from imgsync.entrypoints.cli.cleanup import cleanup_temp
from imgsync.entrypoints.cli.demo import demo
from imgsync.entrypoints.cli.enqueue import enqueue
from imgsync.entrypoints.cli.plugins import plugins
from imgsync.entrypoints.cli.queue import queue
from imgsync.entrypoints.cli.runtime import STATUSES, ImgsyncGroup
from imgsync.entrypoints.cli.settings import settings
from imgsync.entrypoints.cli.sync import sync
from imgsync.entrypoints.cli.worker import worker
from imgsync.entrypoints.config import load_config
from imgsync.entrypoints.container import Container


@click.group(
    cls=ImgsyncGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=STATUSES,
)
@click.version_option(package_name="imgsync")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with settings; IMGSYNC_* variables win over it.",
)
@click.pass_context
def main(ctx: click.Context, config_path: Path | None) -> None:
    """Copy product, bundle and variant images from a main MoySklad account to child accounts."""
    config = load_config(config_path)
    logging.getLogger().setLevel(config.log_level)
    container = Container(config=config)
    ctx.obj = container
    ctx.call_on_close(container.shutdown_resources)


for command in (
    account,
    cleanup_temp,
    demo,
    enqueue,
    plugins,
    queue,
    settings,
    sync,
    worker,
):
    main.add_command(command)
