"""Tries the failed images of one entity again, and leaves all others as they are."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from imgsync.application.failures import entity_of, version_of
from imgsync.application.parking import AccountGate
from imgsync.domain.diff import (
    Change,
    FailureCause,
    ImageOutcome,
    SetTo,
    SyncRecord,
)
from imgsync.domain.errors import (
    ImgsyncError,
    NoImageUploadedError,
    NotFoundError,
    PayloadError,
)
from imgsync.domain.failures import FailedImage
from imgsync.domain.model import Keep, RemoteImage, SyncRequest
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.repositories import AccountRepository
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.tasks import SyncOutcome, SyncResult, Task

NOTHING_FAILED = "no failed image is left"
LEFT_TO_SYNC = "left to the next sync"
"""Results of a retry that did nothing."""

_ALSO = "also"
"""Field that every payload of a retry has."""

_OTHER_IMAGES = "the main account's images are others than at the last sync"


class LeftToSyncError(ImgsyncError):
    """The entity is not as the last sync left it: more than its failed images is to be done."""


class BrokenOffError(ImgsyncError):
    """An earlier write broke off: what it has left is for a sync of the whole entity to say."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Which images of an entity are tried again. `rows`: what failed, by main's id; `also`: the
    settled ones that are tried all the same. `whole`: all that a sync would do is done."""

    rows: Mapping[str, FailedImage] = field(default_factory=dict)
    also: frozenset[str] = frozenset()
    whole: bool = False

    @property
    def untried(self) -> set[str]:
        """Main's ids of those that are left as they are."""
        return {i for i, row in self.rows.items() if row.failure.settled and i not in self.also}

    def reopened(self, record: SyncRecord | None) -> SyncRecord | None:
        """The record as one of an entity of which something is to be made good yet."""
        return None if record is None else replace(record, settled=False)

    def anew(self, *, everything: bool) -> "Retry":
        """With the settled ones too, where what concerns them has changed."""
        return replace(self, also=frozenset(self.rows)) if everything else self

    def narrowed(
        self, change: Change, record: SyncRecord | None, current: Sequence[RemoteImage]
    ) -> Change:
        """Of what a sync would change, the failed images alone.

        LeftToSyncError where it would change more: main's images or the child's are not what the
        last sync saw and left, or they are to be made in another way.
        """
        if self.whole:
            return change
        if record is not None and record.begun_on is not None:
            raise BrokenOffError
        left = () if record is None else record.child_image_ids
        # Where nothing could be copied, a sync would set whatever list is there.
        is_free = record is not None and record.has_none
        if not is_free and tuple(image.id for image in current) != left:
            raise LeftToSyncError("the child's images are not those that the last sync left")
        if not isinstance(change, SetTo):
            return change
        seen = record.selected if record is not None else ()
        # Others follow only where those before them filled the list.
        number = len(seen) or len(change.outcomes)
        outcomes = [self._narrowed(outcome) for outcome in change.outcomes[:number]]
        fingerprints = tuple(outcome.image.fingerprint for outcome in outcomes)
        is_full = len(current) >= change.most
        if seen and (seen != fingerprints or (number < len(change.outcomes) and not is_full)):
            raise LeftToSyncError(_OTHER_IMAGES)
        standing = [o.earlier if o.earlier is not None else o.element for o in outcomes]
        there = [Keep(image.href) for image in current]
        if not is_free and [e for e in standing if e is not None] != there:
            raise LeftToSyncError("the child's images are to stand in another order, or go")
        return replace(change, outcomes=tuple(outcomes))

    def _narrowed(self, outcome: ImageOutcome) -> ImageOutcome:
        if not outcome.is_to_fetch:
            return outcome
        row = self.rows.get(outcome.image.id or "")
        if row is None or row.failure.version != version_of(outcome.image):
            raise LeftToSyncError(_OTHER_IMAGES)
        failure = row.failure
        if failure.image_id not in self.untried:
            return outcome
        known = {cause.value: cause for cause in FailureCause}
        return outcome.failed(failure.reason, cause=known.get(failure.cause), settled=True)


class SyncsAgain(Protocol):
    """Syncs an entity; of a `retry`, its failed images alone."""

    async def __call__(
        self, request: SyncRequest, permit: WritePermit, *, retry: Retry | None = None
    ) -> SyncResult: ...


@dataclass(slots=True)
class RetryImagesHandler:
    """Does tasks of the kind IMAGE_RETRY; implements `TaskHandler`.

    Where the entity is not as the last sync left it, the failed images wait for the next one. A
    task that is to check an attempt that broke off syncs the whole entity, as its own task would.

    `whole`: does one of which another program has replaced the payload, as it does to a task of the
    entity that waits: it looks at the key, and leaves the kind as it is.
    """

    accounts: AccountRepository
    failed: FailedImages
    sync: SyncsAgain
    clock: StoreClock
    whole: TaskHandler | None = None
    _gate: AccountGate = field(init=False)

    def __post_init__(self) -> None:
        self._gate = AccountGate(self.accounts, self.clock)

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        if self.whole is not None and _is_others(task.payload):
            return await self.whole(task, permit)
        request, also = _read(task)
        async with self._gate.passing(request):
            # Either says that a write of another attempt may reach the child yet, or did.
            if task.check_again or task.crashes:
                return await self._whole(request, permit)
            try:
                return await self._retry(request, also, permit)
            except BrokenOffError:
                return await self._whole(request, permit)

    async def _retry(
        self, request: SyncRequest, also: Collection[str], permit: WritePermit
    ) -> SyncResult:
        entity = entity_of(request)
        rows = {row.failure.image_id: row for row in await self.failed.of(entity.key)}
        if not rows:
            return SyncResult(NOTHING_FAILED)
        asked = {image_id for image_id, row in rows.items() if row.is_asked_for}
        retry = Retry(rows, frozenset(also).union(asked))
        try:
            result = await self.sync(request, permit, retry=retry)
        except LeftToSyncError as error:
            await permit.confirm()
            await self.failed.leave(entity.key)
            return SyncResult(LEFT_TO_SYNC, (str(error),))
        except NoImageUploadedError as error:
            # They are noted, and have an attempt of their own where another may help.
            return SyncResult(SyncOutcome.COMPLETED_WITH_WARNINGS, tuple(error.reasons))
        except NotFoundError as error:
            # Of an entity that one of the accounts has no more, nothing is missing.
            await permit.confirm()
            await self.failed.note(entity, ())
            return SyncResult(NOTHING_FAILED, (str(error),))
        if result.outcome == SyncOutcome.DISABLED:
            await permit.confirm()
            await self.failed.leave(entity.key)
        return result

    async def _whole(self, request: SyncRequest, permit: WritePermit) -> SyncResult:
        return await self.sync(request, permit, retry=Retry(whole=True))


def _is_others(payload: Any) -> bool:
    return isinstance(payload, Mapping) and _ALSO not in payload


def _read(task: Task) -> tuple[SyncRequest, list[str]]:
    payload: Any = task.payload
    if not isinstance(payload, Mapping):
        raise PayloadError("payload", f"must be a JSON object, not {type(payload).__name__}")
    also = payload.get(_ALSO, [])
    if not isinstance(also, list) or not all(isinstance(one, str) for one in also):
        raise PayloadError(_ALSO, "must be a list of texts")
    name, code = payload.get("name"), payload.get("code")
    request = SyncRequest(
        # It says itself what is wrong with one.
        main_account_id=payload.get("main_account_id", ""),
        child_account_id=payload.get("child_account_id", ""),
        entity_type=payload.get("parent_entity_type", ""),
        main_entity_id=payload.get("parent_entity_id", ""),
        child_entity_id=payload.get("child_entity_id", ""),
        images=(),
        name=name if isinstance(name, str) else "",
        code=code if isinstance(code, str) else "",
    )
    if task.account_id and task.account_id.strip() != request.child_account_id:
        raise PayloadError("account_id", f"the row is for account '{task.account_id}'")
    return request, also
