"""The built-in plugin of the command line: imgsync's commands, through the hook of everybody's."""

from collections.abc import Iterable

import click

from imgsync.entrypoints.cli.accounts import account
from imgsync.entrypoints.cli.check import check
from imgsync.entrypoints.cli.cleanup import cleanup_temp
from imgsync.entrypoints.cli.demo import demo
from imgsync.entrypoints.cli.enqueue import enqueue
from imgsync.entrypoints.cli.links import link, links, unlink
from imgsync.entrypoints.cli.plugins import plugins
from imgsync.entrypoints.cli.queue import queue
from imgsync.entrypoints.cli.settings import settings
from imgsync.entrypoints.cli.sync import sync
from imgsync.entrypoints.cli.worker import worker
from imgsync.plugins import hookimpl


@hookimpl
def imgsync_commands() -> Iterable[click.Command]:
    return [
        account,
        check,
        cleanup_temp,
        demo,
        enqueue,
        link,
        links,
        plugins,
        queue,
        settings,
        sync,
        unlink,
        worker,
    ]
