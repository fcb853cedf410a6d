"""Puts work into the queue: what a survey finds, or what another program asks for by payload."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from imgsync.application.payloads import PayloadFormats, stored_payload
from imgsync.application.survey import (
    MOST_SAMPLED,
    MOST_UNASKED_CLEARS,
    Chosen,
    Difference,
    Found,
    NotSurveyed,
    Sample,
    Survey,
    Surveyed,
    SurveyLog,
    allowed_clears,
    by_children,
    not_surveyed_as_dict,
    nothing_waits,
)
from imgsync.application.turns import Turn, Turns
from imgsync.domain.diff import Adopt, Clear, Skip, Unchanged
from imgsync.domain.errors import (
    AlreadyLinkedError,
    BusyChildError,
    ClearLimitError,
    ImgsyncError,
)
from imgsync.domain.failures import IMAGE_RETRY
from imgsync.domain.labels import lines_by_children
from imgsync.domain.model import Account, EntityTypes, Link, MatchField, SyncRequest, check_links
from imgsync.domain.ports.queue import Enqueued, NewTask, TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.surveys import Since
from imgsync.domain.tasks import TaskIds

_BATCH = 100
"""Tasks that go into the queue at once."""
_EXAMPLES = 3
"""Entities that the error of too many clears names."""


@dataclass(slots=True)
class EnqueueOutcome:
    """What a survey found, and the ids of the tasks that were queued for it. It does not grow with
    the catalogue: of what it names, it keeps a sample.

    `entities`: those whose images are copied; `unchanged`: those that are as they should be,
    `adopted` of them without a record till now;
    `clears`: those whose counterparts lose theirs; `clears_refused`: those that would, were they
    not more than `clears_allowed`, of which `clears_examples` names some, and `refused` tells
    how many they are by the ids of the children. `off`: children that
    receive no images; `failed`: links that could not be surveyed to their end; `differences`: in a
    dry run, what differs; `log`: whether the survey was incremental.
    """

    entities: int = 0
    images: int = 0
    unchanged: int = 0
    adopted: int = 0
    clears: int = 0
    clears_refused: int = 0
    clears_allowed: int = 0
    clears_examples: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    task_ids: TaskIds = field(default_factory=TaskIds)
    skipped: Sample[Surveyed] = field(default_factory=Sample)
    warnings: Sample[str] = field(default_factory=Sample)
    off: list[Account] = field(default_factory=list)
    failed: list[NotSurveyed] = field(default_factory=list)
    log: SurveyLog = field(default_factory=SurveyLog)
    differences: Sample[Surveyed] = field(default_factory=Sample)

    @property
    def found(self) -> int:
        """All that was surveyed, whatever becomes of it."""
        done = self.entities + self.unchanged + self.clears + self.clears_refused
        return done + self.skipped.count

    @property
    def in_part(self) -> bool:
        """Whether something that was asked for is not done."""
        return bool(self.clears_refused or self.off or self.failed)

    @property
    def clear_limit_error(self) -> ClearLimitError | None:
        """Why the images of no entity are cleared."""
        if not self.clears_refused:
            return None
        return ClearLimitError(self.clears_refused, self.clears_allowed, self.clears_examples)

    def queued(self, task: Enqueued) -> None:
        self.task_ids.add(task.task_id)
        self.created += task.created
        self.updated += not task.created

    def as_dict(self) -> dict[str, Any]:
        """For JSON. "left_out": how many more there are than are named, where there are any;
        "since": of an incremental survey; "empty_folders": those of links that main has nothing
        in."""
        ids = list(islice(self.task_ids, MOST_SAMPLED))
        left_out = {
            "task_ids": len(self.task_ids) - len(ids),
            "skipped": self.skipped.left_out,
            "warnings": self.warnings.left_out,
        }
        left_out = {name: count for name, count in left_out.items() if count}
        since = self.log.since
        return {
            "entities": self.entities,
            "images": self.images,
            "unchanged": self.unchanged,
            "adopted": self.adopted,
            "clears": self.clears,
            "clears_refused": self.clears_refused,
            "created": self.created,
            "updated": self.updated,
            "task_ids": ids,
            "skipped": [
                {
                    "child": p.link.child.id,
                    "child_name": p.link.child.name,
                    "type": p.entity_type,
                    "name": p.name,
                    "code": p.code,
                    "reason": p.reason,
                }
                for p in by_children(self.skipped.items)
            ],
            "warnings": lines_by_children(self.warnings.items),
            "off": [child.id for child in self.off],
            "failed": [not_surveyed_as_dict(found) for found in by_children(self.failed)],
            **({"left_out": left_out} if left_out else {}),
            **({"since": since.isoformat()} if since else {}),
            **({"empty_folders": empty} if (empty := self.log.empty_folders) else {}),
        }


@dataclass(slots=True)
class _Clears:
    """What would be cleared on one child, of how many entities compared.

    `most`: of more, which can only be refused, no `requests` are kept, and `examples` alone tell.
    """

    most: int
    compared: int = 0
    count: int = 0
    requests: list[SyncRequest] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def add(self, request: SyncRequest, label: str) -> None:
        self.count += 1
        if self.count <= _EXAMPLES:
            self.examples.append(label)
        if self.count <= self.most:
            self.requests.append(request)
        else:
            self.requests.clear()

    def drop(self) -> None:
        """What broke off clears nothing."""
        self.count = 0
        self.requests.clear()


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Surveys links and queues a task for each entity that differs.

    `match_field` finds the counterparts where neither a link nor a call names another, `adopt` says
    what becomes of images without a record where a call does not. `turns`: without them others may
    survey the same children meanwhile.
    """

    survey: Survey
    queue: TaskQueue
    match_field: MatchField = MatchField.EXTERNAL_CODE
    adopt: Adopt = Adopt.SIZE
    turns: Turns | None = None

    async def __call__(
        self,
        links: Sequence[Link],
        *,
        match_by: MatchField | None = None,
        types: Sequence[str] = (),
        dry_run: bool = False,
        max_clear: int | None = None,
        since: Since | None = None,
        adopt: Adopt | None = None,
        chosen: Chosen | None = None,
        progress: Callable[[Surveyed], None] = lambda _: None,
        outcome: EnqueueOutcome | None = None,
        waits: bool = True,
    ) -> EnqueueOutcome:
        """What was found and queued; in a dry run, nothing is queued, nor recorded.

        What clears a child's images comes last, once all of the child is compared: none where it is
        more than `max_clear`, or than `allowed_clears`, and none of a child whose survey broke off.
        `chosen`: what alone is surveyed. `outcome` is filled as the survey goes on, so that it
        tells what was queued where that ends early; all that was found by then is. A link that
        cannot be surveyed costs itself only; its error is raised where no other is left.
        SyncIsOffError where no child receives images. The errors of the queue are raised.
        It waits while another survey of one of these children is under way, or leaves that child
        as one that cannot be surveyed (BusyChildError) where it `waits` for nobody; LeaseLostError
        where another has begun, as this process was stopped meanwhile. Not so with `chosen`, which
        is looked at again after those that are under way (`React`), nor in a dry run.
        """
        outcome = EnqueueOutcome() if outcome is None else outcome
        outcome.off += [link.child for link in links if not link.settings.enabled]
        on = [link for link in links if link.settings.enabled]
        if links and not on:
            links[0].check_on()
        most = MOST_UNASKED_CLEARS if max_clear is None else max_clear
        clears = {link.child.id: _Clears(most) for link in on}
        survey = partial(
            self.survey,
            match_field=self.match_field,
            match_by=match_by,
            only_types=types,
            waiting=nothing_waits if dry_run else self.queue.waiting,
            extras=dry_run,
            since=since,
            adopt=self.adopt if adopt is None else adopt,
            chosen=chosen,
            log=outcome.log,
        )
        if self.turns is None or dry_run or chosen is not None:
            found = survey(on)
            await self._follow(found, on, outcome, clears, max_clear, progress, dry_run=dry_run)
            return outcome
        async with self.turns.of(on, waits=waits) as turn:
            free = [link for link in on if link.child.id not in turn.busy]
            outcome.failed += [
                NotSurveyed(link, BusyChildError()) for link in on if link.child.id in turn.busy
            ]
            found = survey(free)
            await self._follow(found, on, outcome, clears, max_clear, progress, turn)
        return outcome

    async def _follow(
        self,
        survey: AsyncIterator[Found],
        on: Sequence[Link],
        outcome: EnqueueOutcome,
        clears: Mapping[str, "_Clears"],
        max_clear: int | None,
        progress: Callable[[Surveyed], None],
        turn: Turn | None = None,
        *,
        dry_run: bool = False,
    ) -> None:
        """Queues and records what the survey finds, as long as the `turn` is held."""

        async def put(tasks: Sequence[NewTask]) -> None:
            if turn is not None and tasks:
                await turn.confirm()
            await put_tasks(self.queue, tasks, outcome.queued)

        async def adopt(of_batch: Sequence[Surveyed]) -> None:
            if not of_batch:
                return
            if turn is not None:
                await turn.confirm()
            await self.survey.adopt(of_batch)

        copies: list[NewTask] = []
        adopted: list[Surveyed] = []
        try:
            async for found in survey:
                if isinstance(found, NotSurveyed):
                    outcome.failed.append(found)
                    continue
                progress(found)
                self._note(found, outcome, clears[found.link.child.id])
                if dry_run and found.difference is not Difference.EQUAL:
                    outcome.differences.add(found)
                if found.adopted is not None:
                    adopted.append(found)
                if len(adopted) >= _BATCH and not dry_run:
                    of_batch, adopted = adopted, []
                    await adopt(of_batch)
                if found.request is not None and not found.clears:
                    copies.append(_task_of_request(found.request))
                if len(copies) >= _BATCH and not dry_run:
                    full, copies = copies, []
                    await put(full)
        finally:
            if not dry_run:
                await put(copies)
        if not dry_run:
            await adopt(adopted)
        failed = {found.link.child.id for found in outcome.failed}
        if on and len(failed) == len(clears):
            raise outcome.failed[0].error
        for child_id in failed:
            clears[child_id].drop()
        allowed = _allowed(clears, max_clear, outcome)
        if dry_run:
            return
        await put([_task_of_request(r) for r in allowed])
        if turn is not None:
            await turn.confirm()
        for link in on:
            if link.child.id not in failed:
                await self.survey.note_roles(link)
        if turn is not None:
            await turn.confirm()
        # The next survey looks at what was refused once more.
        done = clears.keys() - outcome.refused.keys() - failed
        await self.survey.note(outcome.log, done)

    @staticmethod
    def _note(found: Surveyed, outcome: EnqueueOutcome, clears: _Clears) -> None:
        match found.change:
            case Skip():
                outcome.skipped.add(found)
                return
            case Clear() if found.request is not None:
                clears.add(found.request, found.label)
            case Unchanged():
                outcome.unchanged += bool(found.listed)
                outcome.adopted += found.adopted is not None
                for text in found.change.warnings:
                    outcome.warnings.add(f"{found.label}: {text}")
            case _:
                outcome.entities += 1
                outcome.images += found.images
        clears.compared += 1


def _allowed(
    clears: Mapping[str, _Clears], max_clear: int | None, outcome: EnqueueOutcome
) -> list[SyncRequest]:
    """The clears that may be done, child by child; the outcome tells of those that may not."""
    chosen: list[SyncRequest] = []
    for child_id, of_child in clears.items():
        allowed = allowed_clears(of_child.compared) if max_clear is None else max_clear
        if of_child.count <= allowed:
            chosen += of_child.requests
            continue
        outcome.refused[child_id] = of_child.count
        outcome.clears_allowed = allowed
        outcome.clears_refused += of_child.count
        outcome.clears_examples = (outcome.clears_examples + of_child.examples)[:_EXAMPLES]
    outcome.clears = len(chosen)
    return chosen


def _task_of_request(request: SyncRequest) -> NewTask:
    # Here alone a request is written down, and `CopyImagesHandler` alone reads it back.
    return task_of(stored_payload(request), request)


def task_of(payload: Any, request: SyncRequest) -> NewTask:
    """The task of a request, whose payload may be in a format of its own."""
    return NewTask(
        payload,
        dedupe_key=request.dedupe_key,
        account_id=request.child_account_id,
        entity_id=request.main_entity_id,
        takes_over=(IMAGE_RETRY,),
        # Of a task that puts a list back, somebody asked for it: it is not lost.
        yields=True,
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

        ImgsyncError, with its position from 1, for one that cannot be read, that is for the child
        entity of an earlier one, or whose accounts stand in other links;
        UnknownAccountError for a child that is not stored.
        """
        links = await self.settings.links()
        checked: list[CheckedPayload] = []
        positions: dict[str, int] = {}
        for position, payload in enumerate(payloads, start=1):
            request = self._read(position, payload)
            try:
                check_links(request.main_account_id, request.child_account_id, links)
            except AlreadyLinkedError as error:
                raise ImgsyncError(f"Payload {position}: {error}") from error
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
