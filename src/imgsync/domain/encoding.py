"""The exact JSON bytes of image uploads, so that sizes are counted and sent by one rule.

A request body is ``[element,element,…]`` (it SETS the list), where an element either keeps an
image by meta or uploads one with base64 content.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

ARRAY_OPEN, ARRAY_CLOSE, ELEMENT_SEPARATOR = b"[", b"]", b","
UPLOAD_SUFFIX = b'"}'


@dataclass(frozen=True, slots=True)
class Keep:
    """An image that is on the child already; `href` is its meta.href."""

    href: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to send. `key` names its downloaded file, `size` is that file's bytes.

    `replaces`: href of the child's earlier copy, which holds its place until it is there.
    """

    key: str
    filename: str
    size: int
    replaces: str | None = None

    @property
    def stand_in(self) -> Keep | None:
        """The earlier copy."""
        return None if self.replaces is None else Keep(self.replaces)


Element = Keep | Upload


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
