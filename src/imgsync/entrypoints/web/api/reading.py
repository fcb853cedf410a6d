"""Reads bodies and queries: no larger, deeper or stranger than what this API takes."""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request

from imgsync.entrypoints.web.api.problems import Errors, ProblemError

_LARGEST = 1_000_000
_DEEPEST = 50
_M = TypeVar("_M", bound=BaseModel)


async def read_bytes(request: Request) -> bytes:
    """The whole body. 413 where it is too large, 400 where it is cut."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST:
                raise ProblemError(413, "The body is larger than 1 MB")
    except ClientDisconnect:
        raise ProblemError(400, "The body is cut") from None
    return bytes(body)


def read_json(body: bytes) -> Any:
    """400 for what is no plain JSON."""
    try:
        value = json.loads(
            body.decode(),
            parse_constant=_refused,
            parse_float=_finite,
            object_pairs_hook=_without_doubles,
        )
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body is no JSON") from None
    level = [value]
    for _ in range(_DEEPEST):
        inner = [one for outer in level for one in _inside(outer)]
        if not inner:
            return value
        level = inner
    raise ProblemError(400, f"The body is nested deeper than {_DEEPEST} levels")


def read_body(model: type[_M], value: Any) -> _M:
    """422 with pointers (RFC 6901) to what is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors: Errors = [
            {"pointer": _pointer(value, one["loc"], one["type"]), "detail": one["msg"]}
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise ProblemError(422, "The body is not what is taken here", errors) from None


def read_query(model: type[_M], asked: QueryParams) -> _M:
    """400 that names the parameters that are wrong."""
    for name in asked:
        if name not in model.model_fields:
            known = ", ".join(model.model_fields) or "none"
            raise ProblemError(400, f"There is no parameter '{name}'; known: {known}")
    if twice := _twice(name for name, _ in asked.multi_items()):
        raise ProblemError(400, f"The parameter '{twice}' is given twice")
    try:
        return model.model_validate(dict(asked))
    except ValidationError as error:
        errors: Errors = [
            {"parameter": str(one["loc"][0]), "detail": one["msg"]}
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        said = "; ".join(f"{one['parameter']}: {one['detail']}" for one in errors)
        raise ProblemError(400, said, errors) from None


def _twice(names: Iterable[str]) -> str | None:
    seen = set[str]()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _pointer(value: Any, places: Iterable[str | int], kind: str) -> str:
    """Into the body alone: of a value that may be of several kinds, pydantic names the kind too."""
    found = "#"
    for place in places:
        match value:
            case dict() if place in value:
                value = value[place]
            case list() if isinstance(place, int) and place < len(value):
                value = value[place]
            case dict() if kind == "missing":
                pass
            case _:
                continue
        found += f"/{_escaped(place)}"
    return found


def _escaped(place: str | int) -> str:
    return str(place).replace("~", "~0").replace("/", "~1")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # of which one would be lost without a word
        raise ValueError("a name stands twice in an object")
    return found


def _refused(constant: str) -> float:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(text)
    return number
