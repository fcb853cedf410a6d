"""Miniatures in a folder: bounded, and never half of one."""

import os
import time
from pathlib import Path

import pytest

from imgsync.adapters.files.miniatures import FolderMiniatures
from imgsync.domain.ports.miniatures import MOST_MINIATURE_BYTES

pytestmark = pytest.mark.anyio


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def make_old(paths: list[Path]) -> None:
    for path in paths:
        os.utime(path, (time.time() - 86_400 * 40,) * 2)


async def test_gives_back_what_was_put(tmp_path: Path) -> None:
    store = FolderMiniatures(tmp_path / "m")
    assert await store.get("a") is None
    for key in ("a", "../../etc/passwd", "\ud800", "x" * 500):
        await store.put(key, key.encode("utf-8", "replace"))
        assert await store.get(key) == key.encode("utf-8", "replace")
    assert len(files_of(tmp_path)) == len(files_of(tmp_path / "m")) == 4


async def test_is_bounded_and_the_least_recently_used_goes(tmp_path: Path) -> None:
    store = FolderMiniatures(tmp_path, most_bytes=1000)
    for number in range(20):
        await store.put(str(number), bytes(100))
    before = files_of(tmp_path)
    assert await store.clean() > 0
    left = files_of(tmp_path)
    assert 0 < sum(path.stat().st_size for path in left) <= 1000
    make_old(left)
    assert await store.clean() == len(left)
    assert len(before) > len(left)
    assert not files_of(tmp_path)


async def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    store = FolderMiniatures(tmp_path)
    await store.put("a", bytes(MOST_MINIATURE_BYTES + 1))
    assert await store.get("a") is None


async def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FolderMiniatures(tmp_path / "file")
    await store.put("a", b"x")
    assert await store.get("a") is None
    assert await store.clean() == 0
