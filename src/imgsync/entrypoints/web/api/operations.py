"""What the API can do: an operation is a route and its description in one."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request

from imgsync import __version__
from imgsync.entrypoints.web.api.models import Asked, Problem, Told
from imgsync.entrypoints.web.api.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_EVERYWHERE = (401, 429, 500, 503)


@dataclass(slots=True)
class Call:
    """A request whose key was seen, with its body and query as the operation takes them.
    `location`: what the answer is to name as where to look."""

    request: Request
    body: Any = None
    query: Any = None
    location: str | None = None

    def path(self, name: str) -> str:
        found: str = self.request.path_params[name]
        return found


@dataclass(frozen=True, slots=True)
class Operation:
    """`takes`: the model of the body; where `reads` is False, it is read by the answer itself.
    `problems`: statuses beside those that its kind has anyway."""

    method: str
    path: str
    summary: str
    answer: Callable[[Call], Awaitable[Any]]
    told: type[Told]
    status: int = 200
    takes: type[BaseModel] | None = None
    reads: bool = True
    asks: type[Asked] = Asked
    problems: tuple[int, ...] = ()
    has_location: bool = False
    examples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.answer.__name__

    @property
    def changes(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @property
    def statuses(self) -> list[int]:
        """Of the problems that it may answer with."""
        found = {*_EVERYWHERE, *self.problems, 400}
        if self.changes:
            found |= {403}
        if self.method == "POST":
            found |= {409, 413, 422}
        if self.takes is not None:
            found |= {413, 422}
        if "{" in self.path:
            found |= {404}
        return sorted(found)


def described(root: str, operations: Iterable[Operation]) -> dict[str, Any]:
    """The description of the API, as OpenAPI 3.1 has it."""
    listed = list(operations)
    models = {Problem: None} | dict.fromkeys(
        model for one in listed for model in (one.takes, one.told) if model is not None
    )
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for one in listed:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one)
    used = sorted({status for one in listed for status in one.statuses})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "imgsync",
            "version": __version__,
            "description": "Keeps product photographs of a main MoySklad account and its child "
            "accounts equal. This description itself needs no key.",
        },
        "servers": [{"url": root}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `imgsync api-key add`; to change anything it needs "
                    "`--write`.",
                }
            },
            "schemas": schemas["$defs"],
            "responses": {f"Problem{status}": _problem(status) for status in used},
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
        },
    }


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request with the same key is done once within a day, and answered "
    "alike: 409 while the first is under way, 422 where it is another request.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}


def _described(one: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", one.path)
    ]
    schema = one.asks.model_json_schema(ref_template=_REF)
    for name, asked in schema.get("properties", {}).items():
        asked = _with_definitions(asked, schema.get("$defs", {}))
        told = {"name": name, "in": "query", "schema": asked}
        if text := asked.pop("description", None):
            told["description"] = text
        parameters.append(told)
    if one.method == "POST":
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    success: dict[str, Any] = {
        "description": HTTPStatus(one.status).phrase,
        "content": {"application/json": {"schema": _ref(one.told)}},
    }
    if one.has_location:
        text = "Where to look how it stands."
        success["headers"] = {"Location": {"description": text, "schema": {"type": "string"}}}
    responses = {str(one.status): success} | {
        str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in one.statuses
    }
    told = {"operationId": one.name, "summary": one.summary, "responses": responses}
    if parameters:
        told["parameters"] = parameters
    if one.takes is not None:
        content: dict[str, Any] = {"schema": _ref(one.takes)}
        if one.examples:
            content["examples"] = {name: {"value": value} for name, value in one.examples.items()}
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    return told


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _with_definitions(value: Any, definitions: Mapping[str, Any]) -> Any:
    """What a parameter refers to stands in it: it is no model of its own."""
    if isinstance(value, dict):
        if "$ref" in value:
            return definitions[value["$ref"].rpartition("/")[2]] | {
                name: one for name, one in value.items() if name != "$ref"
            }
        return {name: _with_definitions(one, definitions) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_definitions(one, definitions) for one in value]
    return value


def _problem(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, "detail": _SAID[status]}
    return {
        "description": title,
        "content": {MEDIA_TYPE: {"schema": _ref(Problem), "example": example}},
    }


_SAID = {
    400: "The body is no JSON",
    401: "Give a key: Authorization: Bearer KEY",
    403: "The key 'warehouse' may only read",
    404: "There is no such task",
    409: "It has not failed, or a newer task of its entity waits",
    413: "The body is larger than 1 MB",
    422: "The body is not what is taken here",
    429: "Too many requests with wrong keys; try again in a minute",
    500: "Something went wrong; the log of the server tells what",
    503: "The database cannot be used",
}
