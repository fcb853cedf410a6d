"""The pages over a shop on the emulator, in this process."""

import time
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.serving import app_of
from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop
from tests.web.apihosts import api, client_of, host, served, shops  # noqa: F401
from tests.web.test_pages import token_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like another HTTP client better
    from starlette.testclient import TestClient

T = TypeVar("T")
_PATIENCE_SECONDS = 60.0
ALL = LinkSettings(sync_images_all=True)


@pytest.fixture
async def browser(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the pages of the `container` that a file of tests makes, without a server."""
    transport = httpx.ASGITransport(app_of(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


@pytest.fixture
def shop() -> Iterator[Shop]:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield Shop.on(server)


@dataclass
class Visited:
    """Both accounts of the shop, the container and a browser on the pages."""

    shop: Shop
    container: Container
    browser: TestClient

    def link(self, settings: LinkSettings = ALL) -> str:
        """Stores and links both accounts; the path of the child's page of differences."""
        shop, call = self.shop, self.call
        for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
            stored = Account(account.id, account.name, TokenKind.SOLUTION, token)
            call(self.container.accounts().add, stored)
        call(self.container.settings().link, shop.main.id, shop.child.id, settings)
        return f"/children/{shop.child.id}/differences"

    @property
    def call(self):  # type: ignore[no-untyped-def]
        assert self.browser.portal is not None
        return self.browser.portal.call

    def get(self, path: str, language: str = "en", **params: str) -> str:
        answer = self.browser.get(
            path, params=params or None, headers={"Accept-Language": language}
        )
        assert answer.status_code == 200, answer.text
        page: str = answer.text
        return page

    def post(self, path: str, page: str, **fields: object) -> str:
        """As a form of that page; where it leads to."""
        token = token_of(self.get(page))
        answer = self.browser.post(path, data={"csrf": token, **fields})
        assert answer.status_code == 303, answer.text
        location: str = answer.headers["location"]
        return location

    def compare(self, path: str) -> str:
        """Presses the button; the page once that is done."""
        assert self.post(f"{path}/compare", path) == path
        self.wait()
        return self.get(path)

    def wait(self) -> None:
        """Until no survey of the child is under way."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.container.syncing().is_busy(self.shop.child.id):
            assert time.monotonic() < until
            time.sleep(0.02)

    def drain(self) -> None:
        """Once the survey has ended, a worker runs what is due."""
        self.wait()

        async def work() -> None:
            await self.container.worker().run(drain=True)

        self.call(work)


@pytest.fixture
def visited(tmp_path: Path, shop: Shop, sqlite_url: str) -> Iterator[Visited]:
    shop.databases.add(sqlite_url)
    container = Container(
        config=fixed_config(
            api_url=shop.server.api_url,
            database_url=sqlite_url,
            temp_dir=tmp_path / "temp",
            miniatures_dir=tmp_path / "miniatures",
        )
    )
    with TestClient(
        app_of(container), base_url="http://localhost", follow_redirects=False
    ) as browser:
        made = Visited(shop, container, browser)
        yield made
        made.call(close, container)
