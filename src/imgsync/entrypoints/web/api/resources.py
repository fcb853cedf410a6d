"""The operations: what each does and answers."""

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imgsync.application.accounts import find_account
from imgsync.application.syncing import Look
from imgsync.application.tell import tell_counts, tell_superseded
from imgsync.domain.differences import Comparison, EntityDifference, SeenImage
from imgsync.domain.errors import UnknownAccountError, UnknownEntityTypeError, UnlistedQueueError
from imgsync.domain.model import Account, LinkSettings, MatchField, StoredLink
from imgsync.domain.pictures import PictureSettings
from imgsync.domain.ports.overview import ChildState
from imgsync.domain.ports.queue import Enqueued
from imgsync.domain.ports.tasks import TaskList, TaskState, filter_by, state_of
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.surveys import Since
from imgsync.domain.tasks import Task
from imgsync.entrypoints.json_texts import failed_image_as_dict, link_as_dict, run_as_dict
from imgsync.entrypoints.web.api import models
from imgsync.entrypoints.web.api.operations import Call, Operation
from imgsync.entrypoints.web.api.problems import ProblemError
from imgsync.entrypoints.web.auditing import audit

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_MOST_PAYLOADS = 1000
_PAYLOAD = {
    "main_account_id": "5f1b8d1e-0000-0000-0000-000000000001",
    "child_account_id": "5f1b8d1e-0000-0000-0000-000000000002",
    "parent_entity_type": "product",
    "parent_entity_id": "5f1b8d1e-0000-0000-0000-000000000003",
    "child_entity_id": "5f1b8d1e-0000-0000-0000-000000000004",
    "images": [],
}


def operations(container: "Container") -> list[Operation]:
    """All that the API can do, apart from describing itself."""
    return [
        *_links(container),
        *_runs(container),
        *_tasks(container),
        *_failed_images(container),
        *_accounts(container),
    ]


async def _find(container: "Container", given: str) -> Account:
    """As `find_account`, but for what no database can look for, too."""
    if "\x00" in given or given.encode("utf-8", "ignore").decode() != given:
        raise UnknownAccountError(given)
    return await find_account(container.accounts(), given)


def _links(container: "Container") -> list[Operation]:
    async def list_links(_: Call) -> Any:
        return {"links": [link_as_dict(one) for one in await container.settings().links()]}

    async def link_of(given: str) -> StoredLink:
        account = await _find(container, given)
        for one in await container.settings().links():
            if one.child_id == account.id:
                return one
        raise ProblemError(404, f"Account '{account.name}' ({account.id}) is not linked")

    async def get_link(call: Call) -> Any:
        return link_as_dict(await link_of(call.path("child")))

    def check_types(types: list[str] | None) -> None:
        for name in types or ():
            try:
                container.plugins().entity_types.get(name)
            except UnknownEntityTypeError as error:
                raise ProblemError(422, str(error)) from None

    async def make_link(call: Call) -> Any:
        wish: models.NewLink = call.body
        check_types(wish.types)
        main = await _find(container, wish.main)
        child = await _find(container, wish.child)
        for one in await container.settings().links():
            if one.child_id == child.id:
                raise ProblemError(
                    409, f"Account '{child.name}' ({child.id}) is linked already; PATCH its link"
                )
        try:
            pictures = wish.pictures.model_dump(exclude_unset=True) if wish.pictures else {}
            times = wish.schedule.model_dump(exclude_unset=True) if wish.schedule else {}
            LinkSchedule(**times)  # before anything is done
            settings = LinkSettings(
                wish.images == "first",
                wish.images == "all",
                wish.match_by and MatchField(wish.match_by),
                tuple(dict.fromkeys(wish.types or ())),
                tuple(dict.fromkeys(wish.folders or ())),
                PictureSettings(**pictures),
            )
            await container.link_accounts()(main, [child], settings)
            if times:
                await container.change_settings()(child.id, schedule_changes=times)
        except ValueError as error:
            raise ProblemError(422, str(error)) from None
        detail = wish.model_dump(exclude_unset=True, exclude={"main", "child"})
        await audit(call.request, "link", child.id, main=main.id, **detail)
        call.location = f"/links/{quote(child.id, safe='')}"
        return link_as_dict(await link_of(child.id))

    async def change_link(call: Call) -> Any:
        change: models.LinkChange = call.body
        stored = await link_of(call.path("child"))
        check_types(change.types)
        given = change.model_dump(exclude_unset=True)
        link_changes: dict[str, Any] = {
            name: tuple(dict.fromkeys(given[name] or ()))
            for name in ("types", "folders")
            if name in given
        }
        if "match_by" in given:
            link_changes["match_by"] = change.match_by and MatchField(change.match_by)
        try:
            await container.change_settings()(
                stored.child_id,
                switches=partial(_switches, change),
                picture_changes=given.get("pictures"),
                schedule_changes=given.get("schedule"),
                link_changes=link_changes,
                guard=change.guard,
            )
        except ValueError as error:
            raise ProblemError(422, str(error)) from None
        await audit(call.request, "settings", stored.child_id, **given)
        return link_as_dict(await link_of(stored.child_id))

    async def end_link(call: Call) -> Any:
        stored = await link_of(call.path("child"))
        await container.unlink_accounts()([stored.child_id])
        await audit(call.request, "unlink", stored.child_id, main=stored.main_id)
        return {"unlinked": stored.child_id}

    return [
        Operation("GET", "/links", "All links", list_links, models.Links),
        Operation(
            "POST",
            "/links",
            "Link a child account to a main one",
            make_link,
            models.Link,
            201,
            models.NewLink,
            problems=(404,),
            has_location=True,
            examples={"all images": {"main": "Main", "child": "Moscow"}},
        ),
        Operation("GET", "/links/{child}", "The link of a child", get_link, models.Link),
        Operation(
            "PATCH",
            "/links/{child}",
            "Change the settings of a link",
            change_link,
            models.Link,
            takes=models.LinkChange,
            examples={
                "the first image": {"sync_images": True},
                "nothing": {"enabled": False},
                "small pictures": {"pictures": {"max_side": 1200}, "schedule": {"sweep": "04:00"}},
            },
        ),
        Operation(
            "DELETE",
            "/links/{child}",
            "End the link of a child, which keeps what it has",
            end_link,
            models.Unlinked,
            problems=(422,),
        ),
    ]


def _runs(container: "Container") -> list[Operation]:
    async def ids_of(children: list[str] | str) -> list[str]:
        if isinstance(children, str):
            links = await container.find_links()(None, [])
            return [link.child.id for link in links if link.settings.enabled]
        found = [await _find(container, child) for child in children]
        return [account.id for account in found]

    async def begin(
        call: Call, children: list[str] | str, look: Look, since: Since | None = None
    ) -> Any:
        ids = await ids_of(children)
        begun = await container.syncing().start(ids, look, since=since)
        for one in begun:
            if one.is_new and look is Look.SYNC:
                await audit(call.request, "sync", one.run_id, children=list(one.child_ids[:100]))
        call.location = f"/runs/{quote(begun[0].run_id, safe='')}"
        return {
            "runs": [
                {"id": one.run_id, "children": list(one.child_ids), "created": one.is_new}
                for one in begun
            ],
            "elsewhere": [child_id for one in begun for child_id in one.elsewhere],
        }

    async def begin_sync(call: Call) -> Any:
        wish: models.SyncWish = call.body
        look = Look.PREVIEW if wish.dry_run else Look.SYNC
        return await begin(call, wish.children, look, wish.since_when)

    async def begin_check(call: Call) -> Any:
        wish: models.CheckWish = call.body
        return await begin(call, wish.children, Look.CHECK)

    async def list_runs(call: Call) -> Any:
        asked: models.RunQuery = call.query
        child_id = asked.child and (await _find(container, asked.child)).id
        found = await container.run_history().find(
            child_id=child_id,
            kind=asked.kind,
            since=asked.since,
            until=asked.until,
            limit=asked.limit,
            offset=asked.offset,
        )
        now = await container.shared_clock().now()
        return {"runs": [run_as_dict(run, now) for run in found]}

    async def get_run(call: Call) -> Any:
        found = await container.run_history().get(call.path("id"))
        if found is None:
            raise ProblemError(404, "There is no such run")
        return run_as_dict(found, await container.shared_clock().now())

    async def list_differences(call: Call) -> Any:
        asked: models.DifferenceQuery = call.query
        child = await _find(container, call.path("child"))
        compared = await container.differences().get(child.id)
        found = await container.differences().find(
            child.id,
            differences=() if asked.difference is None else (asked.difference,),
            text=asked.text,
            limit=asked.limit,
            offset=asked.offset,
        )
        return {
            "comparison": None if compared is None else _comparison(compared),
            "differences": [_difference(one) for one in found],
        }

    return [
        Operation(
            "POST",
            "/sync",
            "Survey children and queue what differs, in the background",
            begin_sync,
            models.BegunRuns,
            202,
            models.SyncWish,
            problems=(404,),
            has_location=True,
            examples={
                "some children": {"children": ["Moscow", "Tver"]},
                "all, incrementally": {"children": "all", "since": "last"},
            },
        ),
        Operation(
            "POST",
            "/check",
            "Compare children with their main account, in the background; nothing is changed",
            begin_check,
            models.BegunRuns,
            202,
            models.CheckWish,
            problems=(404,),
            has_location=True,
            examples={"all": {"children": "all"}},
        ),
        Operation(
            "GET",
            "/runs",
            "Runs, newest first",
            list_runs,
            models.Runs,
            asks=models.RunQuery,
            problems=(404,),
        ),
        Operation(
            "GET", "/runs/{id}", "A run, and what it found of each child", get_run, models.Run
        ),
        Operation(
            "GET",
            "/children/{child}/differences",
            "What the last comparison of a child found",
            list_differences,
            models.Differences,
            asks=models.DifferenceQuery,
        ),
    ]


def _tasks(container: "Container") -> list[Operation]:
    async def list_tasks(call: Call) -> Any:
        asked: models.TaskQuery = call.query
        page = await container.task_list().find(
            child=asked.child,
            text=asked.text,
            before=asked.before,
            limit=asked.limit,
            **filter_by(asked.status),
        )
        told = [_task(one, is_superseded=one.id in page.superseded) for one in page.tasks]
        return {"tasks": told, "before": page.before}

    async def queue_tasks(call: Call) -> Any:
        payloads = call.body if isinstance(call.body, list) else [call.body]
        if not 1 <= len(payloads) <= _MOST_PAYLOADS:
            raise ProblemError(422, f"give 1 to {_MOST_PAYLOADS:,} payloads")
        enqueue, queued = container.enqueue_payloads(), list[Enqueued]()
        choice = await enqueue.choose(payloads)
        await enqueue.put(choice.wanted, queued)
        ids = [one.task_id for one in queued]
        await audit(call.request, "queue tasks", f"{len(ids)} tasks", task_ids=ids[:100])
        return {
            "tasks": [{"id": one.task_id, "created": one.created} for one in queued],
            "off": [child.id for child in choice.off],
        }

    async def task_of(call: Call) -> Task:
        found = await container.queue().get(call.path("id"))
        if found is None:
            raise ProblemError(404, "There is no such task")
        return found

    async def get_task(call: Call) -> Any:
        found = await task_of(call)
        is_superseded = await tell_superseded(_listed(container), found)
        return _task(found, is_superseded=is_superseded) | {"payload": found.payload}

    async def retry_task(call: Call) -> Any:
        found = await task_of(call)
        if not await container.queue().retry([found.id]):
            raise ProblemError(409, "It has not failed, or a newer task of its entity waits")
        await audit(call.request, "retry task", str(found.id))
        return _task(await task_of(call))

    async def cancel_task(call: Call) -> Any:
        found = await task_of(call)
        if not await container.task_list().cancel([found.id]):
            raise ProblemError(409, "It does not wait any more")
        await audit(call.request, "cancel task", str(found.id))
        return _task(await task_of(call))

    async def delete_task(call: Call) -> Any:
        found = await task_of(call)
        if not await container.task_list().delete([found.id]):
            raise ProblemError(409, "It is being processed")
        await audit(call.request, "delete task", str(found.id))
        return {"deleted": found.id}

    this = "/tasks/{id}"
    return [
        Operation(
            "GET", "/tasks", "Tasks, newest first", list_tasks, models.Tasks, asks=models.TaskQuery
        ),
        Operation(
            "POST",
            "/tasks",
            "Queue payloads",
            queue_tasks,
            models.QueuedTasks,
            202,
            models.Payloads,
            reads=False,  # the registered formats do, as plugins bring more of them
            problems=(404,),
            examples={"one payload": _PAYLOAD},
        ),
        Operation("GET", this, "A task with its payload", get_task, models.WholeTask),
        Operation(
            "DELETE", this, "Delete a task", delete_task, models.DeletedTask, problems=(409,)
        ),
        Operation("POST", f"{this}/retry", "Try a failed task again", retry_task, models.Task),
        Operation("POST", f"{this}/cancel", "Cancel a task that waits", cancel_task, models.Task),
    ]


def _failed_images(container: "Container") -> list[Operation]:
    async def list_failed_images(call: Call) -> Any:
        asked: models.FailedImageQuery = call.query
        rows = await container.failed_images().find(
            child_ids=[] if asked.child is None else [asked.child],
            text=asked.text,
            after=asked.after,
            limit=asked.limit,
        )
        after = rows[-1].id if len(rows) == asked.limit else None
        return {"failed_images": [failed_image_as_dict(row) for row in rows], "after": after}

    async def retry_failed_images(call: Call) -> Any:
        wish: models.RetryWish = call.body
        rows = await container.failed_images().get_many(wish.ids)
        entities = await container.retry_failed()(rows)
        ids = [row.id for row in rows]
        await audit(call.request, "retry images", f"{len(ids)} images", ids=ids[:100])
        return {"retried": ids, "entities": entities}

    return [
        Operation(
            "GET",
            "/failed-images",
            "Images that could not be copied, oldest first",
            list_failed_images,
            models.FailedImages,
            asks=models.FailedImageQuery,
        ),
        Operation(
            "POST",
            "/failed-images/retry",
            "Try failed images again",
            retry_failed_images,
            models.RetriedImages,
            202,
            models.RetryWish,
            examples={"two images": {"ids": [1, 2]}},
        ),
    ]


def _accounts(container: "Container") -> list[Operation]:
    async def list_accounts(_: Call) -> Any:
        return {"accounts": [_account(one) for one in await container.accounts().all()]}

    async def get_status(_: Call) -> Any:
        queue = container.queue()
        counts = await tell_counts(queue, _listed(container))
        names = {one.id: one.name for one in await container.accounts().all()}
        states = await container.overview().states()
        parked = [
            {"id": account_id, "name": names[account_id], "until": _until(state)}
            for account_id, state in states.items()
            if state.parked_until is not None and account_id in names
        ]
        parked.sort(key=lambda one: str(one["name"]))
        links = await container.settings().links()
        on = {link.child_id for link in links if link.settings.enabled and not link.damage}
        unmatched = [
            {"id": child_id, "name": names[child_id], "unmatched": states[child_id].unmatched}
            for child_id in on & states.keys() & names.keys()
            if states[child_id].unmatched
        ]
        unmatched.sort(key=lambda one: str(one["name"]))
        return {
            "tasks": counts,
            "parked": await queue.parked(),
            "parked_accounts": parked,
            "unmatched": unmatched,
        }

    return [
        Operation(
            "GET", "/accounts", "Accounts, without what is secret", list_accounts, models.Accounts
        ),
        Operation(
            "GET",
            "/status",
            "Tasks by status, what is parked, and what has no counterpart",
            get_status,
            models.Status,
        ),
    ]


def _until(state: ChildState) -> str | None:
    """When a parked account is tried again by itself."""
    if state.parked_until is None or state.is_parked_for_good:
        return None
    return state.parked_until.isoformat()


def _switches(change: models.LinkChange, now: LinkSettings) -> tuple[bool | None, bool | None]:
    """Whether it receives the first image only, or all; None leaves a switch as it is."""
    first_only, all_images = change.sync_images, change.sync_images_all
    if first_only and all_images:
        raise ProblemError(422, "sync_images and sync_images_all exclude each other")
    if change.enabled is None:
        return first_only, all_images
    if change.enabled:
        stays = (now.sync_images and first_only is None) or (
            now.sync_images_all and all_images is None
        )
        if first_only or all_images or stays:
            return first_only, all_images
        if all_images is None:
            return first_only, True
        raise ProblemError(422, "enabled is true, and no switch is on")
    if first_only or all_images:
        raise ProblemError(422, "enabled is false, and a switch is on")
    return False, False


def _comparison(compared: Comparison) -> dict[str, Any]:
    return {
        "began": compared.began.isoformat(),
        "ended": compared.ended and compared.ended.isoformat(),
        "counts": dict(compared.counts),
        "found_at": compared.found_at and compared.found_at.isoformat(),
        "left_out": compared.left_out,
        "error": compared.error,
    }


def _difference(found: EntityDifference) -> dict[str, Any]:
    child_images = found.child_images
    return {
        "id": found.id,
        "type": found.entity_type,
        "name": found.name,
        "code": found.code,
        "difference": found.difference,
        "reason": found.reason,
        "main_entity_id": found.main_entity_id,
        "child_entity_id": found.key and found.key.child_entity_id,
        "main_images": [_image(one) for one in found.main_images],
        "child_images": None if child_images is None else [_image(one) for one in child_images],
        "will_change": found.will_change,
        "changed_since": found.changed_since,
    }


def _image(image: SeenImage) -> dict[str, Any]:
    return {"filename": image.filename, "size": image.size}


def _account(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "token_kind": account.token_kind.value,
        "role": account.role and account.role.value,
    }


def _listed(container: "Container") -> TaskList | None:
    """None for a queue that cannot be listed."""
    try:
        tasks: TaskList = container.task_list()
    except UnlistedQueueError:
        return None
    return tasks


def _task(task: Task, *, is_superseded: bool = False) -> dict[str, Any]:
    state = state_of(task, (task.id,) if is_superseded else ())
    return {
        "id": task.id,
        "kind": task.kind,
        "status": task.status.value,
        "state": state.value,
        "superseded": state is TaskState.SUPERSEDED,
        "child": task.account_id,
        "entity_id": task.entity_id,
        "priority": task.priority,
        "attempts": task.attempts,
        "max_attempts": task.max_attempts,
        "scheduled_at": task.scheduled_at.isoformat(),
        "created_at": task.created_at.isoformat(),
        "updated_at": task.updated_at.isoformat(),
        "result": task.result,
        "error": task.error,
        "warnings": list(task.warnings),
        "parked_for": task.parked_for,
    }
