"""How large an image file an account may take, as far as its answers have shown."""

from imgsync.domain.model import Abilities

LIKELY_LIMITS = (10_000_000, 5_000_000, 3_000_000, 1_500_000, 750_000, 375_000)
"""Bytes, the largest first. The vendor's texts have named 3 MB, practice knows 5 and 10; where even
3 MB are refused, half as much is tried, again and again. Each is read as the decimal megabyte: the
binary one is 5 % more, which no one sees in a photograph."""


def size_limit(known: Abilities, most: int) -> int:
    """Bytes that a file may have which is to be sent: `most` while nothing was refused; then the
    largest likely limit below what was, or what was taken where that is more. 0 where there is
    none."""
    refused = known.refused_image_bytes
    if refused is None or refused > most:
        return most
    likely = next((size for size in LIKELY_LIMITS if size < refused), 0)
    accepted = known.accepted_image_bytes or 0
    return max(likely, accepted) if accepted < refused else likely
