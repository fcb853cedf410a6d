"""Copies the images of one entity to its counterpart in a child account."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from imgsync.application.abilities import known_of, learn_shown, trust_learnt
from imgsync.application.bulk import Batch, Bulk, Member
from imgsync.application.changes import Changes, Scene, Watched
from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.application.failures import NoteFailures, failures_of
from imgsync.application.fetch import ImageFetcher
from imgsync.application.fill import Filling, lost_any, wanted_now
from imgsync.application.log_lines import COPY_LOG, about, note
from imgsync.application.parking import AccountGate
from imgsync.application.payloads import PayloadFormats, stored_request
from imgsync.application.retry import NOTHING_FAILED, Retry
from imgsync.domain.changes import BackupError, ChangeAction
from imgsync.domain.diff import (
    NOTHING_LEFT,
    Change,
    EntityKey,
    ImageOutcome,
    Making,
    SetTo,
    SyncRecord,
    Unchanged,
    conclude,
    diff,
    none_copied,
    wanted_elements,
)
from imgsync.domain.errors import (
    ApiError,
    ChildChangedError,
    FailureCause,
    ImageRejectedError,
    ImgsyncError,
    LargeImageError,
    LeaseLostError,
    NoImageError,
    NoImageUploadedError,
    NotFoundError,
    ParkingError,
    PayloadError,
    PermissionDeniedError,
    RequestTooLargeError,
    UnknownEntityTypeError,
    WrongAccountError,
)
from imgsync.domain.model import (
    Account,
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
from imgsync.domain.pictures import PictureSettings
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
from imgsync.domain.ports.runs import Meter, NoMeter
from imgsync.domain.ports.storage import ContentStore, Workspace
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
from imgsync.domain.text import counted, file_size

_log = logging.getLogger(COPY_LOG)


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
    BackupError,
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
    changes: Changes = field(default_factory=Changes)
    failures: NoteFailures | None = None
    meter: Meter = field(default_factory=NoMeter)

    async def __call__(
        self,
        request: SyncRequest,
        permit: WritePermit,
        member: Member | None = None,
        *,
        retry: Retry | None = None,
    ) -> SyncResult:
        """What was done. Images that could not be copied are warnings. `member`: of a batch whose
        lists are set together. `retry`: main's list is read, and of what differs the failed images
        alone are copied; LeftToSyncError, BrokenOffError where that cannot be.

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
        with about(
            child=child_account.name,
            entity_type=entity_type.name,
            entity=request.name,
            entity_id=request.main_entity_id,
            code=request.code,
        ):
            return await self._sync(
                request, entity_type, main_account, child_account, permit, member, retry
            )

    async def _sync(
        self,
        request: SyncRequest,
        entity_type: EntityType,
        main_account: Account,
        child_account: Account,
        permit: WritePermit,
        member: Member | None,
        retry: Retry | None,
    ) -> SyncResult:
        settings = await self.settings.get(request.child_account_id)
        if not settings.limit_for(entity_type):
            if retry is not None and self.failures is not None:
                # A sync that was under way when the link was ended has noted what failed since.
                linked = {link.child_id for link in await self.settings.links()}
                if request.child_account_id not in linked:
                    await self.failures(request, (), permit)
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
            child_account.name,
            self._making(settings.pictures),
            settings.limit_for(entity_type),
            retry,
        )
        images = request.images
        if retry is not None:
            listed = await copy.main.list_images(entity_type, request.main_entity_id)
            images = SourceImage.all_listed(listed)
            if not images and not retry.whole:
                await self._note(copy, ())
                return SyncResult(NOTHING_FAILED)
        if not images:
            cleared, images = await self._clear(copy)
            if cleared is not None:
                await self._note(copy, ())
                return cleared
        left_out = _left_out(len(images), entity_type) if settings.sync_images_all else ()
        try:
            result = await self._copy(copy, images, request.child_images)
        except ChildChangedError:
            # At once from what is there now: the child may lack images meanwhile.
            result = await self._copy(copy, images)
        except _OldSurveyError:
            listed = await copy.main.list_images(entity_type, request.main_entity_id)
            images = SourceImage.all_listed(listed) or images
            result = await self._copy(copy, images)
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
            lists = copy.watched(self.changes, ChangeAction.CLEAR, copy.child, current, record)
            try:
                entity_id = copy.request.child_entity_id
                await empty(lists, copy.entity_type, entity_id, current, copy.permit)
            finally:
                await lists.ended()
            _note_deleted(len(current))
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
        if is_old and record is not None and not record.saw(fingerprints, copy.most):
            raise _OldSurveyError
        current = surveyed if as_surveyed and surveyed is not None else await copy.child_images()
        change = copy.diff(images, record, current)
        if as_surveyed and not isinstance(change, SetTo):
            # Of a list that was read a while ago nobody may say that it is as it should be.
            as_surveyed, current = False, await copy.child_images()
            change = copy.diff(images, record, current)
        if not isinstance(change, SetTo):
            if isinstance(change, Unchanged) and change.adopted is not None:
                await self._remember(copy, change.adopted)
            warnings = record.warnings if record else ()
            if record is not None and record.has_none and change == Unchanged(warnings):
                # Nothing is there, whatever is asked for again.
                raise NoImageUploadedError(list(warnings), retryable=False)
            if not warnings:
                # All are there, whatever failed before this list was as it is.
                await self._note(copy, ())
            return SyncResult(SyncOutcome.UNCHANGED, warnings, kept=len(current))

        async with self.storage.workspace() as workspace:
            filling = await self._filling(copy, workspace, change, record, current)
            _note_begun(images, current)
            outcomes: Sequence[ImageOutcome] = await filling.begin()
            try:
                wanted_list = wanted_elements(outcomes)
            except NoImageUploadedError as error:
                await self._note(copy, outcomes, error=error, record=record)
                if as_surveyed:
                    # Of accounts whose credentials are exchanged the child's says so.
                    current = await copy.child_images()
                hrefs = tuple(image.href for image in current)
                after = copy.none_copied(outcomes, record or NOTHING_LEFT, hrefs)
                if after != (record or NOTHING_LEFT):
                    await self._remember(copy, after)
                raise
            there = [Keep(image.href) for image in current]
            if as_surveyed and wanted_list == there:
                await self._confirm_unchanged(copy, current)
            child_lists = copy.child_lists(current, outcomes)
            lists = copy.watched(self.changes, ChangeAction.SET, child_lists, current, record)
            driver = ReplaceDriver(
                lists,
                copy.entity_type,
                copy.request.child_entity_id,
                workspace.read,
                copy.permit,
                filling.may_shrink,
            )
            before = record or NOTHING_LEFT
            # Should this process end before the conclusion, the images are still known for ours.
            begun = self._remember(copy, before.begun([image.id for image in current]))
            await (begun if wanted_list == there else lists.begin(begun))
            try:
                outcomes, replacement = await self._set(copy, driver, filling, outcomes)
                result, after = conclude(outcomes, replacement, copy.making.fingerprint)
            except _REFUSALS as error:
                after = before
                if isinstance(error, NoImageUploadedError):
                    await self._note(copy, outcomes, replacement, error, record)
                    hrefs = replacement.final_hrefs
                    after = copy.none_copied(outcomes, before, hrefs, replacement)
                await self._remember(copy, after)
                if as_surveyed and isinstance(error, NotFoundError):
                    raise ChildChangedError("an image is gone that was surveyed") from error
                raise
            finally:
                await lists.ended()
        _note_set(current, outcomes, replacement)
        is_parked = driver.parked_by is not None
        await self._note(copy, outcomes, replacement, record=record, is_parked=is_parked)
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

    async def _note(
        self,
        copy: "_Copy",
        outcomes: Sequence[ImageOutcome],
        replacement: Replacement | None = None,
        error: NoImageUploadedError | None = None,
        record: SyncRecord | None = None,
        *,
        is_parked: bool = False,
    ) -> None:
        """Keeps what could not be copied. `error`: why nothing was; where it passes, and where the
        task `is_parked`, that task tries them again."""
        if self.failures is None:
            return
        retry = copy.trying(record)
        await self.failures(
            copy.request,
            failures_of(outcomes, replacement),
            copy.permit,
            untried=retry.untried if retry is not None else (),
            alone=not is_parked and (retry is not None or error is None or not error.retryable),
        )

    def _making(self, settings: PictureSettings) -> Making:
        return Making(settings, self.transform.versions if self.transform else "")

    async def _filling(
        self,
        copy: "_Copy",
        workspace: Workspace,
        change: SetTo,
        record: SyncRecord | None,
        current: Sequence[RemoteImage],
    ) -> Filling:
        fetcher = ImageFetcher(
            copy.main,
            copy.request.main_account_id,
            workspace,
            self.pictures,
            self.transform,
            copy.making.settings,
            copy.child.limits.image_bytes,
            copy.request,
        )
        known = await known_of(self.abilities, copy.child, copy.request.child_account_id)
        return Filling(
            copy.child,
            fetcher,
            workspace,
            change,
            record,
            current,
            copy.request.adopt,
            self.transform is not None and copy.making.settings.fit,
            known,
        )

    async def _set(
        self,
        copy: "_Copy",
        driver: "ReplaceDriver",
        filling: Filling,
        outcomes: Sequence[ImageOutcome],
    ) -> tuple[Sequence[ImageOutcome], Replacement]:
        """Sets the list; the outcomes in the end, and what became of them.

        Where the account takes no file as large as one of these, they are made smaller and sent
        again, once for each smaller limit; where it refuses an image and the list is not full
        without it, the next ones of main are taken.
        """
        total = Replacement(final_hrefs=tuple(image.href for image in filling.current))
        while True:
            wanted = wanted_now(outcomes, total, copy.most)
            steps = self.strategy(wanted, total.final_hrefs, copy.child.limits.request)
            try:
                total.add(await driver.run(steps))
            except (ChildChangedError, LeaseLostError, NotFoundError, WrongAccountError):
                raise
            except ImgsyncError as error:
                if not total.placed:
                    raise
                # What was placed is to be recorded, whatever stopped the rest.
                total.stopped = {e.key: str(error) for e in wanted if isinstance(e, Upload)}
                driver.parked_by = error if isinstance(error, ParkingError) else None
                return outcomes, total
            if driver.large is not None:
                large, driver.large = driver.large, None
                total.stopped = {}
                total.lose(large.listed)
                if lost_any(outcomes, large.listed):
                    raise ChildChangedError("a refused request removed an image to keep")
                outcomes = await filling.shrink(outcomes, large.size, total.placed)
                if any(outcome.problem is None for outcome in outcomes):
                    continue
            more = None if total.stopped else await filling.go_on(outcomes, total)
            if more is None:
                return outcomes, total
            outcomes = more

    async def _tell(
        self, request: SyncRequest, outcomes: Sequence[ImageOutcome], placed: Mapping[str, str]
    ) -> None:
        """Counts and tells of each image that was uploaded and stands on the child."""
        for outcome in outcomes:
            element = outcome.element
            if isinstance(element, Upload) and element.key in placed:
                self.meter.image(request.child_account_id, element.size)
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
    child_name: str
    making: Making
    most: int
    """Images that the child gets."""
    retry: Retry | None = None

    def diff(
        self,
        images: Sequence[SourceImage],
        record: SyncRecord | None,
        current: Sequence[RemoteImage],
    ) -> Change:
        """What is to change; of a retry, no more than it may."""
        retry = self.trying(record)
        if retry is None:
            return diff(images, record, current, self.most, self.making, self.request.adopt)
        opened = retry.reopened(record)
        change = diff(images, opened, current, self.most, self.making, self.request.adopt)
        return retry.narrowed(change, record, current)

    def trying(self, record: SyncRecord | None) -> Retry | None:
        """Which images are tried again; where the settings are not those of the record, all that
        failed: they may do away with what is settled."""
        if self.retry is None or record is None:
            return self.retry
        return self.retry.anew(everything=record.made_with != self.making.fingerprint)

    @property
    def key(self) -> EntityKey:
        request = self.request
        return EntityKey(request.child_account_id, request.entity_type, request.child_entity_id)

    def none_copied(
        self,
        outcomes: Sequence[ImageOutcome],
        before: SyncRecord,
        hrefs: Sequence[str],
        replacement: Replacement | None = None,
    ) -> SyncRecord:
        """The record where nothing was copied: the next sync is not to try again what cannot be
        while main's images stay as they are."""
        after = none_copied(outcomes, before, hrefs, self.making.fingerprint, replacement)
        if after is None:
            return replace(before, settled=False) if before.has_none else before
        return after

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

    def watched(
        self,
        changes: Changes,
        action: ChangeAction,
        lists: ImageLists,
        current: Sequence[RemoteImage],
        record: SyncRecord | None,
    ) -> Watched:
        """The lists, through which what is written is noted, and saved what it removes."""
        request = self.request
        scene = Scene(
            action,
            request.main_account_id,
            self.child_name,
            self.key,
            request.main_entity_id,
            request.name,
            request.code,
        )
        own = () if record is None else record.child_image_ids
        return changes.watched(scene, self.child, lists, current, own)


def _note_begun(images: Sequence[SourceImage], current: Sequence[RemoteImage]) -> None:
    text = f"{counted(len(images), 'image')} of main, {len(current)} on the child"
    note(_log, "batch started", text, main_images=len(images), child_images=len(current))


def _note_deleted(images: int) -> None:
    if images:
        note(_log, "images deleted", str(images), images=images)


def _note_set(
    current: Sequence[RemoteImage], outcomes: Sequence[ImageOutcome], replacement: Replacement
) -> None:
    _note_deleted(len({image.href for image in current} - set(replacement.final_hrefs)))
    placed = [
        outcome.element
        for outcome in outcomes
        if isinstance(outcome.element, Upload) and outcome.element.key in replacement.placed
    ]
    if placed:
        size = sum(element.size for element in placed)
        text = f"{counted(len(placed), 'image')}, {file_size(size)}"
        note(_log, "batch uploaded", text, images=len(placed), bytes=size)


async def empty(
    lists: ImageLists,
    entity_type: EntityType,
    entity_id: str,
    images: Sequence[RemoteImage],
    permit: WritePermit,
) -> None:
    """Empties the list, which is `images` now; ChildChangedError where images stay."""
    for _ in range(_DELETIONS):
        hrefs = [image.href for image in images]
        await lists.delete_images(entity_type, entity_id, hrefs, permit)
        images = await lists.list_images(entity_type, entity_id)
        if not images:
            return
    raise ChildChangedError(f"{len(images)} images are there after all were deleted")


def _cause(error: ImageRejectedError) -> FailureCause:
    if isinstance(error, LargeImageError | RequestTooLargeError):
        return FailureCause.TOO_LARGE
    return FailureCause.NO_PICTURE if isinstance(error, NoImageError) else FailureCause.REFUSED


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


@dataclass(frozen=True, slots=True)
class LargeRefused:
    """A request was refused as one of its images is too large: bytes of the largest, and the
    child's list after that."""

    size: int
    listed: tuple[str, ...]


@dataclass(slots=True)
class ReplaceDriver:
    """Performs the actions of a strategy on one child entity."""

    child: ImageLists
    entity_type: EntityType
    entity_id: str
    read: ReadContent
    permit: WritePermit
    may_shrink: Callable[[int], bool] = lambda _: False
    """An image of so many bytes that is too large ends the run, as it can be made smaller."""
    large: LargeRefused | None = None
    """What ended the last run so."""
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

    async def _set(self, elements: Sequence[Element]) -> Done | Rejected | Stopped:
        try:
            answered = await self.child.set_images(
                self.entity_type, self.entity_id, elements, self.read, self.permit
            )
        except ImageRejectedError as error:
            if not any(isinstance(e, Upload) for e in elements):
                raise
            left = tuple(image.href for image in await self._list())
            largest = max(e.size for e in elements if isinstance(e, Upload))
            if isinstance(error, LargeImageError) and self.may_shrink(largest):
                self.large = LargeRefused(largest, left)
                return Stopped(str(error))
            return Rejected(str(error), left, _cause(error))
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
