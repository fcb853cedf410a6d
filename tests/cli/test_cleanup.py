"""imgsync cleanup-temp."""

import os
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def left_over(tmp_path: Path) -> Path:
    """A dead task's folder: one file of 30 hours, one of 2."""
    folder = tmp_path / "temp" / ("task-" + "a" * 32)
    folder.mkdir(parents=True)
    for name, hours, size in (("0000.png", 30, 1_500_000), ("0001.png", 2, 10)):
        (folder / name).write_bytes(bytes(size))
        moment = time.time() - hours * 3600
        os.utime(folder / name, (moment, moment))
    return folder


def test_old_files_are_deleted_and_counted(cli: Cli, left_over: Path) -> None:
    assert "1 files deleted, 1.5 MB freed." in cli.ok("cleanup-temp")
    assert [f.name for f in left_over.iterdir()] == ["0001.png"]
    assert "0 files deleted, 0.0 MB freed." in cli.ok("cleanup-temp")


def test_a_progress_bar_is_shown(cli: Cli, left_over: Path) -> None:
    assert "Deleting" in cli.ok("cleanup-temp", "--hours", "24")


def test_the_age_is_an_option(cli: Cli, left_over: Path) -> None:
    assert cli.json("cleanup-temp", "--hours", "1") == {
        "dry_run": False,
        "files": 2,
        "freed_bytes": 1_500_010,
    }
    assert not left_over.exists()


def test_a_dry_run_deletes_nothing(cli: Cli, left_over: Path) -> None:
    said = cli.ok("cleanup-temp", "--hours", "24", "--dry-run")
    assert "1 files would be deleted, 1.5 MB to free." in said
    assert len(list(left_over.iterdir())) == 2


def test_without_a_temp_folder_there_is_nothing_to_do(cli: Cli) -> None:
    assert cli.json("cleanup-temp")["files"] == 0


def test_a_negative_age_is_refused(cli: Cli) -> None:
    assert "Invalid value for '--hours'" in cli.fail("cleanup-temp", "--hours", "-1", status=2)


@pytest.mark.parametrize("hours", ["nan", "inf", "1e9", "1e300"])
def test_an_age_that_no_date_can_hold_is_refused(cli: Cli, hours: str) -> None:
    assert "Invalid value for '--hours'" in cli.fail("cleanup-temp", "--hours", hours, status=2)
