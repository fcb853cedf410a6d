"""imgsync sync: enqueue and work at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.survey import Surveyed, by_children
from imgsync.application.work import Tally, TaskEnd, TaskReport, Worker
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.failures import FailedCount
from imgsync.domain.labels import lines_by_children
from imgsync.domain.model import Link
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.surveys import Since
from imgsync.domain.tasks import SyncOutcome, TaskIds, TaskStatus
from imgsync.domain.text import file_size, shown
from imgsync.entrypoints.cli.backups import backup_dir_option, use_backup_dir
from imgsync.entrypoints.cli.images import summary, waiting_of
from imgsync.entrypoints.cli.output import is_watched, print_json, say
from imgsync.entrypoints.cli.runtime import (
    INTERRUPTED,
    STATUSES,
    in_part,
    json_option,
    pass_container,
    run_async,
    tell_trouble,
    with_hint,
)
from imgsync.entrypoints.cli.signals import STOPPING, stopped_by_signals
from imgsync.entrypoints.cli.surveys import (
    adopt_option,
    children_option,
    chosen_adopt,
    chosen_field,
    difference_as_dict,
    left_out_of,
    main_option,
    match_option,
    max_clear_option,
    off_message,
    print_adopted,
    print_differences,
    print_skipped,
    since_option,
    types_option,
)
from imgsync.entrypoints.ends import Ends
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_LOOKS = 100
"""Tasks that are found not to be completed until no further is looked at."""


@dataclass(slots=True)
class _Run:
    """What a sync has done so far."""

    links: list[Link] = field(default_factory=list)
    enqueued: EnqueueOutcome = field(default_factory=EnqueueOutcome)
    tally: Tally = field(default_factory=Tally)
    ends: Ends = field(default_factory=Ends)
    trouble: str | None = None
    id: str | None = None
    completed: TaskIds = field(default_factory=TaskIds)
    """By whichever worker."""
    failed_images: Sequence[FailedCount] = ()
    """Of these links, whenever they failed."""

    @property
    def left(self) -> int:
        """Queued tasks that have not completed; those that failed among them."""
        return len(self.enqueued.task_ids) - len(self.completed)

    @property
    def status(self) -> ExitStatus:
        if self.trouble or self.enqueued.in_part or self.left > 0:
            return ExitStatus.PART
        return self.ends.status

    def report(self, ended: TaskReport) -> None:
        self.tally.add(ended)
        self.ends.add(ended)
        if ended.end is TaskEnd.COMPLETED:
            self.completed.add(ended.task.id)

    async def look_for_others(self, queue: TaskQueue) -> None:
        """Notes what other workers have completed meanwhile; not to its end where much is left."""
        left = 0
        for task_id in self.enqueued.task_ids:
            if task_id in self.completed:
                continue
            task = await queue.get(task_id)
            if task is not None and task.status is TaskStatus.COMPLETED:
                self.completed.add(task_id)
                self.ends.unfinished.discard(task_id)
            elif (left := left + 1) >= _LOOKS:
                return


@click.command(epilog=STATUSES)
@main_option
@children_option
@match_option
@types_option
@since_option
@max_clear_option
@adopt_option
@click.option("--dry-run", is_flag=True, help="Only show what would be copied.")
@backup_dir_option
@json_option
@pass_container
def sync(
    container: "Container",
    main_id: str | None,
    children: tuple[str, ...],
    match_by: str | None,
    types: tuple[str, ...],
    since: Since | None,
    max_clear: int | None,
    adopt: str | None,
    dry_run: bool,
    backup_dir: Path | None,
    as_json: bool,
) -> ExitStatus:
    """Copy what differs now, for every link or for some children.

    A task that fails for a passing reason stays in the queue for 'imgsync worker', and so does
    the rest after Ctrl-C.
    """
    use_backup_dir(container, backup_dir)
    find_links, enqueue = container.find_links(), container.enqueue()
    note_runs = container.note_runs()
    run = _Run(id=None if dry_run else container.run())

    async def work() -> None:
        run.links = await find_links(main_id, children)
        run.tally.names = {link.child.id: link.child.name for link in run.links}
        with _progress() as bar:
            bars = {link.child.id: bar.add_task(_survey_of(link), total=None) for link in run.links}
            kind = RunKind.CHECK if dry_run else RunKind.SYNC
            noting = note_runs.noting(
                kind, RunCause.COMMAND, run.links, types=types, since=since, run_id=run.id
            )
            async with noting as noted:

                def see(found: Surveyed) -> None:
                    noted.see(found)
                    bar.advance(bars[found.link.child.id])

                await enqueue(
                    run.links,
                    match_by=chosen_field(match_by),
                    types=types,
                    since=since,
                    dry_run=dry_run,
                    max_clear=max_clear,
                    adopt=chosen_adopt(adopt),
                    progress=see,
                    outcome=run.enqueued,
                )
                noted.surveyed(run.enqueued)
                for task in bar.tasks:
                    bar.update(task.id, total=task.completed)
                if not dry_run:
                    await _copy(container.worker(), run, bar, container.config().grace_seconds)
                    if run.trouble is None:
                        await run.look_for_others(container.queue())
            if not dry_run:
                children_ids = [link.child.id for link in run.links]
                run.failed_images = await container.failed_images().counts(children_ids)

    try:
        stopped_by = in_part(
            lambda: run_async(container, work), lambda: bool(run.enqueued.task_ids)
        )
    except SyncIsOffError as error:
        say(with_hint(error), err=True)
        if as_json:
            print_json({"enqueue": run.enqueued.as_dict(), "run": None}, ExitStatus.OFF)
        return ExitStatus.OFF
    run.trouble = stopped_by or run.trouble
    tell_trouble(run.trouble)
    if as_json:
        print_json(_as_dict(run, dry_run), run.status)
    else:
        _print(run, dry_run)
    return run.status


def _survey_of(link: Link) -> str:
    return gettext("Survey of %(child)s", child=shown(link.child.name)).replace("[", "(")


async def _copy(worker: Worker, run: _Run, bar: Progress, grace_seconds: float) -> None:
    copying = bar.add_task(gettext("Copying"), total=len(run.enqueued.task_ids))

    def report(ended: TaskReport) -> None:
        run.report(ended)
        bar.advance(copying)

    with stopped_by_signals(worker.stop, worker.abort, grace_seconds, STOPPING):
        await worker.run(drain=True, only=run.enqueued.task_ids, report=report)
    if worker.stopped:
        run.trouble = gettext(INTERRUPTED) if run.left else None


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, TimeElapsedColumn(), console=console, disable=not is_watched())
    with progress as bar:
        yield bar


def _as_dict(run: _Run, dry_run: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "enqueue": run.enqueued.as_dict(),
        "run": None if dry_run else run.tally.as_dict(),
        "run_id": run.id,
    }
    if dry_run:
        told["differences"] = [
            difference_as_dict(found) for found in by_children(run.enqueued.differences.items)
        ]
        told |= left_out_of(run.enqueued.differences)
    else:
        waiting, images, first = waiting_of(run.failed_images)
        told["failed_images"] = {
            "images": images,
            "waiting": waiting,
            "next_attempt_at": first and first.isoformat(),
        }
    return told | ({"error": run.trouble} if run.trouble else {})


def _print(run: _Run, dry_run: bool) -> None:
    enqueued, tally = run.enqueued, run.tally
    print_skipped(enqueued)
    if dry_run:
        print_differences(enqueued.differences)
        clear = ""
        if enqueued.clears:
            clear = gettext(" and clear those of %(clears)s", clears=enqueued.clears)
        say(
            gettext(
                "Would copy %(images)s to %(entities)s%(clear)s; %(unchanged)s unchanged, "
                "%(skipped)s skipped.",
                images=ngettext("%(num)s image", "%(num)s images", enqueued.images),
                entities=ngettext("%(num)s entity", "%(num)s entities", enqueued.entities),
                clear=clear,
                unchanged=enqueued.unchanged,
                skipped=enqueued.skipped.count,
            )
        )
        return
    for line in lines_by_children(tally.notes):
        say(translated(line))
    for line in lines_by_children(tally.warnings + tally.errors):
        say(translated(line), err=True)
    print_adopted(enqueued)
    if not enqueued.task_ids:
        say(
            gettext(
                "Nothing to copy: %(unchanged)s unchanged, %(skipped)s skipped.",
                unchanged=enqueued.unchanged,
                skipped=enqueued.skipped.count,
            )
        )
        _print_failed(run)
        return
    outcomes = ", ".join(
        gettext("%(count)s %(word)s", count=count, word=gettext(name))
        for name, count in sorted(tally.outcomes.items())
    )
    how = f" ({outcomes})" if tally.outcomes.keys() - {SyncOutcome.COMPLETED} else ""
    say(
        gettext(
            "%(tasks)s completed%(how)s; %(unchanged)s unchanged, %(skipped)s skipped.",
            tasks=ngettext("%(num)s task", "%(num)s tasks", run.ends.completed),
            how=how,
            unchanged=enqueued.unchanged,
            skipped=enqueued.skipped.count,
        )
    )
    if others := len(run.completed) - run.ends.completed:
        say(
            gettext(
                "%(tasks)s completed by other workers.",
                tasks=ngettext("%(num)s task", "%(num)s tasks", others),
            )
        )
    say(
        gettext(
            "%(images)s uploaded (%(size)s), %(kept)s kept.",
            images=ngettext("%(num)s image", "%(num)s images", tally.uploaded),
            kept=tally.kept,
            size=file_size(tally.downloaded_bytes),
        )
    )
    say(gettext("Run %(id)s.", id=run.id))
    names = ", ".join(f"'{link.child.name}'" for link in run.links)
    if len(run.links) == 1 and run.ends.status is ExitStatus.OFF:
        say(off_message(run.links[0].child), err=True)
    elif run.ends.disabled:
        several = gettext(
            "Image sync was switched off for %(names)s or some of them meanwhile: ", names=names
        )
        one = ngettext(
            "Image sync was switched off for child %(names)s meanwhile: %(num)s task did nothing.",
            "Image sync was switched off for child %(names)s meanwhile: %(num)s tasks did nothing.",
            run.ends.disabled,
            names=names,
        )
        say(several if len(run.links) > 1 else one, err=True)
    waiting = run.left - tally.failed
    if waiting > 0:
        parked = min(waiting, tally.parked)  # tasks of other main accounts were parked with them
        note = (
            gettext(", %(parked)s of them parked: see 'imgsync account list'", parked=parked)
            if parked
            else ""
        )
        say(
            ngettext(
                "%(num)s task is left to 'imgsync worker' (retries or taken by another%(note)s).",
                "%(num)s tasks are left to 'imgsync worker' (retries or taken by another%(note)s).",
                waiting,
                note=note,
            )
        )
    if tally.failed:
        say(
            gettext(
                "%(tasks)s failed; see 'imgsync queue failed'.",
                tasks=ngettext("%(num)s task", "%(num)s tasks", tally.failed),
            )
        )
    _print_failed(run)


def _print_failed(run: _Run) -> None:
    if run.failed_images:
        say(summary(*waiting_of(run.failed_images)))
