"""imgsync runs: what sweeps, surveys, checks and syncs found and did."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from imgsync.application.accounts import find_account
from imgsync.domain.model import Account
from imgsync.domain.runs import UNEQUAL, Run, RunKind
from imgsync.domain.surveys import Since
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import json_option, pass_container, run_async
from imgsync.entrypoints.cli.surveys import SinceType
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.json_texts import run_as_dict
from imgsync.entrypoints.translation import gettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.command()
@click.option(
    "--child",
    "child_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Those of a child, by ID or name.",
)
@click.option(
    "--kind", type=click.Choice([kind.value for kind in RunKind]), help="Those of a kind."
)
@click.option(
    "--since",
    type=SinceType(),
    help="Those that began since then: a time (2026-01-31T12:00) or a span (30m, 2h, 1d).",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many."
)
@json_option
@pass_container
def runs(
    container: "Container",
    child_id: str | None,
    kind: str | None,
    since: Since | None,
    limit: int,
    as_json: bool,
) -> ExitStatus:
    """What sweeps, surveys, checks and syncs found and did, newest first.

    Requests, units, images and bytes are those of the run itself; what it left to a worker is
    not among them.
    """
    begin: datetime | None = None
    if since is not None:
        begin = datetime.now(UTC) - since.span if since.span is not None else since.moment
        if begin is None:
            raise click.UsageError(gettext("--since takes a time or a span here, not 'last'"))
    history, accounts = container.run_history(), container.accounts()

    async def look() -> tuple[list[Run], list[Account], datetime]:
        child = await find_account(accounts, child_id) if child_id else None
        found = await history.find(
            child_id=None if child is None else child.id,
            kind=RunKind(kind) if kind else None,
            since=begin,
            limit=limit,
        )
        return found, await accounts.all(), await container.shared_clock().now()

    found, stored, now = run_async(container, look)
    if as_json:
        print_json({"runs": [run_as_dict(run, now) for run in found]}, ExitStatus.DONE)
        return ExitStatus.DONE
    if not found:
        say(gettext("No runs yet."))
        return ExitStatus.DONE
    names = {account.id: account.name for account in stored}
    print_table(
        (
            gettext("Run"),
            gettext("Began"),
            gettext("Kind"),
            gettext("By"),
            gettext("Children"),
            gettext("Took"),
            gettext("Equal"),
            gettext("Differ"),
            gettext("Requests"),
            gettext("End"),
        ),
        (
            (
                run.id,
                f"{run.began.astimezone():%Y-%m-%d %H:%M}",
                gettext(run.kind.value),
                gettext(run.cause.value),
                _children(run, names),
                "" if run.seconds is None else f"{run.seconds:.0f} s",
                str(run.numbers.get("equal", 0)),
                str(sum(run.numbers.get(name, 0) for name in UNEQUAL)),
                str(run.numbers.get("requests", 0)),
                gettext("not ended")
                if run.ended is None
                else translated(run.error or "") or gettext("done"),
            )
            for run in found
        ),
    )
    return ExitStatus.DONE


def _children(run: Run, names: dict[str, str]) -> str:
    first, *others = [names.get(child_id, child_id) for child_id in run.child_ids] or [
        gettext("none")
    ]
    return (
        gettext("%(first)s and %(number)s more", first=first, number=len(others))
        if others
        else first
    )
