"""The HTTP API over accounts in memory, and a client whose answers are held against what is
described."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from dependency_injector import providers

from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.serving import app_of
from imgsync.testing import MemoryMoySklad
from imgsync.testing.moysklad import MemoryMoySkladFactory
from tests.application.world import png
from tests.web.described import Describing

Host = Callable[[], AbstractAsyncContextManager[Container]]
Client = Callable[[Container, str], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def shops() -> dict[str, MemoryMoySklad]:
    """A main account `m`, whose lamp has a picture, and children `c` and `d`, whose have none."""
    made = {name: MemoryMoySklad() for name in ("m", "c", "d")}
    made["m"].add("product", "Lamp", [("a.png", png(1))], external_code="x")
    for name in ("c", "d"):
        made[name].add("product", "Lamp", [], external_code="x")
    return made


@pytest.fixture
def host(database_url: str, shops: dict[str, MemoryMoySklad]) -> Host:
    """Hosts of one database, in which all accounts are stored, and `c` and `d` linked to `m`."""

    @asynccontextmanager
    async def open_one() -> AsyncIterator[Container]:
        made = Container(config=fixed_config(database_url=database_url))
        made.moysklad.override(providers.Object(MemoryMoySkladFactory(dict(shops))))
        if not await made.accounts().all():
            for name in shops:
                account = Account(name, name.upper(), TokenKind.SOLUTION, "s3cret")
                await made.accounts().add(account)
            for name in ("c", "d"):
                await made.settings().link("m", name, LinkSettings(sync_images_all=True))
        yield made
        await made.syncing().stop()
        await close(made)

    return open_one


@pytest.fixture
def client_of() -> Client:
    @asynccontextmanager
    async def open_one(container: Container, key: str) -> AsyncIterator[httpx.AsyncClient]:
        app = app_of(container)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            event_hooks={"response": [Describing(app)]},
        ) as made:
            yield made

    return open_one


@pytest.fixture
async def served(host: Host) -> AsyncIterator[Container]:
    async with host() as made:
        yield made


@pytest.fixture
async def api(served: Container, client_of: Client) -> AsyncIterator[httpx.AsyncClient]:
    """With a key that may write."""
    key = await served.add_api_key()("w", may_write=True)
    async with client_of(served, key) as made:
        yield made
