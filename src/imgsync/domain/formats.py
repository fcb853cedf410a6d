"""Image files: the formats that MoySklad accepts, those that can be converted to one, what a look
into a picture finds, and names."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `pictures` plans by the formats that stand here
    from imgsync.domain.pictures import PictureFacts

SENDABLE = frozenset({"jpg", "png"})
"""Formats that the API documents; anything else is its error 51002."""

CONVERTIBLE = frozenset({"gif", "bmp", "webp", "tiff", "heic"})
"""Formats that can be made one of those."""

_SIGNATURES = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}
# Of a container that has other things too: what stands at its eighth byte. A brand that such a file
# shares with AVIF (mif1) is HEIC here, and broken where it turns out to be none.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

SIGNATURE_BYTES = 12
"""Bytes from the start of a file that `image_format` needs."""


def image_format(head: bytes) -> str | None:
    """The format by the file's signature, of SENDABLE or CONVERTIBLE; None for anything else."""
    known = next((name for sig, name in _SIGNATURES.items() if head.startswith(sig)), None)
    if known is not None:
        return known
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "heic"
    # Two letters would be the start of many a text.
    return "bmp" if head.startswith(b"BM") and head[6:10] == bytes(4) else None


def is_sendable(head: bytes) -> bool:
    """Whether the file's signature is that of a format which the API documents."""
    return image_format(head) in SENDABLE


class PictureState(StrEnum):
    """Whether a picture is there to its end.

    UNENDED decodes, but the file does not end with its end marker; BROKEN does not decode, as it is
    cut or damaged; HUGE has more pixels than are decoded.
    """

    WHOLE = "whole"
    UNENDED = "unended"
    BROKEN = "broken"
    HUGE = "huge"


@dataclass(frozen=True, slots=True)
class PictureReport:
    """What was found; `detail` says it in words where the picture is not whole, `facts` tells of
    the picture where it decodes."""

    state: PictureState
    detail: str = ""
    facts: "PictureFacts | None" = None


MAX_FILENAME_LENGTH = 255
"""Characters of `filename` in the API (String(255))."""

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")


def upload_name(filename: str) -> str:
    """The name to upload: last path segment, no control characters, at most 255 characters.

    Falls back to ``image`` where nothing is left; the suffix survives the cut.
    """
    base = re.split(r"[/\\]", filename)[-1]
    clean = "".join(c for c in base if c.isprintable()).strip()
    if clean.strip(".") == "":
        return "image"
    if len(clean) <= MAX_FILENAME_LENGTH:
        return clean
    suffix = safe_suffix(clean)
    return clean[: MAX_FILENAME_LENGTH - len(suffix)] + suffix


def renamed(filename: str, image_format: str | None) -> str:
    """The name with the suffix of another format ('jpg' or 'png'); as it is where it fits."""
    suffix = safe_suffix(filename)
    suits = {"jpg": (".jpg", ".jpeg"), "png": (".png",)}.get(image_format or "", (suffix,))
    if suffix in suits:
        return filename
    return upload_name(filename[: len(filename) - len(suffix)] + suits[0])


def safe_suffix(filename: str) -> str:
    """Suffix such as ``.jpg``, in lower case, or '' when it is not plain ASCII."""
    match = _SUFFIX.search(filename)
    return match.group().lower() if match else ""
