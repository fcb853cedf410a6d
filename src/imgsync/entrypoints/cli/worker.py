"""imgsync worker: run tasks until told to stop."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import click

from imgsync.application.daily import run_daily
from imgsync.application.run_task import TaskEnd, TaskReport
from imgsync.application.tally import Tally
from imgsync.application.worker import Worker
from imgsync.entrypoints.cli.runtime import json_option, pass_container, print_json, run_async
from imgsync.entrypoints.cli.signals import stopped_by_signals
from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.worker")


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 64), help="Tasks run at once.")
@click.option("--drain", is_flag=True, help="End when no task is due.")
@json_option
@pass_container
def worker(container: Container, concurrency: int | None, drain: bool, as_json: bool) -> None:
    """Run queued tasks, and the cleanup of temp files daily (setting cleanup_at, 03:00).

    SIGTERM or Ctrl-C: take no new task and finish those under way; after grace_seconds, or at a
    second signal, give them back to the queue.
    """
    tally = Tally()
    running = container.worker(concurrency=concurrency or container.config().concurrency)
    # A service keeps no list of all that it ever did.
    collect = tally.add if as_json else None
    run_async(container, lambda: _serve(container, running, collect, drain=drain))
    if as_json:
        print_json(tally.as_dict())


async def _serve(
    container: Container,
    running: Worker,
    collect: Callable[[TaskReport], None] | None,
    *,
    drain: bool,
) -> None:
    config = container.config()

    def report(ended: TaskReport) -> None:
        if collect:
            collect(ended)
        _log_end(ended)

    def clean() -> None:
        cleanup = container.cleanup()
        cleaned = cleanup.delete(cleanup.find(timedelta(hours=config.cleanup_hours)))
        _log.info("cleanup: %d files, %d bytes freed", cleaned.files, cleaned.freed_bytes)

    daily = asyncio.create_task(
        run_daily(clean, config.cleanup_at, lambda: datetime.now().astimezone())
    )
    try:
        with stopped_by_signals(running, config.grace_seconds):
            _log.info("worker started: %d tasks at once", running.concurrency)
            await running.run(drain=drain, report=report)
    finally:
        daily.cancel()
        await asyncio.gather(daily, return_exceptions=True)


def _log_end(ended: TaskReport) -> None:
    task, result = ended.task, ended.result
    if result is not None:
        _log.info(
            "task %d: %s, %d uploaded, %d kept",
            task.id,
            result.outcome.value,
            result.uploaded,
            result.kept,
        )
        for warning in result.warnings:
            _log.warning("task %d: %s", task.id, warning)
    elif ended.end in (TaskEnd.PARKED, TaskEnd.NO_ROOM):
        # Said once for all tasks of the account, or once for the disk.
        _log.debug("task %d: %s: %s", task.id, ended.end, ended.error)
    else:
        _log.error("task %d, attempt %d: %s: %s", task.id, task.attempts, ended.end, ended.error)
