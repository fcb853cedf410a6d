"""imgsync queue: look at the queue, retry failed tasks, free held ones."""

from typing import Any

import click

from imgsync.application.work import entity_label
from imgsync.domain.tasks import Task, TaskStatus
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import MAX_ID, CommandError, json_option, pass_container
from imgsync.entrypoints.container import Container


@click.group()
def queue() -> None:
    """The task queue."""


@queue.command("status")
@json_option
@pass_container
def status(container: Container, as_json: bool) -> None:
    """Number of tasks by status.

    Parked ones are pending too: their account takes no requests for now (see 'imgsync account
    list').
    """
    counts = {s.value: n for s, n in container.queue().counts().items()}
    parked = container.queue().parked()
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
def failed(container: Container, limit: int, as_json: bool) -> None:
    """Failed tasks with their errors, newest first."""
    tasks = container.queue().find(TaskStatus.FAILED, limit=limit)
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
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))
@json_option
@pass_container
def retry(container: Container, ids: tuple[int, ...], as_json: bool) -> None:
    """Make failed tasks pending again: those with these IDs, or all of them."""
    changed = container.queue().retry(ids or None)
    why = "not failed, or a newer task of the entity is pending"
    _print_changed("retried", changed, ids, why, as_json=as_json)


@queue.command("release")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))
@json_option
@pass_container
def release(container: Container, ids: tuple[int, ...], as_json: bool) -> None:
    """Take tasks from a worker that holds them: those with these IDs.

    Without IDs, those held for longer than a day from now, which only a worker with a wrong clock
    can have done. Give no ID of a task whose worker is alive; it would lose its work.
    """
    changed = container.queue().free(ids or None)
    _print_changed("released", changed, ids, "no worker holds it", as_json=as_json)


def _print_changed(
    verb: str, changed: list[int], wanted: tuple[int, ...], why_not: str, *, as_json: bool
) -> None:
    """What became pending again; CommandError where that is not all that was wanted."""
    missing = sorted(set(wanted) - set(changed))
    if as_json and not missing:
        print_json({verb: changed})
    if not as_json:
        say(f"{len(changed)} tasks are pending again.")
    if missing:
        listed = ", ".join(map(str, missing))
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
