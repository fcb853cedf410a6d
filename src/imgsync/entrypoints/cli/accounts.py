"""imgsync account: stored accounts."""

import contextlib
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgsync.application.accounts import (
    OWNERS,
    AddedAccount,
    GivenAccount,
    WrongKindError,
    find_account,
)
from imgsync.domain.errors import StoreError, UnavailableError
from imgsync.domain.model import NO_END, Abilities, Account, AccountRole, Parking, TokenKind
from imgsync.domain.ports.accounts import Holdings
from imgsync.domain.text import counted, file_size, natural_key
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.parcels import export_accounts, import_accounts
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.exit_status import ExitStatus

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.group()
def account() -> None:
    """Accounts and their credentials."""


account.add_command(export_accounts)
account.add_command(import_accounts)


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
    container: "Container",
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
    if stored.namesake is not None:
        say(
            f"Warning: account {stored.namesake} is called '{added.name}' too, so that both have "
            "to be named by their IDs; to give this one another name, run "
            f"'imgsync account rename {added.id} NAME'.",
            err=True,
        )
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


def _add(container: "Container", given: GivenAccount, *, offline: bool) -> AddedAccount:
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
def list_accounts(container: "Container", as_json: bool) -> None:
    """List the accounts, without their tokens; with the reason where one is parked, and the units
    of the rate limit that a request costs, once answers have shown it."""
    stored = container.accounts()

    moysklad = container.moysklad()
    weights = dict[str, int | None]()

    async def look() -> dict[Account, Parking | None]:
        accounts = sorted(await stored.all(), key=lambda a: (natural_key(a.name), a.id))
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


@account.command("show")
@click.argument("name", metavar="ACCOUNT", shell_complete=account_names)
@json_option
@pass_container
def show(container: "Container", name: str, as_json: bool) -> None:
    """Show an account, without its token, and what its API has shown that it can do.

    MoySklad's documents leave much of that open, so it is learnt along the way. ACCOUNT is an ID or
    a name.
    """
    stored, abilities = container.accounts(), container.abilities()

    async def look() -> tuple[Account, Parking | None, Abilities]:
        found = await find_account(stored, name)
        return found, await stored.parking(found.id), await abilities.get(found.id)

    found, parking, shown = run_async(container, look)
    if as_json:
        told = {"parked": _parking_as_dict(parking), "abilities": _abilities_as_dict(shown)}
        print_json({**_as_dict(found), **told}, ExitStatus.DONE)
        return
    say(f"Account '{found.name}', ID {found.id}, {OWNERS[found.token_kind]}.")
    if parking:
        say(f"It is parked {_parking_in_words(parking)}.")
    print_table(("Of its API", "Shown so far"), _abilities_in_words(shown))


@account.command("forget-abilities")
@click.argument(
    "names", metavar="ACCOUNT...", shell_complete=account_names, nargs=-1, required=True
)
@json_option
@pass_container
def forget_abilities(container: "Container", names: tuple[str, ...], as_json: bool) -> None:
    """Forget what accounts have shown that they can do, such as after a change of the tariff.

    It is shown anew by the next requests. A worker that runs goes on by what it has seen itself
    until it is started again.
    """
    stored, abilities = container.accounts(), container.known_abilities()

    async def forget() -> list[Account]:
        found = {a.id: a for a in [await find_account(stored, name) for name in names]}
        for account_id in found:
            await abilities.forget(account_id)
        return list(found.values())

    forgotten = run_async(container, forget)
    if as_json:
        print_json({"forgotten": [one.id for one in forgotten]}, ExitStatus.DONE)
        return
    for one in forgotten:
        say(f"What account '{one.name}' has shown is forgotten; it is shown anew.")


@account.command("test")
@click.argument("names", metavar="[ACCOUNT]...", nargs=-1)
@json_option
@pass_container
def test(container: "Container", names: tuple[str, ...], as_json: bool) -> int:
    """Ask MoySklad whether the stored credentials are good, of all accounts or of some.

    Told is whose they are, the units of the rate limit that a request costs, and whether webhooks
    can be seen to. Nothing is changed; the exit status is 1 where any credentials are not good.
    """
    tested = run_async(container, lambda: container.test_accounts()(names))
    failed = sum(one.problem is not None for one in tested)
    status = ExitStatus.ERROR if failed else ExitStatus.DONE
    if as_json:
        print_json(
            {
                "accounts": [
                    {
                        **_as_dict(one.account),
                        "problem": one.problem,
                        "weight": one.weight,
                        "no_webhooks": one.no_webhooks,
                        "parked": _parking_as_dict(one.parking),
                    }
                    for one in tested
                ]
            },
            status,
        )
        return status
    if not tested:
        say("No accounts yet; add one with 'imgsync account add'.")
        return status
    print_table(
        ("Account", "ID", "Credentials", "Weight", "Webhooks", "Parked"),
        (
            (
                one.account.name,
                one.account.id,
                f"not good: {one.problem}"
                if one.problem
                else f"good, {OWNERS[one.account.token_kind]}",
                str(one.weight or ""),
                "" if one.problem else f"no: {one.no_webhooks}" if one.no_webhooks else "yes",
                _parking_in_words(one.parking),
            )
            for one in tested
        ),
    )
    if failed:
        good = f"{len(tested) - failed} of {len(tested)}"
        say(
            f"The credentials of {good} are good; others are given with 'imgsync account rotate'.",
            err=True,
        )
    return status


@account.command("rename")
@click.argument("name", metavar="ACCOUNT")
@click.argument("new_name", metavar="NEW_NAME")
@json_option
@pass_container
def rename(container: "Container", name: str, new_name: str, as_json: bool) -> None:
    """Give an account another name. Links and tasks go by its ID and stay as they are."""
    try:
        renamed = run_async(container, lambda: container.rename_account()(name, new_name))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(_as_dict(renamed), ExitStatus.DONE)
        return
    say(f"Account {renamed.id} is called '{renamed.name}' from now on.")


@account.command("rotate")
@click.argument("name", metavar="ACCOUNT")
@click.option("--login", help="Login, where the secret is a user's password; as before by default.")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@json_option
@pass_container
def rotate(
    container: "Container", name: str, login: str | None, token_stdin: bool, as_json: bool
) -> None:
    """Replace the token or password of a stored account.

    MoySklad is asked whose the new one is: nothing is stored where it is another account's or is
    refused. Tasks that wait for the account run again. The token is read as by 'account add'.
    """
    found = run_async(container, lambda: find_account(container.accounts(), name))
    secret = _read_secret(token_stdin)
    try:
        stored = run_async(container, lambda: container.rotate_account()(found, secret, login))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json({**_as_dict(stored.account), "woken": stored.woken}, ExitStatus.DONE)
        return
    say(f"Account '{stored.account.name}' has its new {_secret_of(stored.account)}.")
    if stored.woken:
        run = "runs" if stored.woken == 1 else "run"
        say(f"{counted(stored.woken, 'task')} that waited for it {run} again.")


@account.command("remove")
@click.argument("name", metavar="ACCOUNT")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_container
def remove(container: "Container", name: str, yes: bool, as_json: bool) -> None:
    """Forget an account, its credentials and what hangs on it, which is shown first.

    Its links end, its webhooks are removed from MoySklad where that can be reached, and its waiting
    tasks go. Images stay where they are. Refused while workers are at its tasks.
    """
    if as_json and not yes:
        raise click.UsageError("--json asks nothing: give --yes with it")
    found, held = run_async(container, lambda: container.remove_account().look(name))
    if not yes:
        say(f"Account '{found.name}', ID {found.id}. With it go:", err=True)
        for line in _held_in_words(held) or ["nothing but its credentials"]:
            say(f"  {line}", err=True)
        click.confirm("Remove it?", abort=True, err=True)
    removed = run_async(container, lambda: container.remove_account()(found))
    if as_json:
        told = {**asdict(removed.held), "webhooks_left": removed.webhooks_left}
        print_json({"removed": found.id, "name": found.name, **told}, ExitStatus.DONE)
        return
    if removed.webhooks_left:
        say(
            f"Warning: its webhooks are still in MoySklad, remove them there: "
            f"{removed.webhooks_left}",
            err=True,
        )
    say(f"Account '{found.name}' is removed.")


def _held_in_words(held: Holdings) -> list[str]:
    lines = []
    if held.child_ids:
        lines.append(f"the links of {counted(len(held.child_ids), 'child', 'children')}")
    if held.main_id is not None:
        lines.append(f"the link to main account {held.main_id}")
    for number, what in (
        (held.waiting, "waiting task"),
        (held.failed, "failed task"),
        (held.records, "record"),
        (held.failed_images, "failed image"),
    ):
        if number:
            lines.append(counted(number, what))
    if held.has_webhooks:
        lines.append("its webhooks")
    if held.running + held.running_of_children:
        lines.append(
            f"{counted(held.running + held.running_of_children, 'task')} that workers are at, "
            "for which the removal is refused"
        )
    return lines


def _secret_of(account: Account) -> str:
    return "password" if account.token_kind is TokenKind.PASSWORD else "token"


@account.command("rekey")
@json_option
@pass_container
def rekey(container: "Container", as_json: bool) -> None:
    """Encrypt all tokens anew, with a new key.

    The key before is kept beside the new one, as backups of the database need it. Where the key is
    given by IMGSYNC_KEY, the new one has to stand there first ('imgsync account new-key' makes
    one), and with several hosts in the key file of each; all go on with the key before until then.
    """
    done = run_async(container, lambda: container.stored_secrets().rekey())
    if as_json:
        print_json(
            {"key": done.now, "key_before": done.before, "secrets": done.secrets}, ExitStatus.DONE
        )
        return
    say(f"{counted(done.secrets, 'token')} encrypted with the new key {done.now}.")
    if done.before is not None:
        say(f"The key before, {done.before}, is kept for backups of the database.")


@account.command("new-key")
def new_key() -> None:
    """Print a new key, for IMGSYNC_KEY or a key file; nothing is changed."""
    from imgsync.adapters.secrets.keys import new_key as make

    say(make())


def _abilities_in_words(shown: Abilities) -> list[tuple[str, str]]:
    def said(value: bool | None, yes: str, no: str) -> str:
        return "not yet" if value is None else yes if value else no

    def size(value: int | None) -> str:
        return "not yet" if value is None else f"{file_size(value)} ({value:,} bytes)"

    hosts = ", ".join(sorted(shown.permanent_hosts))
    formats = ", ".join(sorted(shown.refused_formats)).upper()
    return [
        ("Images of many entities in one request", said(shown.bulk, "taken", "not taken")),
        ("Images kept in such a request", said(shown.bulk_keeps, "kept", "not kept")),
        (
            "Permanent links of images",
            said(shown.permanent_links, f"given, on {hosts}" if hosts else "given", "not given"),
        ),
        (
            "'updated' of an entity after a change of its images",
            said(shown.images_move_updated, "moves", "stays"),
        ),
        ("Largest image that was taken", size(shown.accepted_image_bytes)),
        ("Smallest image that was too large", size(shown.refused_image_bytes)),
        ("Formats that were refused", formats or "none"),
        ("Size of an image by HEAD", said(shown.head, "told", "not told")),
    ]


def _abilities_as_dict(shown: Abilities) -> dict[str, object]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(shown).items()
    }


def _parking_in_words(parking: Parking | None) -> str:
    if parking is None:
        return ""
    if parking.until == NO_END:
        return f"until a new token comes: {parking.reason}"
    return f"until {parking.until:%Y-%m-%d %H:%M} UTC: {parking.reason}"


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
