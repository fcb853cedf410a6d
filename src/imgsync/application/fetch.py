"""Downloads the images of one entity to temp files, in parallel; only whole ones count."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.domain.diff import ImageOutcome
from imgsync.domain.errors import (
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    PluginError,
    TooManyPixelsError,
    UnavailableError,
)
from imgsync.domain.formats import SIGNATURE_BYTES, PictureState, image_format, renamed, upload_name
from imgsync.domain.model import SourceImage, Upload
from imgsync.domain.ports.moysklad import MoySkladPort
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.storage import TempFile, Workspace

_TRIES_WITHOUT_SIZE = 2


@dataclass(slots=True)
class ImageFetcher:
    """Fetches source images from `main` into `workspace`.

    `transform`: the file to upload, by the content and the name of the one that was fetched; None
    where every file goes as it came, and is then not read again.
    """

    main: MoySkladPort
    workspace: Workspace
    pictures: PictureCheck
    transform: Callable[[bytes, str], bytes] | None = None
    # One image at a time is whole in memory, and its transformed copy.
    _transforming: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fetch(self, outcomes: Sequence[ImageOutcome]) -> list[ImageOutcome]:
        """The outcomes with the files of those that are to be fetched, or why there is none.

        AuthorisationError and AccountParkedError are raised: they concern the account, not one
        image.
        """
        gate = asyncio.Semaphore(self.main.limits.parallel_requests)

        async def one(outcome: ImageOutcome) -> ImageOutcome:
            if not outcome.is_to_fetch:
                return outcome
            async with gate:
                return await self._fetch(outcome)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(outcome)) for outcome in outcomes]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch(self, outcome: ImageOutcome) -> ImageOutcome:
        image = outcome.image
        try:
            # A list that says 0 does not know.
            size = image.size or await self.main.content_length(image.download_href)
            if size and size > self.main.limits.image_bytes:
                raise ImageTooLargeError(size, self.main.limits.image_bytes)
            file = await self._whole(image, size or None, is_listed=bool(image.size))
            if self.transform is not None:
                file = await self._changed(file, self.transform)
        except ImageError as error:
            return outcome.failed(str(error), retryable=error.retryable, settled=error.settled)
        except (PluginError, UnavailableError) as error:
            return outcome.failed(str(error), retryable=error.retryable)
        return outcome.fetched(file)

    async def _whole(self, image: SourceImage, size: int | None, *, is_listed: bool) -> Upload:
        """The image once it is known to be whole: by its listed size, else by its decoding.

        A size by HEAD is the storage's own word, which may be that of the cut file.
        """
        for _ in range(1 if is_listed else _TRIES_WITHOUT_SIZE):
            file = await self._download(image, size)
            cut = await self._look(file, is_complete=is_listed)
            if cut is None:
                return Upload(file.key, upload_name(image.filename), file.size)
        raise UnavailableError(f"the file is cut: {cut}")

    async def _download(self, image: SourceImage, size: int | None) -> TempFile:
        return await self.main.download(
            image.download_href,
            lambda: self.workspace.create(image.filename),
            self.main.limits.image_bytes,
            size,
        )

    async def _changed(self, whole: Upload, transform: Callable[[bytes, str], bytes]) -> Upload:
        """The transformed file; the same one where nothing changes."""
        async with self._transforming:
            content = b"".join([chunk async for chunk in self.workspace.read(whole.key)])
            # A plugin's code, which may never end.
            changed = await in_daemon_thread(partial(transform, content, whole.filename))
            if changed is content:
                return whole
            file = await self.workspace.create(whole.filename)
            try:
                await file.write(changed)
                await file.close()
            except BaseException:
                await file.discard()
                raise
        report = await self.pictures.check(lambda: self.workspace.read(file.key))
        if report.state is not PictureState.WHOLE:
            raise PluginError(f"its transformation is no whole picture: {report.detail}")
        name = renamed(whole.filename, image_format(changed[:SIGNATURE_BYTES]))
        return Upload(file.key, name, file.size)

    async def _look(self, file: TempFile, *, is_complete: bool) -> str | None:
        """Why the file may have been cut on its way; None where it is whole.

        NotAnImageError and TooManyPixelsError for what no further download would change.
        """
        head = await self._head(file.key)
        if image_format(head[:SIGNATURE_BYTES]) is None:
            raise NotAnImageError
        report = await self.pictures.check(lambda: self.workspace.read(file.key))
        if report.state is PictureState.HUGE:
            raise TooManyPixelsError(report.detail)
        if report.state is PictureState.BROKEN and is_complete:
            raise NotAnImageError(report.detail)
        if report.state is PictureState.WHOLE or is_complete:
            return None
        return report.detail

    async def _head(self, key: str) -> bytes:
        chunks = self.workspace.read(key)
        try:
            return await anext(chunks, b"")
        finally:
            if isinstance(chunks, AsyncGenerator):  # it may hold the file open
                await chunks.aclose()
