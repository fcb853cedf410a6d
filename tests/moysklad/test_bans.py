"""Failing requests: each goes out at most a few times, and refused credentials once."""

import asyncio

import httpx
import pytest
import respx

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.domain.errors import (
    AccountParkedError,
    AuthorisationError,
    ImageError,
    ImageRejectedError,
    ImgsyncError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)
from imgsync.domain.model import Account, AccountRole, Element, TokenKind, Upload
from imgsync.testing import UNLIMITED
from tests.moysklad.harness import ACCOUNT, ACCOUNT_ID, API, PRODUCT, SECRET, Harness, content

pytestmark = pytest.mark.anyio
IMAGES = f"{API}/entity/product/p1/images"
EMPTY = {"meta": {"size": 0}, "rows": []}
UPLOAD: list[Element] = [Upload("k", "a.png", 3)]


def failure(code: int, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"errors": [{"error": "нет", "code": code}]})


async def upload(harness: Harness, entity_id: str = "p1") -> None:
    await harness.client.set_images(PRODUCT, entity_id, UPLOAD, content(b"abc"), UNLIMITED)


async def test_one_deleted_image_wanted_by_260_children_is_asked_for_once(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(f"{API}/download/i1").mock(return_value=failure(1021, 404))
    texts = set()
    for _ in range(260):
        with pytest.raises(ImageError) as caught:
            await harness.download(f"{API}/download/i1")
        texts.add(str(caught.value))
    assert route.call_count == 1
    assert len(texts) == 1
    assert "1021" in texts.pop()


async def test_children_that_ask_at_once_ask_a_few_times(
    harness: Harness, network: respx.MockRouter
) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        return failure(1021, 404)

    route = network.get(f"{API}/download/i1").mock(side_effect=slow)

    async def one() -> None:
        with pytest.raises(ImageError):
            await harness.download(f"{API}/download/i1")

    await asyncio.gather(*(one() for _ in range(260)))
    assert route.call_count <= 5


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_the_size_of_a_deleted_image_is_asked_for_once(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    route = network.head(f"{API}/download/i1").respond(status)
    network.head(f"{API}/download/i2").respond(headers={"Content-Length": "5"})
    for _ in range(260):
        assert await harness.client.content_length(f"{API}/download/i1") is None
        assert await harness.client.content_length(f"{API}/download/i2") == 5
    assert route.call_count == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
async def test_an_api_that_refuses_every_head_is_asked_a_few_times(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    route = network.head(url__startswith=f"{API}/download/").respond(status)
    for number in range(260):
        assert await harness.client.content_length(f"{API}/download/i{number}") is None
    assert route.call_count == 3
    network.get(IMAGES).respond(json=EMPTY)
    assert await harness.client.list_images(PRODUCT, "p1") == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failure(1021, 404), NotFoundError),
        (failure(1016, 403), PermissionDeniedError),
        (failure(51002), ImageRejectedError),
    ],
)
async def test_a_refused_request_is_remembered_for_ten_minutes(
    harness: Harness,
    network: respx.MockRouter,
    answer: httpx.Response,
    kind: type[ImgsyncError],
) -> None:
    route = network.get(IMAGES).mock(return_value=answer)
    for _ in range(5):
        with pytest.raises(kind):
            await harness.client.list_images(PRODUCT, "p1")
        harness.time.now += 100
    assert route.call_count == 1
    harness.time.now += 101
    with pytest.raises(kind):
        await harness.client.list_images(PRODUCT, "p1")
    assert route.call_count == 2


async def test_other_requests_are_not_held_back(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(IMAGES).mock(return_value=failure(1021, 404))
    other = network.get(f"{API}/entity/product/p2/images").respond(json=EMPTY)
    with pytest.raises(NotFoundError):
        await harness.client.list_images(PRODUCT, "p1")
    await harness.client.list_images(PRODUCT, "p2")
    assert other.called


async def test_a_write_to_the_entity_ends_the_memory_of_it(
    harness: Harness, network: respx.MockRouter
) -> None:
    row = {"meta": {"href": f"{IMAGES}/i1"}}
    listed = network.get(IMAGES)
    listed.mock(side_effect=[failure(1021, 404), httpx.Response(200, json=EMPTY)])
    network.post(IMAGES).respond(json=[row])
    with pytest.raises(NotFoundError):
        await harness.client.list_images(PRODUCT, "p1")
    await upload(harness)
    assert await harness.client.list_images(PRODUCT, "p1") == []


async def test_a_deletion_with_another_body_is_another_request(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(f"{IMAGES}/delete").mock(return_value=failure(1021, 404))
    network.get(IMAGES).respond(json=EMPTY)
    for href in ("a", "a", "b"):
        await harness.client.delete_images(PRODUCT, "p1", [href], UNLIMITED)
    assert route.call_count == 2


@pytest.mark.parametrize("answer", [httpx.Response(401), failure(1056, 400), failure(1061, 403)])
async def test_refused_credentials_cost_one_request(
    harness: Harness, network: respx.MockRouter, answer: httpx.Response
) -> None:
    route = network.route(host="api.moysklad.ru").mock(return_value=answer)
    with pytest.raises(AuthorisationError) as refused:
        await harness.client.list_images(PRODUCT, "p1")
    assert refused.value.account_id == ACCOUNT_ID
    for number in range(300):
        with pytest.raises(AccountParkedError, match="credentials were refused") as parked:
            await harness.client.list_images(PRODUCT, f"p{number}")
        assert parked.value.account_id == ACCOUNT_ID
        assert SECRET not in str(parked.value)
    assert route.call_count == 1


async def test_tasks_that_begin_at_once_with_refused_credentials_cost_one_request(
    harness: Harness, network: respx.MockRouter
) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        return httpx.Response(401)

    route = network.route(host="api.moysklad.ru").mock(side_effect=slow)
    kinds = await asyncio.gather(
        *(harness.client.list_images(PRODUCT, f"p{n}") for n in range(20)),
        return_exceptions=True,
    )
    assert route.call_count == 1
    assert sum(isinstance(k, AuthorisationError) for k in kinds) == 1
    assert sum(isinstance(k, AccountParkedError) for k in kinds) == 19


async def test_refused_credentials_are_tried_again_after_ten_minutes(
    harness: Harness, network: respx.MockRouter
) -> None:
    answers = [httpx.Response(401), httpx.Response(200, json=EMPTY)]
    network.get(IMAGES).mock(side_effect=answers)
    with pytest.raises(AuthorisationError):
        await harness.client.list_images(PRODUCT, "p1")
    harness.time.now += 601
    assert await harness.client.list_images(PRODUCT, "p1") == []


async def test_a_full_storage_names_its_account(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.post(IMAGES).mock(return_value=failure(51003, 403))
    with pytest.raises(StorageFullError) as caught:
        await upload(harness)
    assert caught.value.account_id == ACCOUNT_ID


async def test_many_different_failures_park_the_account_for_the_minute(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.route(host="api.moysklad.ru").mock(return_value=failure(1021, 404))
    for number in range(60):
        with pytest.raises(NotFoundError):
            await harness.client.list_images(PRODUCT, f"p{number}")
    for number in range(60, 300):
        with pytest.raises(AccountParkedError, match=r"Main shop.*60 requests failed") as caught:
            await harness.client.list_images(PRODUCT, f"p{number}")
        assert caught.value.account_id == ACCOUNT_ID
    assert route.call_count == 60
    harness.time.now += 60
    with pytest.raises(NotFoundError):
        await harness.client.list_images(PRODUCT, "later")


async def test_an_api_that_is_down_does_not_cost_the_user_its_access(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(IMAGES).respond(500)
    started = harness.time.now
    sent = []
    while harness.time.now < started + 300:
        before = route.call_count
        with pytest.raises((UnavailableError, AccountParkedError)):
            await harness.client.list_images(PRODUCT, "p1")
        sent += [harness.time.now] * (route.call_count - before)
        harness.time.now += 0.1
    worst = max(sum(at - 60 < other <= at for other in sent) for at in sent)
    assert worst <= 64


async def test_a_redirect_keeps_its_connection_and_proves_the_credentials(
    harness: Harness, network: respx.MockRouter
) -> None:
    moved = f"{API}/entity/product/real/images"
    network.get(IMAGES).respond(308, headers={"Location": moved}, content=b"moved")
    network.get(moved).respond(json=EMPTY)
    assert await harness.client.list_images(PRODUCT, "p1") == []


async def test_a_new_token_is_a_new_client_and_another_name_is_not() -> None:
    factory = HttpMoySkladFactory(API, [], SystemClock())
    first = factory.for_account(ACCOUNT)
    renamed = Account(ACCOUNT_ID, "Renamed", TokenKind.SOLUTION, SECRET, role=AccountRole.MAIN)
    assert factory.for_account(renamed) is first
    for other in (
        Account(ACCOUNT_ID, "Main shop", TokenKind.SOLUTION, "new"),
        Account(ACCOUNT_ID, "Main shop", TokenKind.DRAFT, SECRET),
        Account("else", "Main shop", TokenKind.SOLUTION, SECRET),
    ):
        assert factory.for_account(other) is not first
    await factory.close()


async def test_a_new_token_ends_the_refusal_and_a_new_kind_keeps_the_pace() -> None:
    factory = HttpMoySkladFactory(API, [], SystemClock())
    with respx.mock() as network:
        network.get(IMAGES, headers={"Authorization": f"Bearer {SECRET}"}).respond(401)
        network.get(IMAGES, headers={"Authorization": "Bearer new"}).respond(json=EMPTY)
        with pytest.raises(AuthorisationError):
            await factory.for_account(ACCOUNT).list_images(PRODUCT, "p1")
        replaced = Account(ACCOUNT_ID, "Main shop", TokenKind.SOLUTION, "new")
        assert await factory.for_account(replaced).list_images(PRODUCT, "p1") == []
        factory.for_account(Account(ACCOUNT_ID, "Main shop", TokenKind.DRAFT, "new"))
    pacers = {id(pacer) for pacer in factory._pacers.values()}
    assert len(pacers) == 2
    assert factory._pacers[("new", None)].weight() == 4
    await factory.close()
