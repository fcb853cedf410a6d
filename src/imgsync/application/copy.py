"""Copies the images of one entity to its counterpart in a child account."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from imgsync.application.abilities import learn_shown, trust_learnt
from imgsync.application.bulk import Batch, Bulk, Member
from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.application.fetch import ImageFetcher
from imgsync.application.parking import AccountGate
from imgsync.application.payloads import PayloadFormats, stored_request
from imgsync.domain.diff import (
    NOTHING_LEFT,
    EntityKey,
    ImageOutcome,
    SetTo,
    SyncRecord,
    conclude,
    diff,
    wanted_elements,
)
from imgsync.domain.errors import (
    ApiError,
    ChildChangedError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NoImageUploadedError,
    NotFoundError,
    ParkingError,
    PayloadError,
    PermissionDeniedError,
    UnknownEntityTypeError,
    WrongAccountError,
)
from imgsync.domain.model import (
    Element,
    EntityType,
    EntityTypes,
    Keep,
    RemoteImage,
    SourceImage,
    SyncRequest,
    Upload,
    check_links,
    check_roles,
)
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.moysklad import (
    ImageLists,
    MoySkladFactory,
    MoySkladPort,
    ReadContent,
    WritePermit,
)
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    AccountRepository,
    SettingsRepository,
    SyncRecordRepository,
)
from imgsync.domain.ports.runner import ImageTransform, Listeners, NoListeners, SyncRequests
from imgsync.domain.ports.storage import ContentStore
from imgsync.domain.replace import (
    Action,
    DeleteImages,
    Done,
    Outcome,
    Rejected,
    Replacement,
    ReplaceStrategy,
    Steps,
    Stopped,
    in_order,
    places,
)
from imgsync.domain.tasks import SyncOutcome, SyncResult, Task


@dataclass(slots=True)
class CopyImagesHandler:
    """Reads the payload and syncs the entity, once its accounts take requests; implements
    `TaskHandler`."""

    accounts: AccountRepository
    formats: PayloadFormats
    sync: SyncRequests
    clock: StoreClock
    _gate: AccountGate = field(init=False)

    def __post_init__(self) -> None:
        self._gate = AccountGate(self.accounts, self.clock)

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        return await self.copy(task, permit, self.sync)

    def together(self, tasks: Sequence[Task], at_first: int) -> "CopyTogether | None":
        """Sets the lists of several entities in one request; implements `HandlesTogether`."""
        sync = self.sync
        if not isinstance(sync, SyncEntity) or sync.bulk is None:
            return None
        return CopyTogether(self, sync, sync.bulk.batch(tasks, at_first))

    async def copy(self, task: Task, permit: WritePermit, sync: SyncRequests) -> SyncResult:
        request = stored_request(task.payload)
        if request is None:
            # A plugin reads it, perhaps, and it may never end.
            request = await in_daemon_thread(partial(self.formats.parse, _payload(task)))
        _check_child(task, request)
        if task.attempts > 1 or task.crashes or task.check_again:
            # Somebody has been at work there since the survey.
            request = replace(request, child_images=None)
        async with self._gate.passing(request):
            return await sync(request, permit)


@dataclass(frozen=True, slots=True)
class CopyTogether:
    """Implements `Together`: each task goes its own way but for the request that sets its list."""

    handler: CopyImagesHandler
    sync: "SyncEntity"
    batch: Batch

    async def begin(self, task: Task) -> None:
        await self.batch.begin(task)

    def ended(self, task: Task) -> None:
        self.batch.ended(task)

    def close(self) -> None:
        self.batch.close()

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        sync = partial(self.sync, member=self.batch.member(task))
        return await self.handler.copy(task, permit, sync)


def _payload(task: Task) -> Any:
    """The payload; some programs name the child in the row alone."""
    payload = task.payload
    if not task.account_id or not isinstance(payload, Mapping):
        return payload
    named = payload.get("child_account_id")
    return payload if named is not None else {**payload, "child_account_id": task.account_id}


def _check_child(task: Task, request: SyncRequest) -> None:
    """PayloadError where the row is for another account than its payload: either may be wrong."""
    if task.account_id and task.account_id.strip() != request.child_account_id:
        raise PayloadError(
            "account_id",
            f"the row is for account '{task.account_id}', its payload for "
            f"'{request.child_account_id}'",
        )


class _OldSurveyError(Exception):
    """Neither the child's list nor main's is what the last sync saw and left. That may have come
    after the survey, whose host was stopped perhaps: main's list is to be read anew."""


_DELETIONS = 2

_REFUSALS = (
    ImageRejectedError,
    NoImageUploadedError,
    NotFoundError,
    ParkingError,
    PermissionDeniedError,
    WrongAccountError,
)
"""Answers that say for certain that nothing was placed."""


@dataclass(frozen=True, slots=True)
class SyncEntity:
    """Runs sync requests. Everything is downloaded before the child is touched."""

    accounts: AccountRepository
    settings: SettingsRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    storage: ContentStore
    entity_types: EntityTypes
    strategy: ReplaceStrategy
    pictures: PictureCheck
    transform: ImageTransform | None = None
    listeners: Listeners = field(default_factory=NoListeners)
    bulk: Bulk | None = None
    abilities: AbilityRepository | None = None

    async def __call__(
        self, request: SyncRequest, permit: WritePermit, member: Member | None = None
    ) -> SyncResult:
        """What was done. Images that could not be copied are warnings. `member`: of a batch whose
        lists are set together.

        A request without images clears those that imgsync left on the child; the main account is
        asked anew right before, and where it has images by then, those are copied.

        Raises PayloadError, UnknownAccountError, WrongAccountError (AlreadyLinkedError where the
        child has another main account), the errors of the API, ChildChangedError, LeaseLostError;
        NoImageUploadedError where the child got none of the images; ParkingError after what it let
        pass has been recorded.
        """
        entity_type = self._entity_type(request)
        main_account = await self.accounts.get(request.main_account_id)
        child_account = await self.accounts.get(request.child_account_id)
        check_roles(main_account, child_account)
        settings = await self.settings.get(request.child_account_id)
        if not settings.limit_for(entity_type):
            return SyncResult(SyncOutcome.DISABLED)
        # They may have been linked to others since the task was queued.
        links = await self.settings.links()
        check_links(request.main_account_id, request.child_account_id, links)
        main = self.moysklad.for_account(main_account)
        await trust_learnt(self.abilities, main, main_account.id)
        copy = _Copy(
            main,
            self.moysklad.for_account(child_account),
            entity_type,
            request,
            permit,
            member,
        )
        images = request.images
        if not images:
            cleared, images = await self._clear(copy)
            if cleared is not None:
                return cleared
        limit = settings.limit_for(entity_type)
        left_out = _left_out(len(images), entity_type) if settings.sync_images_all else ()
        try:
            result = await self._copy(copy, images[:limit], request.child_images)
        except ChildChangedError:
            # At once from what is there now: the child may lack images meanwhile.
            result = await self._copy(copy, images[:limit])
        except _OldSurveyError:
            listed = await copy.main.list_images(entity_type, request.main_entity_id)
            images = SourceImage.all_listed(listed) or images
            result = await self._copy(copy, images[:limit])
        await learn_shown(self.abilities, self.moysklad, (main_account, child_account))
        return result.with_warnings(left_out)

    async def _clear(self, copy: "_Copy") -> tuple[SyncResult | None, tuple[SourceImage, ...]]:
        """(result, no images), or (None, the images that the main account has by now)."""
        record = await self.records.get(copy.key)
        if record is None or not record.has_copies:
            return SyncResult(SyncOutcome.UNCHANGED), ()
        current = await copy.child_images()
        listed = await copy.main.list_images(copy.entity_type, copy.request.main_entity_id)
        if listed:
            images = SourceImage.all_listed(listed)
            if not images:
                raise ApiError("the main account lists images without a download address")
            return None, images
        outcome = SyncOutcome.UNCHANGED
        if record.left_any(image.id for image in current):
            await copy.delete(current)
            outcome = SyncOutcome.CLEARED
        await self._remember(copy, NOTHING_LEFT)
        return SyncResult(outcome), ()

    async def _copy(
        self,
        copy: "_Copy",
        wanted: Sequence[SourceImage],
        surveyed: Sequence[RemoteImage] | None = None,
    ) -> SyncResult:
        """`surveyed`: the child's list as it was when the task was made."""
        images = await _described(copy.main, copy.entity_type, copy.request, wanted)
        record = await self.records.get(copy.key)
        # Another than the last sync has left is read anew: that sync may have changed it.
        as_surveyed = surveyed is not None and (
            record is None or record.child_image_ids == tuple(image.id for image in surveyed)
        )
        fingerprints = tuple(image.fingerprint for image in images)
        is_old = surveyed is not None and not as_surveyed and None not in fingerprints
        if is_old and record is not None and record.selected != fingerprints:
            raise _OldSurveyError
        current = surveyed if as_surveyed and surveyed is not None else await copy.child_images()
        change = diff(images, record, current, len(images))
        if as_surveyed and not isinstance(change, SetTo):
            # Of a list that was read a while ago nobody may say that it is as it should be.
            as_surveyed, current = False, await copy.child_images()
            change = diff(images, record, current, len(images))
        if not isinstance(change, SetTo):
            warnings = record.warnings if record else ()
            return SyncResult(SyncOutcome.UNCHANGED, warnings, kept=len(current))
        outcomes: Sequence[ImageOutcome] = change.outcomes

        async with self.storage.workspace() as workspace:
            fetcher = ImageFetcher(
                copy.main,
                copy.request.main_account_id,
                workspace,
                self.pictures,
                transform=self._transform(copy),
            )
            outcomes = await fetcher.fetch(outcomes)
            try:
                wanted_list = wanted_elements(outcomes)
            except NoImageUploadedError:
                if as_surveyed:
                    # Of accounts whose credentials are exchanged the child's says so.
                    await copy.child_images()
                raise
            there = [Keep(image.href) for image in current]
            if as_surveyed and wanted_list == there:
                await self._confirm_unchanged(copy, current)
            steps = self.strategy(
                wanted_list, [image.href for image in there], copy.child.limits.request
            )
            driver = ReplaceDriver(
                copy.child_lists(current, outcomes),
                copy.entity_type,
                copy.request.child_entity_id,
                workspace.read,
                copy.permit,
            )
            before = record or NOTHING_LEFT
            # Should this process end before the conclusion, the images are still known for ours.
            await self._remember(copy, before.begun([image.id for image in current]))
            try:
                replacement = await driver.run(steps)
                result, after = conclude(outcomes, replacement)
            except _REFUSALS as error:
                await self._remember(copy, before)
                if as_surveyed and isinstance(error, NotFoundError):
                    raise ChildChangedError("an image is gone that was surveyed") from error
                raise
        await self._remember(copy, after)
        await self._tell(copy.request, outcomes, replacement.placed)
        if driver.parked_by is not None:
            raise driver.parked_by
        return result

    @staticmethod
    async def _confirm_unchanged(copy: "_Copy", surveyed: Sequence[RemoteImage]) -> None:
        """ChildChangedError where the list is another than it was. Asked where nothing is to be
        sent, so that no answer would tell."""
        if [i.id for i in await copy.child_images()] != [i.id for i in surveyed]:
            raise ChildChangedError("the child's list is another than it was when it was surveyed")

    async def _remember(self, copy: "_Copy", record: SyncRecord) -> None:
        # A worker that lost its lease must not say what its heir has left.
        await copy.permit.confirm()
        await self.records.put(copy.key, record)

    def _transform(self, copy: "_Copy") -> Callable[[bytes, str], bytes] | None:
        transform, most = self.transform, copy.child.limits.image_bytes
        if transform is None:
            return None
        return lambda content, filename: transform(content, filename, copy.request, most)

    async def _tell(
        self, request: SyncRequest, outcomes: Sequence[ImageOutcome], placed: Mapping[str, str]
    ) -> None:
        """Tells of each image that was uploaded and stands on the child."""
        for outcome in outcomes:
            element = outcome.element
            if isinstance(element, Upload) and element.key in placed:
                await self.listeners.image_copied(
                    request, outcome.image.filename, element.size, placed[element.key]
                )

    def _entity_type(self, request: SyncRequest) -> EntityType:
        try:
            return self.entity_types.get(request.entity_type)
        except UnknownEntityTypeError as error:
            raise PayloadError("parent_entity_type", str(error)) from error


@dataclass(frozen=True, slots=True)
class _Copy:
    """Both sides of one request, and the right to write."""

    main: MoySkladPort
    child: MoySkladPort
    entity_type: EntityType
    request: SyncRequest
    permit: WritePermit
    member: Member | None

    @property
    def key(self) -> EntityKey:
        request = self.request
        return EntityKey(request.child_account_id, request.entity_type, request.child_entity_id)

    def child_lists(
        self, current: Sequence[RemoteImage], outcomes: Sequence[ImageOutcome]
    ) -> ImageLists:
        """Through which the list is set that is `current` now."""
        if self.member is None:
            return self.child
        # An earlier copy that stands in for a version that failed is nowhere else.
        restorable = {
            outcome.element.href
            for outcome in outcomes
            if isinstance(outcome.element, Keep) and outcome.problem is None
        }
        account_id = self.request.child_account_id
        return self.member.child(self.child, account_id, current, restorable)

    async def child_images(self) -> list[RemoteImage]:
        return await self.child.list_images(self.entity_type, self.request.child_entity_id)

    async def delete(self, images: Sequence[RemoteImage]) -> None:
        """Empties the child's list; ChildChangedError where images stay."""
        for _ in range(_DELETIONS):
            await self.child.delete_images(
                self.entity_type,
                self.request.child_entity_id,
                [image.href for image in images],
                self.permit,
            )
            images = await self.child_images()
            if not images:
                return
        raise ChildChangedError(f"{len(images)} images are there after all were deleted")


def _left_out(images: int, entity_type: EntityType) -> tuple[str, ...]:
    most = entity_type.max_images
    if images <= most:
        return ()
    return (
        f"only the first {most} of {images} images are copied, the most of a {entity_type.name}",
    )


async def _described(
    main: MoySkladPort,
    entity_type: EntityType,
    request: SyncRequest,
    images: Sequence[SourceImage],
) -> list[SourceImage]:
    """The images with size and updated time, listed in one request where a payload lacks them.

    An image that the list does not name keeps its unknowns; its size is asked for by HEAD.
    """
    if all(image.fingerprint or image.id is None for image in images):
        return list(images)
    try:
        listed = await main.list_images(entity_type, request.main_entity_id)
    except NotFoundError:
        return list(images)
    by_id = {image.id: image for image in listed}
    return [
        image.described_by(by_id[image.id])
        if image.fingerprint is None and image.id in by_id
        else image
        for image in images
    ]


@dataclass(slots=True)
class ReplaceDriver:
    """Performs the actions of a strategy on one child entity."""

    child: ImageLists
    entity_type: EntityType
    entity_id: str
    read: ReadContent
    permit: WritePermit
    parked_by: ParkingError | None = None
    """What stopped a run after some images were placed, where every further request of the account
    would meet it too."""

    async def run(self, steps: Steps) -> Replacement:
        """The strategy's result. An error that leaves nothing placed is raised as it came.

        LeaseLostError, WrongAccountError, NotFoundError and ChildChangedError are always raised.
        """
        stopped_by: ImgsyncError | None = None
        outcome: Outcome | None = None
        try:
            action = next(steps)
            while True:
                outcome, error = await self._perform(action)
                stopped_by = error or stopped_by
                action = steps.send(outcome)
        except StopIteration as stop:
            result: Replacement = stop.value
        if stopped_by is not None and not result.placed:
            raise stopped_by
        if isinstance(stopped_by, ParkingError):
            self.parked_by = stopped_by
        return result

    async def _perform(self, action: Action) -> tuple[Outcome, ImgsyncError | None]:
        if isinstance(action, DeleteImages):
            await self.child.delete_images(
                self.entity_type, self.entity_id, action.hrefs, self.permit
            )
            return Done(), None
        uploads = any(isinstance(e, Upload) for e in action.elements)
        try:
            return await self._set(action.elements), None
        except (ChildChangedError, LeaseLostError, WrongAccountError):
            raise
        except NotFoundError as error:
            if not any(isinstance(e, Keep) for e in action.elements):
                raise
            raise ChildChangedError(f"an image to keep is gone: {error}") from error
        except ImgsyncError as error:
            if not uploads:
                raise
            return Stopped(str(error)), error

    async def _set(self, elements: Sequence[Element]) -> Done | Rejected:
        try:
            answered = await self.child.set_images(
                self.entity_type, self.entity_id, elements, self.read, self.permit
            )
        except ImageRejectedError as error:
            if not any(isinstance(e, Upload) for e in elements):
                raise
            return Rejected(str(error), tuple(image.href for image in await self._list()))
        # An answer about another entity says nothing of this one, however alike its images look.
        about_this = all(image.is_of(self.entity_id) for image in answered)
        if about_this and in_order(elements, answered):
            return Done(tuple(image.href for image in answered))
        listed = await self._list()
        found = places(elements, answered, listed)
        if found is None:
            raise ChildChangedError("the child's list is another than the one that was set")
        return Done(tuple(image.href for image in found), tuple(image.href for image in listed))

    async def _list(self) -> list[RemoteImage]:
        return await self.child.list_images(self.entity_type, self.entity_id)
