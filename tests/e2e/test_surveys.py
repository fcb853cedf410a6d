"""What surveys find on the emulator, over HTTP: folders; what changed since the last one."""

import asyncio
import json
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.domain.surveys import Since
from moysklad_emulator import Dialect, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.images import ImageElement, NewImage
from tests.application.world import png
from tests.e2e.conftest import DEADLINE_SECONDS, StartHost
from tests.e2e.test_request_counts import LIST, Chain
from tests.shop import Shop, pictures


def test_a_link_with_a_folder_copies_and_checks_what_is_in_it_only(
    shop: Shop, start_host: StartHost, tmp_path: Path
) -> None:
    """A variant has no folder of its own: that of its product counts, whatever is read first."""
    images = pictures(2)
    lamp = shop.pair("Lamp", images, folder="Light/Lamps")
    below = shop.pair("Desk", images, folder="Light/Lamps/Desk", kind="bundle")
    alike = shop.pair("Alike", images, folder="Light/Lamps old")
    bare = shop.pair("Bare", images)
    of_main = {e.name: e for e in shop.main.entities("product")}
    red = shop.pair("Red", images, kind="variant", objects={"product": of_main["Lamp"]})
    blue = shop.pair("Blue", images, kind="variant", objects={"product": of_main["Alike"]})
    host = start_host(shop, f"sqlite:///{tmp_path / 'q.db'}")
    shop.unjudged = "only a folder is copied"
    host.run("link", "Main", "Child", "--folder", "Light/Lamps")

    # Variants alone: their products have to be asked for.
    told = host.json("sync", "--type", "variant")
    assert (told["run"]["completed"], shop.images(red)) == (1, images)
    told = host.json("sync")
    assert told["run"]["completed"] == 2
    assert [shop.images(e) for e in (lamp, below, red)] == [images] * 3
    assert [shop.images(e) for e in (alike, bare, blue)] == [[]] * 3
    (counts,) = host.json("check")["children"]
    assert {d: counts[d] for d in ("equal", "missing", "different", "extra", "unmatched")} == {
        "equal": 3, "missing": 0, "different": 0, "extra": 0, "unmatched": 0,
    }  # fmt: skip

    of_main["Bare"].folder = "Light/Lamps"  # moved into it
    (found,) = json.loads(host.end(1, "check", "--json"))["differences"]
    assert (found["name"], found["difference"]) == ("Bare", "missing")


@pytest.mark.slow
@pytest.mark.parametrize("moves", [True, False], ids=["images move updated", "they do not"])
def test_children_end_equal_whether_images_move_updated_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """`Chain.sync` compares the pictures of every child with main's."""
    monkeypatch.setattr("imgsync.application.survey.MARGIN", timedelta(0))
    dialect, last = Dialect(images_move_updated=moves), Since()
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000), dialect=dialect)) as server:
        chain = Chain(server, 3)
        products = [chain.product(f"P;{n}" if n == 7 else str(n), []) for n in range(250)]

        def change(*numbers: int) -> None:
            time.sleep(1.1)  # the clock of the answers counts in seconds
            for number in numbers:
                chain.main.set_images(products[number], _picture(number))
            time.sleep(1.1)

        first = chain.sync(tmp_path, hosts=True, since=last)
        assert "has not shown yet" in first.log.in_full[0]
        change(0, 1, 2)
        shown = chain.sync(tmp_path, hosts=True, since=last)
        assert (shown.entities, len(shown.log.in_full)) == (9, 1)
        change(3)
        chain.main.set_images(products[1], [])
        time.sleep(1.1)
        outcome = chain.sync(tmp_path, hosts=True, since=last)
        assert (outcome.entities, outcome.clears) == (3, 3)
        # Changed ones, those who share their codes, and each child's counterparts; or every page.
        assert chain.emulator.stats.requests[LIST] == (2 + 3 if moves else 3 + 3 * 3)
        assert bool(outcome.log.in_full) is not moves
        nothing = chain.sync(tmp_path, hosts=True, since=last)
        assert nothing.entities == 0
        change(7)  # its code cannot be asked for
        assert chain.sync(tmp_path, hosts=True, since=last).entities == 3


def _picture(number: int) -> list[ImageElement]:
    return [NewImage.create(f"{number}.png", png(number, 500))]


def test_since_on_the_command_line(shop: Shop, start_host: StartHost, tmp_path: Path) -> None:
    lamp = shop.pair("Lamp", pictures(2))
    host = start_host(shop, f"sqlite:///{tmp_path / 'q.db'}")
    host.run("link", "Main", "Child")
    told = host.json("sync", "--since", "2h")
    assert ("since" in told["enqueue"], shop.images(lamp)) == (False, pictures(2))
    main = shop.main.entities("product")[0]
    for number in range(3):
        shop.main.set_images(main, _picture(number))
        host.run("sync", "--since", "last")
    shop.main.set_images(main, _picture(9))
    (counts,) = (told := json.loads(host.end(1, "check", "--since", "1d", "--json")))["children"]
    assert (counts["different"], told["since"][:2]) == (1, "20")
    told = host.json("sync", "--since", "last")
    assert told["enqueue"]["since"].startswith("20")
    said = host.run("check", "--since", "last")
    assert "Only what has changed since 20" in said
    assert "'Child' of what has changed since then: 1 equal," in said
    for when in ("yesterday", "2w", "", "-1d", "99999d", "0001-01-01", "2026-13-01"):
        process = host.start("check", "--since", when)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 2
        assert stderr.count("Error: Invalid value for '--since': ") == 1
        assert "Traceback" not in stderr


@pytest.mark.slow
def test_two_hosts_at_one_child_leave_it_equal_and_upload_nothing_twice(
    shop: Shop, start_host: StartHost, database_url: str
) -> None:
    """As where a person's command meets that of another host."""
    children = [shop.pair(f"P{n}", pictures(2, 200 + 2 * n)) for n in range(60)]
    host = start_host(shop, database_url)
    host.run("link", "Main", "Child", "--sync-images-all")
    hosts = [host.start("sync", "--json") for _ in range(2)]
    told = [process.communicate(timeout=2 * DEADLINE_SECONDS) for process in hosts]
    # 3 where the other one is still at some of its tasks.
    assert {process.returncode for process in hosts} <= {0, 3}, told
    runs = [json.loads(stdout) for stdout, _ in told] + [{"run": host.json("worker", "--drain")}]
    assert sum(one["run"]["uploaded"] for one in runs) == 2 * len(children)
    for n, child in enumerate(children):
        assert shop.images(child) == pictures(2, 200 + 2 * n)
    # Whoever is first done cannot tell what the other one still copies; the next look can.
    (counts,) = host.json("check")["children"]
    assert (counts["equal"], counts["different"], counts["missing"]) == (len(children), 0, 0)
    with closing(Database.open(database_url)) as database:
        (proof,) = asyncio.run(SqlProofs(database).all())
    assert (proof.is_equal, proof.numbers) == (True, {"equal": len(children)})
