"""Permanent links: whose host is trusted, and what becomes of one that does not work."""

import asyncio
from typing import Any

import httpx
import pytest
import respx

from imgsync.domain.errors import (
    ForbiddenUrlError,
    ImageError,
    ImageTooLargeError,
    UnavailableError,
)
from imgsync.domain.model import Abilities
from tests.moysklad.harness import ACCOUNT_ID, API, PRODUCT, SECRET, Harness
from tests.support.gauge import ParallelGauge

pytestmark = pytest.mark.anyio
CDN = "https://cdn.example"
LINK = f"{CDN}/permanent/1"
LIST = f"{API}/entity/product"


def page(*links: str) -> dict[str, Any]:
    """A list of one product whose images have these permanent links."""
    rows = [
        {
            "meta": {
                "href": f"{LIST}/p1/images/{number}",
                "downloadHref": f"{API}/download/{number}",
                "downloadPermanentHref": link,
            },
            "filename": f"{number}.png",
            "size": 5,
        }
        for number, link in enumerate(links)
    ]
    product = {
        "id": "p1",
        "accountId": ACCOUNT_ID,
        "images": {"meta": {"size": len(rows)}, "rows": rows},
    }
    return {"meta": {"size": 1}, "rows": [product]}


async def survey(harness: Harness, *, permanent_links: bool = True) -> None:
    listing = harness.client.list_entities(
        PRODUCT, with_images=True, permanent_links=permanent_links
    )
    assert [len(found.entities) async for found in listing] == [1]


async def test_a_host_that_the_api_named_is_asked_without_credentials(
    harness: Harness, network: respx.MockRouter
) -> None:
    listed = network.get(LIST).respond(json=page(LINK))
    file = network.get(LINK).respond(content=b"image")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        await harness.download(LINK, is_permanent=True)
    await survey(harness)
    assert listed.calls.last.request.url.params["fields"] == "downloadPermanentHref"
    shown = Abilities(permanent_links=True, permanent_hosts=frozenset({"cdn.example"}))
    assert harness.client.shown == shown
    for url in (LINK, f"{CDN}/permanent/1?of=a-payload"):
        assert await harness.download(url, is_permanent=True) == b"image"
    assert "Authorization" not in file.calls.last.request.headers
    assert SECRET not in str(file.calls.last.request.headers.raw)


async def test_what_another_process_learnt_is_trusted_too(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(LINK).respond(content=b"image")
    network.head(LINK).respond(headers={"Content-Length": "5"})
    harness.client.trust(frozenset({"cdn.example"}))
    assert await harness.download(LINK, is_permanent=True) == b"image"
    assert await harness.download(LINK) == b"image"
    assert await harness.client.content_length(LINK) == 5


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/permanent/1",
        "https://evil.cdn.example/permanent/1",
        "https://cdn.example.evil.example/permanent/1",
        "https://cdn.example:22/permanent/1",
        "https://cdn.example@evil.example/permanent/1",
        "https://user@cdn.example/permanent/1",
        "http://cdn.example/permanent/1",
        "https://127.0.0.1/permanent/1",
        "https://169.254.169.254/latest/meta-data",
    ],
)
async def test_who_writes_payloads_names_no_host_of_their_own(
    harness: Harness, network: respx.MockRouter, url: str
) -> None:
    anything = network.route().respond(content=b"secret")
    harness.client.trust({"cdn.example", "127.0.0.1", "169.254.169.254"})
    for is_permanent in (True, False):
        with pytest.raises(ForbiddenUrlError):
            await harness.download(url, is_permanent=is_permanent)
    with pytest.raises(ForbiddenUrlError):
        await harness.client.content_length(url)
    assert not anything.called


@pytest.mark.parametrize(
    "link",
    [
        "http://cdn.example/1",
        "https://10.0.0.1/1",
        "https://user:password@cdn.example/1",
        "ftp://cdn.example/1",
        "cdn.example/1",
        "https://cdn.example:x/1",
        "",
    ],
)
async def test_a_link_that_could_not_be_asked_teaches_nothing(
    harness: Harness, network: respx.MockRouter, link: str
) -> None:
    network.get(LIST).respond(json=page(link))
    await survey(harness)
    assert harness.client.shown.permanent_hosts == frozenset()


async def test_a_list_that_was_not_asked_for_links_teaches_nothing(
    harness: Harness, network: respx.MockRouter
) -> None:
    listed = network.get(LIST).respond(json=page(LINK))
    await survey(harness, permanent_links=False)
    assert "fields" not in listed.calls.last.request.url.params
    assert harness.client.shown == Abilities()


async def test_an_account_that_refuses_to_give_links_is_listed_without(
    harness: Harness, network: respx.MockRouter
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "fields" in request.url.params:
            return httpx.Response(400, json={"errors": [{"code": 1062}]})
        return httpx.Response(200, json=page(""))

    listed = network.get(LIST).mock(side_effect=answer)
    await survey(harness)
    assert harness.client.shown == Abilities(permanent_links=False)
    await survey(harness)
    assert listed.call_count == 3


async def test_an_account_that_refuses_to_give_more_links_is_listed_whole(
    harness: Harness, network: respx.MockRouter
) -> None:
    """The pages that were asked for at the same time are refused together."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        if "fields" in request.url.params and offset:
            return httpx.Response(400, json={"errors": [{"code": 1062}]})
        rows = [{"id": f"p{offset + n}", "name": "Lamp"} for n in range(100)]
        return httpx.Response(200, json={"meta": {"size": 600}, "rows": rows})

    listed = network.get(LIST).mock(side_effect=answer)
    listing = harness.client.list_entities(PRODUCT, with_images=True, permanent_links=True)
    found = [one.id async for page in listing for one in page.entities]
    assert found == [f"p{n}" for n in range(600)]
    assert harness.client.shown.permanent_links is False
    refused = [call for call in listed.calls if call.response.is_error]
    assert 1 < len(refused) <= 4


async def test_a_link_that_fails_is_tried_once(harness: Harness, network: respx.MockRouter) -> None:
    harness.client.trust({"cdn.example"})
    link = network.get(LINK)
    for status in (403, 404, 500, 503):
        link.respond(status)
        with pytest.raises((ImageError, UnavailableError)):
            await harness.download(LINK, is_permanent=True)
        harness.time.now += 61  # the host may rest by now
    link.respond(content=b"another")
    with pytest.raises(UnavailableError, match="7 bytes came in place of its 5"):
        await harness.download(LINK, size=5, is_permanent=True)
    assert harness.time.sleeps == []


async def test_a_link_that_redirects_elsewhere_is_not_followed(
    harness: Harness, network: respx.MockRouter
) -> None:
    harness.client.trust({"cdn.example"})
    network.get(LINK).respond(302, headers={"Location": "https://evil.example/1"})
    evil = network.get("https://evil.example/1").respond(content=b"secret")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        await harness.download(LINK, is_permanent=True)
    assert not evil.called
    network.get(LINK).respond(302, headers={"Location": f"{CDN}/2"})
    network.get(f"{CDN}/2").respond(content=b"image")
    assert await harness.download(LINK, is_permanent=True) == b"image"


async def test_a_host_that_fails_again_and_again_rests_for_a_minute(
    harness: Harness, network: respx.MockRouter
) -> None:
    harness.client.trust({"cdn.example", "other.example"})
    link = network.get(LINK).mock(side_effect=httpx.ConnectTimeout)
    other = network.get("https://other.example/1").respond(content=b"image")
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await harness.download(LINK, is_permanent=True)
    assert link.call_count == 3
    assert await harness.download("https://other.example/1", is_permanent=True) == b"image"
    assert other.called
    harness.time.now += 61
    link.mock(return_value=httpx.Response(200, content=b"image"))
    assert await harness.download(LINK, is_permanent=True) == b"image"


async def test_images_that_fail_by_themselves_do_not_stop_the_host(
    harness: Harness, network: respx.MockRouter
) -> None:
    harness.client.trust({"cdn.example"})
    bad = network.get(f"{CDN}/bad").respond(500)
    network.get(LINK).respond(content=b"image")
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await harness.download(f"{CDN}/bad", is_permanent=True)
        assert await harness.download(LINK, is_permanent=True) == b"image"
    assert bad.call_count == 5
    with pytest.raises(ImageTooLargeError):
        await harness.download(LINK, max_bytes=4, is_permanent=True)


@pytest.mark.slow
async def test_few_are_downloaded_at_once_and_who_waits_spends_no_time(
    network: respx.MockRouter, harness: Harness
) -> None:
    """Else a slow line would fail those that had not begun, and its host be left alone."""
    harness.client.trust({"cdn.example"})
    harness.client._downloader._seconds = 0.4
    gauge = ParallelGauge()

    async def answer(_: httpx.Request) -> httpx.Response:
        with gauge.under_way():
            await asyncio.sleep(0.2)
        return httpx.Response(200, content=b"image")

    network.get(LINK).mock(side_effect=answer)
    downloads = [harness.download(LINK, is_permanent=True) for _ in range(30)]
    assert await asyncio.gather(*downloads) == [b"image"] * 30
    assert gauge.most == 10


async def test_a_host_that_has_failed_meanwhile_is_not_asked_by_those_who_waited(
    network: respx.MockRouter, harness: Harness
) -> None:
    harness.client.trust({"cdn.example"})
    asked = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return httpx.Response(503)

    network.get(LINK).mock(side_effect=answer)
    downloads = [harness.download(LINK, is_permanent=True) for _ in range(30)]
    await asyncio.gather(*downloads, return_exceptions=True)
    assert asked <= 13
