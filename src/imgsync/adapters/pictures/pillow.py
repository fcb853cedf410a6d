"""Decodes pictures to their end with Pillow.

Pillow must stay strict: with ImageFile.LOAD_TRUNCATED_IMAGES a cut file would pass as whole.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from typing import BinaryIO

from PIL import PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imgsync.adapters.pictures.replay import Replay
from imgsync.domain.formats import SIGNATURE_BYTES, PictureReport, PictureState, image_format

MAX_PICTURE_PIXELS = 100_000_000
"""Pixels of one picture; a small file may claim any number."""

MOST_DECODED_PIXELS = 25_000_000
"""Larger PNGs and progressive JPEGs would take over 100 MB when they are decoded as a whole."""

# Pillow fails a PNG for a text or colour profile of over 1 MB when unpacked, such as what editors
# note of their steps; the picture is none the worse for it.
PngImagePlugin.MAX_TEXT_CHUNK = 10 * 1024 * 1024

_JPEG_END = b"\xff\xd9"
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
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
        source = Replay(read)
        try:
            return self._look(source)
        except Exception as error:
            if source.failure is not None:
                raise source.failure from None
            # Pillow's decoders raise whatever a damaged file leads them to.
            return PictureReport(PictureState.BROKEN, f"it does not decode: {error}"[:200])

    def _look(self, source: Replay) -> PictureReport:
        data: BinaryIO = BufferedReader(source)  # type: ignore[type-var]
        is_png = image_format(data.read(SIGNATURE_BYTES)) == "png"
        data.seek(0)
        picture = PngImageFile(data) if is_png else JpegImageFile(data)
        width, height = picture.size
        if width * height > self._max_pixels:
            size = f"it has {width} × {height} pixels, over the limit of {self._max_pixels}"
            return PictureReport(PictureState.HUGE, size)
        is_small = width * height <= self._decoded_pixels
        if isinstance(picture, PngImageFile):
            self._decode_png(picture, data, is_small)
        else:
            self._decode_jpeg(picture, is_small)
        # What the decoder needed may be there before the file is.
        if source.end().endswith(_PNG_END if is_png else _JPEG_END):
            return _WHOLE
        name = "PNG" if is_png else "JPEG"
        return PictureReport(PictureState.UNENDED, f"it does not end as a {name} does")

    @staticmethod
    def _decode_png(picture: PngImageFile, data: BinaryIO, is_small: bool) -> None:
        picture.verify()  # the checksums of every chunk before IEND
        if is_small:
            data.seek(0)
            PngImageFile(data).load()

    @staticmethod
    def _decode_jpeg(picture: JpegImageFile, is_small: bool) -> None:
        if is_small or "progressive" not in picture.info:
            # Reads the file to its end all the same, but makes an eighth of each side of it.
            picture.draft("L", (1, 1))
            picture.load()
