"""imgsync demo: the whole copy on an emulator."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.table import Table

from imgsync.entrypoints.cli.runtime import (
    json_option,
    pass_container,
    print_json,
    print_table,
    run_async,
)
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.demo.photographs import DemoUnavailableError

if TYPE_CHECKING:
    from imgsync.entrypoints.demo.run import Round


@click.command()
@json_option
@pass_container
def demo(container: Container, as_json: bool) -> None:
    """Copy real photographs between two accounts of a MoySklad emulator on this machine.

    Exit status 1 where the child account does not end with exactly the right images.
    """
    try:
        from imgsync.entrypoints.demo.run import started
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error

    def report(done: "Round") -> None:
        click.echo(f"{done.name}: {done.seconds:.1f} s", err=True)

    with started(container) as running:
        rounds = run_async(running.container, lambda: running.run(report))
    if as_json:
        print_json([asdict(done) for done in rounds])
    else:
        _print(rounds)
    if not all(done.verified and not done.errors for done in rounds):
        raise click.ClickException("the child account does not hold the right images")


def _print(rounds: "list[Round]") -> None:
    columns = ("Entities", "Images", "API calls", "MB down", "MB up", "Warnings", "Seconds")
    table = Table("Run", *columns, box=SIMPLE, padding=0)
    for column in table.columns[1:]:
        column.justify = "right"
    for done in rounds:
        table.add_row(
            done.name,
            str(done.entities),
            str(done.uploaded),
            str(done.api_calls),
            f"{done.downloaded_bytes / 1e6:.2f}",
            f"{done.uploaded_bytes / 1e6:.2f}",
            str(len(done.warnings)),
            f"{done.seconds:.1f}",
        )
    print_table(table)
    first = rounds[0]
    for warning in first.warnings:
        click.echo(f"Warning: {warning}")
    click.echo(f"Skipped for want of a counterpart: {first.skipped}.")
    click.echo(f"Answers 429: {sum(done.throttled for done in rounds)}.")
    if all(done.verified for done in rounds):
        click.echo("Verified: the child's images are byte for byte those of the main account.")
