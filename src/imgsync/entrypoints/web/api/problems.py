"""What is answered where something is wrong, as RFC 9457 has it."""

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from imgsync.application.syncing import OtherRunError
from imgsync.domain.errors import (
    AlreadyLinkedError,
    ImgsyncError,
    StoreError,
    UnavailableError,
    UnknownAccountError,
)

MEDIA_TYPE = "application/problem+json"
Errors = list[dict[str, str]]


class ProblemError(Exception):
    """What is answered in place of what was asked for."""

    def __init__(self, status: int, detail: str, errors: Errors | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = errors


def problem(status: int, detail: str, errors: Errors | None = None) -> Response:
    """The answer; `errors` point to what is wrong in a body or a query."""
    told: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail.encode("utf-8", "replace").decode("utf-8"),
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    told |= {"errors": errors} if errors else {}
    return JSONResponse(told, status, headers, media_type=MEDIA_TYPE)


def status_of(error: ImgsyncError) -> int:
    """The status that tells of an error whose text is for the user."""
    match error:
        case UnknownAccountError():
            return 404
        case AlreadyLinkedError() | OtherRunError():
            return 409
        case StoreError() | UnavailableError():
            return 503
        case _:
            return 422
