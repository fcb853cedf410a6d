"""Answers of the API: read with bounds, and as domain errors (API documentation, Errors).

Bounds are bytes, decompressed bytes, nesting, and the objects they make. Of an error the code
decides, and the status only where there is none that is known: the documentation names no statuses
for most codes.
"""

import re
import zlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pydantic_core
from pydantic import BaseModel, BeforeValidator, ValidationError

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImageRejectedError,
    ImgsyncError,
    LargeImageError,
    NoImageError,
    NotFoundError,
    NoWebhookRightError,
    NoWebhooksError,
    ParkingError,
    PermissionDeniedError,
    RequestTooLargeError,
    StorageFullError,
    UnavailableError,
    WebhookExistsError,
    WebhookLimitError,
)
from imgsync.domain.troubles import TODO, trouble_of

_MAX_TEXT = 300
_PIECE = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_PLAIN, _COMPRESSED = frozenset({"", "identity"}), frozenset({"gzip", "x-gzip"})
_MARKS = b"[{,:"
_LONGEST_NUMBER = 20
_SURROGATES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class RateLimitError(UnavailableError):
    """429: the pacer holds the next request; repeat it."""


class TransientError(UnavailableError):
    """A timeout, a broken connection or answer, 5xx or a code that says so: repeat after a pause.

    `wait`: seconds that the server asks to wait.
    """

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class TimedOutError(TransientError):
    """Code 1088: the API broke the request off, as it took too long."""


class AnswerTooLongError(ApiError):
    """An answer is larger than any honest one; the rest of it was not read."""


class WrongContextError(ApiError):
    """Codes 55005 and 55006: the context of a user was asked for by a solution, or the reverse."""


_KINDS: tuple[tuple[type[ImgsyncError], frozenset[int]], ...] = (
    # 1048 (too many tries with a wrong password) comes as 429, but no pause makes it pass.
    (AuthorisationError, frozenset({1048, 1056, 1061})),
    (StorageFullError, frozenset({51003})),
    (RateLimitError, frozenset({1049, 1073})),
    (TransientError, frozenset({1083, 1095, 51007})),
    (TimedOutError, frozenset({1088})),
    (RequestTooLargeError, frozenset({1044})),
    (LargeImageError, frozenset({51004})),
    (NoImageError, frozenset({51002})),
    (ImageRejectedError, frozenset({51001, 51005, 51006})),
    (WrongContextError, frozenset({55005, 55006})),
    (NotFoundError, frozenset({1021})),
    (WebhookExistsError, frozenset({30003})),
    (NoWebhookRightError, frozenset({30004})),
    (NoWebhooksError, frozenset({30006})),
    (WebhookLimitError, frozenset({30007})),
)
"""The first kind that has one of an answer's codes is the answer's."""

LASTING = (ApiError, ImageRejectedError, NotFoundError, PermissionDeniedError)
"""Kinds that an identical request would meet again."""


def _text(value: object) -> object:
    return value if isinstance(value, str) else None


class _Error(BaseModel):
    """Its texts are only shown: one in another shape must not cost the code."""

    error: Annotated[str | None, BeforeValidator(_text)] = None
    code: int | None = None
    error_message: Annotated[str | None, BeforeValidator(_text)] = None


UNKNOWN_OWNER = "of these credentials"
"""Stands for the name of an account while it is asked whose credentials these are."""


def told_by(account: str) -> str:
    """How a text on an answer begins: with the account's name, where that is known."""
    return "" if account == UNKNOWN_OWNER else f"MoySklad account '{account}': "


def error_of(response: httpx.Response, body: object, account: str, account_id: str) -> ImgsyncError:
    """The error of an answer that is not a success; `body` is its JSON, None where it has none.

    `account` is for the text.
    """
    errors = _parse(body)
    kind = _kind({e.code for e in errors if e.code}, response.status_code)
    if issubclass(kind, ParkingError):
        # Of the account as a whole: which server said so may be what is wrong.
        text = f"{told_by(account)}{_describe(response, errors, with_server=True)}"
        return kind(_with_todo(text, account), account_id)
    return kind(f"{told_by(account)}{_describe(response, errors)}")


def element_error(
    element: object, account: str, account_id: str, address: str = ""
) -> ImgsyncError:
    """The error of one element ``{"errors"}`` of an answer that has others beside it; `address`: of
    the server, for the text.

    It has no status of its own: only its codes count.
    """
    errors = _parse(element)
    text = f"{told_by(account)}{_texts(errors) or 'an error without a text'}"[:_MAX_TEXT]
    kind = _kind({e.code for e in errors if e.code}, httpx.codes.OK)
    if issubclass(kind, ParkingError):
        return kind(_with_todo(f"{text} [{address}]" if address else text, account), account_id)
    return kind(text)


def _with_todo(text: str, account: str) -> str:
    """Not of credentials that are only being tried, of which whoever tries them is told."""
    trouble = None if account == UNKNOWN_OWNER else trouble_of(text)
    return f"{text}; {TODO[trouble]}" if trouble in TODO else text


def _kind(codes: set[int], status: int) -> type[ImgsyncError]:
    for kind, known in _KINDS:
        if codes & known:
            return kind
    by_status: dict[int, type[ImgsyncError]] = {
        httpx.codes.UNAUTHORIZED: AuthorisationError,
        httpx.codes.FORBIDDEN: PermissionDeniedError,
        httpx.codes.NOT_FOUND: NotFoundError,
        httpx.codes.REQUEST_ENTITY_TOO_LARGE: RequestTooLargeError,
        httpx.codes.TOO_MANY_REQUESTS: RateLimitError,
    }
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return TransientError
    return by_status.get(status, ApiError)


def _parse(body: object) -> list[_Error]:
    """Errors of a body: one object, or the error elements of a bulk answer."""
    found = []
    for part in body if isinstance(body, list) else [body]:
        errors = part.get("errors") if isinstance(part, dict) else None
        for error in errors if isinstance(errors, list) else []:
            try:
                found.append(_Error.model_validate(error))
            except ValidationError:
                continue
    return found


def _describe(response: httpx.Response, errors: list[_Error], *, with_server: bool = False) -> str:
    url = response.request.url
    server = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}" if with_server else ""
    request = f"{response.request.method} {server}{url.path[:_MAX_TEXT]}"
    text = _texts(errors) or response.reason_phrase
    return f"{response.status_code} {text}"[:_MAX_TEXT] + f" [{request}]"


def _texts(errors: list[_Error]) -> str:
    return "; ".join(
        " ".join(filter(None, (e.error, e.error_message, f"(code {e.code})" if e.code else "")))
        for e in errors
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
