"""Rows and lists in every shape that the vendor's schema allows, and in those that it does not."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
import respx

from imgsync.domain.errors import ApiError
from imgsync.domain.model import Element, Entity, EntityPage, Keep
from imgsync.testing import UNLIMITED
from tests.moysklad.harness import API, PRODUCT, Harness, content

pytestmark = pytest.mark.anyio
LIST = f"{API}/entity/product"
IMAGES = f"{LIST}/p1/images"


def image(number: int = 1, **changes: Any) -> dict[str, Any]:
    meta = {"href": f"{IMAGES}/i{number}", "downloadHref": f"{API}/download/i{number}"}
    row = {"meta": meta, "filename": f"{number}.png", "size": 9, "updated": "u"}
    return row | changes


def entity(number: int = 1, **changes: Any) -> dict[str, Any]:
    images = {"meta": {"size": 1}, "rows": [image()]}
    return {"id": f"p{number}", "name": f"Lamp {number}", "images": images} | changes


def page(*rows: Any, size: Any = -1) -> httpx.Response:
    body = {"meta": {"size": len(rows) if size == -1 else size}, "rows": list(rows)}
    return httpx.Response(200, content=json.dumps(body).encode())


async def listed(harness: Harness, *, with_images: bool = True) -> list[EntityPage]:
    async with asyncio.timeout(10):
        return [p async for p in harness.client.list_entities(PRODUCT, with_images=with_images)]


async def only(harness: Harness) -> Entity:
    ((found,),) = [p.entities for p in await listed(harness)]
    return found


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"images": None}, False),
        ({"images": {}}, False),
        ({"images": {"meta": None, "rows": None}}, False),
        ({"images": {"meta": {"size": None}}}, False),
        ({"images": {"meta": {"size": 0}, "rows": None}}, True),
        ({"images": {"meta": {"size": 0}}}, True),
        ({"images": {"meta": None, "rows": []}}, True),
    ],
)
async def test_an_unknown_image_list_is_not_an_empty_one(
    harness: Harness, network: respx.MockRouter, changes: dict[str, Any], known: bool
) -> None:
    network.get(LIST).mock(return_value=page(entity(**changes)))
    found = await only(harness)
    assert (found.images, found.images_known, found.unreadable) == ((), known, ())


async def test_an_entity_without_images_field_is_unknown_too(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(LIST).mock(return_value=page({"id": "p1", "name": "Lamp"}))
    assert not (await only(harness)).images_known


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"code": None, "article": None, "externalCode": None},
        {"images": {"meta": None, "rows": [image()]}},
        {"images": {"meta": {"size": None}, "rows": [image()]}},
        {"images": {"meta": {"size": -1}, "rows": [image()]}},
        {"images": {"meta": {"size": "many"}, "rows": [image()]}},
        {"images": {"meta": {"size": 0}, "rows": [image()]}},
        {"images": {"meta": {"size": 1}, "rows": [image(miniature=None, tiny=None, title=None)]}},
        {"images": {"rows": [image(miniature={"downloadHref": None})]}},
        {"accountId": None},
        {"updated": None, "description": None, "owner": None, "salePrices": None},
    ],
)
async def test_what_may_be_null_costs_nothing(
    harness: Harness, network: respx.MockRouter, changes: dict[str, Any]
) -> None:
    network.get(LIST).mock(return_value=page(entity(**changes)))
    found = await only(harness)
    assert [i.filename for i in found.images] == ["1.png"]
    assert found.images_known


@pytest.mark.parametrize("size", [None, 0, -5, "x", 1.5, True, 2**70, [], {}])
async def test_a_size_that_is_none_is_unknown(
    harness: Harness, network: respx.MockRouter, size: Any
) -> None:
    network.get(IMAGES).mock(return_value=page(image(size=size)))
    (found,) = await harness.client.list_images(PRODUCT, "p1")
    assert found.size == 0


async def test_omitted_parts_of_an_image_are_unknown(
    harness: Harness, network: respx.MockRouter
) -> None:
    bare = {"meta": {"href": f"{IMAGES}/i1", "downloadHref": None}, "filename": None}
    network.get(IMAGES).mock(return_value=page(bare, {"meta": {"href": "h"}, "title": "t"}))
    first, second = await harness.client.list_images(PRODUCT, "p1")
    assert (first.filename, first.size, first.updated, first.download_href) == ("", 0, "", "")
    assert second.filename == "t"


BROKEN_IMAGES: list[Any] = [
    None,
    1,
    "x",
    [],
    {},
    {"meta": None},
    {"meta": "x"},
    {"meta": {}},
    {"meta": {"href": None}},
    {"meta": {"href": 5}},
    image(filename=5),
    image(filename=["x"]),
    image(updated={}),
    image(meta={"href": "h", "downloadHref": 7}),
]


@pytest.mark.parametrize("row", BROKEN_IMAGES)
async def test_an_image_that_cannot_be_read_costs_only_itself(
    harness: Harness, network: respx.MockRouter, row: Any, caplog: pytest.LogCaptureFixture
) -> None:
    images = {"meta": {"size": 2}, "rows": [row, image(2)]}
    network.get(LIST).mock(return_value=page(entity(images=images), entity(2)))
    (found,) = await listed(harness)
    assert [e.id for e in found.entities] == ["p1", "p2"]
    first = found.entities[0]
    assert [i.id for i in first.images] == ["i2"]
    (text,) = first.unreadable
    assert "image 1" in text or "1.png" in text

    network.get(IMAGES).mock(return_value=page(row, image(2)))
    with caplog.at_level(logging.WARNING):
        assert [i.id for i in await harness.client.list_images(PRODUCT, "p1")] == ["i2"]
    assert "product p1" in caplog.text

    network.get(IMAGES).mock(return_value=page(row))
    with pytest.raises(ApiError, match="no image of product p1 can be read"):
        await harness.client.list_images(PRODUCT, "p1")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (None, "product number 1 of the list"),
        (7, "product number 1 of the list"),
        ([], "product number 1 of the list"),
        ({}, "product number 1 of the list"),
        ({"name": "Lamp"}, "product 'Lamp'"),
        ({"id": None, "name": None, "code": "77"}, "product '77'"),
        ({"id": 5, "name": "Lamp"}, "product 'Lamp'"),
        (entity(name=5), "product 'p1'"),
        (entity(name=["x"], code="c"), "product 'c'"),
        (entity(externalCode={}), "product 'Lamp 1'"),
        (entity(code=1), "product 'Lamp 1'"),
        (entity(article=[]), "product 'Lamp 1'"),
        (entity(images="x"), "product 'Lamp 1'"),
        (entity(images=[]), "product 'Lamp 1'"),
        (entity(images={"rows": "x"}), "product 'Lamp 1'"),
        (entity(images={"rows": {"a": 1}}), "product 'Lamp 1'"),
        (entity(images={"meta": "x"}), "product 'Lamp 1'"),
        (entity(accountId=5), "product 'Lamp 1'"),
    ],
)
async def test_an_entity_that_cannot_be_read_costs_only_itself(
    harness: Harness, network: respx.MockRouter, row: Any, name: str
) -> None:
    network.get(LIST).mock(return_value=page(row, entity(2)))
    (found,) = await listed(harness)
    assert [e.id for e in found.entities] == ["p2"]
    (text,) = found.unreadable
    assert text.startswith(f"{name}: ")


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_images_that_cannot_be_listed_cost_only_their_entity(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    more = {"meta": {"size": 5}, "rows": None}
    network.get(LIST).mock(return_value=page(entity(images=more), entity(2)))
    network.get(IMAGES).respond(status)
    (found,) = await listed(harness)
    assert [e.id for e in found.entities] == ["p2"]
    assert found.unreadable[0].startswith("product 'Lamp 1': ")


@pytest.mark.parametrize("body", [{}, {"rows": None}, {"meta": {"size": 3}, "rows": None}])
async def test_an_image_list_without_rows_is_not_empty(
    harness: Harness, network: respx.MockRouter, body: dict[str, Any]
) -> None:
    network.get(IMAGES).respond(json=body)
    with pytest.raises(ApiError, match="no rows"):
        await harness.client.list_images(PRODUCT, "p1")


@pytest.mark.parametrize("rows", [0, 2])
async def test_an_image_list_that_claims_more_than_it_gives_is_not_trusted(
    harness: Harness, network: respx.MockRouter, rows: int
) -> None:
    given = [{"meta": {"href": f"{API}/i{number}"}} for number in range(rows)]
    network.get(f"{API}/entity/product/p1/images").respond(
        json={"meta": {"size": 3}, "rows": given}
    )
    with pytest.raises(ApiError, match=f"has {rows} rows although it says to have 3"):
        await harness.client.list_images(PRODUCT, "p1")


@pytest.mark.parametrize("body", [[], 7, "x", {}, {"rows": 5}, {"meta": 5, "rows": []}])
async def test_a_list_of_another_shape_is_an_error(
    harness: Harness, network: respx.MockRouter, body: Any
) -> None:
    network.get(LIST).respond(json=body)
    with pytest.raises(ApiError, match="unexpected answer"):
        await listed(harness)


async def test_an_empty_list_may_say_so_by_null(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(LIST).respond(json={"meta": {"size": 0}, "rows": None})
    assert await listed(harness) == []


async def test_a_list_that_claims_more_than_it_gives_is_not_trusted(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(LIST).mock(side_effect=[page(entity(1), size=9), page(size=9)])
    with pytest.raises(ApiError, match="ends at row 1 although it says to have 9"):
        await listed(harness)


async def test_a_list_that_repeats_a_page_is_not_trusted(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(LIST).mock(return_value=page(entity(1), entity(2), size=1000))
    with pytest.raises(ApiError, match="repeats itself"):
        await listed(harness)
    assert route.call_count == 2


async def test_a_list_that_never_ends_is_left(harness: Harness, network: respx.MockRouter) -> None:
    def more(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        rows = [{"id": f"p{offset + n}"} for n in range(1000)]
        return page(*rows, size=offset + 2000)

    route = network.get(LIST).mock(side_effect=more)
    with pytest.raises(ApiError, match="does not end"):
        await listed(harness, with_images=False)
    assert route.call_count < 20


@pytest.mark.parametrize("size", [None, "x", -3])
async def test_a_list_without_size_ends_with_a_short_page(
    harness: Harness, network: respx.MockRouter, size: Any
) -> None:
    full = [{"id": f"p{n}"} for n in range(1000)]
    network.get(LIST).mock(side_effect=[page(*full, size=size), page({"id": "last"}, size=size)])
    found = await listed(harness, with_images=False)
    assert [len(p.entities) for p in found] == [1000, 1]


async def test_a_row_that_comes_twice_counts_once(
    harness: Harness, network: respx.MockRouter
) -> None:
    """As where an entity was added while the pages were read: the others move on by one."""
    network.get(LIST).mock(
        side_effect=[
            page(entity(1), entity(1), entity(2), size=5),
            page(entity(2), entity(3), size=5),
        ]
    )
    found = await listed(harness)
    assert [e.id for p in found for e in p.entities] == ["p1", "p2", "p3"]


@pytest.mark.parametrize("total", [2000, 2001, 2002, 2500])
@pytest.mark.parametrize("deleted", [[0], [999, 998], [1999], list(range(1500))])
async def test_no_row_is_missed_where_others_are_deleted_between_two_pages(
    harness: Harness, network: respx.MockRouter, total: int, deleted: list[int]
) -> None:
    ids = [f"p{n}" for n in range(total)]

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        if route.call_count == 1:
            for n in deleted:
                ids.remove(f"p{n}")
        rows = [{"id": one} for one in ids[offset : offset + 1000]]
        return page(*rows, size=len(ids))

    route = network.get(LIST).mock(side_effect=answer)
    found = {e.id for p in await listed(harness, with_images=False) for e in p.entities}
    assert set(ids) <= found


async def test_a_list_whose_size_goes_up_and_down_is_left(
    harness: Harness, network: respx.MockRouter
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        rows = [{"id": f"p{offset + n}"} for n in range(1000)]
        return page(*rows, size=20_000 + 1000 * (route.call_count % 2))

    route = network.get(LIST).mock(side_effect=answer)
    with pytest.raises(ApiError, match="does not end"):
        await listed(harness, with_images=False)
    assert route.call_count < 100


async def test_a_page_too_long_to_read_is_asked_for_in_parts(
    harness: Harness, network: respx.MockRouter
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params["limit"] == "1000":
            return httpx.Response(200, content=b" " * 33_000_000)
        offset = int(request.url.params["offset"])
        return page(*[{"id": f"p{n}"} for n in range(offset, offset + 100)], size=300)

    network.get(LIST).mock(side_effect=answer)
    found = await listed(harness, with_images=False)
    assert sum(len(p.entities) for p in found) == 300


@pytest.mark.parametrize("answer", [{}, [None], [{"meta": {}}], [image(), image(2)]])
async def test_an_answer_to_a_write_that_cannot_be_read_is_an_error(
    harness: Harness, network: respx.MockRouter, answer: Any
) -> None:
    network.post(IMAGES).respond(json=answer)
    keep: list[Element] = [Keep(f"{IMAGES}/i1")]
    with pytest.raises(ApiError, match="1 images were set"):
        await harness.client.set_images(PRODUCT, "p1", keep, content(), UNLIMITED)
