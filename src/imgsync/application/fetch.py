"""Fetches the images of one entity, each once for all who want it; only whole ones count."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from imgsync.application.log_lines import COPY_LOG, note
from imgsync.application.make import (
    PATIENCE_SECONDS,
    MakePicture,
    Source,
    Wanted,
    acquired,
    digest_of,
)
from imgsync.domain.diff import ImageOutcome
from imgsync.domain.errors import (
    EditError,
    FailureCause,
    ImageError,
    ImageTooLargeError,
    ImpossibleEditError,
    NotAnImageError,
    PluginError,
    TooManyPixelsError,
    UnavailableError,
)
from imgsync.domain.formats import PictureState, image_format, upload_name
from imgsync.domain.model import SourceImage, SyncRequest, Upload
from imgsync.domain.pictures import AS_BY_DEFAULT, PictureFacts, PictureSettings
from imgsync.domain.ports.moysklad import MoySkladPort
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.runner import ImageTransform
from imgsync.domain.ports.storage import ContentKey, SharedFile, TempFile, Workspace
from imgsync.domain.text import file_size

_log = logging.getLogger(COPY_LOG)
_TRIES_WITHOUT_SIZE = 2
_PATIENCE_SECONDS = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class _Look:
    """A file was looked at: `cut` says why it may have been cut on its way, None where it is
    whole."""

    facts: PictureFacts
    cut: str | None = None


@dataclass(slots=True)
class ImageFetcher:
    """Fetches source images from `main`, whose account is `account_id`, into `workspace`.

    What another task has fetched, or is about to, is not fetched again; nor is transformed what
    another has transformed alike.

    `transform`: makes the files to upload, by the link's `settings`, of at most `max_bytes` (what
    the API takes by its limits, where None) and told of the `request`; None where every file goes
    as it came. A file that needs nothing is not read again.
    """

    main: MoySkladPort
    account_id: str
    workspace: Workspace
    pictures: PictureCheck
    transform: ImageTransform | None = None
    settings: PictureSettings = AS_BY_DEFAULT
    max_bytes: int | None = None
    request: SyncRequest | None = None

    async def fetch(self, outcomes: Sequence[ImageOutcome]) -> list[ImageOutcome]:
        """The outcomes with the files of those that are to be fetched, or why there is none.

        AuthorisationError and AccountParkedError are raised: they concern the account, not one
        image.
        """
        gate = asyncio.Semaphore(self.main.limits.parallel_requests)

        async def one(outcome: ImageOutcome) -> ImageOutcome:
            return await self._fetch(outcome, gate) if outcome.is_to_fetch else outcome

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(outcome)) for outcome in outcomes]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch(self, outcome: ImageOutcome, gate: asyncio.Semaphore) -> ImageOutcome:
        image, wanted = outcome.image, self._wanted()
        make = MakePicture(self.account_id, self.workspace, wanted)
        try:
            async with gate:
                # A list that says 0 does not know.
                size = image.size or await self.main.content_length(image.download_href)
                most = wanted.most(image.filename)
                if size and size > most:
                    raise ImageTooLargeError(size, most)
                source = await self._shared(image, size or None, most)
            made = await make(source)
        except (ImageError, PluginError, UnavailableError) as error:
            _note_skipped(image, error)
            return outcome.failed(
                str(error),
                cause=_cause(error),
                retryable=error.retryable,
                settled=isinstance(error, ImageError) and error.settled,
            )
        return outcome.fetched(made.file, made.content, made.note)

    def _wanted(self) -> Wanted:
        limits = self.main.limits
        return Wanted(
            limits.image_bytes,
            limits.source_bytes,
            limits.image_bytes if self.max_bytes is None else self.max_bytes,
            self.settings,
            self.transform,
            self.request,
        )

    async def _shared(self, image: SourceImage, size: int | None, most: int) -> Source:
        """The image, of those that are shared where it is known which version it is."""
        source = ContentKey.of(self.account_id, image)
        if source is None:
            return await self._whole(image, size, most)
        found = await acquired(self.workspace, source, _PATIENCE_SECONDS)
        if found is None:
            return await self._listed(image, source, most)
        return await self._known(image, found)

    async def _known(self, image: SourceImage, found: SharedFile) -> Source:
        facts = _facts(found.note, found.size) if found.is_picture else None
        if facts is None:
            # Looked at anew, as what is no picture to one version of imgsync may be one to another.
            facts = (await self._look(found.key, found.size, is_complete=True)).facts
        digest = found.digest or await digest_of(self.workspace.read(found.key))
        return Source(Upload(found.key, upload_name(image.filename), found.size), digest, facts)

    async def _listed(self, image: SourceImage, source: ContentKey, most: int) -> Source:
        """Downloads it for all; of the size that main's list names, the file is complete."""
        note, is_picture = "", False
        try:
            file = await self._download(image, image.size, most)
            try:
                looked = await self._look(file.key, file.size, is_complete=True)
                note, is_picture = _note(looked.facts), True
            finally:
                # What is no picture is complete too: nobody needs to download it again.
                await self.workspace.share(source, file.key, is_picture=is_picture, note=note)
        finally:
            await self.workspace.pass_turn(source)
        return _source(image, file, looked.facts)

    async def _whole(self, image: SourceImage, size: int | None, most: int) -> Source:
        """The image once it is known to be whole: by its listed size, else by its decoding.

        A size by HEAD is the storage's own word, which may be that of the cut file.
        """
        is_listed = bool(image.size)
        cut: str | None = None
        for _ in range(1 if is_listed else _TRIES_WITHOUT_SIZE):
            file = await self._download(image, size, most)
            looked = await self._look(file.key, file.size, is_complete=is_listed)
            cut = looked.cut
            if cut is None:
                return _source(image, file, looked.facts)
        raise UnavailableError(f"the file is cut: {cut}")

    async def _download(self, image: SourceImage, size: int | None, most: int) -> TempFile:
        # Of no known size, nothing tells a host's error page or an old file from the image.
        if image.permanent_href is not None and size:
            try:
                return await self._from(image.permanent_href, image, size, most, is_permanent=True)
            except (ImageError, UnavailableError):
                pass  # the API's own address costs a request, and works where that one does not
        return await self._from(image.download_href, image, size, most)

    async def _from(
        self,
        address: str,
        image: SourceImage,
        size: int | None,
        most: int,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        file = await self.main.download(
            address,
            lambda: self.workspace.create(image.filename),
            most,
            size,
            is_permanent=is_permanent,
        )
        _note_downloaded(image, file.size)
        return file

    async def _look(self, key: str, size: int, *, is_complete: bool) -> _Look:
        """NotAnImageError and TooManyPixelsError for what no further download would change."""
        name = image_format(await self._head(key))
        if name is None:
            raise NotAnImageError
        report = await self.pictures.check(lambda: self.workspace.read(key))
        if report.state is PictureState.HUGE:
            raise TooManyPixelsError(report.detail)
        if report.state is PictureState.BROKEN and is_complete:
            raise NotAnImageError(report.detail)
        facts = report.facts or PictureFacts(name, 0, 0, size)
        is_whole = report.state is PictureState.WHOLE or is_complete
        return _Look(facts, None if is_whole else report.detail)

    async def _head(self, key: str) -> bytes:
        chunks = self.workspace.read(key)
        try:
            return await anext(chunks, b"")
        finally:
            if isinstance(chunks, AsyncGenerator):  # it may hold the file open
                await chunks.aclose()


def _note_downloaded(image: SourceImage, size: int) -> None:
    text = f"{image.filename}, {file_size(size)}"
    note(_log, "image downloaded", text, image=image.filename, bytes=size)


def _note_skipped(image: SourceImage, error: Exception) -> None:
    """The task's warning about it says the same to people, once the task has ended."""
    is_large = isinstance(error, ImageTooLargeError)
    event = "image too large, skipped" if is_large else "image skipped"
    note(_log, event, f"{image.filename}: {error}", image=image.filename, bytes=image.size or None)


def _source(image: SourceImage, file: TempFile, facts: PictureFacts) -> Source:
    return Source(Upload(file.key, upload_name(image.filename), file.size), file.digest, facts)


def _note(facts: PictureFacts) -> str:
    return f"{facts.format} {facts.width} {facts.height}"


def _facts(note: str, size: int) -> PictureFacts | None:
    """What is told of a shared picture; None where nothing is, as an earlier version shared it."""
    told = note.split(" ")
    if len(told) != 3 or not (told[1].isdecimal() and told[2].isdecimal()):
        return None
    return PictureFacts(told[0], int(told[1]), int(told[2]), size)


def _cause(error: Exception) -> FailureCause:
    match error:
        case PluginError():
            return FailureCause.PLUGIN
        case ImageTooLargeError():
            return FailureCause.TOO_LARGE
        case NotAnImageError() | TooManyPixelsError() | ImpossibleEditError():
            return FailureCause.NO_PICTURE
        case EditError():
            return FailureCause.NOT_MADE
        case _:
            return FailureCause.NOT_DOWNLOADED
