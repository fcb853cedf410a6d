"""Downloads the images of one entity to temp files, in parallel; only whole ones count."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.domain.diff import Failure
from imgsync.domain.errors import (
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    PluginError,
    TooManyPixelsError,
    UnavailableError,
)
from imgsync.domain.formats import SIGNATURE_BYTES, PictureState, image_format, renamed, upload_name
from imgsync.domain.model import Element, Keep, SourceImage, Upload
from imgsync.domain.ports.moysklad import MoySkladPort
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.storage import TempFile, Workspace

Fetched = Element | Failure

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

    async def fetch(self, images: Sequence[SourceImage | Keep]) -> list[Fetched]:
        """One result per image, in order; a `Keep` stays as it is and costs nothing.

        AuthorisationError and AccountParkedError are raised: they concern the account, not one
        image.
        """
        gate = asyncio.Semaphore(self.main.limits.parallel_requests)

        async def one(image: SourceImage | Keep) -> Fetched:
            if isinstance(image, Keep):
                return image
            async with gate:
                return await self._fetch(image)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(image)) for image in images]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch(self, image: SourceImage) -> Upload | Failure:
        try:
            # A list that says 0 does not know.
            size = image.size or await self.main.content_length(image.download_href)
            if size and size > self.main.limits.image_bytes:
                raise ImageTooLargeError(size, self.main.limits.image_bytes)
            whole = await self._whole(image, size or None, is_listed=bool(image.size))
            return whole if self.transform is None else await self._changed(whole, self.transform)
        except ImageError as error:
            return Failure(str(error), error.retryable, error.settled)
        except (PluginError, UnavailableError) as error:
            return Failure(str(error), error.retryable)

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
        file = self.workspace.create(image.filename)
        try:
            await self.main.download(
                image.download_href, file.write, file.restart, self.main.limits.image_bytes, size
            )
        finally:
            file.close()
        return file

    async def _changed(self, whole: Upload, transform: Callable[[bytes, str], bytes]) -> Upload:
        """The transformed file; the same one where nothing changes."""

        def read() -> bytes:
            return b"".join(self.workspace.read(whole.key))

        def write(content: bytes) -> TempFile:
            file = self.workspace.create(whole.filename)
            try:
                file.write(content)
            finally:
                file.close()
            return file

        async with self._transforming:
            content = await asyncio.to_thread(read)
            # A plugin's code, which may never end.
            changed = await in_daemon_thread(partial(transform, content, whole.filename))
            if changed is content:
                return whole
            file = await asyncio.to_thread(write, changed)
        report = await self.pictures.check(lambda: self.workspace.read(file.key))
        if report.state is not PictureState.WHOLE:
            raise PluginError(f"its transformation is no whole picture: {report.detail}")
        name = renamed(whole.filename, image_format(changed[:SIGNATURE_BYTES]))
        return Upload(file.key, name, file.size)

    async def _look(self, file: TempFile, *, is_complete: bool) -> str | None:
        """Why the file may have been cut on its way; None where it is whole.

        NotAnImageError and TooManyPixelsError for what no further download would change.
        """
        head = next(self.workspace.read(file.key), b"")
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
