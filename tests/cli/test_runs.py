"""imgsync runs, and what sync, check and enqueue leave for it; options of the schedule."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.usage import SqlUsage
from imgsync.domain.runs import ChildProof, Usage
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

pytestmark = [pytest.mark.process, pytest.mark.database]


def of_database(url: str) -> tuple[ChildProof | None, dict[str, Usage]]:
    """How the only child stands, and what the accounts took."""
    database = Database.open(url)
    try:

        async def look() -> tuple[ChildProof | None, dict[str, Usage]]:
            hours = await SqlUsage(database).hours(datetime(2000, 1, 1, tzinfo=UTC))
            proofs = await SqlProofs(database).all()
            taken: dict[str, Usage] = {}
            for one in hours:
                taken[one.account_id] = taken.get(one.account_id, Usage()) + one.usage
            return (proofs[0] if proofs else None), taken

        return asyncio.run(look())
    finally:
        database.close()


def newest(cli: Cli, *arguments: str) -> dict[str, Any]:
    run: dict[str, Any] = cli.json("runs", *arguments)["runs"][0]
    return run


def test_a_sync_is_noted_and_proves_what_it_copied(ready: Cli, shop: Shop, sqlite_url: str) -> None:
    shop.pair("Lamp", pictures(2))
    shop.pair("Chair", pictures(1))
    assert "No runs yet." in ready.ok("runs")
    link = ("--main", "Main", "--child", "Child")
    told = ready.json("sync", *link)
    requests = sum(shop.emulator.stats.requests.values())
    run = newest(ready)
    assert run["id"] == told["run_id"]
    assert (run["kind"], run["cause"], run["children"]) == ("sync", "command", [shop.child.id])
    assert run["error"] is None
    assert run["seconds"] > 0
    numbers = run["numbers"]
    assert (numbers["missing"], numbers["images"], numbers["uploaded"]) == (2, 3, 3)
    assert numbers["bytes"] >= 3000
    proof, taken = of_database(sqlite_url)
    assert proof is not None
    assert proof.is_equal
    assert proof.numbers == {"equal": 2, "images": 3}
    # Pictures come from the storage, which is no request to the API but for its first answer.
    assert numbers["requests"] == sum(one.requests for one in taken.values())
    assert 0 < numbers["requests"] <= requests
    assert taken[shop.child.id].images == 3
    assert taken[shop.main.id].images == 0
    assert numbers["units"] >= numbers["requests"]


def test_a_check_tells_how_a_child_stands(ready: Cli, shop: Shop, sqlite_url: str) -> None:
    shop.pair("Lamp", pictures(2))
    link = ("--main", "Main", "--child", "Child")
    ready.run("check", *link)
    proof, _ = of_database(sqlite_url)
    assert proof is not None
    assert (proof.equal_at, proof.unequal, proof.may_settle) == (None, 1, False)
    assert newest(ready)["numbers"]["missing"] == 1
    ready.ok("sync", *link)
    ready.ok("check", *link)
    proof, _ = of_database(sqlite_url)
    assert proof is not None
    assert proof.is_equal
    assert proof.equal_at == proof.compared_at
    # A part of it tells nothing of the whole.
    shop.pair("Chair", pictures(1))
    ready.ok("check", *link, "--type", "bundle")
    assert of_database(sqlite_url)[0] == proof
    assert [run["kind"] for run in ready.json("runs")["runs"]] == [
        "check",
        "check",
        "sync",
        "check",
    ]


def test_a_dry_run_settles_nothing(ready: Cli, shop: Shop, sqlite_url: str) -> None:
    shop.pair("Lamp", pictures(1))
    shop.unjudged = "nothing is copied"
    ready.ok("sync", "--main", "Main", "--child", "Child", "--dry-run")
    ready.run("check", "--main", "Main", "--child", "Child", "--since", "last")
    proof, _ = of_database(sqlite_url)
    assert proof is not None
    assert (proof.is_equal, proof.unequal) == (False, 1)
    assert newest(ready, "--limit", "1")["kind"] == "check"


def test_images_that_fail_keep_a_child_from_being_equal(
    ready: Cli, shop: Shop, sqlite_url: str
) -> None:
    shop.pair("Lamp", [*pictures(1), ("bad.png", b"no picture at all")])
    ready.run("sync", "--main", "Main", "--child", "Child")
    ready.run("sync", "--main", "Main", "--child", "Child", "--since", "last")
    proof, _ = of_database(sqlite_url)
    assert proof is not None
    assert not proof.is_equal
    assert proof.equal_at is None


def test_a_picture_that_failed_before_an_unlink_is_missing_still(
    ready: Cli, shop: Shop, sqlite_url: str
) -> None:
    """The failed images are forgotten with the link, and the records are not."""
    child = shop.pair("Lamp", [("bad.png", b"no picture at all")])
    ready.ok("link", "Main", "Child", "--sync-images-all")
    assert "1 image failed" in ready.run("sync").stdout
    ready.ok("unlink", "Child")
    ready.ok("link", "Main", "Child", "--sync-images-all")
    for options in ((), ("--since", "last")):
        ready.run("sync", *options)
        proof, _ = of_database(sqlite_url)
        assert proof is not None
        assert (proof.is_equal, proof.unequal) == (False, 1)
    assert shop.images(child) == []


def test_answers_429_are_counted(ready: Cli, shop: Shop, sqlite_url: str) -> None:
    shop.pair("Lamp", pictures(1))
    shop.emulator.faults.add(path_regex="/entity/product", status=429, code=1049, times=2)
    ready.ok("sync", "--main", "Main", "--child", "Child")
    _, taken = of_database(sqlite_url)
    assert sum(one.too_many for one in taken.values()) == 2


def test_a_run_that_failed_says_why(ready: Cli, shop: Shop) -> None:
    ready.ok("account", "add", shop.child.id, "--name", "Child", "--offline", IMGSYNC_TOKEN="odd")
    shop.pair("Lamp", pictures(1))
    shop.unjudged = "nothing is copied"
    error = ready.fail("enqueue", "--main", "Main", "--child", "Child")
    run = newest(ready, "--kind", "enqueue", "--child", "Child", "--since", "1h")
    assert run["error"]
    assert run["error"] in error
    assert "odd" not in json.dumps(run)
    shown = ready.ok("runs")
    assert run["id"] in shown
    assert "enqueue" in shown
    assert ready.json("runs", "--kind", "sweep")["runs"] == []
    assert "not 'last'" in ready.fail("runs", "--since", "last", status=2)
    assert "nobody" in ready.fail("runs", "--child", "nobody")


def test_options_of_the_schedule(cli: Cli) -> None:
    for name in ("Main", "Child"):
        cli.ok("account", "add", name, "--name", name, "--offline", IMGSYNC_TOKEN="token")
    said = cli.ok("link", "Main", "Child", "--sweep", "05:45", "--survey-every", "60", "--guard")
    assert "; swept at 05:45, surveyed every 60 min, guarded" in said
    (link,) = cli.json("links")["links"]
    assert link["schedule"] == {"sweep": "05:45", "survey_minutes": 60, "copies": True}
    assert link["guard"] is True
    said = cli.ok("link", "Main", "Child")
    assert "swept" not in said
    assert cli.json("links")["links"] == [link]
    said = cli.ok("settings", "set", "--child", "Child", "--check-only", "--no-guard")
    assert "; swept at 05:45, surveyed every 60 min, only told what differs" in said
    cli.ok("settings", "set", "--child", "Child", "--sweep", "never", "--survey-every", "never")
    shown = cli.json("settings", "show", "--child", "Child")[0]
    assert shown["schedule"] == {"sweep": None, "survey_minutes": None, "copies": False}
    assert "never" in cli.ok("settings", "show")
    assert "never" in cli.ok("links")
    cli.ok("settings", "set", "--child", "Child", "--copies", "--sweep", "00:00")
    assert "swept at 00:00" in cli.ok("links")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--sweep", "24:00"),
        ("--sweep", "3:30"),
        ("--sweep", ""),
        ("--survey-every", "0"),
        ("--survey-every", "1441"),
        ("--survey-every", "1_0"),
        ("--survey-every", "٣"),
        ("--survey-every", "often"),
    ],
)
def test_options_of_the_schedule_that_are_none(cli: Cli, option: str, value: str) -> None:
    error = cli.fail("settings", "set", "--child", "Child", option, value, status=2)
    assert f"Invalid value for '{option}': " in error
    assert "never" in error
