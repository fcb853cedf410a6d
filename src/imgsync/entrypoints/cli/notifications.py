"""imgsync notify-test: whether notifications arrive."""

import asyncio
from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.output import print_json, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.command("notify-test", epilog=STATUSES)
@json_option
@pass_container
def notify_test(container: "Container", as_json: bool) -> ExitStatus:
    """Send a test message to each address of notify_urls, and tell whether it went."""
    notify = container.notify()
    if notify is None:
        raise CommandError(
            gettext("no address is configured: set IMGSYNC_NOTIFY_URLS, or notify_urls")
        )
    ends = run_async(container, lambda: asyncio.to_thread(notify.test))
    went = sum(not problem for _, problem in ends)
    status = ExitStatus.DONE if went == len(ends) else ExitStatus.PART
    if not went:
        status = ExitStatus.ERROR
    if as_json:
        told = [{"target": label, "went": not problem, "why": problem} for label, problem in ends]
        print_json({"targets": told}, status)
        return status
    for label, problem in ends:
        say(f"{label}: {problem or gettext('sent')}", err=bool(problem))
    return status


def check_notifications(container: "Container") -> None:
    """NotifyError where an address is none: told by a service as it starts, not when it has
    something to tell."""
    notify = container.notify()
    if notify is not None:
        notify.check()
