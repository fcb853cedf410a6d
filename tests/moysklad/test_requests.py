"""Requests: credentials, headers, repetition, errors."""

import asyncio
import base64
import contextlib
import itertools
import json
import logging
from typing import Any

import httpx
import pytest
import respx

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.addresses import DownloadPolicy
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.pace import Pacer
from imgsync.adapters.moysklad.requests import small_body
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImageRejectedError,
    ImgsyncError,
    LargeImageError,
    NoImageError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
    StorageFullError,
    UnavailableError,
)
from imgsync.domain.model import NO_TOKEN, Account, Element, Keep, TokenKind, Upload
from imgsync.testing import UNLIMITED
from tests.moysklad.harness import (
    ACCOUNT,
    API,
    PRODUCT,
    SECRET,
    Harness,
    build,
    content,
    http_client,
)

pytestmark = pytest.mark.anyio
IMAGES = f"{API}/entity/product/p1/images"
EMPTY = {"meta": {"size": 0}, "rows": []}


def failure(code: int, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"errors": [{"error": "Ошибка", "code": code}]})


def row(number: int) -> dict[str, Any]:
    href = f"{IMAGES}/i{number}"
    return {
        "meta": {"href": href, "downloadHref": f"{API}/download/i{number}"},
        "filename": f"{number}.png",
        "size": number,
        "updated": "2026-01-01 00:00:00.000",
    }


async def test_the_documented_headers_are_sent(harness: Harness, network: respx.MockRouter) -> None:
    route = network.get(IMAGES).respond(json=EMPTY)
    assert await harness.client.list_images(PRODUCT, "p1") == []
    headers = route.calls.last.request.headers
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Accept-Encoding"] == "gzip"
    assert headers["Accept"] == "application/json;charset=utf-8"


async def test_a_password_is_sent_as_basic(network: respx.MockRouter) -> None:
    route = network.get(IMAGES).respond(json=EMPTY)
    account = Account("a", "Shop", TokenKind.PASSWORD, "пароль", "admin@shop")
    async with http_client() as api:
        await build(account, api, api).client.list_images(PRODUCT, "p1")
    kind, value = route.calls.last.request.headers["Authorization"].split()
    assert kind == "Basic"
    assert base64.b64decode(value).decode() == "admin@shop:пароль"


async def test_429_waits_as_told_and_is_repeated(
    harness: Harness, network: respx.MockRouter
) -> None:
    told = {"X-Lognex-Retry-After": "1700", "X-RateLimit-Limit": "45", "X-RateLimit-Remaining": "9"}
    throttled = httpx.Response(429, json={"errors": [{"code": 1049}]}, headers=told)
    route = network.get(IMAGES).mock(side_effect=[throttled, httpx.Response(200, json=EMPTY)])
    assert await harness.client.list_images(PRODUCT, "p1") == []
    assert route.call_count == 2
    assert harness.time.sleeps == [pytest.approx(1.7)]


async def test_endless_429_puts_the_task_off(harness: Harness, network: respx.MockRouter) -> None:
    route = network.get(IMAGES).respond(429, headers={"X-Lognex-Retry-After": "3000"})
    with pytest.raises(UnavailableError) as caught:
        await harness.client.list_images(PRODUCT, "p1")
    assert caught.value.retryable
    assert sum(harness.time.sleeps) > 100
    assert route.call_count < 60


@pytest.mark.parametrize(
    "first",
    [
        httpx.Response(500),
        httpx.Response(503),
        failure(51007, 400),
        failure(51007, 403),
        failure(1083, 400),
        failure(1088, 400),
        failure(1095, 403),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text=""),
        httpx.Response(204),
        httpx.Response(200, text='{"meta": {"size": 0}, "rows": ['),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
    ],
)
async def test_what_may_pass_is_repeated(
    harness: Harness, network: respx.MockRouter, first: httpx.Response | Exception
) -> None:
    route = network.get(IMAGES).mock(side_effect=[first, httpx.Response(200, json=EMPTY)])
    assert await harness.client.list_images(PRODUCT, "p1") == []
    assert route.call_count == 2
    assert harness.time.sleeps == [0.5]


async def test_repetition_ends_with_a_retryable_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(IMAGES).respond(502)
    with pytest.raises(UnavailableError, match="502"):
        await harness.client.list_images(PRODUCT, "p1")
    assert route.call_count == 4
    assert harness.time.sleeps == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (failure(1056, 401), AuthorisationError, False),
        (failure(1061, 403), AuthorisationError, False),
        (httpx.Response(401), AuthorisationError, False),
        (failure(1061, 400), AuthorisationError, False),
        (failure(1048, 429), AuthorisationError, False),
        (httpx.Response(403), PermissionDeniedError, False),
        (failure(1016, 403), PermissionDeniedError, False),
        (failure(1044, 400), RequestTooLargeError, False),
        (failure(1044, 413), RequestTooLargeError, False),
        (failure(51002, 403), NoImageError, False),
        (failure(51004, 500), LargeImageError, False),
        (failure(51003, 403), StorageFullError, False),
        (failure(51003, 413), StorageFullError, False),
        (failure(51003, 503), StorageFullError, False),
        (failure(1021, 404), NotFoundError, False),
        (failure(51001), ImageRejectedError, False),
        (failure(51002), NoImageError, False),
        (failure(51004), LargeImageError, False),
        (failure(51005), ImageRejectedError, False),
        (failure(51006), ImageRejectedError, False),
        (httpx.Response(413), RequestTooLargeError, False),
        (failure(51003), StorageFullError, False),
        (failure(1056, 400), AuthorisationError, False),
        (failure(1021, 400), NotFoundError, False),
        (failure(1002), ApiError, False),
        (httpx.Response(415), ApiError, False),
        (httpx.Response(200, json={"rows": [{"meta": {}}]}), ApiError, False),
    ],
)
async def test_errors_that_stay(
    harness: Harness,
    network: respx.MockRouter,
    answer: httpx.Response,
    kind: type[ImgsyncError],
    retryable: bool,
) -> None:
    route = network.get(IMAGES).mock(return_value=answer)
    with pytest.raises(kind) as caught:
        await harness.client.list_images(PRODUCT, "p1")
    assert caught.value.retryable is retryable
    assert type(caught.value) is kind
    assert route.call_count == 1


@pytest.mark.parametrize("text", [None, 5, {"ru": "нет"}, ["нет"]])
@pytest.mark.parametrize("field", ["error", "error_message", "parameter"])
async def test_a_text_of_another_shape_does_not_cost_the_code(
    harness: Harness, network: respx.MockRouter, field: str, text: object
) -> None:
    body = {"errors": [{"error": "нет", "code": 51003, field: text}]}
    network.get(IMAGES).respond(403, json=body)
    with pytest.raises(StorageFullError, match="51003"):
        await harness.client.list_images(PRODUCT, "p1")


async def test_an_error_names_account_text_code_and_request(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(IMAGES).mock(return_value=failure(1056, 401))
    with pytest.raises(AuthorisationError) as caught:
        await harness.client.list_images(PRODUCT, "p1")
    text = str(caught.value)
    for part in ("Main shop", "401", "Ошибка", "1056", "/entity/product/p1/images"):
        assert part in text
    assert SECRET not in text


async def test_a_uuid_of_the_user_interface_is_followed(
    harness: Harness, network: respx.MockRouter
) -> None:
    moved = f"{API}/entity/product/real/images"
    network.get(IMAGES).respond(308, headers={"Location": moved})
    network.get(moved).respond(json={"meta": {"size": 1}, "rows": [row(1)]})
    assert [i.id for i in await harness.client.list_images(PRODUCT, "p1")] == ["i1"]


async def test_a_redirect_of_the_api_to_another_host_gets_no_credentials(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(IMAGES).respond(308, headers={"Location": "https://evil.example/images"})
    evil = network.route(host="evil.example").respond(json=EMPTY)
    with pytest.raises(ApiError, match=r"credentials to evil\.example"):
        await harness.client.list_images(PRODUCT, "p1")
    assert not evil.called


async def test_pages_are_read_to_the_end_with_expanded_images(
    harness: Harness, network: respx.MockRouter
) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        assert (query["limit"], query["expand"]) == ("100", "images")
        offset = int(query["offset"])
        rows = [
            {"id": f"p{n}", "name": "N", "images": {"meta": {"size": 1}, "rows": [row(n)]}}
            for n in range(offset, min(offset + 100, 150))
        ]
        return httpx.Response(200, json={"meta": {"size": 150}, "rows": rows})

    route = network.get(f"{API}/entity/product").mock(side_effect=page)
    pages = [p async for p in harness.client.list_entities(PRODUCT, with_images=True)]
    assert [len(p.entities) for p in pages] == [100, 50]
    assert [e.id for p in pages for e in p.entities] == [f"p{n}" for n in range(150)]
    assert pages[1].entities[0].images[0].size == 100
    assert route.call_count == 2


async def test_without_images_pages_hold_a_thousand_and_expand_nothing(
    harness: Harness, network: respx.MockRouter
) -> None:
    rows = [{"id": "p1", "externalCode": "x", "code": "c", "article": "a", "name": "n"}]
    route = network.get(f"{API}/entity/product").respond(json={"meta": {"size": 1}, "rows": rows})
    pages = [p async for p in harness.client.list_entities(PRODUCT, with_images=False)]
    query = route.calls.last.request.url.params
    assert query["limit"] == "1000"
    assert "expand" not in query
    entity = pages[0].entities[0]
    assert (entity.external_code, entity.code, entity.article, entity.name) == ("x", "c", "a", "n")


async def test_images_missing_from_the_expanded_rows_are_listed(
    harness: Harness, network: respx.MockRouter
) -> None:
    rows = [{"id": "p1", "name": "n", "images": {"meta": {"size": 2}, "rows": []}}]
    network.get(f"{API}/entity/product").respond(json={"meta": {"size": 1}, "rows": rows})
    network.get(IMAGES).respond(json={"meta": {"size": 2}, "rows": [row(1), row(2)]})
    pages = [p async for p in harness.client.list_entities(PRODUCT, with_images=True)]
    assert [i.id for i in pages[0].entities[0].images] == ["i1", "i2"]


async def test_set_images_sends_the_whole_array_and_its_length(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(IMAGES).respond(json=[row(1), row(2)])
    whole = bytes(range(256)) * 3
    chunks = [whole[:100], whole[100:101], whole[101:]]
    elements: list[Element] = [Keep(f"{IMAGES}/i1"), Upload("k", "ж.png", len(whole))]
    images = await harness.client.set_images(PRODUCT, "p1", elements, content(*chunks), UNLIMITED)
    request = route.calls.last.request
    sent = json.loads(request.content)
    assert sent[0] == {
        "meta": {"href": f"{IMAGES}/i1", "type": "image", "mediaType": "application/json"}
    }
    assert sent[1]["filename"] == "ж.png"
    assert base64.b64decode(sent[1]["content"], validate=True) == whole
    assert int(request.headers["Content-Length"]) == len(request.content)
    assert request.headers["Content-Type"] == "application/json"
    assert [i.id for i in images] == ["i1", "i2"]


async def test_a_repeated_upload_reads_its_file_anew(
    harness: Harness, network: respx.MockRouter
) -> None:
    ok = httpx.Response(200, json=[row(1)])
    route = network.post(IMAGES).mock(side_effect=[httpx.Response(503), ok])
    await harness.client.set_images(
        PRODUCT, "p1", [Upload("k", "a.png", 3)], content(b"abc"), UNLIMITED
    )
    bodies = [call.request.content for call in route.calls]
    assert bodies[0] == bodies[1]
    assert b"YWJj" in bodies[1]


async def test_an_answer_with_another_number_of_images_is_an_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.post(IMAGES).respond(json=[])
    with pytest.raises(ApiError, match="1 images were set, 0 came back"):
        await harness.client.set_images(
            PRODUCT, "p1", [Upload("k", "a.png", 3)], content(b"abc"), UNLIMITED
        )


async def test_delete_images_is_one_request_and_forgives_what_is_gone(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(f"{IMAGES}/delete").mock(
        side_effect=[httpx.Response(200), failure(1021, 404)]
    )
    await harness.client.delete_images(PRODUCT, "p1", [f"{IMAGES}/i1", f"{IMAGES}/i2"], UNLIMITED)
    sent = json.loads(route.calls.last.request.content)
    assert [e["meta"]["href"] for e in sent] == [f"{IMAGES}/i1", f"{IMAGES}/i2"]
    listed = network.get(IMAGES).respond(json=EMPTY)
    await harness.client.delete_images(PRODUCT, "p1", [f"{IMAGES}/i1"], UNLIMITED)
    assert (route.call_count, listed.call_count) == (2, 1)


async def test_an_entity_id_cannot_leave_its_path(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.route(host="api.moysklad.ru").respond(json=EMPTY)
    await harness.client.list_images(PRODUCT, "a/b?c#d")
    raw = route.calls.last.request.url.raw_path
    assert raw == b"/api/remap/1.2/entity/product/a%2Fb%3Fc%23d/images"


async def test_no_log_shows_the_token(
    harness: Harness, network: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    network.get(IMAGES).mock(return_value=failure(1056, 401))
    with pytest.raises(AuthorisationError):
        await harness.client.list_images(PRODUCT, "p1")
    assert caplog.records
    assert SECRET not in caplog.text


async def test_an_upload_to_a_uuid_of_the_user_interface_takes_its_body_along(
    harness: Harness, network: respx.MockRouter
) -> None:
    moved = f"{API}/entity/product/real/images"
    network.post(IMAGES).respond(308, headers={"Location": moved})
    route = network.post(moved).respond(json=[row(1)])
    upload: list[Element] = [Upload("k", "a.png", 3)]
    await harness.client.set_images(PRODUCT, "p1", upload, content(b"abc"), UNLIMITED)
    assert b"YWJj" in route.calls.last.request.content


async def test_a_redirect_to_nowhere_is_an_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(IMAGES).respond(308, headers={"Location": "https://[bad"})
    with pytest.raises(ApiError):
        await harness.client.list_images(PRODUCT, "p1")


async def test_a_long_error_is_cut(harness: Harness, network: respx.MockRouter) -> None:
    network.get(IMAGES).respond(400, json={"errors": [{"error": "x" * 9000, "code": 1}]})
    with pytest.raises(ApiError) as caught:
        await harness.client.list_images(PRODUCT, "p1")
    assert len(str(caught.value)) < 500


async def test_a_header_that_cannot_be_sent_is_not_shown() -> None:
    account = Account("a", "Shop", TokenKind.SOLUTION, "token")
    object.__setattr__(account, "secret", "se\ncret")  # as an older version may have stored it
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    factory = HttpMoySkladFactory(f"http://127.0.0.1:{port}", [], SystemClock())
    with pytest.raises(ApiError, match="cannot be sent") as caught:
        await factory.for_account(account).list_images(PRODUCT, "p1")
    await factory.close()
    listening.close()
    assert "se" not in str(caught.value).replace("sent", "")


async def test_connections_are_given_back_after_every_end() -> None:
    """Twice as many failures as a pool has places, over real connections."""
    limits = httpx.Limits(max_connections=2)
    answers = itertools.cycle([(404, b""), (200, b"[]"), (302, b"")])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                status, body = next(answers)
                length = f"Content-Length: {len(body)}"
                head = f"HTTP/1.1 {status} x\r\nLocation: /x\r\n{length}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with http_client(limits=limits, timeout=2) as api:
            transport = ApiTransport(ACCOUNT, DownloadPolicy.create(url, []), api, Pacer(lambda: 1))
            async with asyncio.timeout(10):
                for _ in range(6):
                    with contextlib.suppress(NotFoundError):
                        async with transport.exchange("GET", f"{url}/x") as response:
                            await transport.fail(response)


async def test_writes_and_nothing_else_name_the_webhooks_that_stay_silent(
    network: respx.MockRouter,
) -> None:
    prefixes = ("https://sync.example/hook", "https://old.example")
    read, write = network.get(IMAGES).respond(json=EMPTY), network.post(IMAGES).respond(json=[])
    async with http_client() as api:
        policy = DownloadPolicy.create(API, [])

        async def known() -> tuple[str, ...]:
            return prefixes

        transport = ApiTransport(ACCOUNT, policy, api, Pacer(lambda: 1), webhook_prefixes=known)
        await transport.json("GET", IMAGES.removeprefix(f"{API}/"))
        await transport.json("POST", IMAGES.removeprefix(f"{API}/"), body=small_body([]))
    name = "X-Lognex-WebHook-DisableByPrefix"
    assert read.calls.last.request.headers.get_list(name) == []
    assert write.calls.last.request.headers.get_list(name) == list(prefixes)


@respx.mock
async def test_without_a_token_nothing_is_sent() -> None:
    account = Account(ACCOUNT.id, "Main shop", TokenKind.SOLUTION, NO_TOKEN)
    async with http_client() as api, http_client() as storage:
        with pytest.raises(AuthorisationError, match=r"'Main shop': MoySklad has ended its token"):
            await build(account, api, storage).client.list_images(PRODUCT, "p1")
    assert not respx.calls
