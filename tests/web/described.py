"""Holds answers of the HTTP API against its own description."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from starlette.applications import Starlette

from imgsync.entrypoints.web.api.operations import Operation, described
from imgsync.entrypoints.web.api.resources import operations

_ROOT = "/api/v1"


def validate(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """ValidationError where the value is not as the schema of the document has it."""
    whole = schema | {"components": document["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def operation_of(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """What is described of a request; None where nothing is."""
    for template, methods in document["paths"].items():
        pattern = re.sub(r"{\w+}", "[^/]+", template)
        if re.fullmatch(_ROOT + pattern, path) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found
    return None


class Describing:
    """A hook of an HTTP client: every answer is one that is described, with nothing beside."""

    def __init__(self, app: Starlette) -> None:
        listed = operations(app.state.container)
        self._models: dict[str, Operation] = {one.name: one for one in listed}
        self._document = described(_ROOT, listed)
        self.seen = set[tuple[str, int]]()

    async def __call__(self, answer: httpx.Response) -> None:
        request = answer.request
        told = operation_of(
            self._document, request.method, request.url.raw_path.decode().split("?")[0]
        )
        if told is None:
            assert answer.status_code in (404, 405), (request.method, request.url)
            return
        await answer.aread()
        response = told["responses"].get(str(answer.status_code))
        assert response is not None, f"{told['operationId']}: {answer.status_code} is not described"
        self.seen.add((told["operationId"], answer.status_code))
        if "$ref" in response:
            name = response["$ref"].rpartition("/")[2]
            response = self._document["components"]["responses"][name]
        ((kind, content),) = response["content"].items()
        assert answer.headers["content-type"] == kind
        validate(self._document, content["schema"], answer.json())
        if answer.is_success:
            assert ("headers" in response) == ("location" in answer.headers)
            model = self._models[told["operationId"]].told
            _is_no_more(answer.json(), model.model_validate(answer.json()).model_dump())


def _is_no_more(told: Any, known: Any) -> None:
    """All names of an answer are those that are described."""
    if isinstance(told, dict) and isinstance(known, dict):
        assert told.keys() == known.keys()
        for name, value in told.items():
            _is_no_more(value, known[name])
    elif isinstance(told, list):
        for one, other in zip(told, known, strict=True):
            _is_no_more(one, other)
