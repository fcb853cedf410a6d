"""Notes every change of a child's list, and saves first what is not imgsync's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from imgsync.domain.changes import (
    BackedUp,
    BackupError,
    Change,
    ChangeAction,
    ListedImage,
    SavedImage,
    to_be_removed,
)
from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import (
    ChildChangedError,
    ImageError,
    ImgsyncError,
    ParkingError,
    PermissionDeniedError,
    UnavailableError,
    WrongAccountError,
)
from imgsync.domain.formats import PictureState
from imgsync.domain.model import Element, EntityType, RemoteImage
from imgsync.domain.ports.changes import Backup, BackupStore, ChangeLog
from imgsync.domain.ports.moysklad import ImageLists, MoySkladPort, ReadContent, WritePermit
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.replace import in_order

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_SAVED_BYTES = 64 * 1024 * 1024
"""Of one image that is saved: the child has it already, whatever its limit is by now."""

_NOTHING_DONE = (ParkingError, PermissionDeniedError, WrongAccountError)
"""Answers to a request that say for certain that the list is as it was."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Whose list is about to be changed, and why."""

    action: ChangeAction
    main_account_id: str
    child_name: str
    key: EntityKey
    main_entity_id: str
    entity_name: str
    entity_code: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What `run` changes is noted in `log`; what it removes is saved in `backups` where those are
    on. Without both, nothing is noted or saved.

    `pictures` judges those of which no list tells the size.
    """

    run: str = ""
    log: ChangeLog | None = None
    backups: BackupStore | None = None
    pictures: PictureCheck | None = None

    def watched(
        self,
        scene: Scene,
        child: MoySkladPort,
        lists: ImageLists,
        current: Sequence[RemoteImage],
        own: Collection[str] = (),
        *,
        beside: str | None = None,
    ) -> "Watched":
        """The lists through which the entity is changed, whose list is `current` now, as far as is
        known. `own`: ids of the images that need not be saved. `beside`: a backup in whose store
        they are saved where none is configured."""
        change = Change(
            self.run,
            scene.action,
            scene.main_account_id,
            scene.key,
            scene.main_entity_id,
            scene.entity_name,
            ListedImage.all_of(current),
            entity_code=scene.entity_code,
        )
        saver = None
        if self.backups is not None and (self.backups.is_on or beside is not None):
            saver = _Saver(self.backups, self.pictures, scene, self.run, child, beside)
        return Watched(lists, self.log, saver, change, list(current), set(own))


@dataclass(slots=True)
class Watched:
    """Implements `ImageLists`: right before the first write, what it is to remove is saved and the
    change is noted; `ended` notes what it has left.

    Where there is nothing to write, nothing is noted.
    """

    lists: ImageLists
    log: ChangeLog | None
    saver: "_Saver | None"
    change: Change
    listed: list[RemoteImage]
    own: set[str]
    change_id: int | None = None
    _began: bool = False
    _is_known: bool = True

    async def begin(self, beside: Awaitable[None]) -> None:
        """Notes at once, while something else is stored, that the list is about to be written: the
        two share a transaction. Where something is to be saved first, it is noted later."""
        if self.log is None or self.saver is not None:
            await beside
            return
        try:
            async with asyncio.TaskGroup() as group:
                noting = group.create_task(_noted(self.log, self.change))
                await beside
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self.change_id, self._began = noting.result(), True

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        self.listed = await self.lists.list_images(entity_type, entity_id)
        self._is_known = True
        return self.listed

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        await self._begin(entity_type, entity_id)
        self._check_saved(to_be_removed(self.listed, elements, self.own))

        async def write() -> list[RemoteImage]:
            return await self.lists.set_images(entity_type, entity_id, elements, read, permit)

        answered = await self._write(write)
        if in_order(elements, answered) and all(image.is_of(entity_id) for image in answered):
            self.listed, self._is_known = answered, True
            self.own.update(image.id for image in answered)
        return answered

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        await self._begin(entity_type, entity_id)
        doomed = to_be_removed(self.listed, (), self.own)
        self._check_saved([(order, image) for order, image in doomed if image.href in hrefs])

        async def write() -> None:
            await self.lists.delete_images(entity_type, entity_id, hrefs, permit)

        await self._write(write)
        # Of an image that stands twice the first goes only.
        left = list(hrefs)
        kept = []
        for image in self.listed:
            if image.href in left:
                left.remove(image.href)
            else:
                kept.append(image)
        self.listed, self._is_known = kept, True

    async def ended(self) -> None:
        """No further write comes. A fault of the log is no reason to do again what is done: the
        change then tells that its end is not known, as it is where the list is not."""
        if self.log is None or self.change_id is None or not self._is_known:
            return
        try:
            await self.log.finish(self.change_id, ListedImage.all_of(self.listed))
        except ImgsyncError as error:
            _log.warning("%s: what was changed is not noted: %s", self.change.label, error)

    async def _write(self, write: Callable[[], Awaitable[_T]]) -> _T:
        was_known, self._is_known = self._is_known, False
        try:
            return await write()
        except _NOTHING_DONE:
            self._is_known = was_known
            raise

    async def _begin(self, entity_type: EntityType, entity_id: str) -> None:
        if self._began:
            return
        if self.saver is not None:
            # What was surveyed a while ago tells nothing of what would be removed now.
            there = await self.lists.list_images(entity_type, entity_id)
            if [image.id for image in there] != [image.id for image in self.listed]:
                raise ChildChangedError("the child's list is another than it was a moment ago")
            self.listed = there
            foreign = to_be_removed(there, (), self.own)
            place = await self.saver.save(foreign)
            self.change = replace(self.change, before=ListedImage.all_of(there), backup=place)
            self.own.update(image.id for _, image in foreign)
        if self.log is not None:
            self.change_id = await self.log.begin(self.change)
        self._began = True

    def _check_saved(self, doomed: Sequence[tuple[int, RemoteImage]]) -> None:
        if self.saver is not None and doomed:
            raise ChildChangedError(f"{len(doomed)} images are new on the child, and not saved")


async def _noted(log: ChangeLog, change: Change) -> int:
    return await log.begin(change)


@dataclass(frozen=True, slots=True)
class _Saver:
    """Saves images of one entity."""

    backups: BackupStore
    pictures: PictureCheck | None
    scene: Scene
    run: str
    child: MoySkladPort
    beside: str | None

    async def save(self, images: Sequence[tuple[int, RemoteImage]]) -> str | None:
        """The place of the backup; None of no images.

        BackupError where one of them cannot be had or written; the errors of the account.
        """
        if not images:
            return None
        scene = self.scene
        entity = BackedUp(
            self.run,
            scene.key.child_account_id,
            scene.child_name,
            scene.key,
            scene.main_entity_id,
            scene.entity_name,
        )
        async with self.backups.begin(entity, self.beside) as backup:
            return await backup.finish([await self._one(backup, *image) for image in images])

    async def _one(self, backup: Backup, order: int, image: RemoteImage) -> SavedImage:
        try:
            file = await self._file(backup, image)
        except (ImageError, UnavailableError) as error:
            raise BackupError(
                f"'{image.filename}' of the child could not be saved ({error}); nothing was removed"
            ) from error
        return SavedImage(
            order,
            image.id,
            image.filename,
            file.size,
            file.digest,
            image.updated,
            file.key,
        )

    async def _file(self, backup: Backup, image: RemoteImage) -> TempFile:
        if not image.download_href.strip():
            raise ImageError("it has no download address")
        file = await self.child.download(
            image.download_href.strip(),
            lambda: backup.create(image.filename),
            MAX_SAVED_BYTES,
            image.size or None,
        )
        if not image.size:
            await self._check_whole(backup, file)
        return file

    async def _check_whole(self, backup: Backup, file: TempFile) -> None:
        """Of no known size, a file is known to be whole by its picture alone."""
        detail = "its size is not known"
        if self.pictures is not None:
            report = await self.pictures.check(lambda: backup.read(file.key))
            if report.state is PictureState.WHOLE:
                return
            detail = report.detail or detail
        raise UnavailableError(f"whether it came whole cannot be told: {detail}")


_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class PruneChanges:
    """Deletes changes that were made `keep` ago; what was saved before them stays."""

    log: ChangeLog
    keep: timedelta

    async def __call__(self) -> int:
        """How many."""
        gone = 0
        while portion := await self.log.prune(self.keep):
            gone += portion
            await asyncio.sleep(_PAUSE_SECONDS)
        return gone
