"""Puts work into the queue: what a plan finds, or what another program asks for by payload."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgsync.application.payloads import PayloadFormats, stored_payload
from imgsync.application.survey import Planned, PlanSync, allowed_clears
from imgsync.domain.errors import ClearLimitError, ImgsyncError
from imgsync.domain.model import Account, EntityTypes, MatchField, SyncRequest
from imgsync.domain.ports.queue import Enqueued, NewTask, TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.settings import Link
from imgsync.domain.tasks import TaskId

_BATCH = 100
"""Tasks that go into the queue at once."""
_EXAMPLES = 3
"""Entities that the error of too many clears names."""


@dataclass(slots=True)
class PlanOutcome:
    """What a plan found, and the ids of the tasks it queued.

    `entities`: those whose images are copied; `clears`: those whose counterparts lose theirs;
    `clears_refused`: those that would, were they not more than `clears_allowed`, of which
    `clears_examples` names some.
    """

    entities: int = 0
    images: int = 0
    clears: int = 0
    clears_refused: int = 0
    clears_allowed: int = 0
    clears_examples: list[str] = field(default_factory=list)
    created: int = 0
    updated: int = 0
    task_ids: list[TaskId] = field(default_factory=list)
    skipped: list[Planned] = field(default_factory=list)

    @property
    def found(self) -> int:
        """All that was planned, whatever becomes of it."""
        return self.entities + self.clears + self.clears_refused + len(self.skipped)

    @property
    def clear_limit_error(self) -> ClearLimitError | None:
        """Why the images of no entity are cleared."""
        if not self.clears_refused:
            return None
        return ClearLimitError(self.clears_refused, self.clears_allowed, self.clears_examples)

    def queued(self, task: Enqueued) -> None:
        self.task_ids.append(task.task_id)
        self.created += task.created
        self.updated += not task.created

    def as_dict(self) -> dict[str, Any]:
        return {
            "entities": self.entities,
            "images": self.images,
            "clears": self.clears,
            "clears_refused": self.clears_refused,
            "created": self.created,
            "updated": self.updated,
            "task_ids": self.task_ids,
            "skipped": [
                {"type": p.entity_type, "name": p.name, "reason": p.reason} for p in self.skipped
            ],
        }


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Plans the copies of a link and queues one task per entity.

    `match_field` finds the counterparts where a call names no other.
    """

    plan: PlanSync
    queue: TaskQueue
    match_field: MatchField = MatchField.EXTERNAL_CODE

    async def __call__(
        self,
        link: Link,
        *,
        match_by: MatchField | None = None,
        types: Sequence[str] = (),
        dry_run: bool = False,
        max_clear: int | None = None,
        progress: Callable[[Planned], None] = lambda _: None,
        outcome: PlanOutcome | None = None,
    ) -> PlanOutcome:
        """What was found and queued; in a dry run, nothing is queued.

        What clears a child's images comes last, once all is compared: none where it is more than
        `max_clear`, or than `allowed_clears`. `outcome` is filled as the planning goes on, so that
        it tells what was queued where that ends early; all that was planned by then is. Raises
        what `PlanSync` raises, and the errors of the queue.
        """
        outcome = PlanOutcome() if outcome is None else outcome
        clears: list[SyncRequest] = []
        copies: list[NewTask] = []
        plan = self.plan(
            link.main.id,
            link.child.id,
            match_field=match_by or self.match_field,
            only_types=types,
        )
        try:
            async for planned in plan:
                progress(planned)
                if planned.request is None:
                    outcome.skipped.append(planned)
                elif planned.clears:
                    clears.append(planned.request)
                else:
                    outcome.entities += 1
                    outcome.images += planned.images
                    copies.append(_planned_task(planned.request))
                if len(copies) >= _BATCH and not dry_run:
                    full, copies = copies, []
                    await put_tasks(self.queue, full, outcome.queued)
        finally:
            if not dry_run:
                await put_tasks(self.queue, copies, outcome.queued)
        compared = outcome.entities + len(clears)
        outcome.clears_allowed = allowed_clears(compared) if max_clear is None else max_clear
        if len(clears) > outcome.clears_allowed:
            outcome.clears_refused = len(clears)
            outcome.clears_examples = [f"{r.entity_type} '{r.name}'" for r in clears[:_EXAMPLES]]
        else:
            outcome.clears = len(clears)
        if dry_run:
            return outcome
        chosen = [_planned_task(request) for request in clears[: outcome.clears]]
        await put_tasks(self.queue, chosen, outcome.queued)
        await self.plan.note_roles(link.main.id, link.child.id)
        return outcome


def _planned_task(request: SyncRequest) -> NewTask:
    # Here alone a request is written down, and `CopyImagesHandler` alone reads it back.
    return task_of(stored_payload(request), request)


def task_of(payload: Any, request: SyncRequest) -> NewTask:
    """The task of a request, whose payload may be in a format of its own."""
    return NewTask(
        payload,
        dedupe_key=request.dedupe_key,
        account_id=request.child_account_id,
        entity_id=request.main_entity_id,
    )


async def put_tasks(
    queue: TaskQueue, tasks: Sequence[NewTask], queued: Callable[[Enqueued], None]
) -> None:
    """Queues tasks by the hundred, telling `queued` of each; told to stop, it tells of those under
    way too, and puts no more."""
    for start in range(0, len(tasks), _BATCH):
        under_way = asyncio.ensure_future(queue.enqueue(tasks[start : start + _BATCH]))
        try:
            await asyncio.shield(under_way)
        finally:
            for task in await under_way:
                queued(task)


@dataclass(frozen=True, slots=True)
class CheckedPayload:
    """A payload that can be queued, and what it asks for."""

    payload: Any
    request: SyncRequest


@dataclass(frozen=True, slots=True)
class PayloadChoice:
    """Payloads to be queued, and the children whose payloads are left out, as they receive none."""

    wanted: list[CheckedPayload]
    off: list[Account]


@dataclass(frozen=True, slots=True)
class EnqueuePayloads:
    """Queues payloads after all of them have been checked, so that none is half queued."""

    accounts: AccountRepository
    settings: SettingsRepository
    queue: TaskQueue
    formats: PayloadFormats
    entity_types: EntityTypes

    async def choose(self, payloads: Sequence[Any]) -> PayloadChoice:
        """The payloads whose children receive images.

        ImgsyncError, with its position from 1, for one that cannot be read or that is for the
        child entity of an earlier one; UnknownAccountError for a child that is not stored.
        """
        checked: list[CheckedPayload] = []
        positions: dict[str, int] = {}
        for position, payload in enumerate(payloads, start=1):
            request = self._read(position, payload)
            first = positions.setdefault(request.dedupe_key, position)
            if first != position:
                raise ImgsyncError(
                    f"Payloads {first} and {position} are for the same child entity; "
                    "put all of its images in one payload"
                )
            checked.append(CheckedPayload(payload, request))
        off: dict[str, Account] = {}
        for child_id in dict.fromkeys(item.request.child_account_id for item in checked):
            child = await self.accounts.get(child_id)
            if not (await self.settings.get(child_id)).enabled:
                off[child_id] = child
        wanted = [item for item in checked if item.request.child_account_id not in off]
        return PayloadChoice(wanted, list(off.values()))

    async def put(self, wanted: Sequence[CheckedPayload], queued: list[Enqueued]) -> None:
        """Queues them; `queued` tells how far it came where it is interrupted."""
        tasks = [task_of(item.payload, item.request) for item in wanted]
        await put_tasks(self.queue, tasks, queued.append)

    def _read(self, position: int, payload: Any) -> SyncRequest:
        try:
            request = self.formats.parse(payload)
            self.entity_types.get(request.entity_type)
        except ImgsyncError as error:
            raise ImgsyncError(f"Payload {position}: {error}") from error
        return request
