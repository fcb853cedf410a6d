"""imgsync queue list, show, cancel, delete and retry by filter."""

from typing import Any

import pytest
from sqlalchemy import create_engine, text

from moysklad_emulator.images import NewImage
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

BROKEN = ("broken.png", b"no picture")


@pytest.fixture
def filled(ready: Cli, shop: Shop) -> Cli:
    """One task that ended well, one with warnings, one that failed, one that waits."""
    shop.pair("Lamp", pictures(1), code="L-1")
    shop.pair("Chair", [*pictures(1, 1200), BROKEN], code="C-1")
    shop.pair("Sofa", [BROKEN], code="S-1")
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    ready.run("worker", "--drain")
    shop.pair("Table", pictures(1, 1300), code="T-1")
    ready.ok("enqueue", "--main", "Main", "--child", "Child", "--since", "1h")
    return ready


def listed(cli: Cli, *options: str) -> dict[str, dict[str, Any]]:
    told = cli.json("queue", "list", *options)
    return {one["entity"]: one for one in told["tasks"] if one["kind"] == "image_sync"}


def test_each_status_has_a_word_and_each_row_names_child_and_entity(filled: Cli) -> None:
    found = listed(filled)
    assert {name: one["status"] for name, one in found.items()} == {
        "product 'Lamp' (code L-1)": "completed",
        "product 'Chair' (code C-1)": "completed-with-warnings",
        "product 'Sofa' (code S-1)": "failed",
        "product 'Table' (code T-1)": "pending",
    }
    assert {one["child"] for one in found.values()} == {"Child"}
    table = filled.ok("queue", "list")
    assert "product 'Sofa' (code S-1)" in table
    assert "broken.png" in table


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--status", "completed-with-warnings"], {"Chair"}),
        (["--status", "failed"], {"Sofa"}),
        (["--status", "pending", "--child", "child"], {"Table"}),
        (["--text", "t-1"], {"Table"}),
        (["--since", "1h"], {"Lamp", "Chair", "Sofa", "Table"}),
        (["--since", "2000-01-01"], {"Lamp", "Chair", "Sofa", "Table"}),
        (["--status", "cancelled"], set()),
        (["--status", "superseded"], set()),
    ],
)
def test_filters(filled: Cli, options: list[str], names: set[str]) -> None:
    assert {entity.split("'")[1] for entity in listed(filled, *options)} == names


def test_since_leaves_out_what_was_queued_before(filled: Cli, sqlite_url: str) -> None:
    age(sqlite_url, "payload LIKE '%Lamp%'")
    names = {entity.split("'")[1] for entity in listed(filled, "--since", "2d")}
    assert names == {"Chair", "Sofa", "Table"}


def test_a_page_is_followed_by_the_next(filled: Cli) -> None:
    seen: list[int] = []
    before: list[str] = []
    while True:
        told = filled.json("queue", "list", "--limit", "2", *before)
        seen += [one["id"] for one in told["tasks"]]
        if told["before"] is None:
            break
        before = ["--before", str(told["before"])]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(filled.json("queue", "list")["tasks"]) > 3
    assert "There are more: --before" in filled.ok("queue", "list", "--limit", "2")


def test_a_failed_task_whose_entity_has_a_newer_one_is_superseded(
    filled: Cli, shop: Shop, sqlite_url: str
) -> None:
    (sofa,) = (one for one in shop.main.entities("product") if one.name == "Sofa")
    failed = listed(filled)["product 'Sofa' (code S-1)"]["id"]
    shop.main.set_images(sofa, [NewImage.create(*pictures(1, 1400)[0])])
    filled.ok("enqueue", "--main", "Main", "--child", "Child")
    filled.ok("worker", "--drain")
    told = filled.json("queue", "list", "--status", "superseded")["tasks"]
    assert [one["id"] for one in told] == [failed]
    assert filled.json("queue", "list", "--status", "failed")["tasks"] == []
    assert filled.json("queue", "show", str(failed))["status"] == "superseded"
    counts = filled.json("queue", "status")
    assert (counts["failed"], counts["superseded"]) == (0, 1)
    assert "superseded 1" in filled.ok("queue", "status")


def test_show_tells_all_of_a_task(filled: Cli) -> None:
    chair = listed(filled)["product 'Chair' (code C-1)"]
    told = filled.ok("queue", "show", str(chair["id"]))
    assert "status         completed-with-warnings" in told
    assert "entity         product 'Chair' (code C-1)" in told
    assert "broken.png" in told
    assert '"child_entity_id"' in told
    assert filled.fail("queue", "show", "999999").strip() == "Error: There is no task 999999"


def test_cancel_and_delete_by_filter_and_by_id(filled: Cli) -> None:
    table = listed(filled)["product 'Table' (code T-1)"]["id"]
    assert filled.ok("queue", "cancel", "--child", "Child").startswith("1 task cancelled")
    assert [
        one["id"] for one in filled.json("queue", "list", "--status", "cancelled")["tasks"]
    ] == [table]
    assert "wait any more" in filled.fail("queue", "cancel", str(table))
    counts = filled.json("queue", "status")
    assert (counts["failed"], counts["cancelled"], counts["superseded"]) == (1, 1, 0)
    assert len(filled.json("queue", "failed")) == counts["failed"]
    assert filled.ok("queue", "delete", str(table)) == "1 task deleted.\n"
    assert "Table" not in filled.ok("queue", "list")
    filled.ok("queue", "delete", "--status", "completed-with-warnings")
    assert "Chair" not in filled.ok("queue", "list")
    assert "Lamp" in filled.ok("queue", "list")


def test_retry_by_filter_takes_only_failed_ones_that_fit(filled: Cli) -> None:
    assert filled.ok("queue", "retry", "--text", "nothing like it") == "0 tasks retried.\n"
    assert filled.ok("queue", "retry", "--child", "Child", "--text", "sofa") == "1 task retried.\n"
    assert listed(filled)["product 'Sofa' (code S-1)"]["status"] == "pending"


def test_many_are_changed_only_when_somebody_says_so(ready: Cli, shop: Shop) -> None:
    for n in range(25):
        shop.pair(f"Lamp {n}", pictures(1, 700 + n))
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    refused = ready.run("queue", "cancel", "--child", "Child", stdin="n\n")
    assert refused.exit_code == 1
    assert "25 tasks. Go on?" in refused.stderr
    assert ready.json("queue", "status")["pending"] == 25
    assert "--yes" in ready.failed_json("queue", "cancel", "--child", "Child")["error"]
    assert ready.ok("queue", "cancel", "--child", "Child", "--yes") == "25 tasks cancelled.\n"


def test_the_tasks_of_a_paused_child_wait_until_it_is_resumed(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", pictures(1))
    ready.ok("link", "Main", "Child", "--sync-images-all")
    ready.ok("enqueue")
    assert ready.ok("queue", "pause", "Child") == "Paused: Child.\n"
    assert ready.ok("queue", "pause") == (
        "Nothing is paused: it was already, or no child is linked.\n"
    )
    ready.run("worker", "--drain")
    assert shop.images(lamp) == []
    (task,) = ready.json("queue", "list")["tasks"]
    assert (task["status"], task["parked_for"]) == ("parked", "Child")
    for command in (["account", "list"], ["account", "show", "Child"], ["account", "test"]):
        said = ready.ok(*command)
        assert "until 'imgsync queue resume Child': paused by hand" in said
        assert "token comes" not in said
    chair = shop.pair("Chair", pictures(1, 1200))
    ready.ok("enqueue")  # surveys go on
    assert ready.ok("queue", "resume") == "Resumed: Child.\n"
    assert ready.json("queue", "resume", "Child") == {"resumed": []}
    ready.ok("worker", "--drain")
    assert shop.images(lamp) == pictures(1)
    assert shop.images(chair) == pictures(1, 1200)


def test_to_resume_ends_no_other_parking(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", pictures(1))
    ready.ok("link", "Main", "Child", "--sync-images-all")
    ready.ok("enqueue")
    shop.emulator.faults.add(method="ANY", status=401, code=1056, times=99)
    ready.run("worker", "--drain")
    assert ready.json("queue", "status")["parked"] == 1
    assert ready.json("queue", "resume") == {"resumed": []}
    assert ready.json("queue", "status")["parked"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel"],
        ["delete"],
        ["delete", "1", "--child", "Child"],
        ["retry", "--status", "pending"],
        ["retry", "--status", "completed"],
        ["list", "--since", "yesterday"],
        ["list", "--since", "last"],
        ["list", "--since", "0001-01-01"],
        ["list", "--status", "broken"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(ready: Cli, arguments: list[str]) -> None:
    assert ready.run("queue", *arguments).exit_code == 2


def test_a_child_that_there_is_not_is_named(ready: Cli) -> None:
    assert "'Omsk'" in ready.fail("queue", "list", "--child", "Omsk")


def age(url: str, where: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE sync_queue SET created_at = '2020-01-01 00:00:00' WHERE {where}")  # noqa: S608
        )
    engine.dispose()
