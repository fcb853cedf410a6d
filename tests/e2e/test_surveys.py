"""What surveys find on the emulator, over HTTP: folders."""

import json
from pathlib import Path

from tests.e2e.conftest import StartHost
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
