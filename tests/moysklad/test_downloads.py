"""Downloads: redirects, hosts, credentials, sizes, repetition."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
import respx

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.transport import DOWNLOAD_SECONDS
from imgsync.domain.errors import (
    AuthorisationError,
    ForbiddenUrlError,
    ImageError,
    ImageTooLargeError,
    NoRoomError,
    UnavailableError,
)
from imgsync.testing import MemoryWorkspace
from tests.moysklad.harness import ACCOUNT, API, SECRET, STORAGE, Harness, build, http_client
from tests.moysklad.raw import RawServer, response

pytestmark = pytest.mark.anyio
HREF = f"{API}/download/i1"
FILE = f"{STORAGE}/prod-images/1?sig=x"


def redirect(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"Location": to})


async def test_the_temporary_address_is_fetched_without_credentials(
    harness: Harness, network: respx.MockRouter
) -> None:
    api = network.get(HREF).mock(return_value=redirect(FILE))
    storage = network.get(FILE).respond(content=b"image")
    assert await harness.download(HREF) == b"image"
    assert api.calls.last.request.headers["Authorization"] == f"Bearer {SECRET}"
    headers = storage.calls.last.request.headers
    assert "Authorization" not in headers
    assert SECRET not in str(headers.raw)


@pytest.mark.parametrize(
    "location",
    [
        "http://files.selcdn.ru/x",
        "http://127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/x",
        "https://user:pass@evil.example/x",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_of_the_api_that_is_not_trusted_is_refused_unfetched(
    harness: Harness, network: respx.MockRouter, location: str
) -> None:
    network.get(HREF).mock(return_value=redirect(location))
    anything = network.route().respond(content=b"x")
    with pytest.raises(ForbiddenUrlError):
        await harness.download(HREF)
    assert not anything.called


async def test_the_storage_that_the_api_names_needs_no_list(
    harness: Harness, network: respx.MockRouter
) -> None:
    first = "https://storage.files.mow1.cloud.servers.ru:8080/a/goodimage/b"
    second = "https://else.example:444/b"
    network.get(HREF).mock(return_value=redirect(first))
    hops = [network.get(first), network.get(second)]
    hops[0].mock(return_value=redirect(second))
    hops[1].respond(content=b"image")
    assert await harness.download(HREF) == b"image"
    for hop in hops:
        assert "Authorization" not in hop.calls.last.request.headers


async def test_the_redirect_of_an_address_from_a_payload_is_held_to_the_list(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(FILE).mock(return_value=redirect("https://evil.example/x"))
    evil = network.route(host="evil.example").respond(content=b"x")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        await harness.download(FILE)
    assert not evil.called


async def test_a_storage_that_redirects_back_to_the_api_gains_no_credentials(
    harness: Harness, network: respx.MockRouter
) -> None:
    back = f"{API}/entity/product"
    network.get(HREF).mock(return_value=redirect(FILE))
    network.get(FILE).mock(return_value=redirect(back))
    api = network.get(back).respond(content=b"x")
    await harness.download(HREF)
    assert "Authorization" not in api.calls.last.request.headers


async def test_an_address_off_the_allow_list_is_refused_unfetched(
    harness: Harness, network: respx.MockRouter
) -> None:
    anything = network.route().respond(content=b"x")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        await harness.download("https://evil.example/x.png")
    assert not anything.called


async def test_an_endless_redirect_ends(harness: Harness, network: respx.MockRouter) -> None:
    network.get(FILE).mock(return_value=redirect(FILE))
    with pytest.raises(ImageError, match="redirects"):
        await harness.download(FILE)


async def test_an_expired_address_is_asked_anew(
    harness: Harness, network: respx.MockRouter
) -> None:
    api = network.get(HREF).mock(return_value=redirect(FILE))
    network.get(FILE).mock(side_effect=[httpx.Response(403), httpx.Response(200, content=b"ok")])
    assert await harness.download(HREF) == b"ok"
    assert api.call_count == 2


async def test_a_file_declared_too_large_is_not_read(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(FILE).respond(content=b"x" * 1001)
    with pytest.raises(ImageTooLargeError, match=r"1\.001 kB is over the limit"):
        await harness.download(FILE, max_bytes=1000)
    assert harness.tries == []


async def test_the_limit_holds_while_downloading_without_a_declared_size(
    harness: Harness, network: respx.MockRouter
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    network.get(FILE).mock(return_value=httpx.Response(200, content=endless()))
    with pytest.raises(ImageTooLargeError):
        await harness.download(FILE, max_bytes=1000)
    assert len(harness.tries) == 1
    assert harness.tries[0].size <= 1000
    assert harness.files.files == {}


async def test_a_file_of_exactly_the_limit_passes(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(FILE).respond(content=b"x" * 1000)
    assert len(await harness.download(FILE, max_bytes=1000)) == 1000


async def test_a_file_of_another_size_is_fetched_again_and_then_retryable(
    harness: Harness, network: respx.MockRouter
) -> None:
    whole, cut = httpx.Response(200, content=b"whole"), httpx.Response(200, content=b"who")
    network.get(FILE).mock(side_effect=[cut, whole])
    assert await harness.download(FILE, size=5) == b"whole"
    network.get(FILE).respond(content=b"who")
    with pytest.raises(UnavailableError, match="3 bytes came in place of its 5") as caught:
        await harness.download(FILE, size=5)
    assert caught.value.retryable


async def test_every_try_writes_a_file_of_its_own_and_a_failed_one_is_discarded(
    harness: Harness, network: respx.MockRouter
) -> None:
    cut = httpx.Response(200, content=b"half", headers={"Content-Length": "8"})
    network.get(FILE).mock(side_effect=[cut, cut, httpx.Response(200, content=b"whole")])
    assert await harness.download(FILE) == b"whole"
    assert [bytes(file.data) for file in harness.tries] == [b"half", b"half", b"whole"]
    assert list(harness.files.files.values()) == harness.tries[2:]
    assert harness.tries[2].closed


async def test_a_download_that_is_broken_off_leaves_no_file(
    server: RawServer, local: Harness
) -> None:
    begun = asyncio.Event()

    async def stalls(_: object) -> AsyncIterator[bytes]:
        yield response(b"half", length=8)
        begun.set()
        await asyncio.sleep(30)

    server.on("/download/i1", stalls)
    download = asyncio.create_task(local.download(f"{server.url}/download/i1"))
    async with asyncio.timeout(5):
        await begun.wait()
        while not local.tries or not local.tries[0].size:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert local.files.files == {}


async def test_a_disk_that_is_full_is_told_at_once_and_leaves_no_file(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(FILE).respond(content=b"whole")
    harness.files.storage.workspaces["w"] = harness.files
    harness.files.storage.room = 3
    with pytest.raises(NoRoomError):
        await harness.download(FILE)
    assert route.call_count == 1
    assert harness.files.files == {}


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 226, 300, 304])
async def test_an_answer_other_than_200_is_no_picture(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    network.get(FILE).respond(status, content=b"part")
    with pytest.raises(UnavailableError, match=f"answered {status} in place of the file"):
        await harness.download(FILE)
    assert harness.tries == []


async def test_a_body_of_another_length_than_told_is_not_whole(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(FILE).respond(content=b"half", headers={"Content-Length": "8"})
    with pytest.raises(UnavailableError, match="4 bytes came, its Content-Length is 8"):
        await harness.download(FILE)


@pytest.mark.parametrize("length", ["x", "-1", "1" * 5000])
async def test_a_length_that_is_no_number_is_not_known(
    harness: Harness, network: respx.MockRouter, length: str
) -> None:
    network.head(FILE).respond(headers={"Content-Length": length})
    assert await harness.client.content_length(FILE) is None


@pytest.mark.parametrize("status", [204, 206, 304])
async def test_the_length_of_an_answer_other_than_200_is_not_that_of_the_file(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    network.head(FILE).respond(status, headers={"Content-Length": "9"})
    assert await harness.client.content_length(FILE) is None


async def test_an_api_without_head_is_asked_once(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.head(url__startswith=f"{API}/download/").respond(405)
    for number in range(100):
        assert await harness.client.content_length(f"{API}/download/i{number}") is None
    assert route.call_count == 1


async def test_a_compressed_file_is_bounded_when_it_is_decompressed(
    harness: Harness, network: respx.MockRouter
) -> None:
    headers = {"Content-Encoding": "gzip"}
    network.get(FILE).respond(content=gzip.compress(b"image"), headers=headers)
    assert await harness.download(FILE) == b"image"
    network.get(FILE).respond(content=gzip.compress(b"x" * 10_000_000), headers=headers)
    with pytest.raises(ImageTooLargeError):
        await harness.download(FILE, max_bytes=100_000)
    assert sum(file.size for file in harness.tries) <= 100_005


async def test_the_tries_of_a_download_share_its_time() -> None:
    tries = 0

    async def stalls(_: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        await asyncio.sleep(30)
        return httpx.Response(200)

    with respx.mock(assert_all_called=False) as network:
        network.get(FILE).mock(side_effect=stalls)
        async with http_client() as client:
            harness = build(ACCOUNT, client, client, download_seconds=0.3)
            async with asyncio.timeout(5):
                with pytest.raises(UnavailableError, match="timed out"):
                    await harness.download(FILE)
    assert tries == 1


async def test_a_storage_that_stays_down_is_retryable(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(FILE).respond(503)
    with pytest.raises(UnavailableError, match="503") as caught:
        await harness.download(FILE)
    assert caught.value.retryable


async def test_an_image_that_is_gone_is_an_image_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(HREF).respond(404, json={"errors": [{"error": "нет", "code": 1021}]})
    with pytest.raises(ImageError, match="1021"):
        await harness.download(HREF)


async def test_refused_credentials_are_no_mere_image_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(HREF).respond(401, json={"errors": [{"error": "нет", "code": 1056}]})
    with pytest.raises(AuthorisationError):
        await harness.download(HREF)


async def test_the_size_by_head(harness: Harness, network: respx.MockRouter) -> None:
    network.head(HREF).mock(return_value=redirect(FILE))
    network.head(FILE).respond(headers={"Content-Length": "123"})
    assert await harness.client.content_length(HREF) == 123


@pytest.mark.parametrize("status", [403, 405, 404])
async def test_a_storage_that_refuses_head_tells_no_size(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    network.head(FILE).respond(status)
    assert await harness.client.content_length(FILE) is None


async def test_an_api_that_refuses_head_tells_no_size(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.head(HREF).respond(405)
    assert await harness.client.content_length(HREF) is None


async def test_head_obeys_the_allow_list_too(harness: Harness, network: respx.MockRouter) -> None:
    anything = network.route().respond()
    with pytest.raises(ForbiddenUrlError):
        await harness.client.content_length("https://evil.example/x")
    assert not anything.called


@pytest.mark.parametrize(
    "address", ["https://api.moysklad.ru/\udcff", "https://api.moysklad.ru:x/"]
)
async def test_an_address_that_cannot_be_is_an_image_error(
    harness: Harness, network: respx.MockRouter, address: str
) -> None:
    with pytest.raises(ImageError):
        await harness.download(address)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
async def test_a_storage_answer_that_may_pass_is_asked_anew(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    answers = [httpx.Response(status), httpx.Response(200, content=b"ok")]
    network.get(FILE).mock(side_effect=answers)
    assert await harness.download(FILE) == b"ok"


async def test_a_storage_that_tells_a_wait_is_obeyed(
    harness: Harness, network: respx.MockRouter
) -> None:
    throttled = httpx.Response(429, headers={"Retry-After": "30"})
    network.get(FILE).mock(side_effect=[throttled, httpx.Response(200, content=b"ok")])
    assert await harness.download(FILE) == b"ok"
    assert harness.time.sleeps == [30.0]


async def test_an_answer_of_the_storage_that_stays_is_an_image_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.get(FILE).respond(400)
    with pytest.raises(ImageError, match="answered 400"):
        await harness.download(FILE)
    assert route.call_count == 1


async def test_an_api_that_refuses_a_download_is_an_image_error(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(HREF).respond(400, json={"errors": [{"error": "нет", "code": 1040}]})
    with pytest.raises(ImageError, match="1040"):
        await harness.download(HREF)


async def test_an_api_that_stalls_before_the_redirect_times_out() -> None:
    async def stalls(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return redirect(FILE)

    with respx.mock(assert_all_called=False) as network:
        network.get(HREF).mock(side_effect=stalls)
        async with http_client() as client:
            harness = build(ACCOUNT, client, client, download_seconds=0.3)
            async with asyncio.timeout(5):
                with pytest.raises(UnavailableError, match="timed out"):
                    await harness.download(HREF)


async def test_the_size_of_a_compressed_answer_is_not_that_of_the_file(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.head(FILE).respond(headers={"Content-Length": "9", "Content-Encoding": "gzip"})
    assert await harness.client.content_length(FILE) is None


async def test_a_head_that_fails_is_not_repeated_as_the_get_will_tell(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.head(HREF).respond(503)
    assert await harness.client.content_length(HREF) is None
    assert (route.call_count, harness.time.sleeps) == (1, [])


async def test_a_cookie_of_the_api_never_reaches_the_storage() -> None:
    factory = HttpMoySkladFactory(API, ["*.selcdn.ru"], SystemClock())
    client, files = factory.for_account(ACCOUNT), MemoryWorkspace()
    with respx.mock() as network:
        cookie = {"Location": FILE, "Set-Cookie": "s=1; Domain=ru; Path=/"}
        network.get(HREF).respond(302, headers=cookie)
        storage = network.get(FILE).respond(content=b"ok")
        for _ in range(2):
            await client.download(HREF, partial(files.create, "a.png"), max_bytes=10)
    assert all("Cookie" not in call.request.headers for call in storage.calls)
    await factory.close()


def test_the_documented_download_time() -> None:
    assert DOWNLOAD_SECONDS == 60
