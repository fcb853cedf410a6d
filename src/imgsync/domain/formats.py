"""Image files: the formats that MoySklad accepts, what a look into a picture finds, and names."""

import re
from dataclasses import dataclass
from enum import StrEnum

_SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}

SIGNATURE_BYTES = max(len(signature) for signature in _SIGNATURES)
"""Bytes from the start of a file that `image_format` needs."""


def image_format(head: bytes) -> str | None:
    """'jpg' or 'png' by the file's signature, None for anything else (error 51002)."""
    return next((name for sig, name in _SIGNATURES.items() if head.startswith(sig)), None)


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
    """What was found; `detail` says it in words where the picture is not whole."""

    state: PictureState
    detail: str = ""


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
