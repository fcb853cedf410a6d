"""Each picture of the main account is downloaded once, whoever needs it on this host."""

import os
import signal
from pathlib import Path

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.domain.tasks import TaskStatus
from moysklad_emulator import EmulatedEntity
from moysklad_emulator.images import NewImage
from tests.e2e.conftest import Host, StartHost, Tasks, terminate, wait_until
from tests.judge import Pair
from tests.shop import Images, Shop, pictures

CHILDREN = ("Child", "Second", "Third")


class Chain:
    """A main account with several children, and products that all of them have."""

    def __init__(self, shop: Shop, host: Host) -> None:
        self.shop = shop
        self.host = host
        self.accounts = [shop.child]
        self.lamps: list[tuple[EmulatedEntity, Images]] = []
        for name in CHILDREN[1:]:
            account = shop.emulator.add_account(name)
            account.add_user(token=f"{name}-token")
            add = ("account", "add", account.id, "--name", name, "--offline")
            host.run(*add, IMGSYNC_TOKEN=f"{name}-token")
            host.run("settings", "set", "--child", name, "--sync-images-all")
            self.accounts.append(account)

    def pair(self, name: str, images: Images) -> None:
        first = self.shop.pair(name, images)
        main = self.shop.pairs[-1].main
        others = [
            account.add_entity("product", images=[], name=name, external_code=f"x-{name}")
            for account in self.accounts[1:]
        ]
        self.shop.pairs += [Pair(main, other) for other in others]
        self.lamps += [(lamp, images) for lamp in (first, *others)]

    def enqueue(self, *children: str) -> None:
        for name in children:
            self.host.run("enqueue", "--main", "Main", "--child", name)

    def images(self) -> list[Images]:
        """The children's, product by product."""
        return [self.shop.images(lamp) for lamp, _ in self.lamps]

    def hold_downloads(self, seconds: float, times: int) -> None:
        self.shop.emulator.faults.add(
            method="GET",
            path_regex="/(temporary|permanent)/",
            where="storage",
            delay=seconds,
            times=times,
        )


def test_three_children_and_two_workers_download_each_picture_once(
    shop: Shop, start_host: StartHost, database: Database, database_url: str
) -> None:
    host, queue = start_host(shop, database_url), Tasks(database)
    chain = Chain(shop, host)
    for number in range(6):
        chain.pair(f"L{number}", pictures(3, 500 + number))
    no_picture = ("note.png", b"<html>this is no picture</html>" * 10)
    chain.pair("Sign", [no_picture, *pictures(1, 777)])
    chain.enqueue(*CHILDREN)
    chain.hold_downloads(0.2, times=100)
    workers = [host.start("worker", "--concurrency", "4") for _ in range(2)]
    wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 3 * 7)
    for worker in workers:
        terminate(worker)
    assert shop.emulator.stats.downloads == 6 * 3 + 2
    assert chain.images() == [
        *(images for _, images in chain.lamps[: 3 * 6]),
        *[pictures(1, 777)] * 3,
    ]


def test_a_worker_that_stands_still_in_a_download_keeps_nobody(
    shop: Shop,
    start_host: StartHost,
    sqlite_database: Database,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """Its turn ends with its heartbeat; once it goes on, what it shares is the same picture."""
    host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
    chain = Chain(shop, host)
    chain.pair("Lamp", pictures(1))
    chain.enqueue("Second")
    turns = tmp_path / "temp" / "imgsync-content" / "turns"
    chain.hold_downloads(2, times=1)
    still = host.start("worker")
    wait_until(lambda: turns.is_dir() and bool(os.listdir(turns)))
    still.send_signal(signal.SIGSTOP)
    try:
        (turn,) = turns.iterdir()
        chain.enqueue("Third")
        heir = host.start("worker")
        wait_until(lambda: queue.counts()[TaskStatus.PROCESSING] == 2)
        assert shop.emulator.stats.downloads <= 1
        os.utime(turn, (0, 0))  # as if it had stood for long
        wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 1)
        terminate(heir)
    finally:
        still.send_signal(signal.SIGCONT)
    wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 2)
    terminate(still)
    assert chain.images() == [[], pictures(1), pictures(1)]
    assert os.listdir(turns) == []


@pytest.mark.parametrize("change", ["damage", "delete"])
def test_files_that_are_damaged_or_gone_are_downloaded_anew(
    shop: Shop, start_host: StartHost, sqlite_url: str, tmp_path: Path, change: str
) -> None:
    host = start_host(shop, sqlite_url)
    chain = Chain(shop, host)
    chain.pair("Lamp", pictures(3))
    host.run("sync", "--main", "Main", "--child", "Child")
    assert shop.emulator.stats.downloads == 3
    files = sorted((tmp_path / "temp" / "imgsync-content" / "files").glob("*/*"))
    for path in files[:2]:
        if change == "delete":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    host.run("sync", "--main", "Main", "--child", "Second")
    assert shop.emulator.stats.downloads == 3 + 2
    assert chain.images() == [pictures(3), pictures(3), []]


def test_a_picture_that_main_replaced_meanwhile_is_another_one(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    host = start_host(shop, sqlite_url)
    chain = Chain(shop, host)
    chain.pair("Lamp", pictures(1))
    host.run("sync", "--main", "Main", "--child", "Child")
    new = [(pictures(1)[0][0], pictures(2)[1][1])]
    shop.main.set_images(shop.pairs[0].main, [NewImage.create(*new[0])])
    host.run("sync", "--main", "Main", "--child", "Second")
    assert chain.images() == [pictures(1), new, []]
    host.run("sync", "--main", "Main", "--child", "Child")
    assert chain.images() == [new, new, []]
    assert shop.emulator.stats.downloads == 2
