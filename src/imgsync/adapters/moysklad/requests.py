"""Request bodies that change images: exact JSON bytes, counted and sent by one rule, and streamed.

A body is ``[element,element,…]`` (it SETS the list), where an element either keeps an image by meta
or uploads one with base64 content; the files are never whole in memory.
"""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from imgsync.adapters.moysklad.limits import (
    MAX_BULK_ENTITIES,
    MAX_IMAGE_BYTES,
    MAX_PARALLEL_REQUESTS,
    MAX_REQUEST_BYTES,
)
from imgsync.domain.model import Element, Keep, MatchField, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.moysklad import ApiLimits, BulkRoom, ImageSet, ReadContent
from imgsync.domain.webhooks import EventAction, Webhook

ARRAY_OPEN, ARRAY_CLOSE, ELEMENT_SEPARATOR = b"[", b"]", b","
UPLOAD_SUFFIX = b'"}'
ENTITY_SUFFIX = b"}"


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


def entity_prefix(listing: str, type_name: str, entity_id: str) -> bytes:
    """JSON of an entity up to its array of images; `ENTITY_SUFFIX` follows that array.

    `listing`: address of the entities of the type.
    """
    meta = {
        "href": f"{listing}/{quote(entity_id, safe='')}",
        "type": type_name,
        "mediaType": "application/json",
    }
    return f'{{"meta":{json.dumps(meta, separators=(",", ":"))},"images":'.encode("ascii")


def bulk_size(listing: str, type_name: str, sets: Sequence[ImageSet]) -> int:
    """Encoded JSON bytes of a whole body that sets the lists of many entities."""
    sizes = [
        len(entity_prefix(listing, type_name, one.entity_id))
        + array_size(one.elements)
        + len(ENTITY_SUFFIX)
        for one in sets
    ]
    separators = len(ELEMENT_SEPARATOR) * max(0, len(sizes) - 1)
    return len(ARRAY_OPEN) + sum(sizes) + separators + len(ARRAY_CLOSE)


_ANY_TYPE = "t" * 40
"""As long as the name of any type."""


def api_limits(api_url: str) -> ApiLimits:
    """What use cases must know of these limits, at the API of a base URL."""
    listing = f"{api_url}/entity/{_ANY_TYPE}"
    return ApiLimits(
        RequestRoom(MAX_REQUEST_BYTES, array_size),
        MAX_IMAGE_BYTES,
        MAX_PARALLEL_REQUESTS,
        BulkRoom(
            MAX_REQUEST_BYTES, MAX_BULK_ENTITIES, lambda sets: bulk_size(listing, _ANY_TYPE, sets)
        ),
    )


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A JSON body of exactly `length` bytes; `chunks` begins anew for every repetition.

    The last chunk is small and completes the body: without it the API does nothing. `digest`
    tells equal bodies; None where it would cost reading the files.
    """

    length: int
    chunks: Callable[[], AsyncIterator[bytes]]
    digest: bytes | None = None

    async def guarded(self, check: Callable[[], None]) -> AsyncIterator[bytes]:
        """The chunks, with a call of `check` right before each; its error ends the body."""
        async for chunk in self.chunks():
            check()
            yield chunk


def image_array(elements: Sequence[Element], read: ReadContent) -> StreamedBody:
    """Body of the array request that sets an image list to `elements`."""
    return StreamedBody(array_size(elements), lambda: _gathered(_array(elements, read)))


def bulk_array(listing: str, type_name: str, sets: Sequence[ImageSet]) -> StreamedBody:
    """Body of the request that sets the lists of many entities."""
    return StreamedBody(
        bulk_size(listing, type_name, sets), lambda: _gathered(_bulk(listing, type_name, sets))
    )


def small_body(value: Any) -> StreamedBody:
    """Body of a value that is small."""
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    return StreamedBody(len(data), lambda: _in_two(data), hashlib.sha256(data).digest())


def webhook_meta(listing: str, webhook_id: str) -> dict[str, dict[str, str]]:
    """``{"meta": {...}}`` that names an existing webhook; `listing`: address of all of them."""
    return {
        "meta": {
            "href": f"{listing}/{quote(webhook_id, safe='')}",
            "type": "webhook",
            "mediaType": "application/json",
        }
    }


def webhook_body(listing: str, webhook: Webhook) -> dict[str, Any]:
    """One to be made, or to be changed where it has an id."""
    body: dict[str, Any] = {"url": webhook.url, "action": webhook.action}
    if webhook.action == EventAction.UPDATE:
        body["diffType"] = "FIELDS" if webhook.fields else "NONE"
    if webhook.id:
        return webhook_meta(listing, webhook.id) | body | {"enabled": webhook.enabled}
    return body | {"entityType": webhook.entity_type}


async def base64_chunks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Base64 (RFC 4648, padded, no line breaks) of the joined chunks."""
    rest = b""
    async for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        if whole:
            yield base64.b64encode(memoryview(data)[:whole])
    if rest:
        yield base64.b64encode(rest)


_GATHERED_BYTES = 64 * 1024


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, small ones together, as each costs a write to the connection; the last alone."""
    waiting: list[bytes] = []
    size = 0
    last: bytes | None = None
    async for chunk in chunks:
        if last is not None:
            waiting.append(last)
            size += len(last)
        if size >= _GATHERED_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
        last = chunk
    if waiting:
        yield b"".join(waiting)
    if last is not None:
        yield last


async def _in_two(data: bytes) -> AsyncIterator[bytes]:
    yield data[:-1]
    yield data[-1:]


async def _bulk(listing: str, type_name: str, sets: Sequence[ImageSet]) -> AsyncIterator[bytes]:
    yield ARRAY_OPEN
    for position, one in enumerate(sets):
        if position:
            yield ELEMENT_SEPARATOR
        yield entity_prefix(listing, type_name, one.entity_id)
        async for chunk in _array(one.elements, one.read):
            yield chunk
        yield ENTITY_SUFFIX
    yield ARRAY_CLOSE


async def _array(elements: Sequence[Element], read: ReadContent) -> AsyncIterator[bytes]:
    yield ARRAY_OPEN
    for position, element in enumerate(elements):
        if position:
            yield ELEMENT_SEPARATOR
        if isinstance(element, Keep):
            yield keep_bytes(element)
        else:
            yield upload_prefix(element)
            async for text in base64_chunks(read(element.key)):
                yield text
            yield UPLOAD_SUFFIX
    yield ARRAY_CLOSE


_MOSCOW = timezone(timedelta(hours=3))
_VALUES_AT_ONCE = 100
_FILTER_BYTES = 6000
_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""Of a filter in an address, of which the API takes 8 KB with the other headers."""


def moscow_text(moment: datetime) -> str:
    """A time as filters take it; not after the moment."""
    return moment.astimezone(_MOSCOW).strftime("%Y-%m-%d %H:%M:%S")


def values_filters(field: MatchField, values: Sequence[str]) -> list[str]:
    """Filters for entities that have one of these values, each short enough for an address.

    One that filters nothing where a value cannot be asked for, as the documents do not say how it
    would be written or compared.
    """
    for value in values:
        plain = value.strip() == value != "" and value.isprintable() and value[0] not in "~=!<>"
        too_long = _length(f"{field.value}={value}") > _FILTER_BYTES
        if not plain or ";" in value or "\\" in value or too_long:
            return [""]
    return _filters(field.value, values)


def ids_filters(ids: Collection[str]) -> list[str]:
    """Filters for the entities of these ids, each short enough for an address; what can be no id is
    left out, as nothing has it."""
    return _filters("id", [given for given in sorted(ids) if _ID.fullmatch(given)])


def _length(condition: str) -> int:
    return len(quote(condition)) + 3


def _filters(name: str, values: Iterable[str]) -> list[str]:
    filters: list[str] = []
    batch: list[str] = []
    size = 0
    for value in dict.fromkeys(values):
        condition = f"{name}={value}"
        length = _length(condition)
        if batch and (len(batch) == _VALUES_AT_ONCE or size + length > _FILTER_BYTES):
            filters.append(";".join(batch))
            batch, size = [], 0
        batch.append(condition)
        size += length
    return [*filters, ";".join(batch)] if batch else filters
