"""A probe that is stopped: by Ctrl-C it deletes its product, and after a kill the next one does."""

import signal

import pytest

from tests.e2e.conftest import StartHost, wait_until
from tests.shop import Shop

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_probe_that_is_stopped(
    start_host: StartHost, shop: Shop, sqlite_url: str, number: signal.Signals
) -> None:
    imgsync = start_host(shop, sqlite_url)
    shop.child.add_entity("product", name="Lamp")
    hold = shop.emulator.faults.add(method="POST", path_regex="/images$", hold_after=0)
    probe = ("doctor", "--probe", "Child", "--yes", "--no-sizes", "--json")
    process = imgsync.start(*probe)
    wait_until(hold.holding.is_set)
    assert len(shop.child.entities("product")) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    hold.release()
    if number == signal.SIGKILL:
        assert len(shop.child.entities("product")) == 2
        imgsync.run(*probe)
    else:
        assert process.returncode == 1
    assert [entity.name for entity in shop.child.entities("product")] == ["Lamp"]
