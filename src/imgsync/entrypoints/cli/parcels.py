"""imgsync account export and import: accounts for another database."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgsync.application.moving import Change
from imgsync.entrypoints.cli.output import asked_secret, is_confirmed, print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, ngettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_SHORTEST = 12
_PARTS = (
    marked("account"),
    marked("link and settings"),
    marked("pause"),
    marked("solution"),
    marked("installation"),
)
_WORDS = {
    Change.ADD: marked("is added"),
    Change.SAME: marked("is there already"),
    Change.REPLACE: marked("is replaced"),
    Change.KEEP: marked("is another one there, which stays"),
}


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_container
def export_accounts(container: "Container", file: Path, as_json: bool) -> int:
    """Write all accounts, with tokens, links, settings and pauses, and solutions to a new file.

    It is encrypted with a passphrase, which is read from IMGSYNC_PASSPHRASE, else asked for.
    Records and tasks are not in it: what is on the children is recognised when they are compared.
    Nor are webhooks, the log of changes, and the keys and the password of 'imgsync serve'.
    """
    from imgsync.adapters.secrets.parcel import write_parcel

    if file.exists():
        raise click.UsageError(gettext("there is a file %(file)s already", file=file))
    passphrase = _passphrase(new=True)
    content, left_out = run_async(container, lambda: container.export_accounts()())
    write_parcel(file, content, passphrase)
    status = ExitStatus.PART if left_out else ExitStatus.DONE
    for one in left_out:
        say(gettext("Left out: %(why)s", why=one), err=True)
    if as_json:
        print_json({"file": str(file), "left_out": left_out}, status)
    else:
        say(
            gettext(
                "The accounts are in %(file)s; who has it and the passphrase has the tokens.",
                file=file,
            )
        )
    return status


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Replace what is there and differs; it stays by default."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_container
def import_accounts(
    container: "Container", file: Path, replace: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Take the accounts, links, settings, pauses and solutions of a file of 'account export'.

    What would be done is shown first. Nothing that is there is replaced, unless --replace is given.
    """
    from imgsync.adapters.secrets.parcel import read_parcel

    if as_json and not (yes or dry_run):
        raise click.UsageError(gettext("--json asks nothing: give --yes or --dry-run with it"))
    content = read_parcel(file, _passphrase(new=False))
    plan = run_async(container, lambda: container.import_accounts().plan(content, replace=replace))
    if not as_json:
        print_table(
            (gettext("Account"), gettext("ID"), gettext("What"), gettext("Import")),
            ((m.name, m.id, gettext(m.part.value), gettext(_WORDS[m.change])) for m in plan),
        )
    changes = sum(m.change in (Change.ADD, Change.REPLACE) for m in plan)
    if changes and not dry_run:
        question = gettext(
            "Do that (%(changes)s)?",
            changes=ngettext("%(num)s change", "%(num)s changes", changes),
        )
        if not yes and not is_confirmed(question):
            raise CommandError(gettext("Nothing was done"))
        plan = run_async(container, lambda: container.import_accounts()(content, replace=replace))
    if as_json:
        told = [
            {"id": m.id, "name": m.name, "what": m.part.value, "import": m.change.value}
            for m in plan
        ]
        print_json({"dry_run": dry_run, "imported": told}, ExitStatus.DONE)
        return
    if dry_run or not changes:
        say(gettext("Nothing is changed."))
        return
    say(
        gettext(
            "%(changes)s made. See with 'imgsync account test' whether they are good.",
            changes=ngettext("%(num)s change", "%(num)s changes", changes),
        )
    )


def _passphrase(*, new: bool) -> str:
    given = os.environ.get("IMGSYNC_PASSPHRASE")
    if given is None:
        given = asked_secret(gettext("Passphrase"), twice=new)
    if given is None:
        raise CommandError(
            gettext(
                "No passphrase is given, and there is no terminal to ask at: set IMGSYNC_PASSPHRASE"
            ),
            ExitStatus.USAGE,
        )
    if new and len(given) < _SHORTEST:
        raise click.UsageError(
            gettext("a passphrase has %(least)s characters or more", least=_SHORTEST)
        )
    return given
