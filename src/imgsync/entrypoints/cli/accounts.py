"""imgsync account: stored accounts."""

import os
import sys

import click
from rich.table import Table

from imgsync.domain.accounts import Account, TokenKind
from imgsync.entrypoints.cli.runtime import json_option, pass_container, print_json, print_table
from imgsync.entrypoints.container import Container


@click.group()
def account() -> None:
    """Accounts and their credentials."""


@account.command("add")
@click.argument("account_id", metavar="ID")
@click.option("--name", help="Name to show; the ID by default.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in TokenKind]),
    default=TokenKind.SOLUTION.value,
    show_default=True,
    help="Token of a solution, token of a user, or a user's password.",
)
@click.option("--login", help="Login, with --kind password.")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@pass_container
def add(
    container: Container,
    account_id: str,
    name: str | None,
    kind: str,
    login: str | None,
    token_stdin: bool,
) -> None:
    """Store the account ID, or replace its name and credentials.

    The token or password is read from IMGSYNC_TOKEN, with --token-stdin from standard input, else
    asked for. It is never an argument, so that no process list or shell history shows it.
    """
    secret = _read_secret(token_stdin)
    try:
        added = Account(account_id.strip(), name or account_id, TokenKind(kind), secret, login)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    container.accounts().add(added)
    click.echo(f"Account '{added.name}' is stored.")


@account.command("list")
@json_option
@pass_container
def list_accounts(container: Container, as_json: bool) -> None:
    """List the accounts, without their tokens."""
    accounts = container.accounts().all()
    if as_json:
        print_json(
            [
                {"id": a.id, "name": a.name, "kind": a.token_kind.value, "login": a.login}
                for a in accounts
            ]
        )
        return
    if not accounts:
        click.echo("No accounts yet; add one with 'imgsync account add'.")
        return
    table = Table("ID", "Name", "Kind", "Login")
    for a in accounts:
        table.add_row(a.id, a.name, a.token_kind.value, a.login or "")
    print_table(table)


def _read_secret(token_stdin: bool) -> str:
    if token_stdin:
        return sys.stdin.readline().strip()
    if secret := os.environ.get("IMGSYNC_TOKEN"):
        return secret.strip()
    return str(click.prompt("Token or password", hide_input=True)).strip()
