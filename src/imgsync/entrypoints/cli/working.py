"""What every process with a worker does beside its tasks: the daily cleanup, and what is logged."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from imgsync.application.clean import run_daily
from imgsync.application.log_lines import ABOUT, DETAIL, EVENT, about_task
from imgsync.application.work import TaskEnd, TaskReport, task_label

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.worker")


@asynccontextmanager
async def cleaned_daily(container: "Container") -> AsyncIterator[None]:
    """Meanwhile the content store, the miniatures, the queue, the changes and the runs are cleaned
    up, daily at `cleanup_at`."""
    config = container.config()

    async def clean() -> None:
        cleanup = container.cleanup()
        files = await cleanup.find(timedelta(hours=config.cleanup_hours))
        cleaned = await cleanup.delete(files)
        _log.info("cleanup: %d files, %d bytes freed", cleaned.files, cleaned.freed_bytes)

    async def clean_miniatures() -> None:
        gone = await container.miniature_store().clean()
        _log.info("cleanup: %d miniatures that nobody looked at", gone)

    async def prune() -> None:
        try:
            _log.info("cleanup: %d tasks that ended long ago", await container.prune_queue()())
        finally:
            gone = await container.prune_changes()()
            _log.info("cleanup: %d changes that were made long ago", gone)
            gone = await container.prune_runs()()
            _log.info("cleanup: %d runs that were long ago", gone)

    async def all_of_it() -> None:
        try:
            await clean()
        finally:
            try:
                await clean_miniatures()
            finally:
                await prune()

    daily = asyncio.create_task(
        run_daily(all_of_it, config.cleanup_at, lambda: datetime.now().astimezone())
    )
    try:
        yield
    finally:
        daily.cancel()
        await asyncio.gather(daily, return_exceptions=True)


def log_end(ended: TaskReport) -> None:
    """One record at least, about the task, its child and its entity."""
    task, result = ended.task, ended.result
    label = task_label(task, ended.child or task.account_id or "")

    def tell(level: int, event: str, text: str, **detail: Any) -> None:
        extra = {ABOUT: about_task(task, ended.child), EVENT: event, DETAIL: detail}
        _log.log(level, "%s%s", label, text, extra=extra)

    if result is not None:
        outcome = str(result.outcome)
        counts = {"uploaded": result.uploaded, "kept": result.kept}
        text = f": {outcome}, {result.uploaded} uploaded, {result.kept} kept"
        tell(logging.INFO, "task completed", text, outcome=outcome, **counts)
        for image_note in result.notes:
            tell(logging.INFO, "image made", f": {image_note}")
        for warning in result.warnings:
            tell(logging.WARNING, "image not copied", f": {warning}")
        return
    why = f": {ended.error}" if ended.error else ""
    text, error = f": {ended.end}{why}", {"error": ended.error}
    if ended.end in (TaskEnd.PARKED, TaskEnd.NO_ROOM):
        # Said once for all tasks of the account, or once for the disk.
        tell(logging.DEBUG, f"task {ended.end}", text, **error)
        return
    text = f", attempt {task.attempts}{text}"
    tell(logging.ERROR, f"task {ended.end}", text, attempt=task.attempts, **error)
