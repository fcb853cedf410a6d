"""Answers of the API as domain errors (API documentation, Errors)."""

import httpx
from pydantic import BaseModel, ValidationError

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImageRejectedError,
    ImgsyncError,
    NotFoundError,
    StorageFullError,
    UnavailableError,
)

_IMAGE_CODES = frozenset({51001, 51002, 51004, 51005, 51006})
_STORAGE_FULL, _STORAGE_UNAVAILABLE = 51003, 51007
_AUTH_CODES = frozenset({1056, 1061})
_NOT_FOUND = 1021
_MAX_TEXT = 300


class ThrottledError(UnavailableError):
    """429: the pacer holds the next request; repeat it."""


class TransientError(UnavailableError):
    """A timeout, a broken connection, 5xx or code 51007: repeat after a pause.

    `wait`: seconds that the server asks to wait.
    """

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class _Error(BaseModel):
    error: str = ""
    code: int | None = None
    error_message: str | None = None
    parameter: str | None = None


class _Errors(BaseModel):
    errors: list[_Error]


def error_of(response: httpx.Response, account: str) -> ImgsyncError:
    """The error of an answer that was read and is not a success; `account` is for its text."""
    errors = _parse(response)
    codes = {e.code for e in errors}
    text = f"MoySklad account '{account}': {_describe(response, errors)}"
    status = response.status_code
    kind: type[ImgsyncError] = ApiError
    if status == httpx.codes.TOO_MANY_REQUESTS:
        kind = ThrottledError
    elif status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN) or codes & _AUTH_CODES:
        kind = AuthorisationError
    elif _STORAGE_FULL in codes:
        kind = StorageFullError
    elif status >= httpx.codes.INTERNAL_SERVER_ERROR or _STORAGE_UNAVAILABLE in codes:
        kind = TransientError
    elif codes & _IMAGE_CODES or status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        kind = ImageRejectedError
    elif status == httpx.codes.NOT_FOUND or _NOT_FOUND in codes:
        kind = NotFoundError
    return kind(text)


def _parse(response: httpx.Response) -> list[_Error]:
    """Errors of a body: one object, or the error elements of a bulk answer."""
    try:
        body = response.json()
    except ValueError:
        return []
    found = []
    for part in body if isinstance(body, list) else [body]:
        try:
            found += _Errors.model_validate(part).errors
        except ValidationError:
            continue
    return found


def _describe(response: httpx.Response, errors: list[_Error]) -> str:
    texts = [
        " ".join(filter(None, (e.error, e.error_message, f"(code {e.code})" if e.code else "")))
        for e in errors
    ]
    request = f"{response.request.method} {response.request.url.path}"
    text = "; ".join(texts) or response.reason_phrase
    return f"{response.status_code} {text}"[:_MAX_TEXT] + f" [{request}]"
