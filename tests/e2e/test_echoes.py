"""imgsync's own writes fire none of its webhooks; a person's do. Other programs hear of both."""

from collections.abc import Iterator

import pytest

from receiver import Receiver, receiving
from tests.e2e.conftest import StartHost, terminate, wait_until
from tests.shop import Shop, pictures


@pytest.fixture
def ours() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def foreign() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def listen_on_the_child(shop: Shop, url: str) -> None:
    """As another program does."""
    user = shop.child.add_user(token="admin-token", kind="user")
    for action in ("CREATE", "UPDATE", "DELETE"):
        hook = {"url": url, "action": action, "entityType": "product"}
        shop.child.create_webhook(user, hook)


@pytest.mark.parametrize("how", ["sync", "worker"])
def test_a_copy_is_no_event_for_us(
    shop: Shop,
    start_host: StartHost,
    sqlite_url: str,
    ours: Receiver,
    foreign: Receiver,
    how: str,
) -> None:
    host = start_host(shop, sqlite_url)
    host.run("link", "Main", "Child", "--sync-images-all", "--guard")
    lamps = [shop.pair(f"Lamp {n}", pictures(2)) for n in range(2)]
    running = host.start("worker") if how == "worker" else None
    assert shop.server.await_webhooks()

    host.run("webhooks", "install", "--url", ours.url)
    (address,) = {hook.url for one in (shop.main, shop.child) for hook in one.live_webhooks()}
    listen_on_the_child(shop, foreign.url)
    if running is None:
        host.run("sync")
    else:
        # It was there before the webhooks, and has written nothing yet.
        host.run("enqueue")
        wait_until(lambda: all(len(shop.images(lamp)) == 2 for lamp in lamps))
        terminate(running)
    assert shop.server.await_webhooks()
    assert ours.received == []
    assert sorted(foreign.actions()) == ["UPDATE"] * 2

    shop.child.set_images(lamps[0], [])
    shop.unjudged = "a person has removed the pictures"
    assert shop.server.await_webhooks()
    assert ours.actions() == ["UPDATE"]
    assert ours.received[0].path == address.removeprefix(ours.url.removesuffix("/hook"))
