"""imgsync solution: solutions of MoySklad's catalogue, by which accounts give their tokens."""

import sys
from typing import TYPE_CHECKING

import click

from imgsync.application.solutions import id_of
from imgsync.domain.solutions import Installation, Solution
from imgsync.entrypoints.cli.output import asked_secret, print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, ngettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.group()
def solution() -> None:
    """Solutions of MoySklad's catalogue, by which accounts give their tokens themselves."""


@solution.command("add")
@click.argument("app_id")
@click.option(
    "--draft",
    "is_draft",
    is_flag=True,
    help="It is not published yet: each request costs 4 units instead of 1.",
)
@click.option("--secret-stdin", is_flag=True, help="Read the secret key from standard input.")
@json_option
@pass_container
def add(
    container: "Container", app_id: str, is_draft: bool, secret_stdin: bool, as_json: bool
) -> None:
    """Store a solution by its appId, or replace its secret key.

    Both stand in the developer's cabinet of MoySklad. From now on 'imgsync serve' takes MoySklad's
    calls: an account that installs the solution is stored with its token. The secret key is asked
    for, and never shown.
    """
    secret = sys.stdin.readline() if secret_stdin else _asked()
    add_solution = container.add_solution()
    stored = run_async(container, lambda: add_solution(app_id, secret.strip(), is_draft=is_draft))
    if as_json:
        print_json({"app_id": stored.app_id, "draft": stored.is_draft})
        return
    say(
        gettext(
            "Solution %(app_id)s is stored%(draft)s.",
            app_id=stored.app_id,
            draft=gettext(", as a draft") if is_draft else "",
        )
    )


@solution.command("list")
@json_option
@pass_container
def listed(container: "Container", as_json: bool) -> None:
    """List the solutions and the accounts that have installed them."""
    stored, accounts = container.solutions(), container.accounts()

    async def look() -> tuple[list[Solution], list[Installation], dict[str, str]]:
        names = {account.id.lower(): account.name for account in await accounts.all()}
        return await stored.all(), await stored.installations(), names

    solutions, installations, names = run_async(container, look)
    of_each = {
        one.app_id: [there for there in installations if there.app_id == one.app_id]
        for one in solutions
    }
    if as_json:
        print_json(
            [
                {
                    "app_id": one.app_id,
                    "draft": one.is_draft,
                    "accounts": [
                        {
                            "id": there.account_id,
                            "name": names.get(there.account_id),
                            "state": there.state.value,
                        }
                        for there in of_each[one.app_id]
                    ],
                }
                for one in solutions
            ]
        )
        return
    if not solutions:
        say(gettext("No solutions yet; store one with 'imgsync solution add APP_ID'."))
        return
    for one in solutions:
        there = of_each[one.app_id]
        draft = gettext(", a draft") if one.is_draft else ""
        say(
            gettext(
                "Solution %(app_id)s%(draft)s: %(accounts)s.",
                app_id=one.app_id,
                draft=draft,
                accounts=ngettext("%(num)s account", "%(num)s accounts", len(there)),
            )
        )
        if there:
            print_table(
                (gettext("Account"), gettext("ID"), gettext("State")),
                (
                    (names.get(t.account_id, ""), t.account_id, gettext(t.state.value))
                    for t in there
                ),
            )


@solution.command("remove")
@click.argument("app_id")
@json_option
@pass_container
def remove(container: "Container", app_id: str, as_json: bool) -> None:
    """Remove a solution: MoySklad's calls are refused from now on.

    Accounts keep the tokens that they gave, which work as long as MoySklad lets them.
    """
    stored = container.solutions()
    known = id_of(app_id)
    if known is None or not run_async(container, lambda: stored.remove(known)):
        raise CommandError(gettext("There is no solution '%(app_id)s'", app_id=app_id))
    if as_json:
        print_json({"removed": known})
    else:
        say(gettext("Solution %(known)s is removed.", known=known))


def _asked() -> str:
    asked = asked_secret(gettext("Secret key"))
    if asked is None:
        raise CommandError(
            gettext(
                "No secret key is given, and there is no terminal to ask at: give --secret-stdin "
                "and write it to standard input"
            ),
            ExitStatus.USAGE,
        )
    return asked
