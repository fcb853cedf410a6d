"""Images: stored ones, and the elements of a new image list."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import PurePath
from typing import NamedTuple

from imgsync.adapters.emulator.content import digest_of

_MOSCOW_TIME = timezone(timedelta(hours=3))
_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


def now_text() -> str:
    """This moment as the API writes it: Moscow time, ``YYYY-MM-DD HH:MM:SS.mmm``."""
    return datetime.now(_MOSCOW_TIME).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def image_type(content: bytes) -> str | None:
    """Media type by signature; None for anything but jpg and png."""
    return next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of an account. `updated` is the time of its first upload."""

    id: str
    filename: str
    digest: str
    size: int
    media_type: str
    updated: str

    @property
    def title(self) -> str:
        return PurePath(self.filename).stem


@dataclass(frozen=True, slots=True)
class KeptImage:
    """List element: an image that the entity has already."""

    id: str


@dataclass(frozen=True, slots=True)
class NewImage:
    """List element: an upload."""

    filename: str
    content: bytes = field(repr=False)
    digest: str

    @classmethod
    def create(cls, filename: str, content: bytes) -> "NewImage":
        return cls(filename, content, digest_of(content))


ImageElement = KeptImage | NewImage


class ImageCopy(NamedTuple):
    """An image and its bytes, for assertions."""

    id: str
    filename: str
    content: bytes
