"""Decodes pictures to their end with Pillow: JPEG and PNG files in a thread of this process, piece
by piece; others, whose decoders hold them whole and are younger, in a process of their own.

Pillow must stay strict: with ImageFile.LOAD_TRUNCATED_IMAGES a cut file would pass as whole.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import ImageFile, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imgsync.adapters.pictures.workers import MAX_PICTURE_PIXELS, Workers
from imgsync.domain.errors import EditError, NotAnImageError, TooManyPixelsError
from imgsync.domain.formats import (
    CONVERTIBLE,
    SIGNATURE_BYTES,
    PictureReport,
    PictureState,
    image_format,
)
from imgsync.domain.pictures import PictureFacts

MOST_DECODED_PIXELS = 25_000_000
"""Larger PNGs and progressive JPEGs would take over 100 MB when they are decoded as a whole."""

# Pillow fails a PNG for a text or colour profile of over 1 MB when unpacked, such as what editors
# note of their steps; the picture is none the worse for it.
PngImagePlugin.MAX_TEXT_CHUNK = 10 * 1024 * 1024

# Pillow reads a longer chunk of a PNG in blocks and joins them, and so would hold it twice. Of a
# file in memory a read gives no more than is there, whatever the chunk says of its length.
ImageFile.SAFEBLOCK = 16 * 1024 * 1024

_JPEG_END = b"\xff\xd9"
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PADDING = b"\x00\xff\r\n\t "


class PillowCheck:
    """Implements `PictureCheck`. One picture at a time is in memory, and is decoded in a thread of
    its own, so that many tasks take no more memory than one. `workers` look into the pictures that
    are to be converted."""

    def __init__(
        self,
        max_pixels: int = MAX_PICTURE_PIXELS,
        decoded_pixels: int = MOST_DECODED_PIXELS,
        workers: Workers | None = None,
    ) -> None:
        self._max_pixels = max_pixels
        self._decoded_pixels = decoded_pixels
        self._workers = workers or Workers(processes=1)
        self._one = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    async def check(self, read: Callable[[], AsyncIterator[bytes]]) -> PictureReport:
        async with self._one:
            data = BytesIO()
            async for chunk in read():
                data.write(chunk)
            data.seek(0)
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._check, data)

    def _check(self, data: BytesIO) -> PictureReport:
        try:
            # Closed here, as the executor lets go of its arguments only some time after the next
            # picture has begun to be read.
            with data:
                return self._look(data)
        except EditError:
            raise  # it says nothing of the file
        except Exception as error:
            # Pillow's decoders raise whatever a damaged file leads them to.
            return PictureReport(PictureState.BROKEN, f"it does not decode: {error}"[:200])

    def _look(self, data: BytesIO) -> PictureReport:
        kind = image_format(data.read(SIGNATURE_BYTES))
        data.seek(0)
        if kind in CONVERTIBLE:
            return self._looked(kind, data)
        is_png = kind == "png"
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
        facts = PictureFacts(kind or "jpg", width, height, len(data.getvalue()))
        if data.getvalue().rstrip(_PADDING).endswith(_PNG_END if is_png else _JPEG_END):
            return PictureReport(PictureState.WHOLE, facts=facts)
        name = "PNG" if is_png else "JPEG"
        return PictureReport(PictureState.UNENDED, f"it does not end as a {name} does", facts)

    def _looked(self, kind: str, data: BytesIO) -> PictureReport:
        content = data.getvalue()
        try:
            told = self._workers.ask(content, "look").told
        except TooManyPixelsError as error:
            return PictureReport(PictureState.HUGE, str(error))
        except NotAnImageError as error:
            return PictureReport(PictureState.BROKEN, str(error))
        facts = PictureFacts(kind, told["width"], told["height"], len(content))
        return PictureReport(PictureState(told["state"]), told["detail"], facts)

    @staticmethod
    def _decode_png(picture: PngImageFile, data: BytesIO, is_small: bool) -> None:
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
