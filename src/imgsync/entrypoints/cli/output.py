"""What commands print. Text from outside never steers the terminal.

rich is imported where a table is printed: most commands print none.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from imgsync.domain.text import shown, shown_json
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, spoken

_QUIET = f"{__name__}.quiet"


def be_quiet(ctx: click.Context) -> None:
    """From now on errors alone are logged, and no progress is shown."""
    ctx.meta[_QUIET] = True
    logging.getLogger().setLevel(logging.ERROR)


def is_watched() -> bool:
    """Whether somebody looks on who wants to: stderr is a terminal, and no -q was given. Else
    there is no progress, and what is no error or warning goes to the log."""
    ctx = click.get_current_context(silent=True)
    return sys.stderr.isatty() and not (ctx is not None and ctx.meta.get(_QUIET))


def say(line: str, *, err: bool = False) -> None:
    """Prints one line, with what could steer the terminal spelled."""
    click.echo(shown(line), err=err)


def is_confirmed(question: str) -> bool:
    """Asks on stderr, with no as the answer of whoever only presses Enter. Abort where nobody
    answers."""
    if spoken() == "en":
        return click.confirm(shown(question), err=True)
    while True:
        text = f"{shown(question)} {gettext('[y/N]')}"
        answer = str(click.prompt(text, default="", show_default=False, err=True)).strip().lower()
        if answer in ("y", "yes", *gettext("y, yes").split(", ")):
            return True
        if answer in ("", "n", "no", *gettext("n, no").split(", ")):
            return False
        say(gettext("Error: invalid input"), err=True)


def asked_secret(text: str, *, twice: bool = False) -> str | None:
    """What somebody enters unseen; asked for again until both entries are the same where it is
    asked for `twice`. Without a terminal a line of stdin, unasked; None where there is none."""
    # A stdin that was put in place of the process's own is whoever put it there.
    if sys.stdin is sys.__stdin__ and not _has_terminal():
        line = sys.stdin.readline() if sys.stdin else ""
        return line.rstrip("\r\n") or None
    if spoken() == "en":
        return str(click.prompt(text, hide_input=True, confirmation_prompt=twice, err=True))
    while True:
        entered = str(click.prompt(text, hide_input=True, err=True))
        repeat = gettext("Repeat for confirmation")
        if not twice or entered == str(click.prompt(repeat, hide_input=True, err=True)):
            return entered
        say(gettext("Error: The two entered values do not match."), err=True)


def _has_terminal() -> bool:
    """Whether there is one to ask at, wherever stdin comes from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False
) -> None:
    """Prints cells as they are and whole: brackets are no markup, and nothing is cut.

    A pipe gets plain columns. With `numbers` every column but the first stands to the right.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    right = [numbers and at > 0 for at in range(len(columns))]
    if sys.stdout.isatty():
        _print_fitted(columns, cells, right)
    else:
        _print_plain([list(columns), *cells], right)


def print_json(value: Any, status: ExitStatus | None = None) -> None:
    """Prints one JSON document; an object also tells the exit status where one is given."""
    if status is not None:
        value = {**value, "exit_status": status.value, "status": status.text}
    text = shown_json(json.dumps(value, ensure_ascii=False, indent=2, default=str))
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=str)
    click.echo(text)


def _print_fitted(columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1))
    for name, to_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)


def _print_plain(cells: list[list[str]], right: list[bool]) -> None:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            " " * (width - cell_len(cell)) + cell
            if to_right
            else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        # Not click.echo, which sends UTF-8 to a terminal that says it knows ASCII only.
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
