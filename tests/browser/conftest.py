"""The pages of a dashboard that runs, in Chromium."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser import chromium
from tests.browser.chromium import Scheme, Visitor
from tests.browser.demo import RunningDemo, read_line, start_demo
from tests.e2e.conftest import DEADLINE_SECONDS, Host, terminate
from tests.e2e.conftest import shop as shop
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop

PASSWORD = "a password for the tests"
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if chromium.found() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    async with chromium.launched() as browser:
        yield browser


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Opens a profile of its own on a dashboard. Afterwards none may have seen an error on the
    console, a breach of the Content-Security-Policy among them, nor asked another host."""
    visitors: list[Visitor] = []
    async with AsyncExitStack() as stack:

        async def open_one(
            base: str,
            *,
            width: int = chromium.WIDE,
            locale: str = "en-GB",
            scheme: Scheme = "light",
            scripts: bool = True,
        ) -> Visitor:
            context = await browser.new_context(
                viewport={"width": width, "height": 800},
                locale=locale,
                color_scheme=scheme,
                java_script_enabled=scripts,
            )
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            visitors.append(Visitor(base, context))
            visitors[-1].watch()
            return visitors[-1]

        yield open_one
    for visitor in visitors:
        assert visitor.troubles == []
        assert visitor.strangers == []


@dataclass
class Dashboard:
    """`imgsync serve` as a process of its own. `base`: its address, without a slash at the end."""

    base: str
    host: Host

    def tasks_under_way(self) -> int:
        """Those that wait or run."""
        counts: dict[str, int] = self.host.json("queue", "status")
        return counts["pending"] + counts["processing"]


@pytest.fixture
def dashboard(shop: Shop, sqlite_url: str, tmp_path: Path) -> Iterator[Dashboard]:
    """Serves both accounts of the shop, which are linked; the child receives no images yet. It
    surveys every minute, and is told by webhooks where a test installs them."""
    with ExitStack() as stack:
        env = shop.environment(sqlite_url, str(tmp_path / "temp"))
        host = Host(env | {"IMGSYNC_POLL_SECONDS": "0.05"}, stack)
        for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
            add = ("account", "add", account.id, "--name", account.name, "--offline")
            host.run(*add, IMGSYNC_TOKEN=token)
        host.run("link", "Main", "Child")
        _set_password(host)
        process = host.start("serve", "--port", "0")
        base = read_line(process, "Serving on ").rstrip("/")
        yield Dashboard(base, host)
        terminate(process)


def _set_password(host: Host) -> None:
    process = host.start("serve-password")
    _, stderr = process.communicate(PASSWORD + "\n", timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """The demonstration's dashboard: children that are equal, that differ, and one with an image
    that cannot be copied."""
    with ExitStack() as stack:
        yield start_demo(stack, tmp_path_factory.mktemp("demo") / "stderr")
