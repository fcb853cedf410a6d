"""imgsync worker: run tasks until told to stop."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgsync.application.work import Tally, TaskReport, Worker
from imgsync.entrypoints.cli.backups import backup_dir_option, use_backup_dir
from imgsync.entrypoints.cli.logs import tell_of_copies
from imgsync.entrypoints.cli.notifications import check_notifications
from imgsync.entrypoints.cli.output import print_json
from imgsync.entrypoints.cli.runtime import (
    INTERRUPTED,
    STATUSES,
    CommandError,
    in_part,
    json_option,
    pass_container,
    run_async,
    tell_trouble,
)
from imgsync.entrypoints.cli.signals import STOPPING, stopped_by_signals
from imgsync.entrypoints.cli.working import cleaned_daily, log_end
from imgsync.entrypoints.ends import Ends
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.worker")


@click.command(epilog=STATUSES)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    help="Children copied at once, up to 100 tasks of each together (default: configured; 4, and "
    "more while requests are slow).",
)
@click.option("--drain", is_flag=True, help="End when no task is due.")
@backup_dir_option
@json_option
@pass_container
def worker(
    container: "Container",
    concurrency: int | None,
    drain: bool,
    backup_dir: Path | None,
    as_json: bool,
) -> ExitStatus:
    """Run queued tasks, and daily (configured by cleanup_at, 03:00) the cleanup of the content
    store and the pruning of tasks that ended long ago (configured by keep_days, 30).

    SIGTERM or Ctrl-C: take no new task and finish those under way; after grace_seconds, or at a
    second signal, give them back to the queue. A worker without --drain that has started ends with
    0 when it is told to stop, whatever became of its tasks.
    """
    use_backup_dir(container, backup_dir)
    check_notifications(container)
    tell_of_copies()
    tally, ends = Tally(), Ends()
    running = container.worker()
    if concurrency is not None:
        running = container.worker(concurrency=concurrency, has_spare=lambda: False)

    def collect(ended: TaskReport) -> None:
        # A service keeps no list of all that it ever did.
        if as_json:
            tally.add(ended)
        if drain:
            ends.add(ended)

    trouble = in_part(
        lambda: run_async(container, lambda: _serve(container, running, collect, drain=drain)),
        lambda: ends.begun,
    )
    if drain and running.stopped and trouble is None:
        if not ends.begun:
            raise CommandError(gettext(INTERRUPTED))
        trouble = gettext(INTERRUPTED)
    status = ExitStatus.PART if trouble else ends.status
    tell_trouble(trouble)
    if as_json:
        print_json(tally.as_dict() | ({"error": trouble} if trouble else {}), status)
    return status


async def _serve(
    container: "Container",
    running: Worker,
    collect: Callable[[TaskReport], None],
    *,
    drain: bool,
) -> None:
    def report(ended: TaskReport) -> None:
        collect(ended)
        log_end(ended)

    grace = container.config().grace_seconds
    async with cleaned_daily(container):
        with stopped_by_signals(running.stop, running.abort, grace, STOPPING):
            started = "worker started: %d children at once, run %s"
            _log.info(started, running.concurrency, container.run())
            await running.run(drain=drain, report=report)
