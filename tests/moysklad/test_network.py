"""Downloads connect to permitted addresses only, whatever a name resolves to."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import httpcore
import httpx
import pytest

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.addresses import DownloadPolicy
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.network import (
    CheckedBackend,
    CheckedTransport,
    ProxiedTransport,
    resolve,
)
from imgsync.domain.errors import ApiError, ForbiddenUrlError
from imgsync.testing import MemoryWorkspace
from tests.moysklad.harness import ACCOUNT, SECRET
from tests.moysklad.raw import RawServer, raw_server, response

pytestmark = pytest.mark.anyio
PUBLIC = DownloadPolicy.create("https://api.moysklad.ru/api/remap/1.2", [])


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as running:
        running.on("/x", response(b"image"))
        yield running


class Names:
    """A resolver that gives each answer once, the last for ever; `asked` counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "0"])
async def test_no_spelling_of_loopback_is_connected_to(server: RawServer, host: str) -> None:
    async with httpx.AsyncClient(transport=CheckedTransport(PUBLIC.permits)) as client:
        with pytest.raises(ForbiddenUrlError, match="not on the public internet"):
            await client.get(f"http://{host}:{server.port}/x")
    assert server.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["8.8.8.8", "127.0.0.1"],
    ],
)
async def test_a_name_with_one_private_address_is_refused(
    server: RawServer, addresses: list[str]
) -> None:
    transport = CheckedTransport(PUBLIC.permits, Names(addresses))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(ForbiddenUrlError, match=r"host 'storage\.example' leads to"):
            await client.get(f"http://storage.example:{server.port}/x")
    assert server.connections == 0


async def test_the_address_that_was_checked_is_connected_to_under_the_name(
    server: RawServer,
) -> None:
    """`permits` stands for 'is public' here; what is connected to is what it was asked about."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    transport = CheckedTransport(lambda address: address == "127.0.0.1", names)
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"http://storage.example:{server.port}/x")
    assert answer.content == b"image"
    assert server.requests[0].headers["host"] == f"storage.example:{server.port}"
    assert names.asked == 1


async def test_a_second_resolution_is_checked_too(server: RawServer) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    transport = CheckedTransport(lambda address: address == "127.0.0.1", names)
    async with httpx.AsyncClient(transport=transport) as client:
        url = f"http://storage.example:{server.port}/x"
        await client.get(url, headers={"Connection": "close"})
        with pytest.raises(ForbiddenUrlError, match=r"10\.0\.0\.1"):
            await client.get(url)


async def test_an_address_that_does_not_answer_is_followed_by_the_next(server: RawServer) -> None:
    transport = CheckedTransport(lambda _: True, Names(["127.0.0.2", "127.0.0.1"]))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"http://storage.example:{server.port}/x")
    assert answer.content == b"image"


async def test_a_name_that_does_not_resolve_or_not_in_time() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError(host, port)

    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return [host, str(port)]

    async def nothing(host: str, port: int) -> list[str]:
        return []

    for resolver, kind in (
        (unknown, httpcore.ConnectError),
        (slow, httpcore.ConnectTimeout),
        (nothing, httpcore.ConnectError),
    ):
        with pytest.raises(kind, match="storage"):
            await CheckedBackend(lambda _: True, resolver).connect_tcp(
                "storage.example", 443, timeout=0.05
            )


async def test_the_system_resolves_addresses_to_themselves() -> None:
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert await resolve("::1", 80) == ["::1"]


@pytest.mark.parametrize("scheme", ["https", "all"])
async def test_a_proxy_of_the_environment_connects_by_itself(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("no_proxy", "direct.example")
    server.on("storage.example:443", response(status=502))
    direct = CheckedTransport(PUBLIC.permits, Names(["10.0.0.1"]))
    transport = ProxiedTransport(direct, {scheme: server.url, "no": "direct.example"})
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.ProxyError):
            await client.get("https://storage.example/x")
        with pytest.raises(ForbiddenUrlError):
            await client.get("https://direct.example/x")
    assert [r.method for r in server.requests] == ["CONNECT"]


async def test_a_proxy_that_cannot_be_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("nonsense://x", "http://x:port"):
        monkeypatch.setenv("https_proxy", proxy)
        factory = HttpMoySkladFactory("https://api.moysklad.ru/api", [], SystemClock())
        with pytest.raises(ApiError, match="proxy settings"):
            factory.for_account(ACCOUNT)
        await factory.close()


async def test_an_api_on_loopback_has_its_storage_on_localhost_by_default(
    server: RawServer,
) -> None:
    """As the demonstration has it: another name, another port, default settings."""
    async with raw_server() as storage:
        storage.on("/file", response(b"image"))
        location = f"http://localhost:{storage.port}/file"
        server.on("/download/i1", response(b"moved", 302, Location=location))
        factory = HttpMoySkladFactory(server.url, ["*.moysklad.ru"], SystemClock())
        files = MemoryWorkspace()
        for _ in range(3):
            await factory.for_account(ACCOUNT).download(
                f"{server.url}/download/i1", partial(files.create, "a.png"), 100, 5
            )
        await factory.close()
    assert [bytes(file.data) for file in files.files.values()] == [b"image"] * 3
    assert all("authorization" not in r.headers for r in storage.requests)
    assert SECRET in server.requests[0].headers["authorization"]
    # The body of the redirect is read, so that its connection serves the next request too.
    assert (server.connections, storage.connections) == (1, 1)


async def test_a_public_api_has_no_storage_on_loopback(server: RawServer) -> None:
    """The rule of the address holds in the client that is really built."""
    factory = HttpMoySkladFactory("https://api.moysklad.ru/api", [], SystemClock())
    storage = factory._storage()
    with pytest.raises(ForbiddenUrlError):
        await storage.get(f"http://localhost:{server.port}/x")
    await storage.aclose()
    assert server.connections == 0
