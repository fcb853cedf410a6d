"""imgsync account: stored accounts."""

import contextlib
import os
import sys

import click

from imgsync.application.accounts import OWNERS, AddedAccount, GivenAccount, WrongKindError
from imgsync.domain.errors import StoreError, UnavailableError
from imgsync.domain.model import Account, AccountRole, Parking, TokenKind
from imgsync.domain.text import counted
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.exit_status import ExitStatus


@click.group()
def account() -> None:
    """Accounts and their credentials."""


@account.command("add")
@click.argument("account_id", metavar="[ID]", required=False)
@click.option("--name", help="Name to show; MoySklad's own by default.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in TokenKind]),
    help="What the credentials are; learnt by default, but for a solution in draft or moderation, "
    "each request of which costs 4 units instead of 1.",
)
@click.option("--login", help="Login, where the secret is a user's password.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in AccountRole]),
    help="Whether images are copied from the account or to it; learnt at the first copy.",
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--offline", is_flag=True, help="Store the account ID without asking MoySklad.")
@json_option
@pass_container
def add(
    container: Container,
    account_id: str | None,
    name: str | None,
    kind: str | None,
    login: str | None,
    role: str | None,
    token_stdin: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Store an account, or replace the name and credentials of a stored one.

    MoySklad is asked whose credentials they are: they must be those of ID and of --kind where
    these are given, and nothing is stored where they are refused. Tasks that wait for the account
    run again.

    The token or password is read from IMGSYNC_TOKEN, with --token-stdin from standard input, else
    asked for. It is never an argument, so that no process list or shell history shows it.
    """
    if offline and account_id is None:
        raise click.UsageError("--offline needs the ID of the account")
    given = GivenAccount(
        _read_secret(token_stdin),
        None if account_id is None else account_id.strip(),
        name,
        TokenKind(kind) if kind else None,
        login,
        AccountRole(role) if role else None,
    )
    stored = _add(container, given, offline=offline)
    added, woken = stored.account, stored.woken
    if stored.stays_draft:
        say("Kept as a solution in draft; --kind solution once it is published.", err=True)
    if offline:
        say(
            "Warning: nobody has checked that these are the credentials of "
            f"'{added.name}' ({added.id}); that is done before the first write.",
            err=True,
        )
    if as_json:
        print_json({**_as_dict(added), "checked": not offline, "woken": woken}, ExitStatus.DONE)
        return
    say(f"Account '{added.name}' is stored.")
    if not offline:
        say(f"ID {added.id}, {OWNERS[added.token_kind]}.")
    if woken:
        run = "runs" if woken == 1 else "run"
        say(f"{counted(woken, 'task')} that waited for it {run} again.")


def _add(container: Container, given: GivenAccount, *, offline: bool) -> AddedAccount:
    """Stores the account; errors with what may be done about them at the command line."""
    add_account = container.add_account()
    try:
        given.unchecked()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    store = add_account.unchecked if offline else add_account
    try:
        return run_async(container, lambda: store(given))
    except UnavailableError as error:
        raise CommandError(
            f"{error} ('imgsync account add ID --offline' stores them unchecked)"
        ) from error
    except WrongKindError as error:
        raise CommandError(
            f"This is {OWNERS[error.learnt]} (--kind {error.learnt}), "
            f"not {OWNERS[error.given]} (--kind {error.given}); nothing is stored"
        ) from error


@account.command("list")
@json_option
@pass_container
def list_accounts(container: Container, as_json: bool) -> None:
    """List the accounts, without their tokens; with the reason where one is parked, and the units
    of the rate limit that a request costs, once answers have shown it."""
    stored = container.accounts()

    moysklad = container.moysklad()
    weights = dict[str, int | None]()

    async def look() -> dict[Account, Parking | None]:
        accounts = await stored.all()
        for one in accounts:
            with contextlib.suppress(StoreError):  # it is only shown
                weights[one.id] = await moysklad.weight(one)
        return {a: await stored.parking(a.id) for a in accounts}

    accounts = run_async(container, look)
    if as_json:
        print_json(
            [
                {**_as_dict(a), "parked": _parking_as_dict(p), "weight": weights.get(a.id)}
                for a, p in accounts.items()
            ]
        )
        return
    if not accounts:
        say("No accounts yet; add one with 'imgsync account add'.")
        return
    print_table(
        ("ID", "Name", "Kind", "Login", "Role", "Weight", "Parked"),
        (
            (
                a.id,
                a.name,
                a.token_kind.value,
                a.login or "",
                a.role.value if a.role else "",
                str(weights.get(a.id) or ""),
                _parking_in_words(parking),
            )
            for a, parking in accounts.items()
        ),
    )


def _parking_in_words(parking: Parking | None) -> str:
    return f"until {parking.until:%Y-%m-%d %H:%M} UTC: {parking.reason}" if parking else ""


def _parking_as_dict(parking: Parking | None) -> dict[str, str] | None:
    if parking is None:
        return None
    return {"reason": parking.reason, "until": parking.until.isoformat()}


def _as_dict(a: Account) -> dict[str, object]:
    return {
        "id": a.id,
        "name": a.name,
        "kind": a.token_kind.value,
        "login": a.login,
        "role": a.role.value if a.role else None,
    }


def _read_secret(token_stdin: bool) -> str:
    if token_stdin:
        return sys.stdin.readline().strip()
    if secret := os.environ.get("IMGSYNC_TOKEN"):
        return secret.strip()
    return str(click.prompt("Token or password", hide_input=True, err=True)).strip()
