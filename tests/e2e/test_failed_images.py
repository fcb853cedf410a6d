"""Failed images and worker processes: at once, killed, and beside a newer sync."""

import pytest

from moysklad_emulator.images import NewImage
from tests.e2e.conftest import DEADLINE_SECONDS, Host, StartHost, terminate, wait_until
from tests.e2e.test_leases import LEASES
from tests.shop import Shop, pictures

pytestmark = pytest.mark.slow
BOTH = ("--main", "Main", "--child", "Child")
THREE = pictures(3)


class Lamp:
    """A product of which one image could not be copied."""

    def __init__(self, shop: Shop, host: Host) -> None:
        self.shop, self.host = shop, host
        self.child = shop.pair("Lamp", THREE)
        self.main = shop.pairs[-1].main
        self.image_id = self.main.images[1].id
        self.break_downloads(1)
        host.run("sync", *BOTH)
        assert self.images == [THREE[0], THREE[2]]
        (row,) = host.json("images", "failed")
        assert row["image_id"] == self.image_id

    def break_downloads(self, times: int) -> None:
        for path, where in (("/permanent/.*", "storage"), ("/download/", "api")):
            self.shop.emulator.faults.add(
                path_regex=path + self.image_id,
                where=where,  # type: ignore[arg-type]
                status=404,
                times=times,
            )

    @property
    def images(self) -> list[tuple[str, bytes]]:
        return self.shop.images(self.child)


def test_two_workers_set_a_failed_image_once(
    shop: Shop, start_host: StartHost, database_url: str
) -> None:
    host = start_host(shop, database_url)
    lamp = Lamp(shop, host)
    writes = shop.writes
    host.run("images", "retry")
    workers = [host.start("worker", "--drain") for _ in range(2)]
    for worker in workers:
        worker.communicate(timeout=30)
        assert worker.returncode == 0
    assert lamp.images == THREE
    assert shop.writes == writes + 1
    assert host.json("images", "failed") == []
    assert host.json("sync", *BOTH)["enqueue"]["entities"] == 0


def test_a_worker_killed_in_a_retry_loses_nothing(
    shop: Shop, start_host: StartHost, database_url: str
) -> None:
    """Its list may have been set: the heir finds a write that broke off, and looks at it all."""
    host = start_host(shop, database_url)
    lamp = Lamp(shop, host)
    hold = shop.emulator.faults.add(method="POST", path_regex="/images$", hold_after=0)
    host.run("images", "retry")
    worker = host.start("worker", **LEASES)
    assert hold.holding.wait(DEADLINE_SECONDS)
    worker.kill()
    worker.communicate()
    hold.release()
    heir = host.start("worker", **LEASES)
    wait_until(lambda: lamp.images == THREE and host.json("images", "failed") == [])
    terminate(heir)
    # The killed one's last request may come yet: a later look at the entity is queued.
    assert host.json("queue", "status")["pending"] == 1
    assert lamp.images == THREE


@pytest.mark.parametrize("order", ["sync first", "retry first"])
def test_a_sync_and_a_retry_of_an_entity_are_one_task(
    shop: Shop, start_host: StartHost, database_url: str, order: str
) -> None:
    host = start_host(shop, database_url)
    lamp = Lamp(shop, host)
    newer = [*THREE, ("3.png", pictures(5)[4][1])]
    lamp.shop.main.add_image(lamp.main, NewImage.create(*newer[3]))
    commands = [("enqueue", *BOTH), ("images", "retry")]
    for command in commands if order == "sync first" else commands[::-1]:
        host.run(*command)
    assert host.json("queue", "status")["pending"] == 1
    writes = shop.writes
    host.run("worker", "--drain")
    assert lamp.images == newer
    assert shop.writes == writes + 1
    assert host.json("images", "failed") == []
