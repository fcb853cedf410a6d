"""What is said of a connection that fails: which server, and for which account."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from imgsync.adapters.moysklad.answers import TransientError
from imgsync.adapters.moysklad.transport import network_errors

pytestmark = pytest.mark.anyio


@pytest.fixture
def closed() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def said(url: str, account: str = "") -> str:
    async with httpx.AsyncClient(timeout=1) as client:
        with pytest.raises(TransientError) as caught:
            async with network_errors(httpx.URL(url), account):
                await client.get(url)
    return str(caught.value)


async def test_a_refused_connection_names_server_and_account(closed: str) -> None:
    text = await said(f"http://{closed}/entity/product?token=hush", "Child 2")
    assert text.startswith(f"connection to http://{closed} for account 'Child 2' failed: ")
    assert "hush" not in text


async def test_an_unknown_host_is_named() -> None:
    text = await said("https://nowhere.invalid/api", "Main")
    assert text.startswith("connection to https://nowhere.invalid for account 'Main' failed: ")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_says_nothing_is_named(silent: str, scheme: str) -> None:
    assert await said(f"{scheme}://u:hush@{silent}/x", "Main") == (
        f"connection to {scheme}://{silent} for account 'Main' timed out "
        f"({'ReadTimeout' if scheme == 'http' else 'ConnectTimeout'})"
    )


async def test_a_storage_is_named_without_an_account(closed: str) -> None:
    text = await said(f"http://{closed}/file?signature=hush")
    assert text.startswith(f"connection to http://{closed} failed: ")
    assert "hush" not in text
