"""imgsync demo: the whole copy on an emulator."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import CommandError, json_option, pass_container, run_async
from imgsync.entrypoints.demo.photographs import DemoUnavailableError
from imgsync.entrypoints.exit_status import ExitStatus

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container
    from imgsync.entrypoints.demo.run import Round


@click.command()
@json_option
@pass_container
def demo(container: "Container", as_json: bool) -> None:
    """Copy real photographs between two accounts of a MoySklad emulator on this machine.

    Exit status 1 where the child account does not end with exactly the right images. A warning, of
    an image in a format that MoySklad does not accept, is part of the demonstration.
    """
    try:
        from imgsync.entrypoints.demo.run import started
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error

    def report(done: "Round") -> None:
        say(f"{done.name}: {done.seconds:.1f} s", err=True)

    with started(container) as running:
        rounds = run_async(running.container, lambda: running.run(report))
    right = all(done.verified and not done.errors for done in rounds)
    told = {"rounds": [asdict(done) for done in rounds]}
    if not as_json:
        _print(rounds)
    elif right:
        print_json(told, ExitStatus.DONE)
    if not right:
        raise CommandError("the child account does not hold the right images", fields=told)


def _print(rounds: "list[Round]") -> None:
    columns = (
        "Entities",
        "Changed",
        "Images",
        "API calls",
        "MB down",
        "MB up",
        "Warnings",
        "Seconds",
    )
    print_table(
        ("Run", *columns),
        (
            (
                done.name,
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
    for warning in first.warnings:
        say(f"Warning: {warning}")
    say(f"Skipped for want of a counterpart: {first.skipped}.")
    say(f"Answers 429: {sum(done.throttled for done in rounds)}.")
    if all(done.verified for done in rounds):
        say("Verified: the child's images are byte for byte those of the main account.")
