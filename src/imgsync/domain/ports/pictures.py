"""Port to an imaging library."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from imgsync.domain.formats import PictureReport


class PictureCheck(Protocol):
    """Looks whether a JPEG or PNG file is whole."""

    async def check(self, read: Callable[[], AsyncIterator[bytes]]) -> PictureReport:
        """Decodes the picture whose bytes `read` gives in chunks. Errors of `read` are raised."""
        ...
