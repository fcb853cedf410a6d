"""Image formats that MoySklad accepts, and what a look into a picture finds."""

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
