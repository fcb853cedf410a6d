"""imgsync account: stored accounts."""

import contextlib
import os
import sys
from collections.abc import Iterator
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
from imgsync.domain.model import Abilities, Account, AccountRole, Parking, TokenKind
from imgsync.domain.ports.accounts import Holdings
from imgsync.domain.text import file_size, natural_key
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import asked_secret, is_confirmed, print_json, print_table, say
from imgsync.entrypoints.cli.parcels import export_accounts, import_accounts
from imgsync.entrypoints.cli.parkings import parking_as_dict, parking_in_words
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, ngettext

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
    """Store an account, or replace the credentials of a stored one.

    MoySklad is asked whose credentials they are: they must be those of ID and of --kind where
    these are given, and nothing is stored where they are refused. Tasks that wait for the account
    run again. A stored account gets another name only where ID is given.

    The token or password is read from IMGSYNC_TOKEN, with --token-stdin from standard input, else
    asked for. It is never an argument, so that no process list or shell history shows it.
    """
    if offline and account_id is None:
        raise click.UsageError(gettext("--offline needs the ID of the account"))
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
        say(gettext("Kept as a solution in draft; --kind solution once it is published."), err=True)
    if stored.namesake is not None:
        say(
            gettext(
                "Warning: account %(namesake)s is called '%(name)s' too, so that both have "
                "to be named by their IDs; to give this one another name, run 'imgsync "
                "account rename %(id)s NAME'.",
                namesake=stored.namesake,
                name=added.name,
                id=added.id,
            ),
            err=True,
        )
    if offline:
        say(
            gettext(
                "Warning: nobody has checked that these are the credentials of '%(name)s' "
                "(%(id)s); that is done before the first write.",
                name=added.name,
                id=added.id,
            ),
            err=True,
        )
    if as_json:
        print_json({**_as_dict(added), "checked": not offline, "woken": woken}, ExitStatus.DONE)
        return
    say(gettext("Account '%(name)s' is stored.", name=added.name))
    if not offline:
        say(gettext("ID %(id)s, %(owner)s.", id=added.id, owner=gettext(OWNERS[added.token_kind])))
    if woken:
        say(_woken(woken))


def _woken(number: int) -> str:
    return ngettext(
        "%(num)s task that waited for it runs again.",
        "%(num)s tasks that waited for it run again.",
        number,
    )


def _add(container: "Container", given: GivenAccount, *, offline: bool) -> AddedAccount:
    """Stores the account; errors with what may be done about them at the command line."""
    add_account = container.add_account()
    try:
        given.unchecked()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    store = add_account.unchecked if offline else add_account
    with _told_of_the_kind():
        try:
            return run_async(container, lambda: store(given))
        except UnavailableError as error:
            raise CommandError(
                gettext(
                    "%(why)s ('imgsync account add ID --offline' stores them unchecked)", why=error
                )
            ) from error


@contextlib.contextmanager
def _told_of_the_kind() -> Iterator[None]:
    """An error on the kind of credentials, with the options that name them."""
    try:
        yield
    except WrongKindError as error:
        raise CommandError(
            gettext(
                "This is %(owner)s (--kind %(learnt)s), not %(other)s (--kind "
                "%(given)s); nothing is stored",
                owner=gettext(OWNERS[error.learnt]),
                learnt=error.learnt,
                other=gettext(OWNERS[error.given]),
                given=error.given,
            )
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
                {**_as_dict(a), "parked": parking_as_dict(p), "weight": weights.get(a.id)}
                for a, p in accounts.items()
            ]
        )
        return
    if not accounts:
        say(gettext("No accounts yet; add one with 'imgsync account add'."))
        return
    print_table(
        (
            gettext("ID"),
            gettext("Name"),
            gettext("Kind"),
            gettext("Login"),
            gettext("Role"),
            gettext("Weight"),
            gettext("Parked"),
        ),
        (
            (
                a.id,
                a.name,
                gettext(a.token_kind.value),
                a.login or "",
                gettext(a.role.value) if a.role else "",
                str(weights.get(a.id) or ""),
                parking_in_words(parking, a.name),
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
        told = {"parked": parking_as_dict(parking), "abilities": _abilities_as_dict(shown)}
        print_json({**_as_dict(found), **told}, ExitStatus.DONE)
        return
    say(
        gettext(
            "Account '%(name)s', ID %(id)s, %(owner)s.",
            name=found.name,
            id=found.id,
            owner=gettext(OWNERS[found.token_kind]),
        )
    )
    if parking:
        say(gettext("It is parked %(parking)s.", parking=parking_in_words(parking, found.name)))
    print_table((gettext("Of its API"), gettext("Shown so far")), _abilities_in_words(shown))


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
        say(
            gettext(
                "What account '%(name)s' has shown is forgotten; it is shown anew.", name=one.name
            )
        )


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
                        "parked": parking_as_dict(one.parking),
                    }
                    for one in tested
                ]
            },
            status,
        )
        return status
    if not tested:
        say(gettext("No accounts yet; add one with 'imgsync account add'."))
        return status
    print_table(
        (
            gettext("Account"),
            gettext("ID"),
            gettext("Credentials"),
            gettext("Weight"),
            gettext("Webhooks"),
            gettext("Parked"),
        ),
        (
            (
                one.account.name,
                one.account.id,
                gettext("not good: %(why)s", why=one.problem)
                if one.problem
                else gettext("good, %(owner)s", owner=gettext(OWNERS[one.account.token_kind])),
                str(one.weight or ""),
                ""
                if one.problem
                else gettext("no: %(why)s", why=one.no_webhooks)
                if one.no_webhooks
                else gettext("yes"),
                parking_in_words(one.parking, one.account.name),
            )
            for one in tested
        ),
    )
    if failed:
        good = gettext("%(good)s of %(all)s", good=len(tested) - failed, all=len(tested))
        say(
            gettext(
                "The credentials of %(good)s are good; others are given with 'imgsync "
                "account rotate'.",
                good=good,
            ),
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
    say(
        gettext(
            "Account %(id)s is called '%(name)s' from now on.", id=renamed.id, name=renamed.name
        )
    )


@account.command("rotate")
@click.argument("name", metavar="ACCOUNT")
@click.option("--login", help="Login, where the secret is a user's password; as before by default.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in TokenKind]),
    help="What the new credentials are, such as 'user' for a token in place of a password; learnt "
    "by default, but a password where it was one before.",
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@json_option
@pass_container
def rotate(
    container: "Container",
    name: str,
    login: str | None,
    kind: str | None,
    token_stdin: bool,
    as_json: bool,
) -> None:
    """Replace the token or password of a stored account, which also mends one that is damaged.

    MoySklad is asked whose the new one is: nothing is stored where it is another account's, of
    another kind, or is refused. Tasks that wait for the account run again. The token is read as by
    'account add'.
    """
    given = TokenKind(kind) if kind else None
    if login is not None and given not in (None, TokenKind.PASSWORD):
        raise click.UsageError(gettext("--login goes with a password: take --kind away"))
    found = run_async(container, lambda: container.rotate_account().find(name))
    has_login = login is not None or (found.account is not None and found.account.login is not None)
    if given is TokenKind.PASSWORD and not has_login:
        raise click.UsageError(gettext("a password needs its --login"))
    secret = _read_secret(token_stdin)
    with _told_of_the_kind():
        try:
            stored = run_async(
                container, lambda: container.rotate_account()(found, secret, login, given)
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json({**_as_dict(stored.account), "woken": stored.woken}, ExitStatus.DONE)
        return
    say(
        gettext(
            "Account '%(name)s' has its new %(secret)s.",
            name=stored.account.name,
            secret=_secret_of(stored.account),
        )
    )
    if stored.woken:
        say(_woken(stored.woken))


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
        raise click.UsageError(gettext("--json asks nothing: give --yes with it"))
    found, held = run_async(container, lambda: container.remove_account().look(name))
    if found.damage:
        say(gettext("Warning: %(why)s", why=found.damage), err=True)
    if not yes:
        say(
            gettext("Account '%(name)s', ID %(id)s. With it go:", name=found.name, id=found.id),
            err=True,
        )
        for line in _held_in_words(held) or [gettext("nothing but its credentials")]:
            say(f"  {line}", err=True)
        if not is_confirmed(gettext("Remove it?")):
            raise CommandError(gettext("Nothing was done"))
    removed = run_async(container, lambda: container.remove_account()(found))
    if as_json:
        told = {**asdict(removed.held), "webhooks_left": removed.webhooks_left}
        print_json({"removed": found.id, "name": found.name, **told}, ExitStatus.DONE)
        return
    if removed.webhooks_left:
        say(
            gettext(
                "Warning: its webhooks are still in MoySklad, remove them there: %(why)s",
                why=removed.webhooks_left,
            ),
            err=True,
        )
    say(gettext("Account '%(name)s' is removed.", name=found.name))


def _held_in_words(held: Holdings) -> list[str]:
    lines = []
    if held.child_ids:
        lines.append(
            gettext(
                "the links of %(children)s",
                children=ngettext("%(num)s child", "%(num)s children", len(held.child_ids)),
            )
        )
    if held.main_id is not None:
        lines.append(gettext("the link to main account %(main_id)s", main_id=held.main_id))
    if held.waiting:
        lines.append(ngettext("%(num)s waiting task", "%(num)s waiting tasks", held.waiting))
    if held.failed:
        lines.append(ngettext("%(num)s failed task", "%(num)s failed tasks", held.failed))
    if held.records:
        lines.append(ngettext("%(num)s record", "%(num)s records", held.records))
    if held.failed_images:
        images = held.failed_images
        lines.append(ngettext("%(num)s failed image", "%(num)s failed images", images))
    if held.has_webhooks:
        lines.append(gettext("its webhooks"))
    if held.running + held.running_of_children:
        lines.append(
            gettext(
                "%(tasks)s that workers are at, for which the removal is refused",
                tasks=ngettext(
                    "%(num)s task", "%(num)s tasks", held.running + held.running_of_children
                ),
            )
        )
    return lines


def _secret_of(account: Account) -> str:
    return gettext("password") if account.token_kind is TokenKind.PASSWORD else gettext("token")


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
    say(
        gettext(
            "%(tokens)s encrypted with the new key %(now)s.",
            tokens=ngettext("%(num)s token", "%(num)s tokens", done.secrets),
            now=done.now,
        )
    )
    if done.before is not None:
        say(
            gettext(
                "The key before, %(before)s, is kept for backups of the database.",
                before=done.before,
            )
        )


@account.command("new-key")
def new_key() -> None:
    """Print a new key, for IMGSYNC_KEY or a key file; nothing is changed."""
    from imgsync.adapters.secrets.keys import new_key as make

    say(make())


def _abilities_in_words(shown: Abilities) -> list[tuple[str, str]]:
    def said(value: bool | None, yes: str, no: str) -> str:
        return gettext("not yet") if value is None else yes if value else no

    def size(value: int | None) -> str:
        return (
            gettext("not yet")
            if value is None
            else gettext("%(size)s (%(value)s bytes)", size=file_size(value), value=f"{value:,}")
        )

    hosts = ", ".join(sorted(shown.permanent_hosts))
    formats = ", ".join(sorted(shown.refused_formats)).upper()
    return [
        (
            gettext("Images of many entities in one request"),
            said(shown.bulk, gettext("taken"), gettext("not taken")),
        ),
        (
            gettext("Images kept in such a request"),
            said(shown.bulk_keeps, gettext("kept"), gettext("not kept")),
        ),
        (
            gettext("Permanent links of images"),
            said(
                shown.permanent_links,
                gettext("given, on %(hosts)s", hosts=hosts) if hosts else gettext("given"),
                gettext("not given"),
            ),
        ),
        (
            gettext("'updated' of an entity after a change of its images"),
            said(shown.images_move_updated, gettext("moves"), gettext("stays")),
        ),
        (gettext("Largest image that was taken"), size(shown.accepted_image_bytes)),
        (gettext("Smallest image that was too large"), size(shown.refused_image_bytes)),
        (gettext("Formats that were refused"), formats or gettext("none")),
        (
            gettext("Size of an image by HEAD"),
            said(shown.head, gettext("told"), gettext("not told")),
        ),
    ]


def _abilities_as_dict(shown: Abilities) -> dict[str, object]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(shown).items()
    }


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
    asked = asked_secret(gettext("Token or password"))
    if asked is None:
        raise CommandError(
            gettext(
                "No token or password is given, and there is no terminal to ask at: set "
                "IMGSYNC_TOKEN, or give --token-stdin and write it to standard input"
            ),
            ExitStatus.USAGE,
        )
    return asked.strip()
