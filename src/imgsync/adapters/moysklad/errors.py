"""Answers of the API as domain errors (API documentation, Errors).

The code decides, and the status only where there is none that is known: the documentation names no
statuses for most codes.
"""

from typing import Annotated

import httpx
from pydantic import BaseModel, BeforeValidator, ValidationError

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImageRejectedError,
    ImgsyncError,
    NotFoundError,
    ParkingError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)

_MAX_TEXT = 300


class ThrottledError(UnavailableError):
    """429: the pacer holds the next request; repeat it."""


class TransientError(UnavailableError):
    """A timeout, a broken connection or answer, 5xx or a code that says so: repeat after a pause.

    `wait`: seconds that the server asks to wait.
    """

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class AnswerTooLongError(ApiError):
    """An answer is larger than any honest one; the rest of it was not read."""


class WrongContextError(ApiError):
    """Codes 55005 and 55006: the context of a user was asked for by a solution, or the reverse."""


_KINDS: tuple[tuple[type[ImgsyncError], frozenset[int]], ...] = (
    # 1048 (too many tries with a wrong password) comes as 429, but no pause makes it pass.
    (AuthorisationError, frozenset({1048, 1056, 1061})),
    (StorageFullError, frozenset({51003})),
    (ThrottledError, frozenset({1049, 1073})),
    (TransientError, frozenset({1083, 1088, 1095, 51007})),
    # 1044 is the whole request's size: fewer images in it may pass.
    (ImageRejectedError, frozenset({1044, 51001, 51002, 51004, 51005, 51006})),
    (WrongContextError, frozenset({55005, 55006})),
    (NotFoundError, frozenset({1021})),
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


def error_of(response: httpx.Response, body: object, account: str, account_id: str) -> ImgsyncError:
    """The error of an answer that is not a success; `body` is its JSON, None where it has none.

    `account` is for the text.
    """
    errors = _parse(body)
    text = f"MoySklad account '{account}': {_describe(response, errors)}"
    kind = _kind({e.code for e in errors if e.code}, response.status_code)
    if issubclass(kind, ParkingError):
        return kind(text, account_id)
    return kind(text)


def _kind(codes: set[int], status: int) -> type[ImgsyncError]:
    for kind, known in _KINDS:
        if codes & known:
            return kind
    by_status: dict[int, type[ImgsyncError]] = {
        httpx.codes.UNAUTHORIZED: AuthorisationError,
        httpx.codes.FORBIDDEN: PermissionDeniedError,
        httpx.codes.NOT_FOUND: NotFoundError,
        httpx.codes.REQUEST_ENTITY_TOO_LARGE: ImageRejectedError,
        httpx.codes.TOO_MANY_REQUESTS: ThrottledError,
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


def _describe(response: httpx.Response, errors: list[_Error]) -> str:
    texts = [
        " ".join(filter(None, (e.error, e.error_message, f"(code {e.code})" if e.code else "")))
        for e in errors
    ]
    request = f"{response.request.method} {response.request.url.path[:_MAX_TEXT]}"
    text = "; ".join(texts) or response.reason_phrase
    return f"{response.status_code} {text}"[:_MAX_TEXT] + f" [{request}]"
