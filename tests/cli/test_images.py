"""imgsync images failed and retry, and what sync says of failed images, on the emulator."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

pytestmark = pytest.mark.slow
BOTH = ("--main", "Main", "--child", "Child")
NO_PICTURE = ("b.png", b"no picture")


def break_once(shop: Shop, image_id: str) -> None:
    """The next download of the image fails, by whichever address."""
    add = shop.emulator.faults.add
    add(path_regex=f"/permanent/.*{image_id}", where="storage", status=404, times=1)
    add(path_regex=f"/download/{image_id}", status=404, times=1)


@pytest.fixture
def failed(ready: Cli, shop: Shop) -> Cli:
    """Of three images one cannot be downloaded for now, and one is no picture."""
    shop.pair("Lamp", [*pictures(2), NO_PICTURE], code="L-1")
    main = shop.pairs[0].main
    break_once(shop, main.images[1].id)
    said = ready.ok("sync", *BOTH)
    assert (
        "2 images failed; see 'imgsync images failed'; 1 of them is tried again by "
        "'imgsync worker', first at " in said
    )
    return ready


def rows(cli: Cli, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("images", "failed", *options)
    return found


def test_failed_images_are_listed_with_what_a_person_needs(failed: Cli, shop: Shop) -> None:
    said = failed.ok("images", "failed")
    for text in ("Child", "product 'Lamp' (code L-1)", "1.png", "b.png", "once it changes"):
        assert text in said
    assert "What to do, no picture: put a whole JPEG or PNG file in its place" in said
    passing, settled = rows(failed)
    pair = shop.pairs[0]
    assert (passing["main"], passing["child"]) == (shop.main.id, shop.child.id)
    assert (passing["type"], passing["name"], passing["code"]) == ("product", "Lamp", "L-1")
    assert passing["main_entity_id"] == pair.main.id
    assert passing["child_entity_id"] == pair.child.id
    assert passing["image_id"] == pair.main.images[1].id
    assert (passing["filename"], passing["cause"]) == ("1.png", "not downloaded")
    assert (passing["settled"], passing["attempts"]) == (False, 1)
    assert passing["next_attempt_at"] > passing["last_failed_at"]
    assert (settled["filename"], settled["settled"]) == ("b.png", True)
    assert (settled["cause"], settled["next_attempt_at"]) == ("no picture", None)


def test_they_are_chosen_by_child_reason_and_whether_they_may_pass(failed: Cli) -> None:
    assert len(rows(failed, "--child", "Child")) == 2
    assert [row["filename"] for row in rows(failed, "--settled")] == ["b.png"]
    assert [row["filename"] for row in rows(failed, "--passing")] == ["1.png"]
    assert [row["filename"] for row in rows(failed, "--reason", "NO PICTURE")] == ["b.png"]
    assert [row["filename"] for row in rows(failed, "--reason", "1.png")] == ["1.png"]
    assert rows(failed, "--child", "Main") == []
    assert "No failed images." in failed.ok("images", "failed", "--reason", "nothing of the kind")
    assert "There are more than 1; see --limit." in failed.ok("images", "failed", "--limit", "1")
    assert "is not stored" in failed.fail("images", "failed", "--child", "nobody")


def test_a_worker_tries_again_what_somebody_asks_for(failed: Cli, shop: Shop) -> None:
    uploads = shop.emulator.stats.uploads
    passing, settled = rows(failed)
    asked = failed.json("images", "retry", str(passing["id"]))
    assert asked == {"retried": [passing["id"]], "entities": 1}
    assert failed.json("worker", "--drain")["uploaded"] == 1
    assert shop.images(shop.pairs[0].child) == pictures(2)
    assert shop.emulator.stats.uploads == uploads + 1
    assert rows(failed) == [settled]


def test_settled_ones_are_tried_again_too(failed: Cli, shop: Shop) -> None:
    assert "2 images of 1 entity left to 'imgsync worker'." in failed.ok("images", "retry")
    failed.ok("worker", "--drain")
    (left,) = rows(failed)
    assert (left["filename"], left["attempts"]) == ("b.png", 2)
    assert failed.json("images", "retry", "--child", "Main") == {"retried": [], "entities": 0}
    assert "No failed images." in failed.ok("images", "retry", "--child", "Main")


def test_an_id_of_none_is_told(failed: Cli) -> None:
    (passing, _) = rows(failed)
    said = failed.fail("images", "retry", str(passing["id"]), "987654")
    assert "No failed image has this ID: 987654" in said
    document = failed.failed_json("images", "retry", str(passing["id"]), "987654")
    assert document["retried"] == [passing["id"]]
    failed.fail("images", "retry", "0", status=2)
    # That there is no such one says nothing of the others.
    assert failed.run("images", "retry", "987654").stdout == ""


def test_of_an_entity_that_its_own_task_tries_again_no_sync_is_asked_for(
    ready: Cli, shop: Shop
) -> None:
    shop.unjudged = "nothing can be downloaded"
    shop.pair("Lamp", pictures(1))
    shop.emulator.faults.add(method="ANY", path_regex=".", status=503, times=50, where="storage")
    ready.run("sync", "--main", shop.main.id, "--child", shop.child.id)
    assert "with its entity's next task" in ready.ok("images", "failed")


def test_what_failed_in_an_earlier_run_is_told_by_sync_and_wrong_by_check(
    ready: Cli, shop: Shop
) -> None:
    shop.pair("Lamp", [*pictures(1), NO_PICTURE])
    ready.ok("sync", *BOTH)
    said = ready.json("sync", *BOTH)  # which ends with 0: it had nothing to do
    assert said["run"]["uploaded"] == 0
    assert (said["failed_images"]["images"], said["failed_images"]["waiting"]) == (1, 0)
    assert "1 image failed; see 'imgsync images failed'" in ready.ok("sync", *BOTH)
    assert ready.run("check").exit_code == 1


def test_the_next_sync_makes_it_good_and_says_no_more_of_it(failed: Cli, shop: Shop) -> None:
    main = shop.pairs[0].main
    shop.main.delete_images(main, [main.images[2].id])
    said = failed.json("sync", *BOTH)
    assert said["failed_images"] == {"images": 0, "waiting": 0, "next_attempt_at": None}
    assert shop.images(shop.pairs[0].child) == pictures(2)
    assert "failed" not in failed.ok("sync", *BOTH)


def test_an_unlinked_child_has_none(failed: Cli) -> None:
    failed.ok("link", "Main", "Child")
    failed.ok("unlink", "Child")
    assert json.loads(failed.ok("images", "failed", "--json")) == []
