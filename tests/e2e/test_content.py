"""Copies that are compared by content: a lost database, adoption, and the proof of a check."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgsync.entrypoints.exit_status import ExitStatus
from moysklad_emulator import Dialect, EmulatedEntity, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.images import NewImage
from tests.cli.conftest import Cli, store
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Images, Shop, pictures

pytestmark = pytest.mark.slow

LIST, DOWNLOAD = ("GET", "entity/{type}"), ("GET", "download/{image}")
STORAGE = ("GET", "storage/permanent")
LIMITS = EmulatorLimits(rate_units=100_000)


class Place:
    """A shop, and command lines with a database of their own each."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self.folder, self._count = shop, folder, 0

    def cli(self, settings: tuple[str, ...] = ()) -> Cli:
        """With a new database and content store."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        url = f"sqlite:///{folder / 'q.db'}"
        cli = Cli(self.shop.environment(url, str(folder / "temp")))
        for account, token in ((self.shop.main, MAIN_TOKEN), (self.shop.child, CHILD_TOKEN)):
            store(cli, account.id, account.name, token)
        cli.ok("link", "Main", "Child", "--sync-images-all", *settings)
        self.shop.emulator.reset_stats()
        return cli

    @property
    def requests(self) -> Counter[Any]:
        """Since this was asked last."""
        requests = Counter(self.shop.emulator.stats.requests)
        self.shop.emulator.reset_stats()
        return requests

    def pictures(self, entities: list[EmulatedEntity]) -> list[Images]:
        return [self.shop.images(entity) for entity in entities]


@pytest.fixture(params=[Dialect(), Dialect(permanent_links=False)], ids=["links", "no links"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with EmulatorServer(Emulator(LIMITS, dialect=request.param)) as server:
        yield Place(Shop.on(server), tmp_path)


def three(shop: Shop) -> list[EmulatedEntity]:
    return [shop.pair(name, pictures(3, 500 + n)) for n, name in enumerate(("A", "B", "C"))]


def test_a_lost_database_costs_a_survey(place: Place) -> None:
    entities = three(place.shop)
    place.cli().ok("sync")
    before = place.pictures(entities)
    cli = place.cli()
    assert cli.json("sync", "--dry-run")["enqueue"]["unchanged"] == 3
    assert place.requests.keys() == {LIST}
    told = cli.json("sync")["enqueue"]
    assert (told["unchanged"], told["adopted"], told["task_ids"]) == (3, 3, [])
    assert place.requests.keys() == {LIST}
    assert place.pictures(entities) == before == [pictures(3, 500 + n) for n in range(3)]
    told = cli.json("sync")["enqueue"]
    assert (told["unchanged"], told["adopted"], told["task_ids"]) == (3, 0, [])
    assert "Recorded as copied" in place.cli().ok("enqueue")


def test_a_name_with_uniqid_is_the_same(place: Place) -> None:
    there = [
        (f"65f1c0ffee{n:03x}_{name}", content) for n, (name, content) in enumerate(pictures(3))
    ]
    entity = place.shop.pair("A", pictures(3), there)
    told = place.cli().json("sync")["enqueue"]
    assert (told["adopted"], told["task_ids"]) == (1, [])
    assert place.requests.keys() == {LIST}
    assert place.shop.images(entity) == there


def test_by_hash_only_what_differs_is_sent(place: Place) -> None:
    entities = three(place.shop)
    place.cli().ok("sync")
    swap(place, entities[0])
    cli = place.cli()
    told = cli.json("sync", "--adopt", "hash")["run"]
    assert (told["uploaded"], told["kept"]) == (1, 8)
    assert place.pictures(entities) == [pictures(3, 500 + n) for n in range(3)]
    requests = place.requests
    assert requests[DOWNLOAD] + requests[STORAGE] == 18
    assert not cli.json("sync", "--adopt", "hash")["enqueue"]["task_ids"]
    assert place.requests.keys() == {LIST}


def test_by_none_everything_is_sent(place: Place) -> None:
    entities = three(place.shop)
    place.cli().ok("sync")
    cli = place.cli()
    cli.env["IMGSYNC_ADOPT"] = "none"
    assert cli.json("sync")["run"]["uploaded"] == 9
    assert place.pictures(entities) == [pictures(3, 500 + n) for n in range(3)]


def swap(place: Place, entity: EmulatedEntity) -> None:
    """One of the child's pictures is another, of the same name and size."""
    images = [*pictures(2, 500), ("2.png", pictures(8, 500)[7][1])]
    place.shop.child.set_images(entity, [NewImage.create(*image) for image in images])


def test_a_check_by_content_finds_what_sizes_hide_and_a_sync_by_hash_mends_it(
    place: Place,
) -> None:
    entities = three(place.shop)
    place.cli().ok("sync")
    swap(place, entities[0])
    cli = place.cli()
    assert cli.json("sync")["enqueue"]["adopted"] == 3
    place.shop.unjudged = "a picture was adopted that only looks like main's"
    assert cli.json("check")["children"][0]["equal"] == 3
    told = cli.failed_json("check", "--hash", status=ExitStatus.ERROR)
    (unlike,) = told["content"]["unlike"]
    assert (unlike["name"], unlike["unlike"], told["content"]["proved"]) == ("A", ["2.png"], 8)
    assert (told["children"][0]["equal"], told["children"][0]["different"]) == (2, 1)
    result = cli.run("check", "--hash")
    assert "product 'A': 2.png: it has another content than main's" in result.stdout
    assert cli.json("sync", "--adopt", "hash")["run"]["uploaded"] == 1
    assert place.pictures(entities) == [pictures(3, 500 + n) for n in range(3)]
    told = cli.json("check", "--hash")
    assert (told["content"]["proved"], told["content"]["unlike"]) == (9, [])
    place.shop.unjudged = None


def test_a_check_by_content_costs_a_download_an_image_and_changes_nothing(place: Place) -> None:
    three(place.shop)
    cli = place.cli()
    cli.ok("sync")
    assert place.requests
    assert "9 images proved equal by content" in cli.ok("check", "--hash")
    requests = place.requests
    # Main's are in the content store still.
    assert (requests[DOWNLOAD], requests[STORAGE]) == (9, 0)
    assert all(method == "GET" for method, _ in requests)


def test_what_cannot_be_downloaded_is_not_proved(place: Place) -> None:
    three(place.shop)
    cli = place.cli()
    cli.ok("sync")
    place.shop.emulator.faults.add(path_regex="download", status=404, times=100)
    told = cli.failed_json("check", "--hash", status=ExitStatus.PART)
    assert (told["content"]["proved"], len(told["content"]["unproved"])) == (0, 3)
    assert "not proved: 0.png" in cli.run("check", "--hash").stderr


@pytest.mark.parametrize("refused", ["keeps", "drops"])
def test_the_first_that_can_be_copied(tmp_path: Path, refused: Any) -> None:
    with EmulatorServer(Emulator(LIMITS, dialect=Dialect(refused_array=refused))) as server:
        place = Place(Shop.on(server), tmp_path)
        entity = place.shop.pair("A", [("0.png", b"no picture"), *pictures(2)], pictures(1, 700))
        cli = place.cli()
        cli.ok("settings", "set", "--child", "Child", "--sync-images")
        place.shop.unjudged = "the first of main cannot be copied"
        assert "0.png" in cli.run("sync").stderr
        assert place.shop.images(entity) == pictures(1)
        told = cli.json("sync")["enqueue"]
        assert (told["unchanged"], told["task_ids"], len(told["warnings"])) == (1, [], 1)
