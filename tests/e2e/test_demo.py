"""imgsync demo as its users run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.demo.run import Demo, started


def test_the_demo_copies_photographs_and_verifies_them(tmp_path: Path) -> None:
    own_database = tmp_path / "mine.db"
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo", "--json"],
        env=os.environ
        | {
            "IMGSYNC_DATABASE_URL": f"sqlite:///{own_database}",
            "IMGSYNC_MATCH_BY": "code",
            "HTTP_PROXY": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["exit_status"], told["status"]) == (0, "done")
    first, unchanged, added = told["rounds"]
    assert all(r["verified"] and not r["errors"] and not r["throttled"] for r in told["rounds"])
    assert first["uploaded"] == sum((1, 2, 3, 4, 5, 6, 8, 10, 2, 5, 1, 3))
    assert (
        first["uploaded_bytes"] > first["downloaded_bytes"] > 4_000_000
    )  # each distinct photograph once
    assert [w.partition(": ")[2] for w in first["warnings"]] == [
        "no_time_for_that_tiny.gif: it is neither a JPEG nor a PNG file"
    ]
    assert [w.partition(": ")[2] for w in unchanged["warnings"]] == [
        "no_time_for_that_tiny.gif: it is neither a JPEG nor a PNG file"
    ]
    # Of each type a page of either account; permanent links cost none. Lists of all entities
    # of a type are set in one request.
    assert [r["api_calls"] for r in told["rounds"]] == [6 + 3, 6, 6 + 1]
    assert (unchanged["uploaded"], unchanged["kept"]) == (0, 0)
    assert unchanged["downloaded_bytes"] < 100_000
    assert (added["uploaded"], added["kept"]) == (1, 2)
    assert [(r["entities"], r["changed"]) for r in told["rounds"]] == [(12, 12), (12, 0), (12, 1)]
    assert [r["skipped"] for r in (first, unchanged, added)] == [1, 1, 1]
    assert not own_database.exists()


def test_the_table_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for word in (
        "Entities",
        "Changed",
        "Images",
        "API calls",
        "MB up",
        "Warnings",
        "Seconds",
        "Verified",
    ):
        assert word in done.stdout


@pytest.fixture
def running() -> Iterator[Demo]:
    with started(Container(config=FixedConfig())) as demo:
        yield demo


def test_the_demo_tells_wrong_images_from_right_ones(running: Demo) -> None:
    assert not running.verify()


def test_a_wrong_result_ends_the_demo_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Demo, "verify", lambda _: False)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "does not hold the right images" in result.stderr
    assert "Verified" not in result.stdout


def without(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs imgsync where a module is not installed."""
    script = f"import sys; sys.modules[{module!r}] = None\nfrom imgsync.__main__ import run; run()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["moysklad_emulator", "skimage"])
def test_a_demo_without_its_packages_says_what_to_install(module: str) -> None:
    done = without(module, "demo")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: the demo needs the package '{module}': pip install 'imgsync[demo]'"
    ]


def test_every_other_command_is_there_without_the_emulator() -> None:
    done = without("moysklad_emulator", "plugins")
    assert done.returncode == 0, done.stderr
    assert "product" in done.stdout
