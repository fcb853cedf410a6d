"""Fetches the images of one entity, each once for all who want it; only whole ones count."""

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
from imgsync.domain.ports.storage import ContentKey, SharedFile, TempFile, Turn, Workspace

_TRIES_WITHOUT_SIZE = 2
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5
_PATIENCE_SECONDS = 300.0
"""Another may wait for the rate limit long; a store that names one for ever is not believed."""


@dataclass(slots=True)
class ImageFetcher:
    """Fetches source images from `main`, whose account is `account_id`, into `workspace`.

    What another task has fetched, or is about to, is not fetched again.

    `transform`: the file to upload, by the content and the name of the one that was fetched; None
    where every file goes as it came, and is then not read again.
    """

    main: MoySkladPort
    account_id: str
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
            file = await self._shared(image, size or None)
            if self.transform is not None:
                file = await self._changed(file, self.transform)
        except ImageError as error:
            return outcome.failed(str(error), retryable=error.retryable, settled=error.settled)
        except (PluginError, UnavailableError) as error:
            return outcome.failed(str(error), retryable=error.retryable)
        return outcome.fetched(file)

    async def _shared(self, image: SourceImage, size: int | None) -> Upload:
        """The image, of those that are shared where it is known which version it is."""
        source = ContentKey.of(self.account_id, image)
        if source is None:
            return await self._whole(image, size)
        found = await self._found(source)
        if found is None:
            return await self._listed(image, source)
        if not found.is_picture:
            # Looked at anew, as what is no picture to one version of imgsync may be one to another.
            await self._look(found.key, is_complete=True)
        return Upload(found.key, upload_name(image.filename), found.size)

    async def _found(self, source: ContentKey) -> SharedFile | None:
        """The shared file; None where this task has to fetch it."""
        pause, time = _SHORTEST_PAUSE_SECONDS, asyncio.get_running_loop().time
        began = time()  # a store may take long to answer, too
        while (found := await self.workspace.acquire(source)) is Turn.THEIRS:
            if time() - began > _PATIENCE_SECONDS:
                return None  # whatever keeps the other, it shall not keep this task
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        return found if isinstance(found, SharedFile) else None

    async def _listed(self, image: SourceImage, source: ContentKey) -> Upload:
        """Downloads it for all; of the size that main's list names, the file is complete."""
        is_picture = False
        try:
            file = await self._download(image, image.size)
            try:
                await self._look(file.key, is_complete=True)
                is_picture = True
            finally:
                # What is no picture is complete too: nobody needs to download it again.
                await self.workspace.share(source, file.key, is_picture=is_picture)
        finally:
            await self.workspace.pass_turn(source)
        return Upload(file.key, upload_name(image.filename), file.size)

    async def _whole(self, image: SourceImage, size: int | None) -> Upload:
        """The image once it is known to be whole: by its listed size, else by its decoding.

        A size by HEAD is the storage's own word, which may be that of the cut file.
        """
        is_listed = bool(image.size)
        for _ in range(1 if is_listed else _TRIES_WITHOUT_SIZE):
            file = await self._download(image, size)
            cut = await self._look(file.key, is_complete=is_listed)
            if cut is None:
                return Upload(file.key, upload_name(image.filename), file.size)
        raise UnavailableError(f"the file is cut: {cut}")

    async def _download(self, image: SourceImage, size: int | None) -> TempFile:
        # Of no known size, nothing tells a host's error page or an old file from the image.
        if image.permanent_href is not None and size:
            try:
                return await self._from(image.permanent_href, image, size, is_permanent=True)
            except (ImageError, UnavailableError):
                pass  # the API's own address costs a request, and works where that one does not
        return await self._from(image.download_href, image, size)

    async def _from(
        self, address: str, image: SourceImage, size: int | None, *, is_permanent: bool = False
    ) -> TempFile:
        return await self.main.download(
            address,
            lambda: self.workspace.create(image.filename),
            self.main.limits.image_bytes,
            size,
            is_permanent=is_permanent,
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

    async def _look(self, key: str, *, is_complete: bool) -> str | None:
        """Why the file may have been cut on its way; None where it is whole.

        NotAnImageError and TooManyPixelsError for what no further download would change.
        """
        head = await self._head(key)
        if image_format(head[:SIGNATURE_BYTES]) is None:
            raise NotAnImageError
        report = await self.pictures.check(lambda: self.workspace.read(key))
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
