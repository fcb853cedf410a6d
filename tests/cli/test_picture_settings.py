"""What the settings of a link make of its pictures, from the command line to the child."""

from io import BytesIO

import pytest
from PIL import Image

from tests.cli.conftest import Cli
from tests.shop import Shop
from tests.support.editor import picture

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.database]


def shown(shop: Shop, entity: object) -> list[tuple[str, str | None, tuple[int, int]]]:
    """Names, formats and sides of a child's images."""
    found = []
    for name, content in shop.images(entity):  # type: ignore[arg-type]
        with Image.open(BytesIO(content)) as made:
            found.append((name, made.format, made.size))
    return found


def test_settings_are_applied_changed_and_come_to_rest(ready: Cli, shop: Shop) -> None:
    shop.unjudged = "the pictures are made by settings"
    large, small = picture("JPEG", 400), picture("JPEG", 100)
    lamp = shop.pair("Lamp", [("a.gif", picture("GIF", 80)), ("b.jpg", large)])
    chair = shop.pair("Chair", [("c.jpg", small)])
    both = ("--main", shop.main.id, "--child", shop.child.id)

    first = ready.ok("sync", *both)
    assert "a.gif: converted from GIF to JPEG" in first
    assert shown(shop, lamp) == [
        ("a.jpg", "JPEG", (80, 40)),
        ("b.jpg", "JPEG", (400, 200)),
    ]
    assert ready.json("enqueue", *both)["created"] == 0

    ready.ok("settings", "set", "--child", "Child", "--max-side", "200")
    assert ready.json("enqueue", *both)["created"] == 1
    ready.ok("worker", "--drain")
    assert shown(shop, lamp) == [
        ("a.jpg", "JPEG", (80, 40)),
        ("b.jpg", "JPEG", (200, 100)),
    ]
    assert shop.images(chair) == [("c.jpg", small)]
    assert ready.json("enqueue", *both)["created"] == 0

    ready.ok("settings", "set", "--child", "Child", "--max-side", "none")
    ready.ok("sync", *both)
    assert ("b.jpg", large) in shop.images(lamp)
    assert ready.json("enqueue", *both)["created"] == 0


def test_where_conversion_is_off_the_warning_says_what_to_do(ready: Cli, shop: Shop) -> None:
    shop.unjudged = "a GIF is left out"
    ready.ok("settings", "set", "--child", "Child", "--no-convert")
    lamp = shop.pair("Lamp", [("a.gif", picture("GIF")), ("b.jpg", picture("JPEG"))])
    both = ("--main", shop.main.id, "--child", shop.child.id)
    told = ready.run("sync", *both)
    assert "a.gif: GIF: MoySklad takes JPEG and PNG only" in told.output
    assert [name for name, _ in shop.images(lamp)] == ["b.jpg"]
    ready.ok("settings", "set", "--child", "Child", "--convert")
    ready.ok("sync", *both)
    assert [name for name, _ in shop.images(lamp)] == ["a.jpg", "b.jpg"]


def test_a_conversion_switched_off_and_on_leaves_no_complaint(ready: Cli, shop: Shop) -> None:
    shop.unjudged = "the pictures are made by settings"
    shop.pair("Lamp", [("a.gif", picture("GIF", 80)), ("b.jpg", picture("JPEG"))])
    shop.pair("Chair", [("c.gif", picture("GIF", 90))])
    both = ("--main", shop.main.id, "--child", shop.child.id)
    ready.ok("sync", *both)
    ready.ok("settings", "set", "--child", "Child", "--no-convert")
    ready.run("sync", *both)
    names = [row["filename"] for row in ready.json("images", "failed")]
    assert sorted(names) == ["a.gif", "c.gif"]
    # At rest, though nothing of the chair can be copied now.
    assert ready.json("enqueue", *both)["created"] == 0
    ready.ok("settings", "set", "--child", "Child", "--convert")
    assert ready.json("sync", *both)["run"]["uploaded"] == 0
    assert ready.json("images", "failed") == []
    assert "convert" not in ready.ok("check", *both)


def test_pictures_of_a_main_account_are_no_setting(ready: Cli, shop: Shop) -> None:
    ready.ok("link", "Main", "Child")
    told = ready.fail("settings", "set", "--child", "Main", "--quality", "50")
    assert "is a main account and cannot be the child account" in told
    assert "quality 50" not in ready.ok("settings", "show")
