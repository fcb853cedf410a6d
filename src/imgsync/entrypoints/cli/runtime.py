"""What every command needs: error messages, the event loop, JSON output."""

import asyncio
import errno
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from imgsync.domain.errors import ImgsyncError
from imgsync.entrypoints.container import Container

_T = TypeVar("_T")
_PIPE_WIDTH = 1000
MAX_ID = 2**63 - 1
"""Largest id that a database holds."""

pass_container = click.pass_obj
"""Gives a command the `Container` that the group `main` made."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
main_option = click.option("--main", "main_id", metavar="ID", help="Main account.", required=True)
child_option = click.option(
    "--child", "child_id", metavar="ID", help="Child account.", required=True
)


class ImgsyncGroup(click.Group):
    """A group whose expected errors are one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImgsyncError as error:
            raise click.ClickException(str(error)) from error
        except UnicodeError as error:
            raise click.ClickException(f"Not valid text: {error}") from error
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise click.ClickException(f"The database failed: {reason}") from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise click.ClickException(str(error)) from error


def run_async(container: Container, main: Callable[[], Awaitable[_T]]) -> _T:
    """Runs a coroutine to its end and closes the connections it opened."""

    async def run() -> _T:
        try:
            return await main()
        finally:
            await container.moysklad().close()

    return asyncio.run(run())


def print_table(table: Table) -> None:
    """Prints cells as they are and whole: brackets are no markup, and nothing is cut."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=str)
    click.echo(text)
