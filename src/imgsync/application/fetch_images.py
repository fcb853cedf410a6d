"""Downloads the images of one entity to temp files, in parallel."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.domain.copying import Failure
from imgsync.domain.encoding import Element, Keep, Upload
from imgsync.domain.errors import (
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    UnavailableError,
)
from imgsync.domain.filenames import upload_name
from imgsync.domain.formats import SIGNATURE_BYTES, image_format
from imgsync.domain.images import SourceImage
from imgsync.domain.limits import MAX_IMAGE_BYTES, MAX_PARALLEL_REQUESTS
from imgsync.domain.ports.moysklad import MoySkladPort
from imgsync.domain.ports.storage import TempFile, Workspace

Fetched = Element | Failure


@dataclass(slots=True)
class ImageFetcher:
    """Fetches source images from `main` into `workspace`."""

    main: MoySkladPort
    workspace: Workspace
    max_image_bytes: int = MAX_IMAGE_BYTES

    async def fetch(self, images: Sequence[SourceImage | Keep]) -> list[Fetched]:
        """One result per image, in order; a `Keep` stays as it is and costs nothing.

        AuthorisationError is raised: it concerns the account, not one image.
        """
        gate = asyncio.Semaphore(MAX_PARALLEL_REQUESTS)

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
            size = image.size
            if size is None:
                size = await self.main.content_length(image.download_href)
            if size is not None and size > self.max_image_bytes:
                raise ImageTooLargeError(size, self.max_image_bytes)
            return await self._download(image)
        except ImageError as error:
            return Failure(str(error), error.retryable, error.settled)
        except UnavailableError as error:
            return Failure(str(error), error.retryable)

    async def _download(self, image: SourceImage) -> Upload:
        file = self.workspace.create(image.filename)
        try:
            await self.main.download(
                image.download_href, file.write, file.restart, self.max_image_bytes
            )
        finally:
            file.close()
        self._check_format(file, image.size)
        return Upload(file.key, upload_name(image.filename), file.size)

    def _check_format(self, file: TempFile, listed_size: int | None) -> None:
        head = next(self.workspace.read(file.key), b"")
        if image_format(head[:SIGNATURE_BYTES]) is not None:
            return
        if listed_size not in (None, file.size):
            # Such as an error page: the image itself may come another time.
            raise UnavailableError(f"{file.size} bytes came in place of its {listed_size}")
        raise NotAnImageError
