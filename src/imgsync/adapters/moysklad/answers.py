"""Answers read with bounds: bytes, decompressed bytes, nesting, and the objects they make."""

import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pydantic_core

from imgsync.adapters.moysklad.errors import TransientError

_PIECE = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_PLAIN, _COMPRESSED = frozenset({"", "identity"}), frozenset({"gzip", "x-gzip"})
_MARKS = b"[{,:"
_LONGEST_NUMBER = 20
_SURROGATES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class TooLongError(Exception):
    """More bytes came than are read."""


class CutError(Exception):
    """A body ended before its end, or is not what its headers say; the text tells how."""


def content_length(response: httpx.Response) -> int | None:
    """Content-Length, None where it is missing or no sensible number."""
    text = response.headers.get("Content-Length", "")
    return int(text) if len(text) <= _LONGEST_NUMBER and text.isdecimal() else None


async def pieces(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    """The body, decompressed, in pieces; never more than `limit` bytes of it.

    httpx would decompress each piece without a bound, as often as the header says.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _PLAIN:
        parts = _raw(response, limit)
    elif encoding in _COMPRESSED:
        parts = _decompressed(_raw(response, limit))
    else:
        raise CutError(f"it is encoded as '{encoding[:40]}', which was not asked for")
    size = 0
    async for part in parts:
        size += len(part)
        if size > limit:
            raise TooLongError
        yield part


async def _raw(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    told, received = content_length(response), 0
    if told is not None and told > limit:
        raise TooLongError
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > limit:
            raise TooLongError
        yield chunk
    if told is not None and received != told:
        raise CutError(f"{received} bytes came, its Content-Length is {told}")


async def _decompressed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    stream = zlib.decompressobj(_GZIP)
    begun = False
    async for chunk in chunks:
        rest = chunk
        while rest:
            if stream.eof:
                stream = zlib.decompressobj(_GZIP)
            try:
                piece = stream.decompress(rest, _PIECE)
            except zlib.error:
                raise CutError("it cannot be decompressed") from None
            begun = True
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
            if piece:
                yield piece
    while begun and not stream.eof:
        # What the last chunk left inside the decompressor.
        piece = stream.decompress(b"", _PIECE)
        if not piece:
            raise CutError("its compressed data end too early")
        yield piece


async def read_start(response: httpx.Response, limit: int) -> bytes:
    """The body as far as it can be read within `limit`; for answers whose text is only shown."""
    data = bytearray()
    try:
        async for piece in pieces(response, limit):
            data += piece
    except (TooLongError, CutError):
        pass
    return bytes(data)


async def read_json(response: httpx.Response, limit: int, marks: int) -> Any:
    """The decoded answer of at most `limit` bytes and `marks` brackets, commas and colons; None
    for an empty one.

    TransientError where it is cut or no JSON, as a proxy's page or a broken connection is;
    TooLongError where it is larger than any honest answer.
    """
    data = bytearray()
    try:
        async for piece in pieces(response, limit):
            data += piece
    except CutError as error:
        raise TransientError(f"the answer is not whole: {error}") from None
    if not data.strip():
        return None
    if sum(data.count(mark) for mark in _MARKS) > marks:
        raise TooLongError
    return decode(data)


def decode(data: bytes | bytearray) -> Any:
    """JSON; TransientError for anything else, nesting of hundreds of levels included."""
    try:
        return pydantic_core.from_json(data, cache_strings="keys")
    except ValueError as error:
        # Half of an emoji, as a text cut at 255 UTF-16 units ends: not worth losing a page for.
        whole = _SURROGATES.sub(lambda found: found[1] or rb"\ufffd", data)
        if whole != data:
            return decode(whole)
        raise TransientError(f"the answer is not JSON: {str(error)[:100]}") from None
