"""imgsync queue: look at the queue, retry failed tasks, free held ones."""

from typing import TYPE_CHECKING, Any

import click

from imgsync.application.work import entity_label
from imgsync.domain.tasks import Task, TaskId, TaskStatus
from imgsync.domain.text import counted
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    MAX_ID,
    CommandError,
    json_option,
    pass_container,
    run_async,
)

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


def task_id(text: str) -> str:
    """What a queue tells its tasks apart by, as it is written."""
    text = text.strip()
    if not text or not text.isprintable():
        raise click.BadParameter(f"{text!r} is no ID of a task")
    if _is_decimal(text) and not 1 <= int(text) <= MAX_ID:
        raise click.BadParameter(f"{text} is not in the range 1<=x<={MAX_ID}.")
    return text


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _meant(text: str) -> list[TaskId]:
    """The ids that are written so: whether those of the queue are numbers, only it knows."""
    return [int(text), text] if _is_decimal(text) else [text]


def _all_meant(texts: tuple[str, ...]) -> list[TaskId] | None:
    return [id_ for text in texts for id_ in _meant(text)] or None


@click.group()
def queue() -> None:
    """The task queue."""


@queue.command("status")
@json_option
@pass_container
def status(container: "Container", as_json: bool) -> None:
    """Number of tasks by status.

    Parked ones are pending too: their account takes no requests for now (see 'imgsync account
    list').
    """
    tasks = container.queue()

    async def look() -> tuple[dict[TaskStatus, int], int]:
        return await tasks.counts(), await tasks.parked()

    found, parked = run_async(container, look)
    counts = {status.value: number for status, number in found.items()}
    if as_json:
        print_json({**counts, "parked": parked})
        return
    for name, count in counts.items():
        note = f" ({parked} parked)" if name == TaskStatus.PENDING and parked else ""
        say(f"{name:<10} {count}{note}")


@queue.command("failed")
@click.option("--limit", type=click.IntRange(1, MAX_ID), default=100, show_default=True)
@json_option
@pass_container
def failed(container: "Container", limit: int, as_json: bool) -> None:
    """Failed tasks with their errors, newest first."""
    stored = container.queue()
    tasks = run_async(container, lambda: stored.find(TaskStatus.FAILED, limit=limit))
    if as_json:
        print_json([_as_dict(task) for task in tasks])
        return
    if not tasks:
        say("No failed tasks.")
        return
    print_table(
        ("Task", "Entity", "Attempts", "Failed at (UTC)", "Error"),
        (
            (
                str(task.id),
                entity_label(task) or "?",
                f"{task.attempts}/{task.max_attempts}",
                f"{task.updated_at:%Y-%m-%d %H:%M:%S}",
                task.error or "",
            )
            for task in tasks
        ),
    )


@queue.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@json_option
@pass_container
def retry(container: "Container", ids: tuple[str, ...], as_json: bool) -> None:
    """Make failed tasks pending again: those with these IDs, or all of them."""
    tasks = container.queue()
    changed = run_async(container, lambda: tasks.retry(_all_meant(ids)))
    why = "not failed, or a newer task of the entity is pending"
    _print_changed("retried", changed, ids, why, as_json=as_json)


@queue.command("release")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@json_option
@pass_container
def release(container: "Container", ids: tuple[str, ...], as_json: bool) -> None:
    """Take tasks from a worker that holds them: those with these IDs.

    Without IDs, those held for longer than a day from now, which only a worker with a wrong clock
    can have done. Give no ID of a task whose worker is alive; it would lose its work.
    """
    tasks = container.queue()
    changed = run_async(container, lambda: tasks.free(_all_meant(ids)))
    _print_changed("released", changed, ids, "no worker holds it", as_json=as_json)


@queue.command("prune")
@json_option
@pass_container
def prune(container: "Container", as_json: bool) -> None:
    """Delete tasks that ended longer ago than keep_days (30), failed ones three times as long ago.

    A worker does it daily. Records of what was copied stand elsewhere and stay.
    """
    prune_queue = container.prune_queue()
    gone = run_async(container, prune_queue)
    if as_json:
        print_json({"pruned": gone})
    else:
        say(f"{counted(gone, 'task')} deleted.")


def _print_changed(
    verb: str, changed: list[TaskId], wanted: tuple[str, ...], why_not: str, *, as_json: bool
) -> None:
    """What became pending again; CommandError where that is not all that was wanted."""
    missing = [text for text in dict.fromkeys(wanted) if set(changed).isdisjoint(_meant(text))]
    if as_json and not missing:
        print_json({verb: changed})
    if not as_json:
        say(f"{counted(len(changed), 'task is', 'tasks are')} pending again.")
    if missing:
        listed = ", ".join(missing)
        raise CommandError(f"Not {verb} ({why_not}): {listed}", fields={verb: changed})


def _as_dict(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "entity": entity_label(task) or "?",
        "attempts": task.attempts,
        "max_attempts": task.max_attempts,
        "failed_at": task.updated_at.isoformat(),
        "error": task.error,
        "payload": task.payload,
    }
