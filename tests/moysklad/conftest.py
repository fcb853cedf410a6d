"""Fixtures of the client's unit tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import respx

from tests.moysklad.harness import ACCOUNT, Harness, build, http_client
from tests.moysklad.raw import RawServer, raw_server


@pytest.fixture
def network() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
async def harness(network: respx.MockRouter) -> AsyncIterator[Harness]:
    async with http_client() as api, http_client() as storage:
        yield build(ACCOUNT, api, storage)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as running:
        yield running


@pytest.fixture
async def local(server: RawServer) -> AsyncIterator[Harness]:
    """A client of that server."""
    async with http_client() as api, http_client() as storage:
        yield build(ACCOUNT, api, storage, url=server.url)
