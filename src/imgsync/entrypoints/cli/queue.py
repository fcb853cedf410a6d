"""imgsync queue: look at the queue and retry failed tasks."""

from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from imgsync.domain.tasks import Task, TaskStatus
from imgsync.entrypoints.cli.runtime import (
    MAX_ID,
    json_option,
    pass_container,
    print_json,
    print_table,
)
from imgsync.entrypoints.container import Container


@click.group()
def queue() -> None:
    """The task queue."""


@queue.command("status")
@json_option
@pass_container
def status(container: Container, as_json: bool) -> None:
    """Number of tasks by status."""
    counts = {s.value: n for s, n in container.queue().counts().items()}
    if as_json:
        print_json(counts)
        return
    for name, count in counts.items():
        click.echo(f"{name:<10} {count}")


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
        click.echo("No failed tasks.")
        return
    table = Table("Task", "Entity", "Attempts", "Failed at (UTC)", "Error")
    for task in tasks:
        table.add_row(
            str(task.id),
            _entity(task),
            f"{task.attempts}/{task.max_attempts}",
            f"{task.updated_at:%Y-%m-%d %H:%M:%S}",
            task.error or "",
        )
    print_table(table)


@queue.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))
@json_option
@pass_container
def retry(container: Container, ids: tuple[int, ...], as_json: bool) -> None:
    """Make failed tasks pending again: those with these IDs, or all of them."""
    changed = container.queue().retry(ids or None)
    if as_json:
        print_json({"retried": changed})
    else:
        click.echo(f"{len(changed)} tasks are pending again.")
    if missing := sorted(set(ids) - set(changed)):
        listed = ", ".join(map(str, missing))
        raise click.ClickException(
            f"Not retried (not failed, or a newer task of the entity is pending): {listed}"
        )


def _entity(task: Task) -> str:
    if not isinstance(task.payload, Mapping):
        return "?"
    kind = task.payload.get("parent_entity_type") or task.payload.get("entity_type") or "?"
    return f"{kind} {task.payload.get('parent_entity_id', '?')}"


def _as_dict(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "entity": _entity(task),
        "attempts": task.attempts,
        "max_attempts": task.max_attempts,
        "failed_at": task.updated_at.isoformat(),
        "error": task.error,
        "payload": task.payload,
    }
