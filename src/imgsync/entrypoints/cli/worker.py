"""imgsync worker: run tasks until told to stop."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from imgsync.application.clean import run_daily
from imgsync.application.work import Tally, TaskEnd, TaskReport, Worker, task_label
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
from imgsync.entrypoints.ends import Ends
from imgsync.entrypoints.exit_status import ExitStatus

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
@json_option
@pass_container
def worker(
    container: "Container", concurrency: int | None, drain: bool, as_json: bool
) -> ExitStatus:
    """Run queued tasks, and daily (configured by cleanup_at, 03:00) the cleanup of the content
    store and the pruning of tasks that ended long ago (configured by keep_days, 30).

    SIGTERM or Ctrl-C: take no new task and finish those under way; after grace_seconds, or at a
    second signal, give them back to the queue. A worker without --drain ends with 0 when it is
    told to stop, whatever became of its tasks.
    """
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
            raise CommandError(INTERRUPTED)
        trouble = INTERRUPTED
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
    config = container.config()

    def report(ended: TaskReport) -> None:
        collect(ended)
        _log_end(ended)

    async def clean() -> None:
        cleanup = container.cleanup()
        files = await cleanup.find(timedelta(hours=config.cleanup_hours))
        cleaned = await cleanup.delete(files)
        _log.info("cleanup: %d files, %d bytes freed", cleaned.files, cleaned.freed_bytes)

    async def prune() -> None:
        _log.info("cleanup: %d tasks that ended long ago", await container.prune_queue()())

    async def both() -> None:
        try:
            await clean()
        finally:
            await prune()

    daily = asyncio.create_task(
        run_daily(both, config.cleanup_at, lambda: datetime.now().astimezone())
    )
    try:
        with stopped_by_signals(running.stop, running.abort, config.grace_seconds, STOPPING):
            _log.info("worker started: %d children at once", running.concurrency)
            await running.run(drain=drain, report=report)
    finally:
        daily.cancel()
        await asyncio.gather(daily, return_exceptions=True)


def _log_end(ended: TaskReport) -> None:
    task, result = ended.task, ended.result
    if result is not None:
        _log.info(
            "%s: %s, %d uploaded, %d kept",
            task_label(task),
            str(result.outcome),
            result.uploaded,
            result.kept,
        )
        for warning in result.warnings:
            _log.warning("%s: %s", task_label(task), warning)
    elif ended.end in (TaskEnd.PARKED, TaskEnd.NO_ROOM):
        # Said once for all tasks of the account, or once for the disk.
        _log.debug("%s: %s: %s", task_label(task), ended.end, ended.error)
    else:
        label = task_label(task)
        _log.error("%s, attempt %d: %s: %s", label, task.attempts, ended.end, ended.error)
