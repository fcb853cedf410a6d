"""Checks of request headers (sections Restrictions, Compression, Errors)."""

import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from moysklad_emulator.errors import ApiError, api_error
from moysklad_emulator.limits import EmulatorLimits

EXPIRATION_HEADER = "X-Lognex-Download-Expiration-Seconds"
QUIET_HEADER = "X-Lognex-WebHook-DisableByPrefix"
_PREFIX = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]{1,5})?(/[!-~]*)?", re.IGNORECASE)
"""The protocol and the whole name of the host, which has a dot; no list by commas."""
_MAX_WEBHOOK_URL = 255
_OWN_HEADERS = ("x-lognex-", "lognex-")


class CheckMiddleware:
    """Refuses a request where `check` raises; the application's handlers make the answer."""

    def __init__(self, app: ASGIApp, *, check: Callable[[HTTPConnection], None]) -> None:
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check(HTTPConnection(scope))
        await self._app(scope, receive, send)


def check_header_size(scope: Scope, limits: EmulatorLimits) -> None:
    """414 where the URL alone is too long, 431 where URL and headers together are."""
    url = len(scope["raw_path"]) + len(scope["query_string"])
    if url > limits.max_header_bytes:
        raise ApiError(414)
    headers = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    if url + headers > limits.max_header_bytes:
        raise ApiError(431)


def check_accept_encoding(headers: Headers) -> None:
    """415 without a body unless gzip is accepted."""
    for choice in headers.get("accept-encoding", "").split(","):
        coding, _, quality = choice.partition(";")
        refused = re.fullmatch(r"q=0(\.0*)?", quality.replace(" ", ""))
        if coding.strip().lower() == "gzip" and not refused:
            return
    raise ApiError(415)


def check_accept(headers: Headers) -> None:
    """ApiError 1062 for an Accept other than ``*/*`` and the documented one."""
    accept = headers.get("accept", "*/*").replace(" ", "").lower()
    if accept not in ("*/*", "application/json;charset=utf-8"):
        raise api_error(1062, parameter="Accept")


def check_own_headers(headers: Headers) -> None:
    """ApiError 3030 for one of MoySklad's own headers that is not played: a region, a time zone.

    The documentation names no code for a prefix of webhooks that is none.
    """
    for name, value in headers.items():
        if name == QUIET_HEADER.lower():
            if not _PREFIX.fullmatch(value) or "," in value or len(value) > _MAX_WEBHOOK_URL:
                raise api_error(3030, parameter=name)
        elif name.startswith(_OWN_HEADERS) and name != EXPIRATION_HEADER.lower():
            raise api_error(3030, parameter=name)
