"""imgsync worker: run tasks until told to stop."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import FrameType

import click

from imgsync.application.daily import run_daily
from imgsync.application.run_task import TaskReport
from imgsync.application.tally import Tally
from imgsync.application.worker import Worker
from imgsync.entrypoints.cli.runtime import json_option, pass_container, print_json, run_async
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
    run_async(container, lambda: _serve(container, running, tally, drain=drain))
    if as_json:
        print_json(tally.as_dict())


async def _serve(container: Container, running: Worker, tally: Tally, *, drain: bool) -> None:
    config = container.config()

    def report(ended: TaskReport) -> None:
        tally.add(ended)
        _log_end(ended)

    def clean() -> None:
        cleanup = container.cleanup()
        cleaned = cleanup.delete(cleanup.find(timedelta(hours=config.cleanup_hours)))
        _log.info("cleanup: %d files, %d bytes freed", cleaned.files, cleaned.freed_bytes)

    daily = asyncio.create_task(
        run_daily(clean, config.cleanup_at, lambda: datetime.now().astimezone())
    )
    try:
        with _stopped_by_signals(running, config.grace_seconds):
            _log.info("worker started: %d tasks at once", running.concurrency)
            await running.run(drain=drain, report=report)
    finally:
        daily.cancel()
        await asyncio.gather(daily, return_exceptions=True)


@contextlib.contextmanager
def _stopped_by_signals(running: Worker, grace_seconds: float) -> Iterator[None]:
    """First signal: finish; second signal or the end of the grace time: give tasks back."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    seen = 0

    def on_signal() -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            running.abort()
            return
        _log.info("stopping: tasks under way may finish")
        running.stop()
        loop.call_later(grace_seconds, running.abort)

    def on_signal_frame(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(on_signal)

    previous = {number: signal.signal(number, on_signal_frame) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    else:
        _log.error("task %d, attempt %d: %s: %s", task.id, task.attempts, ended.end, ended.error)
