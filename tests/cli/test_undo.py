"""imgsync undo, and the folder for backups, on the command line."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imgsync.entrypoints.config import ConfigError, fixed_config
from tests.application.world import png
from tests.cli.conftest import Cli
from tests.shop import Images, Shop, pictures

pytestmark = pytest.mark.process

OWN: Images = [("own.png", png(900, 1200))]


@pytest.fixture
def linked(ready: Cli, shop: Shop) -> Cli:
    shop.unjudged = "what is put back is not main's"
    ready.ok("link", "Main", "Child")
    return ready


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--run", "x", "--child", "Child"),
        ("--child", "Child"),
        ("--entity", "Lamp"),
        ("--run", "x", "--entity", "Lamp"),
    ],
)
def test_a_run_or_an_entity_is_named(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert "Name --run, or --child and --entity." in cli.fail("undo", *arguments, status=2)


def test_a_run_is_told_shown_and_undone(linked: Cli, shop: Shop, tmp_path: Path) -> None:
    lamp = shop.pair("Lamp", pictures(2), old=OWN, code="00017")
    said = linked.ok("sync", "--backup-dir", str(tmp_path / "b"))
    run = said.partition("Run ")[2].partition(".")[0]
    said = linked.ok("undo", "--run", run, "--dry-run")
    label = "Child: product 'Lamp' (code 00017)"
    assert said == f"{label}: would keep 0 images, put back 1 and remove 2\n"
    assert shop.images(lamp) == pictures(2)
    said = linked.ok("undo", "--run", run)
    assert "1 entity set back: 1 image put back, 0 kept. Run 20" in said
    assert "The next sync makes them equal to the main account again, unless" in said
    assert shop.images(lamp) == OWN
    said = linked.ok("undo", "--child", "Child", "--entity", "Lamp", "--dry-run")
    assert f"{label}: would keep 0 images, put back 2 and remove 1" in said
    assert linked.ok("queue", "list", COLUMNS="400").count("product 'Lamp' (code 00017)") == 2
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute("UPDATE changes SET entity_code = NULL")  # as of an earlier version
    said = linked.ok("undo", "--child", "Child", "--entity", "Lamp", "--dry-run")
    assert said.startswith("Child: product 'Lamp': would keep 0 images, put back 2")
    (plan,) = linked.json("undo", "--run", run, "--dry-run")["plans"]
    assert (plan["kept"], plan["uploaded"], plan["lost"], plan["problem"]) == (
        ["own.png"], [], [], None,
    )  # fmt: skip


def test_what_is_not_known_or_not_saved_is_told(linked: Cli, shop: Shop) -> None:
    assert "Nothing that a run '1' has changed is known" in linked.fail("undo", "--run", "1")
    missing = linked.fail("undo", "--child", "Child", "--entity", "Lamp")
    assert "Nothing that was changed of 'Lamp' of 'Child' is known" in missing
    shop.pair("Lamp", pictures(2), old=OWN)
    run = linked.json("sync")["run_id"]
    told = linked.failed_json("undo", "--run", run, "--dry-run", status=3)
    assert told["plans"][0]["problem"] == "none of what was removed was saved: own.png"
    assert "1 entity left as they are." not in linked.ok("queue", "status")
    assert linked.json("queue", "prune") == {"pruned": 0, "changes": 0}


def test_a_backup_is_not_kept_where_it_is_cleaned_up(cli: Cli, tmp_path: Path) -> None:
    inside = str(tmp_path / "temp" / "x" / ".." / "b")
    for command in (("sync",), ("worker", "--drain"), ("undo", "--run", "1")):
        said = cli.fail(*command, "--backup-dir", inside, status=2)
        assert "must not lie in that for temp files" in said
    said = cli.fail("queue", "status", IMGSYNC_BACKUP_DIR=inside)
    assert said.startswith("Error: IMGSYNC_BACKUP_DIR: the folder for backups must not lie in")
    with pytest.raises(ConfigError, match="must not lie in"):
        fixed_config(backup_dir=tmp_path / "c" / "b", content_url=(tmp_path / "c").as_uri())
    assert fixed_config(backup_dir="").backup_dir is None


def test_a_backup_that_cannot_be_written_leaves_the_child_as_it_is(
    linked: Cli, shop: Shop, tmp_path: Path
) -> None:
    lamp = shop.pair("Lamp", pictures(2), old=OWN)
    (tmp_path / "file").write_text("")
    told = linked.failed_json("sync", "--backup-dir", str(tmp_path / "file" / "b"), status=3)
    assert "cannot be written: Not a directory; nothing was removed" in told["run"]["errors"][0]
    assert (told["run"]["retrying"], shop.images(lamp), shop.writes) == (1, OWN, 0)
