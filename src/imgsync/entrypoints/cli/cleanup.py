"""imgsync cleanup-temp: delete left-over temp files."""

import math
from datetime import timedelta
from typing import Any

import click

from imgsync.entrypoints.cli.runtime import json_option, pass_container, print_json
from imgsync.entrypoints.config import MAX_HOURS
from imgsync.entrypoints.container import Container


class Hours(click.FloatRange):
    """Hours up to those that a date can hold; `nan` passes any comparison, so it is refused."""

    def __init__(self) -> None:
        super().__init__(0, MAX_HOURS)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of hours", param, ctx)
        return number


@click.command("cleanup-temp")
@click.option(
    "--hours",
    type=Hours(),
    help="Age of the files to delete (default: setting cleanup_hours, 24).",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@json_option
@pass_container
def cleanup_temp(container: Container, hours: float | None, dry_run: bool, as_json: bool) -> None:
    """Delete temp files that killed workers left behind."""
    age = timedelta(hours=container.config().cleanup_hours if hours is None else hours)
    cleanup = container.cleanup()
    files = cleanup.find(age)
    if dry_run:
        count, freed = len(files), sum(file.size for file in files)
    else:
        with click.progressbar(length=len(files), label="Deleting", hidden=as_json) as bar:
            cleaned = cleanup.delete(files, lambda _: bar.update(1))
        count, freed = cleaned.files, cleaned.freed_bytes
    if as_json:
        print_json({"dry_run": dry_run, "files": count, "freed_bytes": freed})
        return
    verb, would = ("would be deleted", "to free") if dry_run else ("deleted", "freed")
    click.echo(f"{count} files {verb}, {freed / 1e6:.1f} MB {would}.")
