"""imgsync cleanup-temp: delete files that nobody uses."""

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.clean import CleanupTemp
from imgsync.domain.ports.storage import StaleFile
from imgsync.domain.text import file_size
from imgsync.entrypoints.cli.output import is_watched, print_json, say
from imgsync.entrypoints.cli.runtime import (
    in_part,
    json_option,
    pass_container,
    run_async,
    tell_trouble,
)
from imgsync.entrypoints.config import MAX_HOURS
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, ngettext

if TYPE_CHECKING:
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
            self.fail(gettext("%(value)s is not a number of hours", value=repr(value)), param, ctx)
        return number


@click.command("cleanup-temp")
@click.option(
    "--hours",
    type=Hours(),
    help="Time without use of the files to delete (default: the configured cleanup_hours, 24).",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@json_option
@pass_container
def cleanup_temp(
    container: "Container", hours: float | None, dry_run: bool, as_json: bool
) -> ExitStatus:
    """Delete downloads that killed workers left behind, or that nobody has used for so long.

    Those of tasks under way are left alone.
    """
    age = timedelta(hours=container.config().cleanup_hours if hours is None else hours)
    cleanup = container.cleanup()
    done: list[StaleFile] = []
    live = 0

    async def clean() -> None:
        nonlocal live
        live = await cleanup.live()
        files = await cleanup.find(age)
        if dry_run:
            done.extend(files)
        else:
            await _delete(cleanup, files, done, quiet=as_json)

    trouble = in_part(lambda: run_async(container, clean), lambda: bool(done) and not dry_run)
    status = ExitStatus.PART if trouble else ExitStatus.DONE
    freed = sum(file.size for file in done)
    tell_trouble(trouble)
    if as_json:
        told = {"dry_run": dry_run, "files": len(done), "freed_bytes": freed, "live_tasks": live}
        print_json(told | ({"error": trouble} if trouble else {}), status)
        return status
    size = file_size(freed)
    if dry_run:
        said = ngettext(
            "%(num)s file would be deleted, %(size)s to free.",
            "%(num)s files would be deleted, %(size)s to free.",
            len(done),
            size=size,
        )
    else:
        said = ngettext(
            "%(num)s file deleted, %(size)s freed.",
            "%(num)s files deleted, %(size)s freed.",
            len(done),
            size=size,
        )
    say(said)
    if live:
        say(
            gettext(
                "The files of %(tasks)s under way were left alone.",
                tasks=ngettext("%(num)s task", "%(num)s tasks", live),
            )
        )
    return status


async def _delete(
    cleanup: CleanupTemp, files: list[StaleFile], done: list[StaleFile], *, quiet: bool
) -> None:
    """Deletes them one by one into `done`, with a progress bar."""
    with click.progressbar(
        length=len(files), label=gettext("Deleting"), hidden=quiet or not is_watched()
    ) as bar:

        def progress(file: StaleFile) -> None:
            done.append(file)
            bar.update(1)

        await cleanup.delete(files, progress)
