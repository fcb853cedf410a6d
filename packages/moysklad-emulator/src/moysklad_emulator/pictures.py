"""Whole pictures of a wanted size: every decoder can read them to their end."""

import random
import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PADDING_CHUNK = b"paDd"  # ancillary, private, safe to copy: a decoder skips it


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _parts(number: int) -> tuple[bytes, bytes]:
    pixel = b"\x00" + number.to_bytes(6, "big")  # no filter; one pixel of 3 × 16 bits
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    return _SIGNATURE + header + _chunk(b"IDAT", zlib.compress(pixel, 0)), _chunk(b"IEND", b"")


SMALLEST_PNG_BYTES = sum(map(len, _parts(0))) + len(_chunk(_PADDING_CHUNK, b""))
"""Size of the smallest picture that `padded_png` makes."""


def padded_png(number: int, size: int) -> bytes:
    """A PNG of one pixel and exactly `size` bytes; each `number` (below 2**48) gives another.

    The padding does not compress. ValueError for a size below `SMALLEST_PNG_BYTES`.
    """
    if size < SMALLEST_PNG_BYTES:
        raise ValueError(f"the smallest picture has {SMALLEST_PNG_BYTES} bytes")
    start, end = _parts(number)
    generator = random.Random(f"{number}/{size}")  # noqa: S311 (no secret)
    rest = size - len(start) - len(end) - len(_chunk(_PADDING_CHUNK, b""))
    return start + _chunk(_PADDING_CHUNK, generator.randbytes(rest)) + end
