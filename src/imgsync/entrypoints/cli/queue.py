"""imgsync queue: look at tasks, cancel, delete and retry them, free held ones."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgsync.application.accounts import find_account
from imgsync.application.log_lines import about_task
from imgsync.application.tell import tell_counts, tell_superseded
from imgsync.application.work import entity_label
from imgsync.domain.errors import UnlistedQueueError
from imgsync.domain.ports.tasks import TaskList, TaskPage, TaskState, filter_by, state_of
from imgsync.domain.surveys import since_of
from imgsync.domain.tasks import Task, TaskId, TaskStatus
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import is_confirmed, print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    MAX_ID,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.translation import gettext, marked, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


def task_id(text: str) -> str:
    """What a queue tells its tasks apart by, as it is written."""
    text = text.strip()
    if not text or not text.isprintable():
        raise click.BadParameter(gettext("%(text)s is no ID of a task", text=repr(text)))
    if _is_decimal(text) and not 1 <= int(text) <= MAX_ID:
        raise click.BadParameter(
            gettext("%(text)s is not in the range 1<=x<=%(most)s.", text=text, most=MAX_ID)
        )
    return text


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _meant(text: str) -> list[TaskId]:
    """The ids that are written so: whether those of the queue are numbers, only it knows."""
    return [int(text), text] if _is_decimal(text) else [text]


def _all_meant(texts: tuple[str, ...]) -> list[TaskId] | None:
    return [id_ for text in texts for id_ in _meant(text)] or None


_F = TypeVar("_F", bound=Callable[..., Any])
_STATUSES = tuple(state.value for state in TaskState)
_RETRIED = (TaskState.FAILED, TaskState.CANCELLED, TaskState.SUPERSEDED)
_AT_ONCE = 1000
_ASK_FROM = 20
"""Tasks that a filter finds of which so many are changed unasked."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a command is about."""

    child: str | None = None
    status: str | None = None
    text: str = ""
    since: str | None = None

    def __bool__(self) -> bool:
        return self != TaskFilter()

    async def pages(
        self, container: "Container", *, before: str | None = None, limit: int = _AT_ONCE
    ) -> TaskPage:
        """At most `limit` of them, newest first, however many have to be looked at for that."""
        tasks = container.task_list()
        account = None
        if self.child is not None:
            account = await find_account(container.accounts(), self.child)
        since = None if self.since is None else await _moment(container, self.since)
        found: list[Task] = []
        gone: set[TaskId] = set()
        at: TaskId | None = before
        while True:
            page = await tasks.find(
                child=None if account is None else account.id,
                text=self.text,
                since=since,
                before=at,
                limit=limit - len(found),
                **filter_by(None if self.status is None else TaskState(self.status)),
            )
            found += page.tasks
            gone |= page.superseded
            at = page.before
            if at is None or len(found) >= limit:
                return TaskPage(tuple(found), at, frozenset(gone))


async def _moment(container: "Container", text: str) -> datetime:
    since = since_of(text)
    if since.span is not None:
        now: datetime = await container.shared_clock().now()
        return now - since.span
    assert since.moment is not None  # noqa: S101 (for the type checker: `_when` has seen to it)
    return since.moment.astimezone()


def _when(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    if text == "last":
        raise click.BadParameter(
            gettext("'last' is the last survey; give a time, or a span such as 2h.")
        )
    try:
        if (moment := since_of(text).moment) is not None:
            moment.astimezone()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None
    return text


def filter_options(command: _F) -> _F:
    """`child`, `status`, `text` and `since`."""
    for option in (
        click.option(
            "--since",
            metavar="WHEN",
            callback=_when,
            help="Only tasks queued since then: a time (2026-01-31T12:00) or a span (30m, 2h, 1d).",
        ),
        click.option(
            "--text",
            metavar="TEXT",
            default="",
            help="Only tasks with this text in their payload, error or result.",
        ),
        click.option("--status", type=click.Choice(_STATUSES), help="Only tasks of this status."),
        click.option(
            "--child",
            metavar="ACCOUNT",
            shell_complete=account_names,
            help="Only tasks of this child, by ID or name.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def queue() -> None:
    """The task queue."""


@queue.command("status")
@json_option
@pass_container
def status(container: "Container", as_json: bool) -> None:
    """Number of tasks by status.

    Parked ones are pending too: their account takes no requests for now (see 'imgsync account
    list'). Somebody has cancelled the cancelled ones; superseded ones failed, and a newer task of
    the same entity has taken their place. Of failed tasks, the newest ten thousand are told apart.
    """
    tasks = container.queue()

    async def look() -> tuple[dict[str, int], int]:
        return await tell_counts(tasks, _listed(container)), await tasks.parked()

    counts, parked = run_async(container, look)
    if as_json:
        print_json({**counts, "parked": parked})
        return
    for name, count in counts.items():
        note = (
            gettext(" (%(parked)s parked)", parked=parked)
            if name == TaskStatus.PENDING and parked
            else ""
        )
        say(f"{gettext(name):<10} {count}{note}")


@queue.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, _AT_ONCE), default=50, show_default=True)
@click.option("--before", metavar="ID", type=task_id, help="Go on from there: the next page.")
@json_option
@pass_container
def list_(
    container: "Container",
    child: str | None,
    status: str | None,
    text: str,
    since: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """Tasks, newest first, with the names of children and entities."""
    wanted = TaskFilter(child, status, text.strip(), since)

    async def look() -> tuple[TaskPage, dict[str, str]]:
        page = await wanted.pages(container, before=before, limit=limit)
        return page, await _names(container)

    page, names = run_async(container, look)
    if as_json:
        told = [_shown(task, names, page.superseded) for task in page.tasks]
        print_json({"tasks": told, "before": page.before})
        return
    if not page.tasks:
        say(gettext("No tasks fit.") if wanted else gettext("The queue is empty."))
        return
    print_table(
        (
            gettext("Task"),
            gettext("Status"),
            gettext("Child"),
            gettext("Entity"),
            gettext("Attempts"),
            gettext("Changed at (UTC)"),
            gettext("What happened"),
        ),
        (
            (
                str(task.id),
                gettext(_word(task, page.superseded)),
                _child(task, names),
                translated(entity_label(task) or "?"),
                f"{task.attempts}/{task.max_attempts}",
                f"{task.updated_at:%Y-%m-%d %H:%M:%S}",
                _happened(task),
            )
            for task in page.tasks
        ),
    )
    if page.before is not None:
        say(gettext("There are more: --before %(before)s", before=page.before))


@queue.command("show")
@click.argument("id_", metavar="ID", type=task_id)
@json_option
@pass_container
def show(container: "Container", id_: str, as_json: bool) -> None:
    """One task, with its payload and all that has happened to it."""
    tasks = container.queue()

    async def look() -> tuple[Task | None, dict[str, str], frozenset[TaskId]]:
        for meant in _meant(id_):
            if (found := await tasks.get(meant)) is not None:
                is_gone = await tell_superseded(_listed(container), found)
                return found, await _names(container), frozenset({found.id} if is_gone else ())
        return None, {}, frozenset()

    task, names, gone = run_async(container, look)
    if task is None:
        raise CommandError(gettext("There is no task %(id)s", id=id_))
    told = _shown(task, names, gone)
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        if name == "warnings":
            for warning in task.warnings:
                say(f"{gettext('warning'):<14} {translated(warning)}")
        elif name == "payload":
            say(gettext("payload"))
            text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
            for line in text.splitlines():
                say(f"  {line}")
        elif value is not None:
            said = value
            if name in _TRANSLATED:
                said = gettext(value) if name in ("status", "kind") else translated(value)
            say(f"{gettext(_FIELDS[name]):<14} {said}")


@queue.command("cancel")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask, however many a filter finds.")
@json_option
@pass_container
def cancel(
    container: "Container", /, ids: tuple[str, ...], yes: bool, as_json: bool, **by: Any
) -> None:
    """Cancel tasks that wait: those with these IDs, or those that a filter finds.

    The next whole survey, such as 'imgsync sync', queues anew what differs then.
    """
    wanted = _wanted(ids, by, TaskStatus.PENDING.value)
    tasks = container.task_list()
    _change(
        container,
        marked("cancelled"),
        tasks.cancel,
        ids,
        wanted,
        gettext("it does not wait any more, or there is none"),
        yes=yes,
        as_json=as_json,
    )


@queue.command("delete")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask, however many a filter finds.")
@json_option
@pass_container
def delete(
    container: "Container", /, ids: tuple[str, ...], yes: bool, as_json: bool, **by: Any
) -> None:
    """Delete tasks that no worker is at: those with these IDs, or those that a filter finds."""
    tasks = container.task_list()
    _change(
        container,
        marked("deleted"),
        tasks.delete,
        ids,
        _wanted(ids, by, None),
        gettext("it is being processed, or there is none"),
        yes=yes,
        as_json=as_json,
    )


@queue.command("pause")
@click.argument("children", metavar="[CHILD]...", shell_complete=account_names, nargs=-1)
@json_option
@pass_container
def pause(container: "Container", children: tuple[str, ...], as_json: bool) -> None:
    """Let the tasks of these children wait, or of all linked ones, until 'queue resume'.

    What is under way ends. Surveys go on. To store a child's credentials anew ends its pause, too.
    """
    changed = run_async(container, lambda: _each(container, children, container.pause()))
    _tell_paused(marked("paused"), changed, as_json=as_json)


@queue.command("resume")
@click.argument("children", metavar="[CHILD]...", shell_complete=account_names, nargs=-1)
@json_option
@pass_container
def resume(container: "Container", children: tuple[str, ...], as_json: bool) -> None:
    """Go on with the tasks of these children, or of all that were paused."""
    changed = run_async(container, lambda: _each(container, children, container.resume()))
    _tell_paused(marked("resumed"), changed, as_json=as_json)


async def _each(
    container: "Container",
    children: tuple[str, ...],
    change: Callable[[str], Awaitable[bool]],
) -> list[str]:
    """The names of those that were changed. All are looked up before the first is."""
    accounts = container.accounts()
    if children:
        found = [await find_account(accounts, child) for child in children]
    else:
        of = {link.child_id for link in await container.settings().links()}
        found = [account for account in await accounts.all() if account.id in of]
    return [account.name for account in found if await change(account.id)]


def _tell_paused(verb: str, names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json({verb: list(names)})
        return
    if names:
        say(f"{gettext(verb).capitalize()}: {', '.join(names)}.")
    else:
        say(
            gettext(
                "Nothing is %(verb)s: it was already, or no child is linked.", verb=gettext(verb)
            )
        )


@queue.command("failed")
@click.option("--limit", type=click.IntRange(1, MAX_ID), default=100, show_default=True)
@json_option
@pass_container
def failed(container: "Container", limit: int, as_json: bool) -> None:
    """Failed tasks with their errors, newest first, without superseded and cancelled ones."""

    async def look() -> tuple[Sequence[Task], dict[str, str]]:
        names = await _names(container)
        try:
            page = await TaskFilter(status=TaskStatus.FAILED.value).pages(container, limit=limit)
        except UnlistedQueueError:
            return await container.queue().find(TaskStatus.FAILED, limit=limit), names
        return page.tasks, names

    tasks, names = run_async(container, look)
    if as_json:
        print_json([_as_dict(task, names) for task in tasks])
        return
    if not tasks:
        say(gettext("No failed tasks."))
        return
    print_table(
        (
            gettext("Task"),
            gettext("Child"),
            gettext("Entity"),
            gettext("Attempts"),
            gettext("Failed at (UTC)"),
            gettext("Error"),
        ),
        (
            (
                str(task.id),
                _child(task, names),
                translated(entity_label(task) or "?"),
                f"{task.attempts}/{task.max_attempts}",
                f"{task.updated_at:%Y-%m-%d %H:%M:%S}",
                translated(task.error or ""),
            )
            for task in tasks
        ),
    )


@queue.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask, however many a filter finds.")
@json_option
@pass_container
def retry(
    container: "Container", /, ids: tuple[str, ...], yes: bool, as_json: bool, **by: Any
) -> None:
    """Make failed tasks pending again: those with these IDs, those that a filter finds, or all."""
    tasks = container.queue()
    if by.get("status") not in (None, *_RETRIED):
        raise click.UsageError(
            gettext("--status %(status)s: only what has failed is tried again", status=by["status"])
        )
    if TaskFilter(**by):
        why_not = gettext("not failed, or a newer task of the entity is there")
        wanted = _wanted(ids, by, TaskStatus.FAILED.value)
        _change(
            container,
            marked("retried"),
            tasks.retry,
            ids,
            wanted,
            why_not,
            yes=yes,
            as_json=as_json,
        )
        return
    changed = run_async(container, lambda: tasks.retry(_all_meant(ids)))
    why = gettext("not failed, or a newer task of the entity is pending")
    _print_changed(marked("retried"), changed, ids, why, as_json=as_json)


@queue.command("release")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=task_id)
@json_option
@pass_container
def release(container: "Container", ids: tuple[str, ...], as_json: bool) -> None:
    """Take tasks from a worker that holds them: those with these IDs.

    Without IDs, those held for longer than a day from now, which only a worker with a wrong clock
    can have done. Give no ID of a task whose worker is alive; it would lose its work.
    """
    tasks = container.queue()
    changed = run_async(container, lambda: tasks.free(_all_meant(ids)))
    _print_changed(marked("released"), changed, ids, gettext("no worker holds it"), as_json=as_json)


@queue.command("prune")
@json_option
@pass_container
def prune(container: "Container", as_json: bool) -> None:
    """Delete tasks that ended longer ago than keep_days (30), failed ones three times as long ago.

    And what was changed longer ago than changes_days (90), which cannot be undone any more. A
    worker does it daily. Records of what was copied stand elsewhere and stay.
    """
    prune_queue, prune_changes = container.prune_queue(), container.prune_changes()

    async def both() -> tuple[int, int]:
        return await prune_queue(), await prune_changes()

    gone, changes = run_async(container, both)
    if as_json:
        print_json({"pruned": gone, "changes": changes})
    else:
        tasks = ngettext("%(num)s task", "%(num)s tasks", gone)
        if changes:
            noted = ngettext("%(num)s change", "%(num)s changes", changes)
            say(gettext("%(tasks)s and %(noted)s deleted.", tasks=tasks, noted=noted))
        else:
            say(gettext("%(tasks)s deleted.", tasks=tasks))


def _wanted(ids: tuple[str, ...], by: Mapping[str, Any], status: str | None) -> TaskFilter:
    """What a command that changes tasks is about; UsageError where that is nothing, or two
    things. `status`: where none is asked for."""
    given = TaskFilter(**by)
    if ids and given:
        raise click.UsageError(gettext("give IDs or a filter, not both"))
    if not ids and not given:
        raise click.UsageError(
            gettext("give IDs of tasks, or a filter such as --child or --status")
        )
    return given if ids or given.status is not None else TaskFilter(**{**by, "status": status})


def _change(
    container: "Container",
    verb: str,
    change: Callable[[Sequence[TaskId]], Awaitable[list[TaskId]]],
    ids: tuple[str, ...],
    wanted: TaskFilter,
    why_not: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Changes tasks, a thousand at once, and tells how many; CommandError where some that were
    named could not be."""

    async def act() -> list[TaskId]:
        if ids:
            return await change(_all_meant(ids) or [])
        page = await wanted.pages(container)
        if len(page.tasks) > _ASK_FROM and not yes:
            more = "" if page.before is None else gettext(", and there are more")
            question = gettext(
                "%(tasks)s%(more)s. Go on?",
                tasks=ngettext("%(num)s task", "%(num)s tasks", len(page.tasks)),
                more=more,
            )
            if as_json or not is_confirmed(question):
                raise CommandError(
                    gettext(
                        "nothing is %(verb)s: say --yes beforehand, or answer y", verb=gettext(verb)
                    )
                )
        done: list[TaskId] = []
        while page.tasks:
            done += await change([task.id for task in page.tasks])
            if page.before is None:
                break
            page = await wanted.pages(container, before=str(page.before))
        return done

    changed = run_async(container, act)
    missing = [text for text in dict.fromkeys(ids) if set(changed).isdisjoint(_meant(text))]
    if as_json and not missing:
        print_json({verb: changed})
    if not as_json:
        tasks = ngettext("%(num)s task", "%(num)s tasks", len(changed))
        say(gettext("%(tasks)s %(verb)s.", tasks=tasks, verb=gettext(verb)))
    if missing:
        raise CommandError(
            gettext(
                "Not %(verb)s (%(reason)s): %(ids)s",
                verb=gettext(verb),
                reason=why_not,
                ids=", ".join(missing),
            ),
            fields={verb: changed},
        )


_FIELDS = {
    "id": marked("id"),
    "status": marked("status"),
    "kind": marked("kind"),
    "child": marked("child"),
    "entity": marked("entity"),
    "priority": marked("priority"),
    "attempts": marked("attempts"),
    "queued_at": marked("queued at"),
    "changed_at": marked("changed at"),
    "due_at": marked("due at"),
    "parked_for": marked("parked for"),
    "result": marked("result"),
    "error": marked("error"),
}
_TRANSLATED = {"status", "kind", "entity", "result", "error"}


async def _names(container: "Container") -> dict[str, str]:
    return {account.id: account.name for account in await container.accounts().all()}


def _listed(container: "Container") -> TaskList | None:
    """None for a queue that cannot be listed."""
    try:
        tasks: TaskList = container.task_list()
    except UnlistedQueueError:
        return None
    return tasks


def _word(task: Task, superseded: frozenset[TaskId]) -> str:
    state = state_of(task, superseded)
    is_parked = state is TaskState.PENDING and task.parked_for is not None
    return "parked" if is_parked else state.value


def _happened(task: Task) -> str:
    if said := task.damage or task.error:
        return translated(said)
    return "; ".join(map(translated, task.warnings)) or translated(task.result or "")


def _child(task: Task, names: Mapping[str, str]) -> str:
    child = str(about_task(task)["child"])
    return names.get(child, child) or "?"


def _shown(task: Task, names: Mapping[str, str], superseded: frozenset[TaskId]) -> dict[str, Any]:
    return {
        "id": task.id,
        "status": _word(task, superseded),
        "kind": task.kind,
        "child": _child(task, names),
        "entity": entity_label(task) or "?",
        "priority": task.priority,
        "attempts": f"{task.attempts}/{task.max_attempts}",
        "queued_at": task.created_at.isoformat(),
        "changed_at": task.updated_at.isoformat(),
        "due_at": task.scheduled_at.isoformat() if task.status is TaskStatus.PENDING else None,
        "parked_for": names.get(task.parked_for, task.parked_for) if task.parked_for else None,
        "result": task.result,
        "error": task.damage or task.error,
        "warnings": list(task.warnings),
        "payload": task.payload,
    }


def _print_changed(
    verb: str, changed: list[TaskId], wanted: tuple[str, ...], why_not: str, *, as_json: bool
) -> None:
    """What became pending again; CommandError where that is not all that was wanted."""
    missing = [text for text in dict.fromkeys(wanted) if set(changed).isdisjoint(_meant(text))]
    if as_json and not missing:
        print_json({verb: changed})
    if not as_json:
        say(
            ngettext(
                "%(num)s task is pending again.", "%(num)s tasks are pending again.", len(changed)
            )
        )
    if missing:
        listed = ", ".join(missing)
        raise CommandError(
            gettext(
                "Not %(verb)s (%(reason)s): %(ids)s", verb=gettext(verb), reason=why_not, ids=listed
            ),
            fields={verb: changed},
        )


def _as_dict(task: Task, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": task.id,
        "child": _child(task, names),
        "entity": entity_label(task) or "?",
        "attempts": task.attempts,
        "max_attempts": task.max_attempts,
        "failed_at": task.updated_at.isoformat(),
        "error": task.error,
        "payload": task.payload,
    }
