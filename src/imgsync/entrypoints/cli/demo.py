"""imgsync demo: the whole copy on an emulator."""

import shlex
import socket
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgsync.domain.errors import NoRoomError
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.parts import Part
from imgsync.entrypoints.cli.runtime import (
    CommandError,
    describe,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.cli.serve import check_installed, run_service
from imgsync.entrypoints.demo.photographs import DemoUnavailableError
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, ngettext, translated

if TYPE_CHECKING:
    from imgsync.domain.model import Link
    from imgsync.entrypoints.container import Container
    from imgsync.entrypoints.demo.chain import Chain, Shown
    from imgsync.entrypoints.demo.franchises import Photographer
    from imgsync.entrypoints.demo.run import Demo, Round

_HOST = "127.0.0.1"
_MOST_CHILDREN = 100
_WIDTH = 100
_ROOM_MB = 300
_ONCE_MORE = marked(
    "Run the demo once more; if it ends so again, that is a fault of imgsync: report it, with what "
    "is printed above"
)


@click.command()
@click.option(
    "--serve",
    "serves",
    is_flag=True,
    help="Then show the dashboard over these accounts, and four more franchises, until Ctrl-C.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8425,
    show_default=True,
    help="Port of the dashboard; 0 for one that is free.",
)
@click.option(
    "--children",
    type=click.IntRange(1, _MOST_CHILDREN),
    help="A main account with so many franchises, linked and copied to by the commands that you "
    "would type; 30 take about a minute.",
)
@json_option
@pass_container
def demo(
    container: "Container", serves: bool, port: int, children: int | None, as_json: bool
) -> None:
    """Copy real photographs between accounts of a MoySklad emulator on this machine.

    Without --children from a main account to one other. Among the photographs are a GIF and one
    of 12 MB, which MoySklad does not take as they are. Exit status 1 where a child account does
    not end with exactly the right images.

    With --serve, each press of Enter gives the main account a new photograph.
    """
    if serves and as_json:
        raise click.UsageError(
            gettext("--json prints one document at the end, and --serve has none")
        )
    if serves:
        check_installed()
        _check_port(port)
    with _told_what_to_do():
        if children is None:
            _copy_to_one(container, serves, port, as_json=as_json)
        else:
            _copy_to_many(container, children, serves, port, as_json=as_json)


def _copy_to_one(container: "Container", serves: bool, port: int, *, as_json: bool) -> None:
    from imgsync.entrypoints.demo.run import started

    def report(done: "Round") -> None:
        say(f"{translated(done.name)}: {done.seconds:.1f} s", err=True)

    with started(container) as running:
        rounds = run_async(running.container, lambda: running.run(report))
        _tell(rounds, as_json=as_json)
        if serves:
            run_async(
                running.container,
                lambda: _serve(running, running.open_franchises, port),
            )
        elif not as_json:
            say(gettext("See it in a browser: make demo ARGS=--serve (or imgsync demo --serve)"))
            say(
                gettext(
                    "Thirty franchises: make demo ARGS='--children 30' "
                    "(or imgsync demo --children 30)"
                )
            )


def _copy_to_many(
    container: "Container", children: int, serves: bool, port: int, *, as_json: bool
) -> None:
    from imgsync.entrypoints.cli.links import link
    from imgsync.entrypoints.cli.sync import sync
    from imgsync.entrypoints.demo.chain import MAIN, chain

    with chain(container, children) as running:
        run_async(running.container, running.store_accounts)
        # One document is all that --json prints: what the commands say is for whoever looks on.
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            say(
                gettext(
                    "An emulator of MoySklad is on this machine, with a main shop of %(products)s "
                    "and %(pictures)s, and %(franchises)s of the same products.",
                    products=ngettext("%(num)s product", "%(num)s products", running.products),
                    pictures=ngettext("%(num)s picture", "%(num)s pictures", running.pictures),
                    franchises=ngettext("%(num)s franchise", "%(num)s franchises", children),
                )
            )
            say(gettext("In each franchise some products have old pictures, and some have none."))
            began = time.monotonic()
            _type(link, (MAIN, *running.names, "--sync-images-all"), running.container)
            _type(sync, (), running.container)
            seconds = time.monotonic() - began
        shown = running.shown()
        _tell_chain(running, shown, seconds, as_json=as_json)
        if serves:
            run_async(running.container, lambda: _serve(running, running.links, port))
        elif not as_json:
            say(
                gettext(
                    "See it in a browser: make demo ARGS='--children %(n)s --serve' "
                    "(or imgsync demo --children %(n)s --serve)",
                    n=children,
                )
            )


def _type(command: click.Command, arguments: Sequence[str], container: "Container") -> None:
    """Does what a person would by typing a command, and shows it as it would be typed."""
    words = " ".join(["$ imgsync", str(command.name), *map(shlex.quote, arguments)])
    lines = textwrap.wrap(words, _WIDTH, break_long_words=False, break_on_hyphens=False)
    say("")
    for number, line in enumerate(lines, 1):
        say(("" if number == 1 else "    ") + line + (" \\" if number < len(lines) else ""))
    sys.stdout.flush()
    status = command.main(
        list(arguments),
        prog_name=f"imgsync {command.name}",
        standalone_mode=False,
        parent=click.get_current_context(),
        obj=container,
    )
    if status is not None and status != ExitStatus.DONE:
        raise CommandError(
            gettext(
                "imgsync %(command)s ended with %(status)s: %(why)s. %(why_more)s",
                command=command.name,
                status=int(status),
                why=ExitStatus(status).meaning,
                why_more=_ONCE_MORE,
            ),
            ExitStatus(status),
        )


def _check_port(port: int) -> None:
    """Before the copy, as nobody wants to hear of it after."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((_HOST, port))
        except OSError as error:
            raise CommandError(
                gettext(
                    "port %(port)s of this machine cannot be used (%(why)s), perhaps as another "
                    "demo runs: end that, or say --port 0 for one that is free",
                    port=port,
                    why=error.strerror,
                )
            ) from error


@contextmanager
def _told_what_to_do() -> Iterator[None]:
    """Whatever ends the demonstration, a line says what can be done."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error
    except (OSError, NoRoomError) as error:
        raise CommandError(
            gettext(
                "%(why)s; the demo needs %(room)s MB in %(folder)s (TMPDIR names another folder)",
                why=describe(error),
                room=_ROOM_MB,
                folder=tempfile.gettempdir(),
            )
        ) from error


def _tell_chain(running: "Chain", shown: "list[Shown]", seconds: float, *, as_json: bool) -> None:
    wrong = [(one.franchise, name) for one in shown for name in one.wrong]
    told = {
        "main": {"products": running.products, "pictures": running.pictures},
        "children": [asdict(one) for one in shown],
        "seconds": round(seconds, 1),
    }
    if not as_json:
        _print_chain(shown)
    elif not wrong:
        print_json(told, ExitStatus.DONE)
    if wrong:
        franchise, product = wrong[0]
        raise CommandError(
            gettext(
                "%(wrong)s of %(franchises)s do not show the main shop's pictures, such as "
                "'%(product)s' of '%(franchise)s'. %(why)s",
                wrong=ngettext("%(num)s product", "%(num)s products", len(wrong)),
                franchises=ngettext(
                    "%(num)s franchise", "%(num)s franchises", len({one for one, _ in wrong})
                ),
                product=product,
                franchise=franchise,
                why=_ONCE_MORE,
            ),
            fields=told,
        )
    if not as_json:
        say(
            gettext(
                "Each of %(franchises)s shows exactly the main shop's %(pictures)s: all were "
                "compared, byte for byte.",
                franchises=ngettext("%(num)s franchise", "%(num)s franchises", len(shown)),
                pictures=ngettext("%(num)s picture", "%(num)s pictures", running.pictures),
            )
        )
        say(gettext("To link them and to copy took %(seconds)s s.", seconds=f"{seconds:.0f}"))


def _print_chain(shown: "list[Shown]") -> None:
    say("")
    print_table(
        (
            gettext("Franchise"),
            gettext("Products"),
            gettext("Right before"),
            gettext("Right now"),
            gettext("Images"),
            gettext("Requests"),
            gettext("MB sent"),
        ),
        (
            (
                one.franchise,
                str(one.products),
                str(one.right_before),
                str(one.products - len(one.wrong)),
                str(one.pictures),
                str(one.requests),
                f"{one.sent_bytes / 1e6:.1f}",
            )
            for one in shown
        ),
        numbers=True,
    )


def _tell(rounds: "list[Round]", *, as_json: bool) -> None:
    right = all(done.verified and not done.errors for done in rounds)
    told = {"rounds": [asdict(done) for done in rounds]}
    if not as_json:
        _print(rounds)
    elif right:
        print_json(told, ExitStatus.DONE)
    if not right:
        raise CommandError(
            gettext("the child account does not hold the right images. %(why)s", why=_ONCE_MORE),
            fields=told,
        )


async def _serve(
    running: "Demo | Chain", opened: "Callable[[], Awaitable[list[Link]]]", port: int
) -> None:
    from imgsync.entrypoints.demo.dashboard import EnterKey, FirstLook

    links = await opened()

    def listens(url: str) -> Sequence[Part]:
        say(gettext("The dashboard is at %(url)s", url=url))
        say(gettext("Press Enter to give the main shop a new photograph, Ctrl-C to end."))
        sys.stdout.flush()
        photographer: Photographer = running.photographer()
        return (
            Part("the first look at the franchises", FirstLook(running.container, links, url)),
            Part(
                "the photographer",
                EnterKey(
                    lambda: say(
                        gettext(
                            "%(name)s: a new photograph in the main shop", name=photographer.add()
                        )
                    )
                ),
            ),
        )

    await run_service(running.container, _HOST, port, listens)


def _print(rounds: "list[Round]") -> None:
    columns = (
        gettext("Entities"),
        gettext("Changed"),
        gettext("Images"),
        gettext("API calls"),
        gettext("MB down"),
        gettext("MB up"),
        gettext("Warnings"),
        gettext("Seconds"),
    )
    print_table(
        (gettext("Run"), *columns),
        (
            (
                translated(done.name),
                str(done.entities),
                str(done.changed),
                str(done.uploaded),
                str(done.api_calls),
                f"{done.downloaded_bytes / 1e6:.2f}",
                f"{done.uploaded_bytes / 1e6:.2f}",
                str(len(done.warnings)),
                f"{done.seconds:.1f}",
            )
            for done in rounds
        ),
        numbers=True,
    )
    first = rounds[0]
    for note in first.notes:
        say(note)
    for warning in first.warnings:
        say(gettext("Warning: %(why)s", why=warning))
    say(gettext("Skipped for want of a counterpart: %(skipped)s.", skipped=first.skipped))
    say(gettext("Answers 429: %(number)s.", number=sum(done.throttled for done in rounds)))
    if all(done.verified for done in rounds):
        say(
            gettext(
                "Verified: the child's images are byte for byte those of the main account; "
                "the converted and the scaled one look like main's, shrunk to 16 × 16 "
                "points."
            )
        )
