"""imgsync account: stored accounts."""

import os
import sys
from dataclasses import dataclass

import click

from imgsync.domain.accounts import Account, AccountRole, Identity, Parking, TokenKind
from imgsync.domain.errors import AuthorisationError, ImgsyncError, UnavailableError
from imgsync.domain.text import shown
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.exit_status import ExitStatus

_SOLUTION_KINDS = (TokenKind.SOLUTION, TokenKind.DRAFT)
_OWNERS = {
    TokenKind.SOLUTION: "the token of a solution",
    TokenKind.DRAFT: "the token of a solution in draft",
    TokenKind.USER: "the token of a user",
    TokenKind.PASSWORD: "a user's login and password",
}


@dataclass(frozen=True, slots=True)
class _Given:
    """What the user says of an account; what is None is learnt from the API."""

    account_id: str | None
    name: str | None
    kind: TokenKind | None
    login: str | None
    role: AccountRole | None
    secret: str

    def account(self, account_id: str, name: str, kind: TokenKind) -> Account:
        try:
            return Account(account_id, name, kind, self.secret, self.login, self.role)
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    @property
    def likely_kind(self) -> TokenKind:
        return self.kind or (TokenKind.PASSWORD if self.login is not None else TokenKind.SOLUTION)

    def unchecked(self) -> Account:
        """As given alone; UsageError for what no account can be."""
        account_id = "?" if self.account_id is None else self.account_id
        return self.account(account_id, self.name or account_id, self.likely_kind)


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
    given = _Given(
        None if account_id is None else account_id.strip(),
        name,
        TokenKind(kind) if kind else None,
        login,
        AccountRole(role) if role else None,
        _read_secret(token_stdin),
    )
    unchecked = given.unchecked()
    if offline:
        added = _kept(container, given, unchecked)
    else:
        added = _confirmed(container, given, _identify(container, unchecked))
    woken = _store(container, added)
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
        say(f"ID {added.id}, {_OWNERS[added.token_kind]}.")
    if woken:
        say(f"{woken} tasks that waited for it run again.")


def _identify(container: Container, unchecked: Account) -> Identity:
    """Whose credentials these are. A clear error where the API refuses them or cannot be asked."""
    factory = container.moysklad()
    try:
        return run_async(container, lambda: factory.identify(unchecked.secret, unchecked.login))
    except AuthorisationError as error:
        raise CommandError(
            f"MoySklad refuses these credentials, so nothing is stored: {error}"
        ) from error
    except UnavailableError as error:
        raise CommandError(
            "MoySklad could not be asked whose credentials these are, so nothing is stored: "
            f"{error} ('imgsync account add ID --offline' stores them unchecked)"
        ) from error
    except ImgsyncError as error:
        raise CommandError(f"Nothing is stored: {error}") from error


def _confirmed(container: Container, given: _Given, identity: Identity) -> Account:
    """The account as the API knows it, where that is what the user says."""
    wanted = given.account_id
    if wanted is not None and wanted.casefold() != identity.account_id.casefold():
        raise CommandError(
            f"These are the credentials of account '{identity.account_id}' ({identity.name}), "
            f"not of '{wanted}'; nothing is stored"
        )
    if given.kind is not None and not _same_kind(given.kind, identity.token_kind):
        raise CommandError(
            f"This is {_OWNERS[identity.token_kind]} (--kind {identity.token_kind}), "
            f"not {_OWNERS[given.kind]} (--kind {given.kind}); nothing is stored"
        )
    known = _known(container, identity.account_id)
    name = given.name or (known.name if known and known.name != known.id else None)
    account_id = known.id if known else identity.account_id
    return given.account(
        account_id, name or _printable(identity.name) or account_id, _kind(given, identity, known)
    )


def _kept(container: Container, given: _Given, unchecked: Account) -> Account:
    """The account as given, with what is known of it and not said anew."""
    known = _known(container, unchecked.id)
    if known is None:
        return unchecked
    kind = unchecked.token_kind
    if given.kind is None and given.login is None and known.login is None:
        kind = known.token_kind
    return given.account(known.id, given.name or known.name, kind)


def _kind(given: _Given, identity: Identity, known: Account | None) -> TokenKind:
    """The API does not tell a draft; what is known to be one stays one until the user says else,
    as a request that costs more than was reckoned is a step towards a ban."""
    if given.kind is not None:
        return given.kind
    if known and known.token_kind is TokenKind.DRAFT and identity.token_kind in _SOLUTION_KINDS:
        say("Kept as a solution in draft; --kind solution once it is published.", err=True)
        return TokenKind.DRAFT
    return identity.token_kind


def _same_kind(given: TokenKind, learnt: TokenKind) -> bool:
    return given is learnt or (given in _SOLUTION_KINDS and learnt in _SOLUTION_KINDS)


def _known(container: Container, account_id: str) -> Account | None:
    """The stored account; None also for a damaged row, which is about to be replaced."""
    try:
        return container.accounts().get(account_id)
    except ImgsyncError:
        return None


def _printable(name: str) -> str:
    """A name from the API as one that an account may have."""
    spelled = (c if c.isprintable() else " " if c.isspace() else shown(c) for c in name)
    return "".join(c for c in "".join(spelled) if c.isprintable()).strip()


def _store(container: Container, added: Account) -> int:
    """Stores the account, which ends its parking; the number of its tasks that are woken."""
    _check_role(container, added)
    container.accounts().add(added)
    return container.queue().unpark(added.id)


def _check_role(container: Container, added: Account) -> None:
    if added.role is AccountRole.MAIN and container.settings().get(added.id).enabled:
        raise CommandError(
            f"Account '{added.name}' receives images, so it cannot be a main account; turn that "
            "off first with 'imgsync settings set'"
        )


@account.command("list")
@json_option
@pass_container
def list_accounts(container: Container, as_json: bool) -> None:
    """List the accounts, without their tokens; with the reason where one is parked."""
    accounts = container.accounts().all()
    parkings = {a.id: container.accounts().parking(a.id) for a in accounts}
    if as_json:
        print_json([{**_as_dict(a), "parked": _parking_as_dict(parkings[a.id])} for a in accounts])
        return
    if not accounts:
        say("No accounts yet; add one with 'imgsync account add'.")
        return
    print_table(
        ("ID", "Name", "Kind", "Login", "Role", "Parked"),
        (
            (
                a.id,
                a.name,
                a.token_kind.value,
                a.login or "",
                a.role.value if a.role else "",
                _parking_in_words(parkings[a.id]),
            )
            for a in accounts
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
