"""Ports to an imaging library."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from imgsync.domain.formats import PictureReport


class PictureCheck(Protocol):
    """Looks whether a file of a format that `image_format` knows is a whole picture."""

    async def check(self, read: Callable[[], AsyncIterator[bytes]]) -> PictureReport:
        """Decodes the picture whose bytes `read` gives in chunks. Errors of `read` are raised.

        EditError where it could not be looked into, as that takes more time or memory than it may.

        `facts` is there where the picture decodes, WHOLE or UNENDED: its pixels are those of the
        file, as they lie before its orientation is applied.
        """
        ...


class PictureEditor(Protocol):
    """Makes another file of a picture. Not async: every call is for a worker thread, and may take
    as long as the editor's own limit.

    What comes out is a JPEG or PNG file in RGB or grey, that stands upright by itself: the
    orientation that the file notes is applied. A colour profile stays; other metadata stays unless
    `drop_metadata`. Equal arguments give equal bytes as long as `version` is the same.

    NotAnImageError where the content does not decode, TooManyPixelsError where it has more pixels
    than are decoded, EditError where it takes more time or memory than it may, and
    ImpossibleEditError where it cannot be done however much it takes.
    """

    @property
    def version(self) -> str:
        """Changes whenever other bytes would come out."""
        ...

    def convert(self, content: bytes, *, drop_metadata: bool) -> bytes:
        """The first frame of a picture of any format that `image_format` knows, as JPEG, or as PNG
        where it has transparency."""
        ...

    def optimise(
        self, content: bytes, *, max_side: int | None, quality: int | None, drop_metadata: bool
    ) -> bytes | None:
        """A JPEG or PNG file, of at most `max_side` pixels a side and encoded with `quality` (of
        JPEG, 1 to 95), where given; None where nothing is gained: no side is longer, and the file
        would not be smaller."""
        ...

    def fit(self, content: bytes, *, max_bytes: int, drop_metadata: bool) -> bytes:
        """A JPEG or PNG file of at most `max_bytes`: by its quality first, then by its sides. A PNG
        without transparency may become JPEG. ImpossibleEditError where none fits."""
        ...
