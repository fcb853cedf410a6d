"""imgsync enqueue: fill the queue."""

import json
from collections.abc import Sequence
from typing import Any, TextIO

import click

from imgsync.domain.errors import ImgsyncError
from imgsync.entrypoints.cli.planning import (
    match_option,
    plan_and_queue,
    print_skipped,
    types_option,
    warn_if_disabled,
)
from imgsync.entrypoints.cli.runtime import json_option, pass_container, print_json, run_async
from imgsync.entrypoints.container import Container


@click.command()
@click.option("--main", "main_id", metavar="ID", help="Main account.")
@click.option("--child", "child_id", metavar="ID", help="Child account.")
@match_option
@types_option
@click.option(
    "--payload",
    "payload_file",
    type=click.File("r", encoding="utf-8"),
    help="Queue the task payload (or JSON array of payloads) in this file, '-' for stdin.",
)
@json_option
@pass_container
def enqueue(
    container: Container,
    main_id: str | None,
    child_id: str | None,
    match_by: str | None,
    types: tuple[str, ...],
    payload_file: TextIO | None,
    as_json: bool,
) -> None:
    """Queue one task per entity of the main account that has images and a counterpart."""
    if payload_file is not None:
        if main_id or child_id or match_by or types:
            raise click.UsageError("--payload stands alone; the payload names its accounts")
        _enqueue_payloads(container, payload_file, as_json)
        return
    if not main_id or not child_id:
        raise click.UsageError("give --main ID and --child ID, or --payload FILE")
    warn_if_disabled(container, child_id)
    outcome = run_async(
        container,
        lambda: plan_and_queue(container, main_id, child_id, match_by=match_by, types=types),
    )
    if as_json:
        print_json(outcome.as_dict())
        return
    print_skipped(outcome)
    click.echo(
        f"Queued {outcome.entities} tasks with {outcome.images} images "
        f"({outcome.created} new, {outcome.updated} updated); {len(outcome.skipped)} skipped."
    )


def _enqueue_payloads(container: Container, file: TextIO, as_json: bool) -> None:
    """Queues payloads after all of them have been checked, so that none is half queued."""
    payloads = _read_payloads(file)
    registry = container.plugins()
    keys: dict[str, int] = {}
    for position, payload in enumerate(payloads, start=1):
        try:
            request = registry.payload_formats.parse(payload)
            registry.entity_types.get(request.entity_type)
        except ImgsyncError as error:
            raise click.ClickException(f"Payload {position}: {error}") from error
        first = keys.setdefault(request.dedupe_key, position)
        if first != position:
            raise click.ClickException(
                f"Payloads {first} and {position} are for the same child entity; "
                "put all of its images in one payload"
            )
    queued = [
        container.queue().enqueue(payload, dedupe_key=key)
        for payload, key in zip(payloads, keys, strict=True)
    ]
    if as_json:
        print_json({"task_ids": [q.task_id for q in queued]})
        return
    created = sum(q.created for q in queued)
    click.echo(f"Queued {len(queued)} tasks ({created} new, {len(queued) - created} updated).")


def _read_payloads(file: TextIO) -> Sequence[Any]:
    try:
        value = json.load(file, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"The payload file is not JSON: {error}") from error
    return value if isinstance(value, list) else [value]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
