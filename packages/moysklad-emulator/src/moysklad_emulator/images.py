"""Images: stored ones, and the elements of a new image list."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import PurePath
from typing import NamedTuple

from moysklad_emulator.content import digest_of

_MOSCOW_TIME = timezone(timedelta(hours=3))
_SIGNATURES = {rb"\xff\xd8\xff": "image/jpeg", rb"\x89PNG\r\n\x1a\n": "image/png"}
_MORE_SIGNATURES = {rb"GIF8[79]a": "image/gif", b"BM": "image/bmp", rb"RIFF.{4}WEBP": "image/webp"}


def now_text() -> str:
    """This moment as the API writes it: Moscow time, ``YYYY-MM-DD HH:MM:SS.mmm``."""
    return datetime.now(_MOSCOW_TIME).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def image_type(content: bytes, *, more_formats: bool = False) -> str | None:
    """Media type by signature; None for anything but jpg, png and, with `more_formats`, GIF, BMP
    and WEBP.
    """
    signatures = _SIGNATURES | _MORE_SIGNATURES if more_formats else _SIGNATURES
    matches = (kind for start, kind in signatures.items() if re.match(start, content, re.DOTALL))
    return next(matches, None)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of an account. `updated` is the time of its first upload, in most dialects."""

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
