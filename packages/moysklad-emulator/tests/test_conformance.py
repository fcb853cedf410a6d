"""The vendor's own image tests, written anew for a plain HTTP client.

Six tests for each of product, bundle and variant: the behaviour that MoySklad asserts of itself in
its Java SDK (EntityGetUpdateDeleteWithImageTest). They use nothing but the API, so that they could
run against a real account as well.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from moysklad_emulator.pictures import padded_png
from service import Service

Json = dict[str, Any]

FIRST, SECOND = (
    {"filename": name, "content": base64.b64encode(padded_png(number, 500)).decode()}
    for number, name in enumerate(("testImage.png", "testImage2.png"))
)


def call(client: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    """The answer's JSON, None for an empty one. HTTPStatusError for an error."""
    response = client.request(method, path, json=body).raise_for_status()
    return response.json() if response.content else None


@dataclass
class EntityOfType:
    """A new entity without images, as the SDK's tests begin with."""

    client: httpx.Client
    path: str

    def put_images(self, *images: Json) -> None:
        """Updates the whole entity as the SDK does: as it was read, with `images.rows`."""
        entity = call(self.client, "GET", self.path)
        entity["images"] = {"rows": list(images)}
        call(self.client, "PUT", self.path, entity)

    def post_images(self, body: Any) -> list[str]:
        return names(call(self.client, "POST", f"{self.path}/images", body))

    def rows(self) -> list[Json]:
        """Images of the entity, read with it."""
        rows: list[Json] = call(self.client, "GET", f"{self.path}?expand=images")["images"]["rows"]
        return rows


def names(rows: list[Json]) -> list[str]:
    return [row["filename"] for row in rows]


def new_product(client: httpx.Client) -> Json:
    product: Json = call(client, "POST", "entity/product", {"name": "Product"})
    return product


def new_bundle(client: httpx.Client) -> Json:
    part = {"assortment": {"meta": new_product(client)["meta"]}, "quantity": 1}
    bundle: Json = call(client, "POST", "entity/bundle", {"name": "Set", "components": [part]})
    return bundle


def new_variant(client: httpx.Client) -> Json:
    body = {
        "product": {"meta": new_product(client)["meta"]},
        "characteristics": [{"name": "Colour", "value": "red"}],
    }
    variant: Json = call(client, "POST", "entity/variant", body)
    return variant


@pytest.fixture(params=[new_product, new_bundle, new_variant])
def entity(service: Service, request: pytest.FixtureRequest) -> EntityOfType:
    create: Callable[[httpx.Client], Json] = request.param
    document = create(service.client)
    assert "rows" not in document["images"]
    kind = document["meta"]["type"]
    return EntityOfType(service.client, f"entity/{kind}/{document['id']}")


def test_get_image(entity: EntityOfType) -> None:
    entity.put_images(FIRST)
    page = call(entity.client, "GET", f"{entity.path}/images?expand=images")
    assert names(page["rows"]) == ["testImage.png"]


def test_add_image(entity: EntityOfType) -> None:
    assert entity.post_images(FIRST) == ["testImage.png"]
    assert names(entity.rows()) == ["testImage.png"]


def test_add_several_images_in_order(entity: EntityOfType) -> None:
    assert entity.post_images([FIRST, SECOND]) == ["testImage.png", "testImage2.png"]
    assert names(entity.rows()) == ["testImage.png", "testImage2.png"]


def test_an_array_replaces_the_images(entity: EntityOfType) -> None:
    entity.put_images(FIRST)
    assert entity.post_images([SECOND]) == ["testImage2.png"]
    assert names(entity.rows()) == ["testImage2.png"]


def test_delete_an_image(entity: EntityOfType) -> None:
    entity.put_images(FIRST)
    (row,) = entity.rows()
    image_id = row["meta"]["href"].partition("images/")[2]
    assert call(entity.client, "DELETE", f"{entity.path}/images/{image_id}") is None
    assert entity.rows() == []


def test_delete_several_images(entity: EntityOfType) -> None:
    entity.put_images(FIRST, SECOND)
    rows = entity.rows()
    assert len(rows) == 2
    call(entity.client, "POST", f"{entity.path}/images/delete", rows)
    assert entity.rows() == []
