"""Puts work into the queue: what a plan finds, or what another program asks for by payload."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgsync.application.payloads import PayloadFormats, stored_payload
from imgsync.application.survey import Planned, PlanSync, allowed_clears
from imgsync.domain.errors import ClearLimitError, ImgsyncError
from imgsync.domain.model import Account, EntityTypes, MatchField, SyncRequest
from imgsync.domain.ports.queue import Enqueued, TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository

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
    task_ids: list[int] = field(default_factory=list)
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
    """Plans main → child and queues one task per entity.

    `match_field` finds the counterparts where a call names no other.
    """

    plan: PlanSync
    queue: TaskQueue
    match_field: MatchField = MatchField.EXTERNAL_CODE

    async def __call__(
        self,
        main_id: str,
        child_id: str,
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
        it tells what was queued where the planning ends early. Raises what `PlanSync` raises, and
        the errors of the queue.
        """
        outcome = PlanOutcome() if outcome is None else outcome
        clears: list[SyncRequest] = []
        plan = self.plan(
            main_id, child_id, match_field=match_by or self.match_field, only_types=types
        )
        async for planned in plan:
            progress(planned)
            if planned.request is None:
                outcome.skipped.append(planned)
            elif planned.clears:
                clears.append(planned.request)
            else:
                outcome.entities += 1
                outcome.images += planned.images
                if not dry_run:
                    await self._put(planned.request, outcome)
        compared = outcome.entities + len(clears)
        outcome.clears_allowed = allowed_clears(compared) if max_clear is None else max_clear
        if len(clears) > outcome.clears_allowed:
            outcome.clears_refused = len(clears)
            outcome.clears_examples = [f"{r.entity_type} '{r.name}'" for r in clears[:_EXAMPLES]]
        else:
            outcome.clears = len(clears)
        if dry_run:
            return outcome
        for request in clears[: outcome.clears]:
            await self._put(request, outcome)
        await self.plan.note_roles(main_id, child_id)
        return outcome

    async def _put(self, request: SyncRequest, outcome: PlanOutcome) -> None:
        # Here alone a request is written down, and `RunTask` alone reads it back.
        outcome.queued(put_request(self.queue, stored_payload(request), request))


def put_request(queue: TaskQueue, payload: Any, request: SyncRequest) -> Enqueued:
    """Queues the payload of a request under what the queue tells its tasks apart by."""
    return queue.enqueue(
        payload,
        dedupe_key=request.dedupe_key,
        account_id=request.child_account_id,
        entity_id=request.main_entity_id,
    )


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

    def choose(self, payloads: Sequence[Any]) -> PayloadChoice:
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
            child = self.accounts.get(child_id)
            if not self.settings.get(child_id).enabled:
                off[child_id] = child
        wanted = [item for item in checked if item.request.child_account_id not in off]
        return PayloadChoice(wanted, list(off.values()))

    def put(self, wanted: Sequence[CheckedPayload], queued: list[Enqueued]) -> None:
        """Queues them; `queued` tells how far it came where it is interrupted."""
        for item in wanted:
            queued.append(  # noqa: PERF401 (an interrupted loop must know what it has queued)
                put_request(self.queue, item.payload, item.request)
            )

    def _read(self, position: int, payload: Any) -> SyncRequest:
        try:
            request = self.formats.parse(payload)
            self.entity_types.get(request.entity_type)
        except ImgsyncError as error:
            raise ImgsyncError(f"Payload {position}: {error}") from error
        return request
