"""imgsync sync: plan and run at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from imgsync.application.run_task import TaskEnd, TaskReport
from imgsync.application.tally import Tally
from imgsync.entrypoints.cli.planning import (
    PlanOutcome,
    match_option,
    plan_and_queue,
    print_skipped,
    types_option,
    warn_if_disabled,
)
from imgsync.entrypoints.cli.runtime import (
    child_option,
    json_option,
    main_option,
    pass_container,
    print_json,
    run_async,
)
from imgsync.entrypoints.cli.signals import stopped_by_signals
from imgsync.entrypoints.container import Container

_CLAIM_IDS = 500


@click.command()
@main_option
@child_option
@match_option
@types_option
@click.option("--dry-run", is_flag=True, help="Only show what would be copied.")
@json_option
@pass_container
def sync(
    container: Container,
    main_id: str,
    child_id: str,
    match_by: str | None,
    types: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan the copies from a main to a child account and run them now.

    A task that fails for a passing reason stays in the queue for 'imgsync worker', and so does
    the rest after Ctrl-C. Exit status 1 where a task failed for good.
    """
    warn_if_disabled(container, child_id)
    tally = Tally()

    async def run() -> PlanOutcome:
        with _progress() as bar:
            planning = bar.add_task("Planning", total=None)
            plan = await plan_and_queue(
                container,
                main_id,
                child_id,
                match_by=match_by,
                types=types,
                dry_run=dry_run,
                progress=lambda _: bar.advance(planning),
            )
            bar.update(planning, total=plan.entities + len(plan.skipped))
            if not dry_run:
                copying = bar.add_task("Copying", total=len(plan.task_ids))

                def report(ended: TaskReport) -> None:
                    tally.add(ended)
                    bar.advance(copying)

                for start in range(0, len(plan.task_ids), _CLAIM_IDS):
                    worker, ids = container.worker(), plan.task_ids[start : start + _CLAIM_IDS]
                    with stopped_by_signals(worker, container.config().grace_seconds):
                        await worker.run(drain=True, only=ids, report=report)
                    if worker.stopped:
                        break
        return plan

    plan = run_async(container, run)
    if as_json:
        print_json({"plan": plan.as_dict(), "run": None if dry_run else tally.as_dict()})
    else:
        _print(plan, tally, dry_run)
    if tally.failed:
        raise SystemExit(1)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        yield bar


def _print(plan: PlanOutcome, tally: Tally, dry_run: bool) -> None:
    print_skipped(plan)
    if dry_run:
        click.echo(
            f"Would check {plan.entities} entities with {plan.images} images; "
            f"{len(plan.skipped)} skipped."
        )
        return
    for line in tally.warnings + tally.errors:
        click.echo(line, err=True)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(tally.outcomes.items()))
    click.echo(f"{tally.ends[TaskEnd.COMPLETED]} tasks completed ({outcomes or 'none'}).")
    click.echo(
        f"{tally.uploaded} images uploaded, {tally.kept} kept, "
        f"{tally.downloaded_bytes / 1e6:.1f} MB downloaded."
    )
    left = len(plan.task_ids) - tally.ends[TaskEnd.COMPLETED] - tally.failed
    if left:
        click.echo(f"{left} tasks are left to 'imgsync worker' (retries or taken by another).")
    if tally.failed:
        click.echo(f"{tally.failed} tasks failed; see 'imgsync queue failed'.")
