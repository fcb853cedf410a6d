"""imgsync cleanup-temp."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from imgsync.adapters.files.local import LocalContentStore
from imgsync.domain.ports.storage import StaleFile
from imgsync.entrypoints.cli import cleanup
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
    assert "1 file deleted, 1.5 MB freed." in cli.ok("cleanup-temp")
    assert [f.name for f in left_over.iterdir()] == ["0001.png"]
    assert "0 files deleted, 0 bytes freed." in cli.ok("cleanup-temp")


@pytest.mark.parametrize("watched", [True, False])
def test_a_progress_bar_is_shown_at_a_terminal(
    cli: Cli, left_over: Path, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(cleanup, "is_watched", lambda: watched)
    assert ("Deleting" in cli.ok("cleanup-temp", "--hours", "24")) is watched


def test_the_age_is_an_option(cli: Cli, left_over: Path) -> None:
    told = cli.json("cleanup-temp", "--hours", "1")
    assert (told["dry_run"], told["files"], told["freed_bytes"]) == (False, 2, 1_500_010)
    assert not left_over.exists()


def test_a_dry_run_deletes_nothing(cli: Cli, left_over: Path) -> None:
    said = cli.ok("cleanup-temp", "--hours", "24", "--dry-run")
    assert "1 file would be deleted, 1.5 MB to free." in said
    assert len(list(left_over.iterdir())) == 2


def test_without_a_temp_folder_there_is_nothing_to_do(cli: Cli) -> None:
    assert cli.json("cleanup-temp")["files"] == 0


def test_a_negative_age_is_refused(cli: Cli) -> None:
    assert "Invalid value for '--hours'" in cli.fail("cleanup-temp", "--hours", "-1", status=2)


@pytest.mark.parametrize("hours", ["nan", "inf", "1e9", "1e300"])
def test_an_age_that_no_date_can_hold_is_refused(cli: Cli, hours: str) -> None:
    assert "Invalid value for '--hours'" in cli.fail("cleanup-temp", "--hours", hours, status=2)


def test_ctrl_c_half_way_tells_what_was_deleted(
    cli: Cli, left_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = LocalContentStore.delete
    seen: list[StaleFile] = []

    async def interrupted(storage: LocalContentStore, file: StaleFile) -> int:
        seen.append(file)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return await delete(storage, file)

    monkeypatch.setattr(LocalContentStore, "delete", interrupted)
    told = cli.failed_json("cleanup-temp", "--hours", "1", status=3)
    assert (told["files"], told["status"]) == (1, "part")
    assert len(list(left_over.iterdir())) == 1


def test_ctrl_c_before_anything_was_deleted_is_one_line(
    cli: Cli, left_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(_storage: LocalContentStore, _file: StaleFile) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalContentStore, "delete", interrupted)
    said = cli.fail("cleanup-temp", "--hours", "1", status=1)
    assert said.strip() == "Error: told to stop before the end"


def test_files_of_tasks_under_way_are_left_alone_and_told(cli: Cli, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        manager = LocalContentStore(tmp_path / "temp").workspace()
        workspace = runner.run(manager.__aenter__())
        runner.run(runner.run(workspace.create("a.png")).close())
        said = cli.ok("cleanup-temp", "--hours", "0")
        assert "0 files deleted" in said
        assert "The files of 1 task under way were left alone." in said
        assert cli.json("cleanup-temp", "--hours", "0")["live_tasks"] == 1
        assert len(list((tmp_path / "temp").glob("task-*/*.png"))) == 1
        runner.run(manager.__aexit__(None, None, None))
    assert "left alone" not in cli.ok("cleanup-temp", "--hours", "0")
