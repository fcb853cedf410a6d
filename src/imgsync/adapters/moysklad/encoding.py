"""The exact JSON bytes of image uploads, so that sizes are counted and sent by one rule.

A request body is ``[element,element,…]`` (it SETS the list), where an element either keeps an
image by meta or uploads one with base64 content.
"""

import json
from collections.abc import Iterable

from imgsync.adapters.moysklad.limits import (
    MAX_IMAGE_BYTES,
    MAX_PARALLEL_REQUESTS,
    MAX_REQUEST_BYTES,
)
from imgsync.domain.model import Element, Keep, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.moysklad import ApiLimits

ARRAY_OPEN, ARRAY_CLOSE, ELEMENT_SEPARATOR = b"[", b"]", b","
UPLOAD_SUFFIX = b'"}'


def keep_meta(href: str) -> dict[str, dict[str, str]]:
    """``{"meta": {...}}`` that names an existing image."""
    return {"meta": {"href": href, "type": "image", "mediaType": "application/json"}}


def keep_bytes(keep: Keep) -> bytes:
    """JSON of a kept image."""
    return json.dumps(keep_meta(keep.href), separators=(",", ":")).encode("ascii")


def upload_prefix(upload: Upload) -> bytes:
    """JSON of an upload up to its base64 text; `UPLOAD_SUFFIX` follows that text."""
    return f'{{"filename":{json.dumps(upload.filename)},"content":"'.encode("ascii")


def base64_size(size: int) -> int:
    """Characters of the base64 text of `size` bytes."""
    return 4 * ((size + 2) // 3)


def element_size(element: Element) -> int:
    """Encoded JSON bytes of one element."""
    if isinstance(element, Keep):
        return len(keep_bytes(element))
    return len(upload_prefix(element)) + base64_size(element.size) + len(UPLOAD_SUFFIX)


def array_size(elements: Iterable[Element]) -> int:
    """Encoded JSON bytes of a whole request body."""
    sizes = [element_size(element) for element in elements]
    separators = len(ELEMENT_SEPARATOR) * max(0, len(sizes) - 1)
    return len(ARRAY_OPEN) + sum(sizes) + separators + len(ARRAY_CLOSE)


API_LIMITS = ApiLimits(
    RequestRoom(MAX_REQUEST_BYTES, array_size), MAX_IMAGE_BYTES, MAX_PARALLEL_REQUESTS
)
"""What use cases must know of these limits."""
