"""Decodes pictures to their end with Pillow.

Pillow must stay strict: with ImageFile.LOAD_TRUNCATED_IMAGES a cut file would pass as whole.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imgsync.domain.formats import SIGNATURE_BYTES, PictureReport, PictureState, image_format
from imgsync.domain.limits import MAX_PICTURE_PIXELS

MOST_DECODED_PIXELS = 25_000_000
"""Larger PNGs and progressive JPEGs would take over 100 MB when they are decoded as a whole."""

_JPEG_END = b"\xff\xd9"
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PADDING = b"\x00\xff\r\n\t "
_WHOLE = PictureReport(PictureState.WHOLE)


class PillowCheck:
    """Implements `PictureCheck`. One picture at a time is decoded, in a thread of its own, so that
    many tasks take no more memory than one."""

    def __init__(
        self, max_pixels: int = MAX_PICTURE_PIXELS, decoded_pixels: int = MOST_DECODED_PIXELS
    ) -> None:
        self._max_pixels = max_pixels
        self._decoded_pixels = decoded_pixels
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    async def check(self, read: Callable[[], Iterator[bytes]]) -> PictureReport:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._check, read)

    def _check(self, read: Callable[[], Iterator[bytes]]) -> PictureReport:
        data = BytesIO()
        for chunk in read():
            data.write(chunk)
        data.seek(0)
        try:
            return self._look(data)
        except Exception as error:
            # Pillow's decoders raise whatever a damaged file leads them to.
            return PictureReport(PictureState.BROKEN, f"it does not decode: {error}"[:200])

    def _look(self, data: BytesIO) -> PictureReport:
        if image_format(data.getvalue()[:SIGNATURE_BYTES]) == "png":
            return self._look_at_png(data)
        return self._look_at_jpeg(data)

    def _look_at_png(self, data: BytesIO) -> PictureReport:
        picture = PngImageFile(data)
        if report := self._huge(picture):
            return report
        picture.verify()  # the checksums of every chunk before IEND
        if _pixels(picture) <= self._decoded_pixels:
            data.seek(0)
            PngImageFile(data).load()
        if _PNG_END not in data.getvalue():
            return PictureReport(PictureState.UNENDED, "it does not end as a PNG does")
        return _WHOLE

    def _look_at_jpeg(self, data: BytesIO) -> PictureReport:
        picture = JpegImageFile(data)
        if report := self._huge(picture):
            return report
        if "progressive" not in picture.info or _pixels(picture) <= self._decoded_pixels:
            # Reads the file to its end all the same, but makes an eighth of each side of it.
            picture.draft("L", (1, 1))
            picture.load()
        # What libjpeg has read may be complete before the file is.
        if not data.getvalue().rstrip(_PADDING).endswith(_JPEG_END):
            return PictureReport(PictureState.UNENDED, "it does not end as a JPEG does")
        return _WHOLE

    def _huge(self, picture: ImageFile.ImageFile) -> PictureReport | None:
        if _pixels(picture) <= self._max_pixels:
            return None
        width, height = picture.size
        return PictureReport(
            PictureState.HUGE,
            f"it has {width} × {height} pixels, over the limit of {self._max_pixels}",
        )


def _pixels(picture: ImageFile.ImageFile) -> int:
    width, height = picture.size
    return width * height
