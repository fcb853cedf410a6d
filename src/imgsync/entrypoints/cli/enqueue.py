"""imgsync enqueue: fill the queue."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from imgsync.application.enqueue import EnqueueOutcome, PayloadChoice
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.ports.queue import Enqueued
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.surveys import Since
from imgsync.entrypoints.cli.output import print_json, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    in_part,
    json_option,
    pass_container,
    run_async,
    tell_trouble,
    with_hint,
)
from imgsync.entrypoints.cli.surveys import (
    adopt_option,
    children_option,
    chosen_adopt,
    chosen_field,
    main_option,
    match_option,
    max_clear_option,
    off_message,
    print_adopted,
    print_skipped,
    since_option,
    types_option,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, ngettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.command(epilog=STATUSES)
@main_option
@children_option
@match_option
@types_option
@since_option
@max_clear_option
@adopt_option
@click.option(
    "--payload",
    "payload_file",
    type=click.File("r", encoding="utf-8"),
    help="Queue the task payload (or JSON array of payloads) in this file, '-' for stdin.",
)
@json_option
@pass_container
def enqueue(
    container: "Container",
    main_id: str | None,
    children: tuple[str, ...],
    match_by: str | None,
    types: tuple[str, ...],
    since: Since | None,
    max_clear: int | None,
    adopt: str | None,
    payload_file: TextIO | None,
    as_json: bool,
) -> ExitStatus:
    """Queue a task for each entity whose images differ, of every link or of some children.

    Where image sync is off for a child, nothing is queued for it.
    """
    if payload_file is not None:
        if main_id or children or match_by or types or since or adopt or max_clear is not None:
            raise click.UsageError(
                gettext("--payload stands alone; the payload names its accounts")
            )
        return _enqueue_payloads(container, payload_file, as_json)
    find_links, enqueue_links = container.find_links(), container.enqueue()
    note_runs = container.note_runs()
    found = EnqueueOutcome()

    async def put() -> None:
        links = await find_links(main_id, children)
        async with note_runs.noting(
            RunKind.ENQUEUE, RunCause.COMMAND, links, types=types, since=since
        ) as noted:
            await enqueue_links(
                links,
                match_by=chosen_field(match_by),
                types=types,
                since=since,
                max_clear=max_clear,
                adopt=chosen_adopt(adopt),
                progress=noted.see,
                outcome=found,
            )
            noted.surveyed(found)

    try:
        trouble = in_part(lambda: run_async(container, put), lambda: bool(found.task_ids))
    except SyncIsOffError as error:
        say(with_hint(error), err=True)
        return _print(found, ExitStatus.OFF, None, as_json)
    status = ExitStatus.PART if trouble or found.in_part else ExitStatus.DONE
    return _print(found, status, trouble, as_json)


def _print(
    found: EnqueueOutcome, status: ExitStatus, trouble: str | None, as_json: bool
) -> ExitStatus:
    tell_trouble(trouble)
    if as_json:
        print_json(found.as_dict() | ({"error": trouble} if trouble else {}), status)
        return status
    print_skipped(found)
    print_adopted(found)
    clear = ""
    if found.clears:
        clear = gettext(", %(clears)s of them to clear,", clears=found.clears)
    say(
        gettext(
            "Queued %(tasks)s with %(images)s%(clear)s (%(created)s new, %(updated)s updated); "
            "%(unchanged)s unchanged, %(skipped)s skipped.",
            tasks=ngettext("%(num)s task", "%(num)s tasks", len(found.task_ids)),
            images=ngettext("%(num)s image", "%(num)s images", found.images),
            clear=clear,
            created=found.created,
            updated=found.updated,
            unchanged=found.unchanged,
            skipped=found.skipped.count,
        )
    )
    return status


def _enqueue_payloads(container: "Container", file: TextIO, as_json: bool) -> ExitStatus:
    enqueue_payloads = container.enqueue_payloads()
    payloads = _read_payloads(file)
    choice = PayloadChoice([], [])
    queued: list[Enqueued] = []

    async def put() -> None:
        nonlocal choice
        choice = await enqueue_payloads.choose(payloads)
        await enqueue_payloads.put(choice.wanted, queued)

    trouble = in_part(lambda: run_async(container, put), lambda: bool(queued))
    for child in choice.off:
        say(off_message(child), err=True)
    if choice.off and not choice.wanted:
        status = ExitStatus.OFF
    else:
        status = ExitStatus.PART if choice.off or trouble else ExitStatus.DONE
    tell_trouble(trouble)
    if as_json:
        told = {"task_ids": [q.task_id for q in queued], "off": [c.id for c in choice.off]}
        print_json(told | ({"error": trouble} if trouble else {}), status)
        return status
    created = sum(q.created for q in queued)
    say(
        gettext(
            "Queued %(tasks)s (%(created)s new, %(number)s updated).",
            tasks=ngettext("%(num)s task", "%(num)s tasks", len(queued)),
            created=created,
            number=len(queued) - created,
        )
    )
    return status


def _read_payloads(file: TextIO) -> Sequence[Any]:
    try:
        value = json.load(file, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(
            gettext("The payload file is not JSON: %(why)s", why=error)
        ) from error
    return value if isinstance(value, list) else [value]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
