"""imgsync webhooks: by which MoySklad tells of changes as they happen."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.webhooks import WebhooksOutcome
from imgsync.domain.model import Account
from imgsync.domain.text import natural_key
from imgsync.domain.webhooks import WebhookState, reception_prefix
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_NONE = marked(
    "No webhooks are installed; install them with 'imgsync webhooks install --url https://...'"
)


@click.group()
def webhooks() -> None:
    """Webhooks, by which MoySklad tells 'imgsync serve' of changes as they happen."""


@webhooks.command(epilog=STATUSES)
@click.argument("accounts", metavar="[ACCOUNT]...", shell_complete=account_names, nargs=-1)
@click.option(
    "--url",
    required=True,
    help="Address at which MoySklad reaches 'imgsync serve', such as https://sync.example.com.",
)
@json_option
@pass_container
def install(
    container: "Container", accounts: tuple[str, ...], url: str, as_json: bool
) -> ExitStatus:
    """Make the webhooks of main accounts, and of children whose own changes are guarded.

    Accounts are named by ID or name; without one, all that are linked. Webhooks that imgsync has
    made for another address are led to this one; those of other programs are never touched.
    """
    try:
        reception_prefix(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--url'") from None
    use = container.install_webhooks()
    return _tell(run_async(container, lambda: use(url, accounts)), as_json=as_json)


@webhooks.command("list")
@json_option
@pass_container
def listed(container: "Container", as_json: bool) -> ExitStatus:
    """List how the webhooks of each account stood when they were last looked at."""
    states, stored = container.webhook_states(), container.accounts()

    async def look() -> tuple[list[WebhookState], list[Account]]:
        return await states.all(), await stored.all()

    found, accounts = run_async(container, look)
    names = {account.id: account.name for account in accounts}
    installed = [state for state in found if state.url]
    installed.sort(
        key=lambda state: (natural_key(names.get(state.account_id, "")), state.account_id)
    )
    if as_json:
        rows = [_state_as_dict(one, names.get(one.account_id)) for one in installed]
        print_json({"webhooks": rows}, ExitStatus.DONE)
        return ExitStatus.DONE
    if not installed:
        say(f"{gettext(_NONE)}.")
        return ExitStatus.DONE
    print_table(
        (
            gettext("Account"),
            gettext("Lead to"),
            gettext("Work"),
            gettext("Looked at (UTC)"),
            gettext("Last event (UTC)"),
            gettext("Problem"),
        ),
        (
            (
                names.get(one.account_id, one.account_id),
                f"{one.url}...",
                gettext("%(working)s of %(wanted)s", working=one.working, wanted=one.wanted),
                _time(one.checked_at),
                _time(one.last_event_at),
                translated(one.problem),
            )
            for one in installed
        ),
    )
    return ExitStatus.DONE


@webhooks.command(epilog=STATUSES)
@json_option
@pass_container
def check(container: "Container", as_json: bool) -> ExitStatus:
    """Look now whether the installed webhooks are there and on, and mend what is not.

    'imgsync serve' does so every hour.
    """
    use = container.check_webhooks()
    outcomes = run_async(container, use)
    if not outcomes:
        raise CommandError(gettext(_NONE))
    return _tell(outcomes, as_json=as_json)


@webhooks.command(epilog=STATUSES)
@click.argument("accounts", metavar="[ACCOUNT]...", shell_complete=account_names, nargs=-1)
@json_option
@pass_container
def remove(container: "Container", accounts: tuple[str, ...], as_json: bool) -> ExitStatus:
    """Remove the webhooks that imgsync has made, and no others.

    Accounts are named by ID or name; without one, all that have any. Changes are found by the
    schedule alone from then on.
    """
    use = container.remove_webhooks()
    return _tell(run_async(container, lambda: use(accounts)), as_json=as_json, removed=True)


def _tell(
    outcomes: Sequence[WebhooksOutcome], *, as_json: bool, removed: bool = False
) -> ExitStatus:
    bad = [one for one in outcomes if one.problem]
    some = len(bad) < len(outcomes) or any(one.seen and one.state.working for one in bad)
    status = ExitStatus.DONE if not bad else ExitStatus.PART if some else ExitStatus.ERROR
    if as_json:
        print_json({"webhooks": [_as_dict(one) for one in outcomes]}, status)
        return status
    if not outcomes:
        say(gettext("There are none."))
    for one in outcomes:
        if one.problem:
            say(gettext("Error: %(why)s", why=one.problem), err=True)
        if removed and not one.problem:
            say(
                gettext(
                    "'%(name)s': %(removed)s removed.", name=one.account.name, removed=one.removed
                )
            )
        elif one.seen:
            work = gettext(
                "%(working)s of %(wanted)s work", working=one.state.working, wanted=one.state.wanted
            )
            say(
                gettext(
                    "'%(name)s': %(work)s%(done)s.",
                    name=one.account.name,
                    work=work,
                    done=_done(one),
                )
            )
    return status


def _done(outcome: WebhooksOutcome) -> str:
    did = [
        gettext("%(count)s %(word)s", count=number, word=word)
        for number, word in (
            (outcome.made, gettext("made")),
            (outcome.changed, gettext("changed")),
            (outcome.switched_on, gettext("switched on again")),
            (outcome.removed, gettext("removed")),
        )
        if number
    ]
    return f"; {', '.join(did)}" if did else ""


def _as_dict(outcome: WebhooksOutcome) -> dict[str, Any]:
    return _state_as_dict(outcome.state, outcome.account.name) | {
        "made": outcome.made,
        "changed": outcome.changed,
        "switched_on": outcome.switched_on,
        "removed": outcome.removed,
        "problem": outcome.problem,
    }


def _state_as_dict(state: WebhookState, name: str | None) -> dict[str, Any]:
    return {
        "account_id": state.account_id,
        "account_name": name,
        "url": f"{state.url}..." if state.url else None,
        "wanted": state.wanted,
        "working": state.working,
        "switched_off": state.switched_off,
        "problem": state.problem,
        "checked_at": state.checked_at and state.checked_at.isoformat(),
        "last_event_at": state.last_event_at and state.last_event_at.isoformat(),
    }


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else gettext("never")
