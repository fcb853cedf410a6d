"""Bodies that a client must survive."""

import gzip
import json
import zlib
from functools import cache
from typing import Literal

from moysklad_emulator.pictures import SMALLEST_PNG_BYTES, padded_png

Body = Literal[
    "empty",
    "not_json",
    "cut_json",
    "deep_json",
    "gzip_bomb",
    "gzip_in_gzip",
    "gzip_bomb_in_gzip",
    "placeholder",
]
"""What a fault may put in the place of an answer's body.

empty; HTML instead of JSON; the first half of the JSON that would have come; arrays of 100,000
levels; an API page that is 300 MB when unpacked; the true body packed twice, and the bomb packed
twice (Content-Encoding tells both); a whole picture of one pixel, below 100 bytes.
"""

BOMB_BYTES = 300_000_000
LEVELS = 100_000
_CHUNK = b" " * 1_000_000


def hostile_body(kind: Body, body: bytes, encoding: str) -> tuple[bytes, str]:
    """The body in the place of `body`, and its Content-Encoding ("" for none)."""
    if kind == "empty":
        return b"", ""
    if kind == "not_json":
        return b"<html><body>The service is being updated</body></html>", ""
    if kind == "placeholder":
        return placeholder(), ""
    if kind == "deep_json":
        return gzip.compress(deep_json()), "gzip"
    if kind == "gzip_bomb":
        return gzip_bomb(), "gzip"
    if kind == "gzip_bomb_in_gzip":
        return gzip.compress(gzip_bomb()), "gzip, gzip"
    plain = gzip.decompress(body) if encoding == "gzip" else body
    if kind == "gzip_in_gzip":
        return gzip.compress(gzip.compress(plain)), "gzip, gzip"
    return gzip.compress(plain[: len(plain) // 2]), "gzip"


def placeholder() -> bytes:
    """A whole picture that is not the wanted one."""
    return padded_png(0, SMALLEST_PNG_BYTES)


def deep_json() -> bytes:
    """A page of the API with one row of `LEVELS` levels."""
    page = json.dumps({"meta": {"size": 1}, "rows": []}).encode()
    return page[:-2] + b"[" * LEVELS + b"]" * LEVELS + page[-2:]


@cache
def gzip_bomb() -> bytes:
    """An empty page of the API among `BOMB_BYTES` blanks, packed by gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts = [packer.compress(b'{"meta":{"size":0},"rows":[')]
    parts += [packer.compress(_CHUNK) for _ in range(BOMB_BYTES // len(_CHUNK))]
    return b"".join([*parts, packer.compress(b"]}"), packer.flush()])
