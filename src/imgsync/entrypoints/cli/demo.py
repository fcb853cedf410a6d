"""imgsync demo: the whole copy on an emulator."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.parts import Part
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.cli.serve import check_installed, run_service
from imgsync.entrypoints.demo.photographs import DemoUnavailableError
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container
    from imgsync.entrypoints.demo.run import Demo, Round

_HOST = "127.0.0.1"


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
@json_option
@pass_container
def demo(container: "Container", serves: bool, port: int, as_json: bool) -> None:
    """Copy real photographs between two accounts of a MoySklad emulator on this machine.

    Among them are a GIF and a photograph of 12 MB, which MoySklad does not take as they are. Exit
    status 1 where the child account does not end with exactly the right images.

    With --serve, each press of Enter gives the main account a new photograph.
    """
    if serves and as_json:
        raise click.UsageError(
            gettext("--json prints one document at the end, and --serve has none")
        )
    if serves:
        check_installed()
    try:
        from imgsync.entrypoints.demo.run import started
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error

    def report(done: "Round") -> None:
        say(f"{translated(done.name)}: {done.seconds:.1f} s", err=True)

    with started(container) as running:
        rounds = run_async(running.container, lambda: running.run(report))
        _tell(rounds, as_json=as_json)
        if serves:
            run_async(running.container, lambda: _serve(running, port))
        elif not as_json:
            say(gettext("See it in a browser: make demo ARGS=--serve (or imgsync demo --serve)"))


def _tell(rounds: "list[Round]", *, as_json: bool) -> None:
    right = all(done.verified and not done.errors for done in rounds)
    told = {"rounds": [asdict(done) for done in rounds]}
    if not as_json:
        _print(rounds)
    elif right:
        print_json(told, ExitStatus.DONE)
    if not right:
        raise CommandError(gettext("the child account does not hold the right images"), fields=told)


async def _serve(running: "Demo", port: int) -> None:
    from imgsync.entrypoints.demo.dashboard import EnterKey, FirstLook

    links = await running.open_franchises()

    def listens(url: str) -> Sequence[Part]:
        say(gettext("The dashboard is at %(url)s", url=url))
        say(gettext("Press Enter to give the main shop a new photograph, Ctrl-C to end."))
        sys.stdout.flush()
        photographer = running.photographer()
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
