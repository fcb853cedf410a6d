"""Lists of many entities in one request, over HTTP, in each way the API may take them.

The judge is what the child shows: the emulator's bytes of each entity against main's.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.domain.tasks import TaskStatus
from moysklad_emulator import SWITCHES, Dialect, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.images import ImageElement, KeptImage, NewImage
from tests.application.world import png
from tests.e2e.conftest import DEADLINE_SECONDS, StartHost, Tasks, terminate, wait_until
from tests.e2e.test_dialects import copy
from tests.shop import Shop, pictures

LIMITS = EmulatorLimits(rate_units=1_000_000)
BULK, SET = ("POST", "entity/{type}"), ("POST", "entity/{type}/{id}/images")
LIST = ("GET", "entity/{type}/{id}/images")
ENTITIES = 12


def shown(shop: Shop) -> bool:
    """Whether each child entity shows what its main entity does."""
    return all(shop.images(pair.child) == shop.images(pair.main) for pair in shop.pairs)


def grow(shop: Shop) -> None:
    """Each main entity loses its first image, and has a new one at its end."""
    for number, pair in enumerate(shop.pairs):
        kept = [KeptImage(image.id) for image in pair.main.images[1:]]
        new: list[ImageElement] = [*kept, NewImage.create("new.png", png(8000 + number, 900))]
        shop.main.set_images(pair.main, new)


@pytest.mark.slow
@pytest.mark.parametrize("old", [0, 2])
@pytest.mark.parametrize("refused", SWITCHES["refused_array"])
@pytest.mark.parametrize(
    ("bulk", "keeps"), [("set", True), ("set", False), ("ignored", True), ("refused", True)]
)
def test_children_become_what_main_is_however_lists_are_taken(
    tmp_path: Path, bulk: Any, keeps: bool, refused: Any, old: int
) -> None:
    dialect = Dialect(bulk_images=bulk, keep_in_entities=keeps, refused_array=refused)
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        for n in range(ENTITIES):
            shop.pair(f"P{n}", pictures(3, 600 + n), pictures(old, 400 + n))
        first = copy(shop, tmp_path)
        requests = shop.emulator.stats.requests
        assert (first.errors, first.warnings, first.uploaded) == ([], [], 3 * ENTITIES)
        assert shown(shop)
        # The first request is tried with all that have no image yet, or with two.
        assert requests[BULK] == (1 if bulk != "set" or not old else 2)
        assert requests[SET] == (0 if bulk == "set" else ENTITIES)

        grow(shop)
        shop.emulator.reset_stats()
        second = copy(shop, tmp_path)
        requests = shop.emulator.stats.requests
        assert (second.errors, second.warnings) == ([], [])
        assert shown(shop)
        # One entity shows whether images are kept; nothing else is tried.
        assert requests[BULK] == {"set": 2 if keeps else 1}.get(bulk, 0)
        # Where the refusal dropped that one's images, they are set once more.
        assert requests[SET] <= (0 if bulk == "set" and keeps else ENTITIES + 1)

        grow(shop)
        shop.emulator.reset_stats()
        assert copy(shop, tmp_path).errors == []
        requests = shop.emulator.stats.requests
        assert shown(shop)
        expected = (1, 0) if bulk == "set" and keeps else (0, ENTITIES)
        assert (requests[BULK], requests[SET]) == expected
        assert copy(shop, tmp_path).outcomes == {}


@pytest.mark.slow
@pytest.mark.parametrize("refused", SWITCHES["refused_array"])
@pytest.mark.parametrize("status", SWITCHES["image_error_status"])
def test_a_refused_image_among_a_hundred_entities_costs_its_own_alone(
    tmp_path: Path, status: Any, refused: Any
) -> None:
    dialect = Dialect(image_megabytes=3, refused_array=refused, image_error_status=status)
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        for n in range(100):
            large = [("large.png", png(9000, 3_300_000))] if n == 42 else []
            shop.pair(f"P{n}", [*pictures(1, 600 + n), *large])
        tally = copy(shop, tmp_path)
        assert (tally.errors, tally.warnings) == ([], [])
        assert ["large.png: scaled" in note for note in tally.notes] == [True]
        for n, pair in enumerate(shop.pairs):
            wanted, there = shop.images(pair.main), shop.images(pair.child)
            assert len(there) == len(wanted)
            # What the account takes of it the judge compares.
            assert there[:1] == wanted[:1] if n == 42 else there == wanted
        requests = shop.emulator.stats.requests
        assert requests[BULK] <= 2
        assert requests[SET] <= 4


@pytest.mark.parametrize("cut", ["drop_connection", "cut_to", "twice", "drop_after_bytes"])
def test_an_answer_that_is_cut_or_comes_twice_costs_no_picture(tmp_path: Path, cut: str) -> None:
    with EmulatorServer(Emulator(LIMITS)) as server:
        shop = Shop.on(server)
        for n in range(6):
            shop.pair(f"P{n}", pictures(2, 600 + n), pictures(1, 500))
        effect: dict[str, Any] = {"cut_to": 50} if cut == "cut_to" else {cut: True}
        if cut == "drop_after_bytes":
            effect = {cut: 0}  # all was done, and nobody hears of it
        shop.emulator.faults.add(method="POST", path_regex="/entity/product$", **effect)
        tally = copy(shop, tmp_path)
        assert (tally.errors, tally.warnings) == ([], [])
        assert shown(shop)


@pytest.mark.parametrize("held", ["all sent", "half sent"])
def test_a_worker_that_is_killed_in_the_midst_of_a_request_leaves_nothing_undone(
    start_host: StartHost, sqlite_database: Database, sqlite_url: str, held: str
) -> None:
    with EmulatorServer(Emulator(LIMITS)) as server:
        shop = Shop.on(server)
        host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
        for n in range(10):
            shop.pair(f"P{n}", pictures(2, 300_000 + n))
        effect: dict[str, Any] = {"delay": 4.0} if held == "all sent" else {"hold_after": 3_000_000}
        hold = shop.emulator.faults.add(method="POST", path_regex="/entity/product$", **effect)
        host.run("enqueue", "--main", "Main", "--child", "Child")
        killed = host.start("worker", IMGSYNC_LEASE_SECONDS="2")
        if held == "half sent":
            assert hold.holding.wait(DEADLINE_SECONDS)
        else:
            wait_until(lambda: hold.remaining == 0)
        killed.send_signal(signal.SIGKILL)
        killed.wait(DEADLINE_SECONDS)
        hold.release()
        heir = host.start("worker", IMGSYNC_LEASE_SECONDS="2")
        wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 10)
        terminate(heir)
        assert shown(shop)
        ended = queue.find(TaskStatus.COMPLETED)
        assert {(task.attempts, task.crashes) for task in ended} == {(1, 1)}
        # Each is looked at again, as the request of the killed worker may have come late.
        assert queue.counts()[TaskStatus.PENDING] == 10


@pytest.mark.slow
def test_several_children_get_their_lists_beside_one_another(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    host = start_host(shop, sqlite_url)
    others = []
    for name in ("Second", "Third"):
        account = shop.emulator.add_account(name)
        account.add_user(token=f"token-of-{name}")
        others.append(account)
        add = ("account", "add", account.id, "--name", name, "--offline")
        host.run(*add, IMGSYNC_TOKEN=f"token-of-{name}")
        host.run("settings", "set", "--child", name, "--sync-images-all")
    for n in range(30):
        shop.pair(f"P{n}", pictures(2, 600 + n))
        for account in others:
            account.add_entity("product", name=f"P{n}", external_code=f"x-P{n}")
    host.run("link", "Main", "Child", "Second", "Third")
    host.run("sync")
    for account in (shop.child, *others):
        for pair, entity in zip(shop.pairs, account.entities("product"), strict=True):
            assert shop.images(entity) == shop.images(pair.main)
    assert shop.emulator.stats.requests[BULK] == 3
    assert shop.emulator.stats.requests[SET] == 0
