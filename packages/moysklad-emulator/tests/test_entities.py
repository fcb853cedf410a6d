"""Creating, changing and deleting entities, and what each type has."""

from typing import Any

import pytest

from moysklad_emulator import EmulatedEntity
from service import (
    Service,
    codes,
    entity_path,
    filenames,
    files,
    images_path,
    upload,
    uploads,
)

CARD_FIELDS = {"name", "description", "cardContentName", "assortment", "salePlatform"}


def meta_of(service: Service, entity: EmulatedEntity) -> dict[str, Any]:
    return {"meta": service.entity_meta(entity)}


def new_card(service: Service, product: EmulatedEntity) -> dict[str, Any]:
    platform = f"{service.server.api_url}/entity/saleplatform/0f9b8b4c-4597-4772-b896-c8aff047a117"
    return {
        "name": "Card",
        "description": "For the shop",
        "cardContentName": "Card of the shop",
        "assortment": meta_of(service, product),
        "salePlatform": {"meta": {"href": platform, "type": "saleplatform"}},
        "salesChannels": [],
    }


def test_an_object_without_a_meta_creates(service: Service) -> None:
    body = {"name": "Lamp", "code": "7", "images": uploads(2)}
    created = service.client.post("entity/product?expand=images", json=body)
    assert created.status_code == 200
    document = created.json()
    assert (document["name"], document["code"], document["archived"]) == ("Lamp", "7", False)
    assert document["externalCode"]
    assert filenames(document["images"]["rows"]) == ["0.jpg", "1.jpg"]
    assert service.client.get(f"entity/product/{document['id']}").json()["name"] == "Lamp"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "7"}, 3000),
        ({"name": ""}, 3000),
        ({"name": 7}, 2016),
        ({"name": "x" * 256}, 3040),
        ({"name": "A", "archived": "yes"}, 2016),
        ({"name": "A", "weight": 1}, 1007),
        ({"name": "A", "images": [upload(content=b"bad")]}, 51002),
        ({"name": "A", "images": uploads(11)}, 51006),
        ({"name": "A", "images": None}, 2016),
        ({"name": "A", "images": {"rows": None}}, 2016),
        ({"name": "A", "images": {"list": []}}, 1007),
        ("A", 2005),
    ],
)
def test_a_wrong_new_entity_is_refused(service: Service, body: Any, code: int) -> None:
    assert codes(service.client.post("entity/product", json=body)) == [code]
    assert service.account.entities("product") == []


def test_a_new_entity_has_no_images_to_keep(service: Service) -> None:
    old = service.product(*files(1))
    body = {"name": "New", "images": [service.meta(old, 0)]}
    assert codes(service.client.post("entity/product", json=body)) == [1021]


def test_bodies_are_not_nested_without_end(service: Service) -> None:
    deep: Any = 1
    for _ in range(10):
        deep = [deep]
    body = {"name": "B", "components": deep}
    assert codes(service.client.post("entity/bundle", json=body)) == [2006]
    body["components"] = deep[0]
    assert service.client.post("entity/bundle", json=body).is_success


@pytest.mark.parametrize("shape", ["array", "rows"])
def test_put_sets_the_images_of_an_array_or_of_rows(service: Service, shape: str) -> None:
    product = service.product(*files(2), code="c")
    new = [service.meta(product, 1), upload("new.jpg")]
    images = new if shape == "array" else {"rows": new}
    path = f"{entity_path(product)}?expand=images"
    answer = service.client.put(path, json={"name": "Other", "images": images})
    assert answer.status_code == 200
    assert answer.json()["name"] == "Other"
    assert filenames(answer.json()["images"]["rows"]) == ["1.jpg", "new.jpg"]
    assert (product.name, product.code) == ("Other", "c")


def test_an_answer_may_be_put_back(service: Service) -> None:
    product = service.product(*files(2), description="d", article="a")
    for query in ("", "?expand=images"):
        document = service.client.get(f"{entity_path(product)}{query}").json()
        assert service.client.put(entity_path(product), json=document).status_code == 200
    after = service.client.get(f"{entity_path(product)}{query}").json()
    assert {**after, "updated": None} == {**document, "updated": None}
    assert service.names(product) == ["0.jpg", "1.jpg"]


def test_a_refused_put_changes_nothing(service: Service) -> None:
    product = service.product(*files(1), name="Old")
    for body, code in (
        ({"name": "New", "images": [upload(content=b"bad")]}, 51002),
        ({"name": "New", "images": uploads(11)}, 51006),
        ({"name": ""}, 3000),
        ([], 2009),
        ("text", 2005),
    ):
        assert codes(service.client.put(entity_path(product), json=body)) == [code]
    assert (product.name, service.names(product)) == ("Old", ["0.jpg"])


def test_put_archives(service: Service) -> None:
    product = service.product()
    service.client.put(entity_path(product), json={"archived": True})
    assert service.client.get("entity/product").json()["rows"] == []


def test_a_deleted_entity_is_gone_with_its_images(service: Service) -> None:
    image = ("a.jpg", files(1)[0][1] + b" of this entity only")
    product = service.product(image)
    content = service.emulator.content.path(product.images[0].digest)
    answer = service.client.delete(entity_path(product))
    assert (answer.status_code, answer.content) == (200, b"")
    for path in (entity_path(product), images_path(product)):
        assert codes(service.client.get(path)) == [1021]
    assert codes(service.client.delete(entity_path(product))) == [1021]
    assert not content.exists()


def test_many_are_deleted_at_once(service: Service) -> None:
    first, second = service.product(), service.product()
    both = [meta_of(service, first), meta_of(service, second)]
    answer = service.client.post("entity/product/delete", json=[both[0], both[0]])
    assert answer.status_code == 400
    assert ["info" in answer.json()[0], answer.json()[1]["errors"][0]["code"]] == [True, 1021]
    assert service.client.post("entity/product/delete", json=both[1:]).status_code == 200
    assert service.account.entities("product") == []


def test_a_variant_belongs_to_a_product(service: Service) -> None:
    body: dict[str, Any] = {"characteristics": [{"name": "Colour", "value": "red"}]}
    assert codes(service.client.post("entity/variant", json=body)) == [3000]
    product = service.product()
    stranger = {
        **service.entity_meta(product),
        "href": f"{service.server.api_url}/entity/product/x",
    }
    body["product"] = {"meta": stranger}
    assert codes(service.client.post("entity/variant", json=body)) == [1021]
    body["product"] = {}
    assert codes(service.client.post("entity/variant", json=body)) == [2014]
    body["product"] = meta_of(service, product)
    created = service.client.post("entity/variant", json=body).json()
    assert created["product"]["meta"]["href"].endswith(product.id)
    assert created["characteristics"] == body["characteristics"]


def test_a_content_card_has_its_documented_fields(service: Service) -> None:
    card = service.account.add_entity("contentcard", name="Card", images=files(1))
    document = service.client.get(entity_path(card)).json()
    assert set(document) == CARD_FIELDS | {"meta", "id", "accountId", "images", "salesChannels"}
    assert document["cardContentName"] == "Card"
    assert document["assortment"]["meta"]["type"] == "product"
    assert document["salePlatform"]["meta"]["type"] == "saleplatform"
    (row,) = service.client.get("entity/contentcard").json()["rows"]
    assert row == document


@pytest.mark.parametrize("field", ["external_code", "code", "article"])
def test_a_content_card_has_no_codes(service: Service, field: str) -> None:
    value: dict[str, Any] = {field: "x"}
    with pytest.raises(ValueError, match="contentcard has no"):
        service.account.add_entity("contentcard", name="Card", **value)


@pytest.mark.parametrize(
    "condition", ["externalCode=x", "archived=true", "updated>2026-01-01 00:00"]
)
def test_a_content_card_is_not_found_by_what_it_lacks(service: Service, condition: str) -> None:
    response = service.client.get("entity/contentcard", params={"filter": condition})
    assert codes(response) == [1034]


def test_a_content_card_is_found_by_its_assortment(service: Service) -> None:
    product = service.product()
    card = service.account.add_entity("contentcard", name="A", objects={"assortment": product})
    service.account.add_entity("contentcard", name="B")
    condition = f"assortment={service.server.api_url}/{entity_path(product)}"
    page = service.client.get("entity/contentcard", params={"filter": condition}).json()
    assert [row["id"] for row in page["rows"]] == [card.id]


def test_a_content_card_is_created_whole_and_keeps_its_assortment(service: Service) -> None:
    product, other = service.product(), service.product()
    body = new_card(service, product)
    for name in (*CARD_FIELDS, "salesChannels"):
        lacking = {key: value for key, value in body.items() if key != name}
        assert codes(service.client.post("entity/contentcard", json=lacking)) == [3000]
    created = service.client.post("entity/contentcard", json=body).json()
    path = f"entity/contentcard/{created['id']}"
    changed = service.client.put(path, json={**created, "name": "Other"})
    assert changed.json()["name"] == "Other"
    assert codes(service.client.put(path, json={"assortment": meta_of(service, other)})) == [3001]


def test_fields_may_be_null_where_the_schema_lets_them(service: Service) -> None:
    nulls = ["code", "images.rows", "miniature.downloadHref"]
    product = service.product(*files(1), name=None, code="c", nulls=nulls)
    document = service.client.get(f"{entity_path(product)}?expand=images").json()
    assert (document["name"], document["code"], document["images"]["rows"]) == (None, None, None)
    (row,) = service.client.get(images_path(product)).json()["rows"]
    assert row["miniature"]["downloadHref"] is None
    nameless = service.product(*files(1), nulls=["name", "images"])
    document = service.client.get(f"{entity_path(nameless)}?expand=images").json()
    assert (document["name"], document["images"]) == (None, None)
    with pytest.raises(ValueError, match="'id' is never null"):
        service.product(nulls=["id"])


@pytest.mark.parametrize(
    ("elements", "limit", "is_expanded"),
    [(1, "100", True), (100, "100", True), (101, "100", False), (1, "101", False), (1, "", False)],
)
def test_an_array_is_expanded_as_a_list_is(
    service: Service, elements: int, limit: str, is_expanded: bool
) -> None:
    meta = {"meta": service.entity_meta(service.product(*files(1)))}
    query = "expand=images" + (f"&limit={limit}" if limit else "")
    answer = service.client.post(f"entity/product?{query}", json=[meta] * elements)
    assert answer.status_code == 200
    assert len(answer.json()) == elements
    assert {"rows" in entity["images"] for entity in answer.json()} == {is_expanded}
    assert {entity["images"]["meta"]["size"] for entity in answer.json()} == {1}
