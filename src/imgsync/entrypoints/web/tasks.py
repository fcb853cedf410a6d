"""The pages of the queue: tasks by child, status and text, and each by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.application.log_lines import about_task
from imgsync.application.retry import LEFT_TO_SYNC, NOTHING_FAILED
from imgsync.application.tell import tell_superseded
from imgsync.domain.errors import UnlistedQueueError
from imgsync.domain.model import Account
from imgsync.domain.ports.tasks import CANCELLED, TaskList, TaskState, filter_by, state_of
from imgsync.domain.tasks import SyncOutcome, Task, TaskId, TaskStatus
from imgsync.domain.text import natural_key
from imgsync.entrypoints.web.auditing import audit, whole_number
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.veiling import Veil
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PAGE = 50
_MOST_RETRIED = 1000
_MOST_LOOKS = 20
"""Pages that are asked for to find tasks to be tried again: a text may be in few of many."""
_CONFIRMED = ("cancel", "delete")
_TONES = {TaskState.COMPLETED: "good", TaskState.WARNED: "care", TaskState.FAILED: "bad"}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list is asked for. `child`: an account id, '' for all."""

    child: str = ""
    status: TaskState | None = None
    text: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Filter":
        """What is no status is none."""
        status = str(asked.get("status", ""))
        return cls(
            str(asked.get("child", "")),
            TaskState(status) if status in set(TaskState) else None,
            str(asked.get("text", ""))[:200].strip(),
        )

    def __bool__(self) -> bool:
        return self != Filter()

    @property
    def fields(self) -> dict[str, str]:
        """As the parameters of an address."""
        told = {"child": self.child, "status": self.status or "", "text": self.text}
        return {name: str(value) for name, value in told.items() if value}

    def href(self, path: str = "/queue", **more: object) -> str:
        asked = self.fields | {name: str(value) for name, value in more.items()}
        return f"{path}?{urlencode(asked, errors='replace')}" if asked else path


@dataclass(frozen=True, slots=True)
class ShownTask:
    """A task in plain words; texts are as a page may show them. `tone`: how its badge looks."""

    task: Task
    href: str
    kind: str
    entity: str
    name: str
    code: str
    child: str
    status: str
    tone: str
    result: str
    error: str
    warnings: Sequence[str]

    @property
    def may_retry(self) -> bool:
        return self.task.status is TaskStatus.FAILED

    @property
    def may_cancel(self) -> bool:
        return self.task.status is TaskStatus.PENDING

    @property
    def may_delete(self) -> bool:
        return self.task.status is not TaskStatus.PROCESSING

    @property
    def waits(self) -> bool:
        return self.task.status is TaskStatus.PENDING


def shown_task(
    task: Task, names: Mapping[str, str], veil: Veil, *, is_superseded: bool = False
) -> ShownTask:
    """`names`: of accounts, by id. `is_superseded`: a newer task does the same."""
    about = about_task(task)
    child = str(about["child"])
    status, tone = _status_of(task, is_superseded)
    return ShownTask(
        task,
        f"/queue/{quote(str(task.id), safe='', errors='replace')}",
        kind_in_words(task.kind),
        entity_in_words(veil(about["entity_type"])),
        veil(about["entity"]),
        veil(about["code"]),
        veil(names.get(child, child)),
        status,
        tone,
        veil(_result_in_words(task.result)),
        "" if task.error == CANCELLED else veil(task.damage or task.error or ""),
        [veil(one) for one in task.warnings],
    )


def statuses() -> dict[str, str]:
    """The names of all, by what they are in an address."""
    return {
        TaskState.PENDING.value: _("Waiting"),
        TaskState.PROCESSING.value: _("Under way"),
        TaskState.COMPLETED.value: _("Done"),
        TaskState.WARNED.value: _("Done, with remarks"),
        TaskState.FAILED.value: _("Failed"),
        TaskState.CANCELLED.value: _("Cancelled"),
        TaskState.SUPERSEDED.value: _("Failed, a newer task took its place"),
    }


def stored_statuses() -> dict[TaskStatus, str]:
    """The names of those that a queue that cannot be listed counts by."""
    return {
        TaskStatus.PENDING: _("Waiting"),
        TaskStatus.PROCESSING: _("Under way"),
        TaskStatus.COMPLETED: _("Done"),
        TaskStatus.FAILED: _("Failed or cancelled"),
    }


def kind_in_words(kind: str) -> str:
    """What is done; a kind of a plugin's by its own name."""
    return {
        "image_sync": _("Copy the images"),
        "image_retry": _("Try failed images again"),
        "undo": _("Undo a change"),
    }.get(kind, kind)


def entity_in_words(entity_type: str) -> str:
    """The name of a type of entities; one of a plugin's is told as it is."""
    return {
        "product": _("Product"),
        "bundle": _("Bundle"),
        "variant": _("Variant"),
    }.get(entity_type, entity_type)


def _status_of(task: Task, is_superseded: bool) -> tuple[str, str]:
    state = state_of(task, (task.id,) if is_superseded else ())
    if state is TaskState.PENDING and task.parked_for is not None:
        return _("Waits for its account"), "care"
    if state is TaskState.PENDING and task.error:
        return _("Will be tried again"), "care"
    return statuses()[state], _TONES.get(state, "soft")


def _result_in_words(result: str | None) -> str:
    return {
        SyncOutcome.DISABLED.value: _("Nothing was done: this franchise receives no images."),
        SyncOutcome.UNCHANGED.value: _("Nothing had changed."),
        SyncOutcome.COMPLETED.value: _("The images are as the main account has them."),
        SyncOutcome.COMPLETED_WITH_WARNINGS.value: _(
            "The images are as the main account has them, but for what is said below."
        ),
        SyncOutcome.CLEARED.value: _("The images were removed, as the main account has none."),
        NOTHING_FAILED: _("No failed image is left."),
        LEFT_TO_SYNC: _("Left to the next sync, as more than the failed images has changed."),
    }.get(result or "", result or "")


def routes(container: "Container") -> list[BaseRoute]:
    def task_list() -> TaskList | None:
        """None where the queue is one that cannot be listed here."""
        try:
            listed: TaskList = container.task_list()
        except UnlistedQueueError:
            return None
        return listed

    async def accounts() -> tuple[dict[str, str], Veil]:
        stored: list[Account] = await container.accounts().all()
        return {one.id: one.name for one in stored}, Veil(stored)

    async def listed(request: Request) -> Response:
        wanted, tasks = Filter.of(request.query_params), task_list()
        if tasks is None:
            counts = await container.queue().counts()
            told = [(name, counts[status]) for status, name in stored_statuses().items()]
            return render(request, "queue_unlisted.html", counts=told)
        names, veil = await accounts()
        before = request.query_params.get("before") or None
        page = await tasks.find(
            child=wanted.child or None,
            text=wanted.text,
            before=before,
            limit=_PAGE,
            **filter_by(wanted.status),
        )
        links = await container.settings().links()
        children = {link.child_id: names.get(link.child_id, link.child_id) for link in links}
        if wanted.child:
            children.setdefault(wanted.child, names.get(wanted.child, wanted.child))
        shown = [
            shown_task(task, names, veil, is_superseded=task.id in page.superseded)
            for task in page.tasks
        ]
        is_failed = wanted.status is TaskState.FAILED
        return render(
            request,
            "queue.html",
            tasks=shown,
            wanted=wanted,
            statuses=statuses(),
            children=sorted(
                ((child, veil(name)) for child, name in children.items()),
                key=lambda one: natural_key(one[1]),
            ),
            older=None if page.before is None else wanted.href(before=page.before),
            newest=None if before is None else wanted.href(),
            retry=wanted.href("/queue/retry") if is_failed and (shown or page.before) else None,
            retried=whole_number(request.query_params.get("retried")),
            is_deleted="deleted" in request.query_params,
        )

    async def the_task(request: Request) -> Task:
        found: Task | None = await container.queue().get(request.path_params["id"])
        if found is None:
            raise HTTPException(404)
        return found

    async def one(request: Request) -> Response:
        task = await the_task(request)
        names, veil = await accounts()
        is_superseded = await tell_superseded(task_list(), task)
        shown = shown_task(task, names, veil, is_superseded=is_superseded)
        return render(
            request,
            "task.html",
            shown=shown,
            payload=veil.json(task.payload),
            parked_for=None if task.parked_for is None else names.get(task.parked_for, ""),
            is_listed=task_list() is not None,
        )

    async def confirm(request: Request) -> Response:
        task = await the_task(request)
        names, veil = await accounts()
        action = request.url.path.rsplit("/", 1)[1]
        return render(request, "task_confirm.html", shown=shown_task(task, names, veil), do=action)

    async def change(request: Request) -> Response:
        task = await the_task(request)
        action = request.url.path.rsplit("/", 1)[1]
        tasks = task_list()
        names, veil = await accounts()
        shown = shown_task(task, names, veil)
        if action == "retry":
            changed = await container.queue().retry([task.id])
        elif tasks is None:
            raise HTTPException(404)
        elif action == "cancel":
            changed = await tasks.cancel([task.id])
        else:
            changed = await tasks.delete([task.id])
        if not changed:
            trouble = {
                "retry": _("It has not failed any more, or a newer task does the same."),
                "cancel": _("It does not wait any more."),
                "delete": _("It is under way. Try again once it has ended."),
            }[action]
            return render(request, "trouble.html", status=409, trouble=trouble)
        await audit(
            request, f"{action} task", str(task.id), child=shown.child, entity=shown.name or ""
        )
        return go_to("/queue?deleted" if action == "delete" else shown.href)

    async def matching(tasks: TaskList, wanted: Filter) -> tuple[list[TaskId], bool]:
        """Failed ones that fit; whether there may be more than these."""
        found: list[TaskId] = []
        before: TaskId | None = None
        for _look in range(_MOST_LOOKS):
            page = await tasks.find(
                child=wanted.child or None,
                text=wanted.text,
                before=before,
                limit=_MOST_RETRIED // 2,
                **filter_by(TaskState.FAILED),
            )
            found += [task.id for task in page.tasks]
            before = page.before
            if before is None or len(found) >= _MOST_RETRIED:
                break
        return found[:_MOST_RETRIED], before is not None or len(found) > _MOST_RETRIED

    async def confirm_all(request: Request) -> Response:
        tasks = task_list()
        if tasks is None:
            raise HTTPException(404)
        wanted = Filter.of({**request.query_params, "status": TaskState.FAILED.value})
        names, veil = await accounts()
        ids, has_more = await matching(tasks, wanted)
        return render(
            request,
            "queue_retry.html",
            wanted=wanted,
            child=veil(names.get(wanted.child, wanted.child)),
            count=len(ids),
            has_more=has_more,
        )

    async def retry_all(request: Request) -> Response:
        tasks = task_list()
        if tasks is None:
            raise HTTPException(404)
        form = await request.form()
        wanted = Filter.of({**form, "status": TaskState.FAILED.value})
        ids, _more = await matching(tasks, wanted)
        changed = await container.queue().retry(ids) if ids else []
        if changed:
            names, _veil = await accounts()
            told = {"child": names.get(wanted.child, wanted.child), "text": wanted.text}
            await audit(
                request,
                "retry tasks",
                f"{len(changed)} tasks",
                **{name: value for name, value in told.items() if value},
                task_ids=changed[:100],
            )
        return go_to(wanted.href(retried=len(changed)))

    page = "/queue/{id}"
    return [
        Route("/queue", listed),
        Route("/queue/retry", confirm_all, methods=["GET"]),
        Route("/queue/retry", retry_all, methods=["POST"]),
        Route(page, one),
        *(Route(f"{page}/{action}", confirm, methods=["GET"]) for action in _CONFIRMED),
        *(Route(f"{page}/{action}", change, methods=["POST"]) for action in ("retry", *_CONFIRMED)),
    ]
