"""What came beyond an answer is never taken for the answer to the next request."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad import network
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.network import CheckedTransport, ProxiedTransport, only_clean
from tests.moysklad.harness import ACCOUNT, PRODUCT
from tests.moysklad.raw import Received, json_response, raw_server, response

pytestmark = pytest.mark.anyio


def images_of(url: str, entity_id: str) -> bytes:
    """A list of one image, which looks the same whosever it is but for its href."""
    href = f"{url}/entity/product/{entity_id}/images/of-{entity_id}"
    meta = {"href": href, "downloadHref": f"{url}/download/x"}
    row = {"meta": meta, "filename": "0.png", "size": 9, "updated": "2026-01-01 00:00:00.000"}
    return json_response({"meta": {"size": 1}, "rows": [row]})


def chunked(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    start = head.partition(b"\r\n")[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    return start + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("again", ["whole", "cut", "chunked", "later"])
async def test_an_answer_that_comes_twice_is_no_answer_to_the_next_request(again: str) -> None:
    async with raw_server() as server:
        first, second = (images_of(server.url, entity_id) for entity_id in ("p1", "p2"))

        async def twice(_: Received) -> AsyncIterator[bytes]:
            answer = chunked(first) if again == "chunked" else first
            if again != "later":
                yield answer + (answer[:-20] if again == "cut" else answer)
                return
            yield answer
            await asyncio.sleep(0.05)
            yield answer

        server.on("/entity/product/p1/images", twice)
        server.on("/entity/product/p2/images", second)
        factory = HttpMoySkladFactory(server.url, [], SystemClock())
        try:
            port = factory.for_account(ACCOUNT)
            ids = []
            for entity_id in ("p1", "p2"):
                ids += [image.id for image in await port.list_images(PRODUCT, entity_id)]
                await asyncio.sleep(0.1)
        finally:
            await factory.close()
    assert ids == ["of-p1", "of-p2"]
    assert server.connections == 2


async def test_a_storage_that_answers_twice_is_asked_on_another_connection() -> None:
    async with raw_server() as server:
        server.on("/a", response(b"first") * 2)
        server.on("/b", response(b"other"))
        direct = CheckedTransport(lambda _: True)
        for transport in (direct, ProxiedTransport(direct, {"http": server.url})):
            async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
                host = server.url if transport is direct else "http://proxied.example"
                if transport is not direct:
                    server.on("http://proxied.example/a", response(b"first") * 2)
                    server.on("http://proxied.example/b", response(b"other"))
                got = [(await client.get(f"{host}/{name}")).content for name in ("a", "b")]
                assert got == [b"first", b"other"]


async def test_a_connection_of_one_answer_each_is_kept() -> None:
    async with raw_server() as server:
        server.on("/a", response(b"first"))
        async with only_clean(httpx.AsyncClient(trust_env=False)) as client:
            for _ in range(3):
                assert (await client.get(f"{server.url}/a")).content == b"first"
        assert server.connections == 1


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    async def closing(_: Received) -> AsyncIterator[bytes]:
        yield response(b"first")
        raise ConnectionResetError  # the server ends the connection after its answer

    async with raw_server() as server:
        server.on("/a", closing)
        server.on("/b", response(b"other"))
        async with only_clean(httpx.AsyncClient(trust_env=False)) as client:
            assert (await client.get(f"{server.url}/a")).content == b"first"
            await asyncio.sleep(0.1)
            assert (await client.get(f"{server.url}/b")).content == b"other"
        assert server.connections == 2


async def test_only_the_connection_that_is_to_be_used_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    usual = network._is_unclean

    def counted(connection: object) -> bool:
        nonlocal asked
        asked += 1
        return usual(connection)

    monkeypatch.setattr(network, "_is_unclean", counted)
    async with raw_server() as server:

        async def slow(_: Received) -> AsyncIterator[bytes]:
            await asyncio.sleep(0.05)
            yield response(b"first")

        server.on("/a", slow)
        async with only_clean(httpx.AsyncClient(trust_env=False)) as client:
            await asyncio.gather(*(client.get(f"{server.url}/a") for _ in range(5)))
            assert server.connections == 5
            for _ in range(4):
                await client.get(f"{server.url}/a")
        assert server.connections == 5
    assert asked == 4
