"""Whose credentials these are: asked once before the first write, and by `account add`."""

import asyncio

import httpx
import pytest
import respx

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImgsyncError,
    NotFoundError,
    UnavailableError,
    WrongAccountError,
)
from imgsync.domain.model import Account, Element, EntityType, Identity, TokenKind, Upload
from imgsync.testing import UNLIMITED
from tests.moysklad.harness import (
    ACCOUNT,
    ACCOUNT_ID,
    API,
    PRODUCT,
    SECRET,
    Harness,
    build,
    content,
    http_client,
)

pytestmark = pytest.mark.anyio
OTHER = "ffffffff-0c5d-4e0f-9a55-0242ac120002"
ENTITY = f"{API}/entity/product/p1"
IMAGES = f"{ENTITY}/images"
ROW = {"meta": {"href": f"{IMAGES}/i1"}, "filename": "a.png", "size": 3, "updated": "u"}
UPLOAD: list[Element] = [Upload("k", "a.png", 3)]
EMPLOYEE, APPLICATION = f"{API}/context/employee", f"{API}/context/application"


def failure(code: int, status: int) -> httpx.Response:
    return httpx.Response(status, json={"errors": [{"error": "нет", "code": code}]})


def rows(*found: object) -> dict[str, object]:
    return {"meta": {"size": len(found)}, "rows": list(found)}


async def upload(harness: Harness, entity_id: str = "p1") -> None:
    await harness.client.set_images(PRODUCT, entity_id, UPLOAD, content(b"abc"), UNLIMITED)


@pytest.fixture
async def new(network: respx.MockRouter) -> Harness:
    """A client whose owner nobody has told it yet; its connections are those of a mock."""
    return harness_of(ACCOUNT)


def harness_of(account: Account) -> Harness:
    client = http_client()
    return build(account, client, client, owner_is_known=False)


def user(kind: TokenKind = TokenKind.USER) -> Account:
    login = "admin@shop" if kind is TokenKind.PASSWORD else None
    return Account(ACCOUNT_ID, "Main shop", kind, SECRET, login)


async def test_a_solution_is_known_by_the_entity_that_it_is_to_write(
    new: Harness, network: respx.MockRouter
) -> None:
    asked = network.get(ENTITY).respond(json={"id": "p1", "accountId": ACCOUNT_ID.upper()})
    written = network.post(IMAGES).respond(json=[ROW])
    for _ in range(3):
        await upload(new)
    assert (asked.call_count, written.call_count) == (1, 3)


async def test_many_first_writes_ask_once(new: Harness, network: respx.MockRouter) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        return httpx.Response(200, json={"accountId": ACCOUNT_ID})

    asked = network.get(url__regex=r".*/product/p\d+$").mock(side_effect=slow)
    network.post(url__regex=r".*/images$").respond(json=[ROW])
    await asyncio.gather(*(upload(new, f"p{n}") for n in range(10)))
    assert asked.call_count == 1


@pytest.mark.parametrize("kind", [TokenKind.USER, TokenKind.PASSWORD])
async def test_a_user_is_known_by_its_context(network: respx.MockRouter, kind: TokenKind) -> None:
    asked = network.get(EMPLOYEE).respond(json={"accountId": ACCOUNT_ID})
    network.post(IMAGES).respond(json=[ROW])
    harness = harness_of(user(kind))
    for _ in range(2):
        await upload(harness)
    assert asked.call_count == 1


async def test_a_solutions_token_that_is_stored_as_a_users_is_checked_too(
    network: respx.MockRouter,
) -> None:
    network.get(EMPLOYEE).mock(return_value=failure(55006, 403))
    network.get(ENTITY).respond(json={"accountId": OTHER})
    with pytest.raises(WrongAccountError):
        await upload(harness_of(user()))


async def test_credentials_of_another_account_write_nothing(
    new: Harness, network: respx.MockRouter
) -> None:
    asked = network.get(ENTITY).respond(json={"accountId": OTHER})
    written = network.post(url__startswith=ENTITY).respond(json=[ROW])
    for _ in range(3):
        with pytest.raises(WrongAccountError) as caught:
            await upload(new)
        with pytest.raises(WrongAccountError):
            await new.client.delete_images(PRODUCT, "p1", [f"{IMAGES}/i1"], UNLIMITED)
    for part in ("Main shop", ACCOUNT_ID, OTHER):
        assert part in str(caught.value)
    assert SECRET not in str(caught.value)
    assert (asked.call_count, written.called) == (1, False)


async def test_rows_that_are_listed_tell_the_owner_for_nothing(
    new: Harness, network: respx.MockRouter
) -> None:
    listed = rows({"id": "p1", "accountId": ACCOUNT_ID})
    network.get(f"{API}/entity/product").respond(json=listed)
    network.post(IMAGES).respond(json=[ROW])
    asked = network.get(ENTITY).respond(json={"accountId": ACCOUNT_ID})
    assert [p async for p in new.client.list_entities(PRODUCT, with_images=False)]
    await upload(new)
    assert not asked.called


async def test_a_list_of_another_account_is_not_planned_from(
    new: Harness, network: respx.MockRouter
) -> None:
    network.get(f"{API}/entity/product").respond(json=rows({"id": "p1", "accountId": OTHER}))
    with pytest.raises(WrongAccountError):
        [p async for p in new.client.list_entities(PRODUCT, with_images=True)]
    written = network.post(IMAGES).respond(json=[ROW])
    with pytest.raises(WrongAccountError):
        await upload(new)
    assert not written.called


async def test_an_entity_without_account_is_asked_of_others(
    new: Harness, network: respx.MockRouter
) -> None:
    network.get(ENTITY).respond(json={"accountId": None})
    network.get(f"{API}/entity/organization").respond(json=rows({"accountId": OTHER}))
    with pytest.raises(WrongAccountError):
        await upload(new)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401), AuthorisationError),
        (httpx.Response(503), UnavailableError),
        (failure(1021, 404), NotFoundError),
    ],
)
async def test_while_the_owner_is_not_known_nothing_is_written(
    new: Harness, network: respx.MockRouter, answer: httpx.Response, kind: type[ImgsyncError]
) -> None:
    network.get(ENTITY).mock(return_value=answer)
    written = network.post(IMAGES).respond(json=[ROW])
    with pytest.raises(kind):
        await upload(new)
    assert not written.called


async def test_an_owner_that_could_not_be_asked_is_asked_again(
    new: Harness, network: respx.MockRouter
) -> None:
    down = [httpx.Response(503)] * 4
    network.get(ENTITY).mock(
        side_effect=[*down, httpx.Response(200, json={"accountId": ACCOUNT_ID})]
    )
    network.post(IMAGES).respond(json=[ROW])
    with pytest.raises(UnavailableError):
        await upload(new)
    await upload(new)


async def identify(login: str | None = None) -> Identity:
    factory = HttpMoySkladFactory(API, [], SystemClock())
    try:
        return await factory.identify(SECRET, login)
    finally:
        await factory.close()


async def test_identify_a_user(network: respx.MockRouter) -> None:
    employee = {"accountId": ACCOUNT_ID, "uid": "admin@myshop", "name": "Иванов"}
    route = network.get(EMPLOYEE).respond(json=employee)
    assert await identify() == Identity(ACCOUNT_ID, "myshop", TokenKind.USER)
    assert await identify("admin@myshop") == Identity(ACCOUNT_ID, "myshop", TokenKind.PASSWORD)
    assert route.calls[1].request.headers["Authorization"].startswith("Basic ")


async def test_identify_a_user_without_uid_by_name(network: respx.MockRouter) -> None:
    network.get(EMPLOYEE).respond(json={"accountId": ACCOUNT_ID, "uid": None, "name": "Иванов"})
    assert (await identify()).name == "Иванов"


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    "answers",
    [
        {"organization": rows({"accountId": ACCOUNT_ID})},
        {"organization": rows(), "product": rows({"accountId": ACCOUNT_ID})},
        {"organization": rows({"accountId": None}), "variant": rows({"accountId": ACCOUNT_ID})},
    ],
)
async def test_identify_a_solution(
    network: respx.MockRouter, status: int, answers: dict[str, object]
) -> None:
    network.get(EMPLOYEE).mock(return_value=failure(55006, status))
    network.get(APPLICATION).respond(json={"id": "x", "appUid": "imgsync.vendor@myshop"})
    for name, answer in answers.items():
        network.get(f"{API}/entity/{name}", params={"limit": 1}).respond(json=answer)
    network.get(url__startswith=f"{API}/entity/").mock(return_value=failure(1016, 403))
    assert await identify() == Identity(ACCOUNT_ID, "myshop", TokenKind.SOLUTION)


async def test_a_solution_that_sees_nothing_is_told_so(network: respx.MockRouter) -> None:
    network.get(EMPLOYEE).mock(return_value=failure(55006, 403))
    network.get(APPLICATION).respond(json={"appUid": "imgsync.vendor@myshop"})
    network.get(url__startswith=f"{API}/entity/").respond(json=rows())
    with pytest.raises(ApiError, match="the token sees no organization"):
        await identify()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401), AuthorisationError),
        (failure(1056, 401), AuthorisationError),
        pytest.param(httpx.Response(503), UnavailableError, marks=pytest.mark.slow),
        (httpx.Response(200, json={"uid": "a@b"}), ApiError),
        (httpx.Response(200, json=[]), ApiError),
    ],
)
async def test_credentials_that_cannot_be_identified(
    network: respx.MockRouter, answer: httpx.Response, kind: type[ImgsyncError]
) -> None:
    network.get(EMPLOYEE).mock(return_value=answer)
    with pytest.raises(kind) as caught:
        await identify()
    assert SECRET not in str(caught.value)


async def test_a_token_that_cannot_be_one_is_not_sent(network: respx.MockRouter) -> None:
    route = network.route().respond(json={})
    factory = HttpMoySkladFactory(API, [], SystemClock())
    with pytest.raises(ApiError, match="spaces"):
        await factory.identify("two words")
    assert not route.called


async def test_other_types_are_checked_by_their_own_entity(
    new: Harness, network: respx.MockRouter
) -> None:
    network.get(f"{API}/entity/contentcard/c1").respond(json={"accountId": ACCOUNT_ID})
    network.post(f"{API}/entity/contentcard/c1/images").respond(json=[])
    await new.client.set_images(EntityType("contentcard"), "c1", [], content(), UNLIMITED)


async def test_what_is_not_found_may_be_another_account_s(
    new: Harness, network: respx.MockRouter
) -> None:
    listed = network.get(url__regex=r".*/images$").mock(return_value=failure(1021, 404))
    asked = network.get(f"{API}/entity/organization").respond(json=rows({"accountId": OTHER}))
    for entity_id in ("p1", "p2", "p3"):
        with pytest.raises(WrongAccountError, match=f"belongs to account {OTHER}"):
            await new.client.list_images(PRODUCT, entity_id)
    # Nothing more is read with such credentials.
    with pytest.raises(WrongAccountError):
        await new.client.content_length(f"{API}/download/x")
    with pytest.raises(WrongAccountError):
        await new.download(f"{API}/download/x")
    assert (listed.call_count, asked.call_count) == (1, 1)


@pytest.mark.parametrize("answer", [rows({"accountId": ACCOUNT_ID}), rows()])
async def test_what_is_not_found_in_the_account_itself_is_not_found(
    new: Harness, network: respx.MockRouter, answer: dict[str, object]
) -> None:
    network.get(url__regex=r".*/images$").mock(return_value=failure(1021, 404))
    network.get(url__regex=r".*/entity/\w+\?limit=1$").respond(json=answer)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await new.client.list_images(PRODUCT, "p1")
