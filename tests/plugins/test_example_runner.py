"""A third party's package, installed from its wheel, brings parts of the runner."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moysklad_emulator import Emulator, EmulatorServer
from tests.plugins.conftest import RunImgsync
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

FRAME_PIXELS = 2


def journal(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_plugins_shows_who_brings_what(run_imgsync: RunImgsync, installed_runner: Path) -> None:
    done = run_imgsync("plugins", "--json", site=installed_runner)
    assert done.returncode == 0, done.stderr
    shown = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert shown["example-runner"] == {
        "name": "example-runner",
        "distribution": "imgsync-example-runner",
        "version": "1.0.0",
        "entity_types": ["contentcard"],
        "payload_formats": [],
        "task_handlers": [],
        "task_queues": ["journal"],
        "content_stores": [],
        "replace_strategies": [],
        "transformations": ["example-runner"],
        "listeners": ["after_task", "image_copied", "run_ended"],
        "commands": [],
    }
    assert shown["builtin"]["task_handlers"] == ["image_sync", "image_retry", "undo"]
    assert shown["builtin"]["task_queues"] == [
        "sqlite",
        "postgresql",
        "postgres",
        "procrastinate",
    ]
    assert "sync" in shown["builtin"]["commands"]
    table = run_imgsync("plugins", site=installed_runner).stdout
    assert "imgsync-example-runner 1.0.0  transformations" in table


def test_queue_transformation_listeners_and_type_work_together(
    run_imgsync: RunImgsync, installed_runner: Path, tmp_path: Path
) -> None:
    with EmulatorServer(Emulator()) as server:
        shop = Shop.on(server)
        images = pictures(2)
        product = shop.pair("Lamp", images)
        card = shop.pair("Card", images[:1], kind="contentcard")
        env = {
            "IMGSYNC_API_URL": server.api_url,
            "IMGSYNC_QUEUE_URL": f"journal+sqlite:///{tmp_path / 'queue.db'}",
            "EXAMPLE_JOURNAL": str(tmp_path / "journal.jsonl"),
        }
        main, child = shop.main.id, shop.child.id

        def run(*arguments: str, **more: str) -> str:
            done = run_imgsync(*arguments, site=installed_runner, **env | more)
            assert done.returncode == 0, done.stderr
            return done.stdout

        for account_id, token in ((main, MAIN_TOKEN), (child, CHILD_TOKEN)):
            run("account", "add", account_id, IMGSYNC_TOKEN=token)
        run("settings", "set", "--child", child, "--sync-images-all")
        run("enqueue", "--main", main, "--child", child)
        assert json.loads(run("queue", "status", "--json"))["pending"] == 2
        told = json.loads(run("worker", "--drain", "--json"))
        assert told["outcomes"] == {"completed": 2}, told
        for entity, count in ((product, 2), (card, 1)):
            pairs = zip(shop.images(entity), images[:count], strict=True)
            assert all(frames(*pair) for pair in pairs)
    noted = journal(tmp_path / "journal.jsonl")
    assert [line["key"] for line in noted if line["event"] == "queued"] == [
        f"{child}/product/{product.id}",
        f"{child}/contentcard/{card.id}",
    ]
    copied = [line["filename"] for line in noted if line["event"] == "copied"]
    assert sorted(copied) == ["0.png", "0.png", "1.png"]
    assert [line["end"] for line in noted if line["event"] == "ended"] == ["completed"] * 2
    assert noted[-1] == {"event": "run", "completed": 2}
    # The tasks are where the URL says, and not in the database of everything else.
    without = {"IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'queue.db'}"}
    status = run_imgsync("queue", "status", "--json", **without)
    assert json.loads(status.stdout)["completed"] == 2
    assert json.loads(run_imgsync("queue", "status", "--json").stdout)["completed"] == 0


def frames(copied: tuple[str, bytes], source: tuple[str, bytes]) -> bool:
    """Whether an image is the other in a frame."""
    with (
        Image.open(io.BytesIO(copied[1])) as framed,
        Image.open(io.BytesIO(source[1])) as plain,
    ):
        sizes = tuple(side + 2 * FRAME_PIXELS for side in plain.size)
        return copied[0] == source[0] and framed.size == sizes


@pytest.mark.parametrize(
    ("variable", "value", "known"),
    [
        ("QUEUE_URL", "journal+sqlite:///q.db", "sqlite, postgresql, postgres, procrastinate"),
        ("CONTENT_URL", "s3://bucket", "file"),
        ("REPLACE_STRATEGY", "fast", "atomic, delete-then-upload"),
    ],
)
def test_a_name_that_no_plugin_brings_is_one_line(
    run_imgsync: RunImgsync, variable: str, value: str, known: str
) -> None:
    done = run_imgsync("account", "list", **{f"IMGSYNC_{variable}": value})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: IMGSYNC_{variable}: unknown ")
    assert line.endswith(f"(known: {known})")
    assert "bucket" not in line


def test_the_file_that_configures_a_wrong_name_is_named(
    run_imgsync: RunImgsync, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('replace_strategy = "fast"\n')
    done = run_imgsync("--config", str(file), "queue", "status")
    assert done.stderr.startswith(f"Error: {file}: replace_strategy: unknown ")
