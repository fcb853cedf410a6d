"""Copies the images of one entity to its counterpart in a child account."""

import asyncio
from dataclasses import dataclass

from imgsync.application.drive_replace import ReplaceDriver
from imgsync.application.fetch_images import ImageFetcher
from imgsync.domain.copying import ChildHistory, ImageCopy, conclude, wanted_elements
from imgsync.domain.entity_types import EntityType, EntityTypes
from imgsync.domain.errors import NotFoundError, PayloadError, UnknownEntityTypeError
from imgsync.domain.images import SourceImage
from imgsync.domain.limits import MAX_REQUEST_BYTES
from imgsync.domain.payloads import SyncRequest
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort, WritePermit
from imgsync.domain.ports.repositories import (
    AccountRepository,
    SettingsRepository,
    SyncRecordRepository,
)
from imgsync.domain.ports.storage import FileStorage
from imgsync.domain.records import EntityKey
from imgsync.domain.replace import ReplaceStrategy
from imgsync.domain.tasks import SyncOutcome, SyncResult


@dataclass(frozen=True, slots=True)
class SyncEntity:
    """Runs sync requests. Everything is downloaded before the child is touched."""

    accounts: AccountRepository
    settings: SettingsRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    storage: FileStorage
    entity_types: EntityTypes
    strategy: ReplaceStrategy
    max_request_bytes: int = MAX_REQUEST_BYTES

    async def __call__(self, request: SyncRequest, permit: WritePermit) -> SyncResult:
        """What was done. Images that could not be copied are warnings.

        Raises PayloadError, UnknownAccountError, AuthorisationError, NotFoundError, ApiError,
        UnavailableError, ChildChangedError; NoImageUploadedError where the child got none of the
        images.
        """
        entity_type = self._entity_type(request)
        settings = await asyncio.to_thread(self.settings.get, request.child_account_id)
        if not settings.enabled:
            return SyncResult(SyncOutcome.DISABLED)
        main = await self._port(request.main_account_id)
        child = await self._port(request.child_account_id)
        limit = min(settings.limit, entity_type.max_images)
        images = await _described(main, entity_type, request, request.images[:limit])
        key = EntityKey(request.child_account_id, request.entity_type, request.child_entity_id)
        record = await asyncio.to_thread(self.records.get, key)
        current = await child.list_images(entity_type, request.child_entity_id)
        if record and record.is_current([i.fingerprint for i in images], [c.id for c in current]):
            return SyncResult(SyncOutcome.UNCHANGED, record.warnings, kept=len(current))

        history = ChildHistory.of(record, current)
        with self.storage.workspace() as workspace:
            fetched = await ImageFetcher(main, workspace).fetch(
                [history.same(image) or image for image in images]
            )
            copies = [
                ImageCopy.of(image, got, history)
                for image, got in zip(images, fetched, strict=True)
            ]
            steps = self.strategy(
                wanted_elements(copies), [c.href for c in current], self.max_request_bytes
            )
            driver = ReplaceDriver(
                child, entity_type, request.child_entity_id, workspace.read, permit
            )
            conclusion = conclude(copies, await driver.run(steps))
        # A worker that lost its lease must not say what its heir has left.
        await permit.confirm()
        await asyncio.to_thread(self.records.put, key, conclusion.record)
        return conclusion.result

    async def _port(self, account_id: str) -> MoySkladPort:
        return self.moysklad.for_account(await asyncio.to_thread(self.accounts.get, account_id))

    def _entity_type(self, request: SyncRequest) -> EntityType:
        try:
            return self.entity_types.get(request.entity_type)
        except UnknownEntityTypeError as error:
            raise PayloadError("parent_entity_type", str(error)) from error


async def _described(
    main: MoySkladPort,
    entity_type: EntityType,
    request: SyncRequest,
    images: tuple[SourceImage, ...],
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
