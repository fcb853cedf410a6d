"""API answers: JSON compressed by gzip, or an empty body."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from moysklad_emulator.errors import ApiError

MEDIA_TYPE = "application/json;charset=utf-8"


def json_answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`data` as gzip-compressed JSON."""
    return Response(
        gzip.compress(json.dumps(data, ensure_ascii=False).encode(), compresslevel=1),
        status,
        {"Content-Encoding": "gzip", **(headers or {})},
        MEDIA_TYPE,
    )


def empty_answer(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(status_code=status, headers=headers)


def error_answer(error: ApiError) -> Response:
    """The documented error body, or none for an error without a code."""
    if error.code is None:
        return empty_answer(error.status, error.headers)
    return json_answer(error.body(), error.status, error.headers)
