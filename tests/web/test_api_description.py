"""The description of the HTTP API: valid, whole, and true of its routes and models."""

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.web import api
from imgsync.entrypoints.web.api.operations import described
from imgsync.entrypoints.web.api.resources import operations
from imgsync.entrypoints.web.serving import app_of
from tests.web.described import operation_of, validate

pytestmark = [pytest.mark.anyio]


@pytest.fixture
def container() -> Container:
    return Container(config=fixed_config(database_url="sqlite:////nowhere/imgsync.db"))


def test_it_is_valid_and_says_all_that_is_taken(container: Container) -> None:
    listed = operations(container)
    document = described("/api/v1", listed)
    OpenAPIV31SpecValidator(document).validate()
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(listed)
    for one in listed:
        told = document["paths"][one.path][one.method.lower()]
        assert ("requestBody" in told) == (one.takes is not None)
        assert all(status in told["responses"] for status in (str(one.status), "401", "500"))
        assert ("403" in told["responses"]) == one.changes


def test_every_route_is_an_operation(container: Container) -> None:
    paths = {(route.path, *sorted(route.methods)) for route in api.routes(container)}  # type: ignore[attr-defined]
    described_ones = {
        (f"/api/v1{one.path}", *sorted({one.method} | ({"HEAD"} if one.method == "GET" else set())))
        for one in operations(container)
    }
    assert paths == described_ones | {("/api/v1/openapi.json", "GET", "HEAD")}


def test_its_examples_are_what_is_taken(container: Container) -> None:
    document = described("/api/v1", operations(container))
    examples = 0
    for one in operations(container):
        told = document["paths"][one.path][one.method.lower()]
        if one.takes is None:
            continue
        taken = told["requestBody"]["content"]["application/json"]
        for example in taken["examples"].values():
            examples += 1
            validate(document, taken["schema"], example["value"])
            if one.reads:
                one.takes.model_validate(example["value"])
        with pytest.raises(Exception, match="is not"):
            validate(document, taken["schema"], "none of these")
    assert examples >= 8
    for response in document["components"]["responses"].values():
        (content,) = response["content"].values()
        validate(document, content["schema"], content["example"])


async def test_it_is_read_without_a_key_and_names_no_secret(container: Container) -> None:
    transport = httpx.ASGITransport(app_of(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == described("/api/v1", operations(container))
    found = operation_of(answer.json(), "get", "/api/v1/runs/20261128-1")
    assert found is not None
    assert found["operationId"] == "get_run"
    assert "nowhere" not in answer.text
