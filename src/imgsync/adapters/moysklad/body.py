"""Request bodies that are streamed: base64 of files on disk, never whole in memory."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imgsync.adapters.moysklad.encoding import (
    ARRAY_CLOSE,
    ARRAY_OPEN,
    ELEMENT_SEPARATOR,
    UPLOAD_SUFFIX,
    array_size,
    keep_bytes,
    upload_prefix,
)
from imgsync.domain.model import Element, Keep
from imgsync.domain.ports.moysklad import ReadContent


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A JSON body of exactly `length` bytes; `chunks` begins anew for every repetition.

    The last chunk is small and completes the body: without it the API does nothing. `digest`
    tells equal bodies; None where it would cost reading the files.
    """

    length: int
    chunks: Callable[[], Iterator[bytes]]
    digest: bytes | None = None

    async def guarded(self, check: Callable[[], None]) -> AsyncIterator[bytes]:
        """The chunks, with a call of `check` right before each; its error ends the body."""
        for chunk in self.chunks():
            check()
            yield chunk


def image_array(elements: Sequence[Element], read: ReadContent) -> StreamedBody:
    """Body of the array request that sets an image list to `elements`."""
    return StreamedBody(array_size(elements), lambda: _array(elements, read))


def small_body(value: Any) -> StreamedBody:
    """Body of a value that is small."""
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    return StreamedBody(
        len(data), lambda: iter((data[:-1], data[-1:])), hashlib.sha256(data).digest()
    )


def base64_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 (RFC 4648, padded, no line breaks) of the joined chunks."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        if whole:
            yield base64.b64encode(memoryview(data)[:whole])
    if rest:
        yield base64.b64encode(rest)


def _array(elements: Sequence[Element], read: ReadContent) -> Iterator[bytes]:
    yield ARRAY_OPEN
    for position, element in enumerate(elements):
        if position:
            yield ELEMENT_SEPARATOR
        if isinstance(element, Keep):
            yield keep_bytes(element)
        else:
            yield upload_prefix(element)
            yield from base64_chunks(read(element.key))
            yield UPLOAD_SUFFIX
    yield ARRAY_CLOSE
