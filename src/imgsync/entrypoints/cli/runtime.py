"""What every command needs: how it ends, the event loop, common options."""

import asyncio
import errno
import inspect
import io
import logging
import os
import re
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.exceptions import NoArgsIsHelpError

from imgsync.domain.errors import (
    ClearLimitError,
    ImgsyncError,
    NoLinkError,
    SyncIsOffError,
    UnknownAccountError,
    WrongRoleError,
)
from imgsync.domain.text import shown_lines
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.help import HelpContext
from imgsync.entrypoints.cli.logs import start_logging
from imgsync.entrypoints.cli.output import print_json, say
from imgsync.entrypoints.cli.signals import (
    last_resort,
    let_the_end_be_told,
    sigterm_as_interrupt,
    stopped_by_signals,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import (
    gettext,
    language_of,
    marked,
    speaking,
    translated,
)

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_JSON = "--json"
MAX_ID = 2**63 - 1
"""Largest id that a database holds."""
INTERRUPTED = marked("told to stop before the end")

pass_container = click.pass_obj
"""Gives a command the `Container` that the group `main` made."""

json_option = click.option(_JSON, "as_json", is_flag=True, help="Print JSON for scripts.")
main_option = click.option(
    "--main",
    "main_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Main account, by ID or name.",
    required=True,
)
child_option = click.option(
    "--child",
    "child_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Child account, by ID or name.",
    required=True,
)
STATUSES = "\b\nExit status:\n" + "\n".join(f"  {s.value}  {s.meaning}" for s in ExitStatus)
"""Epilog of --help; `help.py` translates it line by line."""


class CommandError(click.ClickException):
    """What a command ends with: a line for the user, a status, more fields for its JSON."""

    def __init__(
        self,
        message: str,
        status: ExitStatus = ExitStatus.ERROR,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fields = dict(fields or {})


class ImgsyncGroup(click.Group):
    """A group of which every end is in the table of exit statuses: a command returns its status
    (None is done), and every error is one line on stderr and, with --json, a document. A command
    that is async runs on the program's event loop."""

    context_class = HelpContext

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, which knows the statuses 0, 1 and 2 only and prints names as they are."""
        arguments = list(sys.argv[1:] if args is None else args)

        def run() -> Any:
            return super(ImgsyncGroup, self).main(
                arguments, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        _let_streams_show_anything()
        start_logging()
        as_json = _JSON in arguments
        with speaking(language_of(os.environ), is_for_programs=as_json), sigterm_as_interrupt():
            sys.exit(int(_ended(run, as_json=as_json)))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            ended = super().invoke(ctx)
            return run_async(ctx.obj, lambda: ended) if inspect.iscoroutine(ended) else ended
        except KeyboardInterrupt:
            raise CommandError(gettext(INTERRUPTED)) from None


def _ended(run: Callable[[], Any], *, as_json: bool) -> int:
    """Runs a command; its exit status, after its error has been told."""
    try:
        ended = run()
    except NoArgsIsHelpError as error:
        error.show()
        return ExitStatus.USAGE
    except click.ClickException as error:
        return _tell(error, as_json=as_json)
    except click.Abort:
        return _tell(CommandError(gettext(INTERRUPTED)), as_json=as_json)
    except Exception as error:
        return _tell(CommandError(describe(error)), as_json=as_json)
    return ended if isinstance(ended, int) else ExitStatus.DONE


def _tell(error: click.ClickException, *, as_json: bool) -> int:
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(shown_lines(error.ctx.get_usage()), err=True)
        say(
            gettext("Try '%(command_path)s --help' for help.", command_path=error.ctx.command_path),
            err=True,
        )
    said = message if isinstance(error, CommandError) else translated(message)
    say(gettext("Error: %(message)s", message=said), err=True)
    fields: Mapping[str, Any] = {}
    status = ExitStatus.USAGE if isinstance(error, click.UsageError) else ExitStatus.ERROR
    if isinstance(error, CommandError):
        fields, status = error.fields, error.status
    if as_json:
        print_json({**fields, "error": message}, status)
    return status


def describe(error: Exception) -> str:
    """An error in one line for the user. What nobody expected is logged with its traceback."""
    match error:
        case click.ClickException():
            text = error.format_message()
        case ImgsyncError():
            text = with_hint(error)
        case UnicodeError():
            text = gettext("Not valid text: %(why)s", why=error)
        case OSError():
            text = translated(error)
        case _:
            _log.error("unexpected error", exc_info=error)
            text = gettext("Unexpected %(kind)s: %(why)s", kind=type(error).__name__, why=error)
    return re.sub(r"\s*\n\s*", " ", text.strip())


def with_hint(error: ImgsyncError) -> str:
    """Its text, and the command or option that helps where there is one."""
    match error:
        case UnknownAccountError():
            return gettext("%(why)s; add it with 'imgsync account add'", why=error)
        case NoLinkError():
            return gettext(
                "%(why)s; link one with 'imgsync link MAIN CHILD', or name --main and --child",
                why=error,
            )
        case SyncIsOffError():
            return gettext("%(why)s (see 'imgsync settings set').", why=error)
        case ClearLimitError():
            return gettext(
                "%(why)s. If it is meant, say --max-clear %(clears)s",
                why=error,
                clears=error.clears,
            )
        case WrongRoleError():
            return gettext(
                "%(why)s; if it should be, say so with 'imgsync account add "
                "%(account_id)s --role %(role)s'",
                why=error,
                account_id=error.account_id,
                role=error.role,
            )
        case _:
            return translated(error)


def in_part(work: Callable[[], object], begun: Callable[[], bool]) -> str | None:
    """Does `work`. None where it came to its end; what stopped it where it had `begun` to change
    something; before that, the error itself. What is told of it then is not interrupted."""
    try:
        try:
            work()
        finally:
            let_the_end_be_told()
    except KeyboardInterrupt:
        if not begun():
            raise
        return gettext(INTERRUPTED)
    except Exception as error:
        if not begun() or (isinstance(error, OSError) and error.errno == errno.EPIPE):
            raise
        return describe(error)
    return None


def tell_trouble(trouble: str | None) -> None:
    """What stopped a command half-way, on stderr."""
    if trouble is not None:
        say(gettext("Error: %(message)s", message=trouble), err=True)


def run_async(container: "Container", main: Callable[[], Awaitable[_T]]) -> _T:
    """Runs a coroutine to its end, on an event loop of its own, and closes all that the container
    has opened by then.

    A signal that the coroutine does not heed itself cancels it: KeyboardInterrupt.
    """
    from imgsync.entrypoints.container import close

    async def run() -> _T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (for the type checker: a coroutine runs in a task)
        grace = container.config().grace_seconds

        def cancel() -> None:
            task.cancel()

        with stopped_by_signals(cancel, cancel, grace):
            try:
                return await main()
            finally:
                await close(container)

    allow_open_files()
    with last_resort():
        try:
            return asyncio.run(run())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


_OPEN_FILES = (65_536, 10_240)
"""Each task under way holds one, and a worker of sixteen batches has 1600; the second is the most
that macOS takes."""


def allow_open_files() -> None:
    """As many as a worker may need, where the system lets a process have them: shells and systemd
    begin with 1024, macOS with 256, and the rest is for the asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in _OPEN_FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return


def close_container(container: "Container") -> None:
    """Closes what a command has opened and not used, as where it failed before."""
    if container.opened():

        async def nothing() -> None:
            return

        run_async(container, nothing)


def _let_streams_show_anything() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names from outside may not fit the terminal
            stream.reconfigure(errors="backslashreplace")
