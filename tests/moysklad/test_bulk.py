"""Lists of many entities in one request: its bytes, its permits, and what an answer tells."""

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
import respx

from imgsync.adapters.moysklad.requests import bulk_array, bulk_size
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
    StorageFullError,
    UnavailableError,
    WrongAccountError,
)
from imgsync.domain.model import Element, EntityType, Keep, Upload
from imgsync.domain.ports.moysklad import ImageSet, WritePermit
from imgsync.testing import UNLIMITED
from tests.moysklad.harness import (
    ACCOUNT,
    ACCOUNT_ID,
    API,
    PRODUCT,
    Harness,
    build,
    content,
    http_client,
)
from tests.moysklad.raw import RawServer, json_response, response
from tests.moysklad.test_permit import Permit

pytestmark = pytest.mark.anyio
LISTING = f"{API}/entity/product"
ABC = content(b"abc")
IDS = ("p1", "p2", "p3")


def upload(name: str = "a.png", size: int = 3) -> Upload:
    return Upload("k", name, size)


def one(
    entity_id: str, elements: Sequence[Element] | None = None, permit: WritePermit = UNLIMITED
) -> ImageSet:
    return ImageSet(entity_id, [upload()] if elements is None else elements, ABC, permit)


def sets(*ids: str, permit: WritePermit = UNLIMITED) -> list[ImageSet]:
    return [one(entity_id, permit=permit) for entity_id in ids or IDS]


def row(entity_id: str, number: int = 1, size: int = 3) -> dict[str, Any]:
    href = f"{LISTING}/{entity_id}/images/i{number}"
    return {"meta": {"href": href}, "filename": "a.png", "size": size, "updated": "u"}


def entity(entity_id: str, *rows: Any, **fields: Any) -> dict[str, Any]:
    images = {"meta": {"size": len(rows)}, "rows": list(rows)}
    return {"id": entity_id, "accountId": ACCOUNT_ID, "name": "n", "images": images} | fields


def whole(*ids: str) -> list[dict[str, Any]]:
    return [entity(entity_id, row(entity_id)) for entity_id in ids or IDS]


def errors(code: int) -> dict[str, Any]:
    return {"errors": [{"error": "Ошибка", "code": code}]}


def is_untold(result: object) -> bool:
    """An error after which the images have to be listed anew."""
    return isinstance(result, ApiError) and "listed anew" in str(result)


# The request


async def test_the_request_names_each_entity_and_its_images(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(LISTING).respond(json=whole("p1", "p/2"))
    keep = f"{LISTING}/p1/images/i9"
    data = bytes(range(256)) * 3
    both = [
        ImageSet(
            "p1",
            [Keep(keep), upload('ж".png', len(data))],
            content(data[:100], data[100:101], data[101:]),
            UNLIMITED,
        ),
        one("p/2", []),
    ]
    await harness.client.set_many(PRODUCT, both)
    request = route.calls.last.request
    assert dict(request.url.params) == {"expand": "images", "limit": "100"}
    first, second = json.loads(request.content)
    meta = {"type": "product", "mediaType": "application/json"}
    assert first["meta"] == {"href": f"{LISTING}/p1", **meta}
    assert second == {"meta": {"href": f"{LISTING}/p%2F2", **meta}, "images": []}
    kept, sent = first["images"]
    assert kept == {"meta": {"href": keep, "type": "image", "mediaType": "application/json"}}
    assert sent["filename"] == 'ж".png'
    assert base64.b64decode(sent["content"], validate=True) == data
    assert int(request.headers["Content-Length"]) == len(request.content)
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", ["variant", "t" * 40])
async def test_the_room_counts_no_byte_too_few(harness: Harness, name: str) -> None:
    three = [one("p1", []), one("п", [upload("ж.png", 4), Keep("https://x/1")]), one("p3")]
    listing = f"{API}/entity/{name}"
    room = harness.client.limits.bulk
    for number in range(4):
        body = bulk_array(listing, name, three[:number])
        if number < 2:
            text = b"".join([chunk async for chunk in body.chunks()])
            assert len(text) == body.length == bulk_size(listing, name, three[:number])
        assert body.length <= room.size_of(three[:number]) <= body.length + number * 80
    assert (room.max_bytes, room.max_entities) == (20_000_000, 100)


async def test_the_last_chunk_is_small_and_completes_the_body() -> None:
    body = bulk_array(LISTING, "product", sets())
    chunks = [chunk async for chunk in body.chunks()]
    assert chunks[-1] == b"]"
    assert len(json.loads(b"".join(chunks))) == 3
    with pytest.raises(json.JSONDecodeError):
        json.loads(b"".join(chunks[:-1]))


async def test_memory_does_not_grow_with_the_request() -> None:
    async def read(_key: str) -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(64 * 1024)

    large = [ImageSet(str(n), [upload(size=16 * 64 * 1024)], read, UNLIMITED) for n in range(14)]
    body = bulk_array(LISTING, "product", large)
    tracemalloc.start()
    try:
        sent = 0
        async for chunk in body.chunks():
            sent += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == body.length > 19_000_000
    assert peak < 1_000_000


async def test_more_than_a_request_holds_is_not_sent(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(LISTING).respond(json=[])
    for many in ([one("p1")] * 101, [one("p1", [upload(size=15_000_000)])]):
        with pytest.raises(RequestTooLargeError):
            await harness.client.set_many(PRODUCT, many)
    assert not route.called


# Repetition


async def test_a_request_whose_answer_is_lost_is_sent_again_and_confirmed_anew(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(LISTING).mock(
        side_effect=[
            httpx.ReadTimeout("lost"),
            httpx.Response(503),
            httpx.Response(200, json=whole()),
        ]
    )
    permits = [Permit([60.0], clock=harness.time) for _ in IDS]
    found = await harness.client.set_many(
        PRODUCT, [one(i, permit=p) for i, p in zip(IDS, permits, strict=True)]
    )
    assert [[image.id for image in images] for images in _lists(found)] == [["i1"]] * 3
    bodies = [call.request.content for call in route.calls]
    assert bodies[0] == bodies[1] == bodies[2]
    assert [permit.asked for permit in permits] == [[1000.0, 1000.5, 1001.5]] * 3


def _lists(found: Sequence[Any]) -> list[list[Any]]:
    assert all(isinstance(images, list) for images in found), found
    return list(found)


async def test_a_permit_that_is_lost_between_two_tries_leaves_its_set_out(
    harness: Harness, network: respx.MockRouter
) -> None:
    answers = [httpx.Response(503), httpx.Response(200, json=whole("p1", "p3"))]
    route = network.post(LISTING).mock(side_effect=answers)
    lost = Permit([60.0, LeaseLostError("gone")])
    found = await harness.client.set_many(PRODUCT, [one("p1"), one("p2", permit=lost), one("p3")])
    assert [isinstance(result, list) for result in found] == [True, False, True]
    assert isinstance(found[1], LeaseLostError)
    sent = [json.loads(call.request.content) for call in route.calls]
    assert [[e["meta"]["href"][-2:] for e in body] for body in sent] == [
        ["p1", "p2", "p3"],
        ["p1", "p3"],
    ]


async def test_an_answer_that_is_cut_is_asked_for_again(server: RawServer, local: Harness) -> None:
    text = json.dumps(whole()).encode()
    path = "/entity/product"
    for cut in (response(text[:-40], length=None), response(text[:-40])):
        server.on(path, cut, json_response(whole()))
        server.requests.clear()
        found = await local.client.set_many(PRODUCT, sets())
        assert len(_lists(found)) == 3
        assert server.count(f"{path}?expand=images&limit=100") == 2


async def test_a_request_that_is_never_answered_ends_with_the_shortest_permit(
    server: RawServer, local: Harness
) -> None:
    async def never(_: object) -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    server.on("/entity/product", never)
    permits = [Permit([60.0]), Permit([0.4]), Permit([60.0])]
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLostError, match="outlasted the lease"):
            await local.client.set_many(
                PRODUCT, [one(i, permit=p) for i, p in zip(IDS, permits, strict=True)]
            )


@pytest.mark.parametrize("status", [400, 413, 504])
async def test_a_request_that_took_too_long_is_not_sent_again(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    route = network.post(LISTING).respond(status, json=errors(1088))
    with pytest.raises(RequestTooLargeError, match="1088"):
        await harness.client.set_many(PRODUCT, sets())
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (413, errors(1044), RequestTooLargeError),
        (400, errors(1044), RequestTooLargeError),
        (413, None, RequestTooLargeError),
        (401, [errors(1056)] * 3, AuthorisationError),
        (403, None, PermissionDeniedError),
        (403, errors(51003), StorageFullError),
        (400, errors(51002), ImageRejectedError),
        (400, [errors(51002)], ImageRejectedError),
        (400, errors(1007), ApiError),
        (404, errors(1021), NotFoundError),
        (400, "not at all", ApiError),
        (503, whole(), UnavailableError),
        (200, None, UnavailableError),
        (200, {}, ApiError),
        (200, whole()[0], ApiError),
        (200, errors(51002), ApiError),
        (200, [], ApiError),
        (200, whole()[:2], ApiError),
        (200, whole() * 2, ApiError),
    ],
)
async def test_a_request_that_failed_whole_is_an_error(
    harness: Harness, network: respx.MockRouter, status: int, body: Any, error: type[ImgsyncError]
) -> None:
    text = b"" if body is None else json.dumps(body).encode()
    network.post(LISTING).respond(status, content=text)
    with pytest.raises(ImgsyncError) as caught:
        await harness.client.set_many(PRODUCT, sets())
    assert type(caught.value) is error or (
        error is not ApiError and isinstance(caught.value, error)
    )
    if status == 200 and error is ApiError:
        assert is_untold(caught.value)


# The answer


@pytest.mark.parametrize("status", [200, 400, 403, 412, 413])
async def test_errors_stand_among_the_entities_whatever_the_status(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    codes = (51002, 51003, 1021, 1083, 9999, 51007, 51004)
    ids = ["p1", *(f"e{code}" for code in codes), "p2"]
    answer = [*whole("p1"), *map(errors, codes), *whole("p2")]
    route = network.post(LISTING).respond(status, json=answer)
    found = await harness.client.set_many(PRODUCT, sets(*ids))
    first, image, full, gone, later, other, storage, large, last = found
    assert [i.id for i in _lists([first])[0]] == [i.id for i in _lists([last])[0]] == ["i1"]
    assert isinstance(image, ImageRejectedError)
    assert isinstance(full, StorageFullError)
    assert full.account_id == ACCOUNT_ID
    assert isinstance(gone, NotFoundError)
    assert isinstance(later, UnavailableError)
    assert type(other) is ApiError
    assert "9999" in str(other)
    assert isinstance(storage, UnavailableError)
    assert isinstance(large, ImageRejectedError)
    assert route.call_count == 1


async def test_what_the_answer_shows_is_what_is_told(
    harness: Harness, network: respx.MockRouter
) -> None:
    """An API that passes over the images answers the old list; to compare is the caller's."""
    old = [row("p1", 7), row("p1", 8)]
    network.post(LISTING).respond(json=[entity("p1", *old), entity("p2"), *whole("p3")])
    first, second, third = _lists(await harness.client.set_many(PRODUCT, sets()))
    assert [image.id for image in first] == ["i7", "i8"]
    assert second == []
    assert third[0].is_of("p3")


@pytest.mark.parametrize(
    "images",
    [
        None,
        {},
        {"meta": {"size": 1}},
        {"meta": {"size": 1}, "rows": None},
        {"meta": {"size": 2}, "rows": [row("p2")]},
        {"meta": {"size": 0}, "rows": [row("p2")]},
        {"rows": None},
        {"rows": "many"},
        {"rows": [{"filename": "without a meta"}]},
        {"meta": {"size": 2}, "rows": [row("p2"), None]},
        [],
    ],
    ids=str,
)
async def test_a_list_that_is_not_told_has_to_be_listed_anew(
    harness: Harness, network: respx.MockRouter, images: Any
) -> None:
    first, _, last = whole()
    network.post(LISTING).respond(json=[first, entity("p2", images=images), last])
    found = await harness.client.set_many(PRODUCT, sets())
    assert [isinstance(result, list) for result in found] == [True, False, True]
    assert is_untold(found[1])


@pytest.mark.parametrize(
    "element", [None, 3, "p2", [], {}, {"id": 7}, {"name": "n", "images": {"rows": []}}], ids=str
)
async def test_an_element_that_is_no_entity_has_to_be_listed_anew(
    harness: Harness, network: respx.MockRouter, element: Any
) -> None:
    first, _, last = whole()
    network.post(LISTING).respond(json=[first, element, last])
    found = await harness.client.set_many(PRODUCT, sets())
    assert [isinstance(result, list) for result in found] == [True, False, True]
    assert is_untold(found[1])


async def test_images_without_rows_are_none_where_their_size_is_none(
    harness: Harness, network: respx.MockRouter
) -> None:
    empty = [{"meta": {"size": 0}, "rows": None}, {"meta": {"size": 0}}, {"rows": []}]
    answer = [entity(i, images=images) for i, images in zip(IDS, empty, strict=True)]
    network.post(LISTING).respond(json=answer)
    assert await harness.client.set_many(PRODUCT, sets()) == [[], [], []]


async def test_entities_in_another_order_are_told_by_their_ids(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.post(LISTING).respond(json=whole("p3", "P1", "p2"))
    found = _lists(await harness.client.set_many(PRODUCT, sets()))
    assert [images[0].href.split("/")[-3] for images in found] == ["P1", "p2", "p3"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (whole("p1", "p9", "p3"), [True, False, True]),  # another entity's
        (whole("p1", "p1", "p3"), [False, False, True]),  # one twice
        ([*whole("p3"), errors(51002), *whole("p1")], [True, False, True]),  # whose error?
        (whole("p9", "p8", "p7"), [False, False, False]),
    ],
    ids=["another", "twice", "error", "others"],
)
async def test_an_answer_for_other_entities_is_not_trusted(
    harness: Harness, network: respx.MockRouter, answer: Any, told: list[bool]
) -> None:
    network.post(LISTING).respond(json=answer)
    found = await harness.client.set_many(PRODUCT, sets())
    assert [isinstance(result, list) for result in found] == told
    assert all(is_untold(result) for result in found if not isinstance(result, list))
    for entity_id, images in zip(IDS, found, strict=True):
        assert not isinstance(images, list) or images[0].is_of(entity_id)


async def test_an_answer_of_another_account_is_refused(
    harness: Harness, network: respx.MockRouter
) -> None:
    first, _, last = whole()
    answer = [first, entity("p2", row("p2"), accountId=ACCOUNT_ID[::-1]), last]
    route = network.post(LISTING).respond(json=answer)
    for _ in range(2):
        with pytest.raises(WrongAccountError):
            await harness.client.set_many(PRODUCT, sets())
    assert route.call_count == 1


async def test_nothing_is_sent_with_another_account_s_credentials(
    network: respx.MockRouter,
) -> None:
    route = network.post(LISTING).respond(json=whole())
    network.get(f"{LISTING}/p1").respond(json={"id": "p1", "accountId": ACCOUNT_ID[::-1]})
    async with http_client() as api:
        new = build(ACCOUNT, api, api, owner_is_known=False)
        with pytest.raises(WrongAccountError):
            await new.client.set_many(PRODUCT, sets())
    assert not route.called


async def test_the_owner_is_told_by_the_first_entity(network: respx.MockRouter) -> None:
    """A right to see products is enough."""
    asked = network.get(f"{LISTING}/p1").respond(json={"id": "p1", "accountId": ACCOUNT_ID})
    network.post(LISTING).respond(json=whole())
    async with http_client() as api:
        new = build(ACCOUNT, api, api, owner_is_known=False)
        for _ in range(2):
            assert len(_lists(await new.client.set_many(PRODUCT, sets()))) == 3
    assert asked.call_count == 1


async def test_the_owner_is_known_though_one_of_the_entities_is_gone(
    network: respx.MockRouter,
) -> None:
    network.get(url__startswith=f"{LISTING}/").respond(404, json=errors(1021))
    own = {"meta": {"size": 1}, "rows": [{"id": "o", "accountId": ACCOUNT_ID}]}
    network.get(f"{API}/entity/organization").respond(json=own)
    network.post(LISTING).respond(400, json=[errors(1021), *whole("p2", "p3")])
    async with http_client() as api:
        new = build(ACCOUNT, api, api, owner_is_known=False)
        found = await new.client.set_many(PRODUCT, sets())
    assert [isinstance(result, list) for result in found] == [False, True, True]
    assert isinstance(found[0], NotFoundError)


# What answers show


async def test_sizes_are_shown_by_what_came_back_as_it_was_sent(
    harness: Harness, network: respx.MockRouter
) -> None:
    answer = [
        entity("p1", row("p1", size=30)),
        entity("p2", row("p2", size=40)),  # another image, which was there before
        entity("p3", row("p3", size=3), row("p3", 2, size=90)),
        errors(51004),
    ]
    network.post(LISTING).respond(400, json=answer)
    sizes: list[list[Element]] = [
        [upload(size=30)],
        [upload(size=50)],
        [upload(size=90)],
        [upload(size=70), upload(size=80)],
    ]
    many = [one(i, e) for i, e in zip((*IDS, "p4"), sizes, strict=True)]
    await harness.client.set_many(PRODUCT, many)
    shown = harness.client.shown
    assert (shown.accepted_image_bytes, shown.refused_image_bytes) == (30, 80)


@pytest.mark.parametrize(
    ("heads", "formats"),
    [
        ([b"GIF89a"], {"gif"}),
        ([b"RIFF\0\0\0\0WEBPVP8 "], {"webp"}),
        ([b"BM\0\0"], {"bmp"}),
        ([b"\xff\xd8\xff\xe0"], set()),  # which is documented, so that this one is damaged
        ([b"\x89PNG\r\n\x1a\n"], set()),
        ([b"something else"], set()),
        ([b"GIF89a", b"\xff\xd8\xff\xe0"], set()),  # which of them?
    ],
)
async def test_formats_that_are_refused_are_shown(
    harness: Harness, network: respx.MockRouter, heads: list[bytes], formats: set[str]
) -> None:
    images = f"{LISTING}/p1/images"
    network.post(images).respond(400, json=errors(51002))
    files = {str(n): head + bytes(20) for n, head in enumerate(heads)}

    async def read(key: str) -> AsyncIterator[bytes]:
        yield files[key][:3]
        yield files[key][3:]

    elements = [Upload(key, "a", len(data)) for key, data in files.items()]
    with pytest.raises(ImageRejectedError):
        await harness.client.set_images(PRODUCT, "p1", elements, read, UNLIMITED)
    assert harness.client.shown.refused_formats == formats


def linked(href: object) -> dict[str, Any]:
    found = row("p1")
    return found | {"meta": found["meta"] | {"downloadPermanentHref": href}}


CDN = "https://cdn.moysklad.ru/x"
HOSTS = sorted(range(30), key=str)[:20]
"""No more are remembered, whatever the API names."""


@pytest.mark.parametrize(
    ("rows", "links", "hosts"),
    [
        ([linked(CDN), row("p1")], True, {"cdn.moysklad.ru"}),
        ([linked(CDN), linked("https://CDN.two:8080/")], True, {"cdn.moysklad.ru", "cdn.two:8080"}),
        ([linked("https://a:443/x"), linked("https://[::1]:9/x")], True, {"a"}),
        ([linked(f"https://h{n}/") for n in range(30)], True, {f"h{n}" for n in HOSTS}),
        ([row("p1")], False, set()),
        ([linked(None)], False, set()),
        ([linked("ftp://x/y")], True, set()),
        ([], None, set()),
    ],
)
async def test_permanent_links_are_shown_by_the_rows_of_images(
    harness: Harness,
    network: respx.MockRouter,
    rows: list[Any],
    links: bool | None,
    hosts: set[str],
) -> None:
    page = {"meta": {"size": 1}, "rows": [entity("p1", *rows)]}
    network.get(LISTING).respond(json=page)
    for asked in (False, True):
        async for _ in harness.client.list_entities(
            PRODUCT, with_images=True, permanent_links=asked
        ):
            pass
        shown = harness.client.shown
        expected = (links, hosts) if asked else (None, set())
        assert (shown.permanent_links, set(shown.permanent_hosts)) == expected


async def test_permanent_links_that_are_refused_are_shown(
    harness: Harness, network: respx.MockRouter
) -> None:
    page = {"meta": {"size": 1}, "rows": [entity("p1", row("p1"))]}
    network.get(LISTING, params={"fields": "downloadPermanentHref"}).respond(400, json=errors(3042))
    plain = network.get(LISTING).respond(400, json=errors(1))
    listing = harness.client.list_entities(PRODUCT, with_images=True, permanent_links=True)
    with pytest.raises(ApiError):
        await anext(listing)
    assert harness.client.shown.permanent_links is None  # it is refused without them too
    harness.transport.forget_failures("entity/product")
    plain.respond(json=page)
    async with http_client() as api:
        again = build(ACCOUNT, api, api)
        listing = again.client.list_entities(PRODUCT, with_images=True, permanent_links=True)
        assert (await anext(listing)).entities[0].images[0].id == "i1"
        assert again.client.shown.permanent_links is False


@pytest.mark.parametrize(
    ("status", "headers", "head"),
    [
        (200, {"Content-Length": "7"}, True),
        (405, {}, False),
        (501, {}, False),
        (404, {}, None),
        (503, {}, None),
    ],
)
async def test_head_is_shown(
    harness: Harness,
    network: respx.MockRouter,
    status: int,
    headers: dict[str, str],
    head: bool | None,
) -> None:
    network.head(f"{API}/download/i1").respond(status, headers=headers)
    await harness.client.content_length(f"{API}/download/i1")
    assert harness.client.shown.head is head


async def test_another_host_s_head_shows_nothing(
    harness: Harness, network: respx.MockRouter
) -> None:
    url = "https://files.selcdn.ru/x"
    network.head(url).respond(200, headers={"Content-Length": "7"})
    assert await harness.client.content_length(url) == 7
    assert harness.client.shown.head is None


def test_an_entity_type_of_a_plugin_is_named_in_the_listing() -> None:
    card = EntityType("contentcard")
    body = bulk_array(f"{API}/entity/{card.name}", card.name, [one("c1", [])])
    assert body.length == bulk_size(f"{API}/entity/{card.name}", card.name, [one("c1", [])])
