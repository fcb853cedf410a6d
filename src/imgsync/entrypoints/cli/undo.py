"""imgsync undo: put back what children had."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.undo import AS_BEFORE, EntityChanges, UndoPlan
from imgsync.application.work import Tally, TaskReport
from imgsync.domain.labels import label as message_label
from imgsync.domain.model import RemoteImage
from imgsync.domain.tasks import TaskIds
from imgsync.entrypoints.cli.backups import backup_dir_option, use_backup_dir
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, say
from imgsync.entrypoints.cli.runtime import (
    INTERRUPTED,
    STATUSES,
    in_part,
    json_option,
    pass_container,
    run_async,
    tell_trouble,
)
from imgsync.entrypoints.cli.signals import STOPPING, stopped_by_signals
from imgsync.entrypoints.ends import Ends
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_NEXT_SYNC = marked(
    "The next sync makes them equal to the main account again, unless image sync is off for the "
    "child: see 'imgsync settings set' and 'imgsync unlink'."
)


@dataclass(slots=True)
class _Undo:
    """What an undo has done so far."""

    run: str | None = None
    found: list[EntityChanges] = field(default_factory=list)
    plans: list[UndoPlan] = field(default_factory=list)
    task_ids: TaskIds = field(default_factory=TaskIds)
    tally: Tally = field(default_factory=Tally)
    ends: Ends = field(default_factory=Ends)
    trouble: str | None = None

    @property
    def left(self) -> int:
        return len(self.task_ids) - self.ends.completed

    @property
    def status(self) -> ExitStatus:
        if self.trouble or self.left > 0 or any(plan.problem for plan in self.plans):
            return ExitStatus.PART
        return ExitStatus.DONE

    def report(self, ended: TaskReport) -> None:
        self.tally.add(ended)
        self.ends.add(ended)


@click.command(epilog=STATUSES)
@click.option("--run", metavar="ID", help="Run whose changes are undone, as 'imgsync sync' tells.")
@click.option(
    "--child",
    "child_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Child account, by ID or name.",
)
@click.option(
    "--entity", metavar="ENTITY", help="Entity whose last change is undone, by name, code or ID."
)
@click.option(
    "--force",
    is_flag=True,
    help="Even where somebody has changed the images since, or a backup is gone.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be put back.")
@backup_dir_option
@json_option
@pass_container
def undo(
    container: "Container",
    run: str | None,
    child_id: str | None,
    entity: str | None,
    force: bool,
    dry_run: bool,
    backup_dir: Path | None,
    as_json: bool,
) -> ExitStatus:
    """Put back what children had before a run, or before a change.

    Images that are still there are kept, those in a backup are uploaded; others were removed
    without one, and are named. The next sync makes the entities equal to main again, unless image
    sync is off for the child.
    """
    if (run is None) == (child_id is None) or (child_id is None) != (entity is None):
        raise click.UsageError(gettext("Name --run, or --child and --entity."))
    use_backup_dir(container, backup_dir)
    undoing = container.undo()
    so_far = _Undo(None if dry_run else container.run())

    async def work() -> None:
        accounts = await container.accounts().all()
        so_far.tally.names = {account.id: account.name for account in accounts}
        if run is not None:
            so_far.found = await undoing.of_run(run.strip())
        else:
            so_far.found = await undoing.of_entity(child_id or "", (entity or "").strip())
        if dry_run:
            async for plan in undoing.plans(so_far.found, force=force):
                so_far.plans.append(plan)
            return
        so_far.task_ids = await undoing.put(so_far.found, force=force)
        worker, grace = container.worker(), container.config().grace_seconds
        with stopped_by_signals(worker.stop, worker.abort, grace, STOPPING):
            await worker.run(drain=True, only=so_far.task_ids, report=so_far.report)
        if worker.stopped and so_far.left:
            so_far.trouble = gettext(INTERRUPTED)

    stopped_by = in_part(lambda: run_async(container, work), lambda: bool(so_far.task_ids))
    so_far.trouble = stopped_by or so_far.trouble
    tell_trouble(so_far.trouble)
    if as_json:
        print_json(_as_dict(so_far, dry_run=dry_run), so_far.status)
    elif dry_run:
        _print_plans(so_far)
    else:
        _print(so_far)
    return so_far.status


def _as_dict(so_far: _Undo, *, dry_run: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "run_id": so_far.run,
        "entities": len(so_far.found),
        "run": None if dry_run else so_far.tally.as_dict(),
    }
    if dry_run:
        told["plans"] = [_plan_as_dict(plan) for plan in so_far.plans]
    return told | ({"error": so_far.trouble} if so_far.trouble else {})


def _plan_as_dict(plan: UndoPlan) -> dict[str, Any]:
    change = plan.changes[0]
    return {
        "child": change.key.child_account_id,
        "type": change.key.entity_type,
        "id": change.key.child_entity_id,
        "name": change.entity_name,
        "code": change.entity_code,
        "now": [image.filename for image in plan.current],
        "kept": [p.filename for p in plan.places if isinstance(p, RemoteImage)],
        "uploaded": [p.filename for p in plan.places if not isinstance(p, RemoteImage)],
        "lost": [image.filename for image in plan.lost],
        "problem": plan.problem,
    }


def _print_plans(so_far: _Undo) -> None:
    if not so_far.plans:
        say(gettext("Nothing to undo."))
    for plan in so_far.plans:
        change = plan.changes[0]
        child_id = change.key.child_account_id
        child = so_far.tally.names.get(child_id, child_id)
        label = translated(message_label(child, change.label))
        if plan.problem is not None:
            say(
                gettext(
                    "%(label)s: would be left as it is: %(why)s",
                    label=label,
                    why=plan.problem,
                )
            )
            continue
        if plan.is_done:
            say(gettext("%(label)s: %(why)s already", label=label, why=AS_BEFORE))
            continue
        removed = len(plan.current) - plan.kept
        say(
            gettext(
                "%(label)s: would keep %(images)s, put back %(uploads)s and remove %(removed)s",
                label=label,
                images=ngettext("%(num)s image", "%(num)s images", plan.kept),
                uploads=plan.uploads,
                removed=removed,
            )
        )
        for warning in plan.warnings:
            say(f"{label}: {translated(warning)}")


def _print(so_far: _Undo) -> None:
    tally = so_far.tally
    for line in tally.warnings + tally.errors:
        say(translated(line), err=True)
    if not so_far.task_ids:
        say(gettext("Nothing to undo."))
        return
    say(
        gettext(
            "%(entities)s set back: %(images)s put back, %(kept)s kept. Run %(run)s.",
            entities=ngettext("%(num)s entity", "%(num)s entities", so_far.ends.completed),
            images=ngettext("%(num)s image", "%(num)s images", tally.uploaded),
            kept=tally.kept,
            run=so_far.run,
        )
    )
    if so_far.ends.completed:
        say(gettext(_NEXT_SYNC))
    waiting = so_far.left - tally.failed
    if waiting > 0:
        say(
            ngettext(
                "%(num)s task is left to 'imgsync worker'.",
                "%(num)s tasks are left to 'imgsync worker'.",
                waiting,
            )
        )
    if tally.failed:
        say(
            gettext(
                "%(entities)s left as they are.",
                entities=ngettext("%(num)s entity", "%(num)s entities", tally.failed),
            )
        )
