"""Request bodies: size limit and JSON."""

import asyncio
import json
import re
import zlib
from typing import Any

from starlette.requests import Request

from moysklad_emulator.errors import api_error
from moysklad_emulator.limits import EmulatorLimits

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def read_json(request: Request, limits: EmulatorLimits) -> Any:
    """The JSON of the body. ApiError 1037, 1044, 2001, 2006 or 2007.

    Also leaves the body's checksum in ``request.state.body_checksum``.
    """
    declared = request.headers.get("content-type", "application/json")
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise api_error(1037, parameter="Content-Type")
    # An honest Content-Length spares reading; the exchange drains what is left unread.
    if int(request.headers.get("content-length", 0)) > limits.max_body_bytes:
        raise api_error(1044)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.max_body_bytes:
            raise api_error(1044)
    request.state.body_checksum = zlib.crc32(body)
    data = await asyncio.to_thread(_parse, bytes(body))
    if isinstance(data, list) and len(data) > limits.max_array_elements:
        raise api_error(2007, maximum=limits.max_array_elements)
    if _is_deeper(data, limits.max_depth):
        raise api_error(2006)
    return data


def _is_deeper(data: Any, levels: int) -> bool:
    """Whether objects and arrays stand within one another on more than `levels` levels."""
    if not isinstance(data, dict | list):
        return False
    parts = data.values() if isinstance(data, dict) else data
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _parse(body: bytes) -> Any:
    """JSON in UTF-8 and nothing more: Python alone would read UTF-16, NaN and half an emoji too,
    of which the last could not be written into any answer."""
    try:
        text = body.decode()
        data = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise api_error(2001) from None
    return data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
