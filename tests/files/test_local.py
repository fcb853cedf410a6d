"""What the local disk asks of temp files beyond their port."""

import asyncio
import errno
import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgsync.adapters.files.local import LocalContentStore
from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.ports.storage import SharedFile, StaleFile, TempFile, Workspace
from tests.files.killed import worker

pytestmark = pytest.mark.anyio
FUTURE = datetime.now(UTC) + timedelta(days=1)


async def written(workspace: Workspace, data: bytes) -> TempFile:
    file = await workspace.create("a.png")
    await file.write(data)
    await file.close()
    return file


async def read(workspace: Workspace, file: TempFile | SharedFile) -> bytes:
    return b"".join([chunk async for chunk in workspace.read(file.key)])


def left_over(root: Path, letter: str) -> Path:
    folder = root / ("task-" + letter * 32)
    folder.mkdir()
    (folder / "0000.png").write_bytes(b"xyz")
    return folder


def empty_files(root: Path) -> None:
    for path in root.glob("task-*/0*"):
        path.write_bytes(b"")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_the_files_that_are_kept_in_memory_have_no_more_than_some_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many workspaces together; what is left has room for others."""
    monkeypatch.setattr("imgsync.adapters.files.local._ALL_KEPT_BYTES", 25_000)
    storage, data = LocalContentStore(tmp_path), os.urandom(10_000)

    async def on_disk(count: int) -> int:
        """How many of as many files are read from the disk."""
        async with AsyncExitStack() as left:
            spaces = [await left.enter_async_context(storage.workspace()) for _ in range(count)]
            files = [await written(space, data) for space in spaces]
            for space, file in zip(spaces, files, strict=True):
                assert await read(space, file) == data
            empty_files(tmp_path)
            found = [await read(s, f) for s, f in zip(spaces, files, strict=True)]
            return found.count(b"")

    assert await on_disk(4) == 2
    assert await on_disk(2) == 0


async def test_the_folder_is_private_and_foreign_files_stay(tmp_path: Path) -> None:
    root = tmp_path / "root"
    storage = LocalContentStore(root)
    async with storage.workspace() as workspace:
        await written(workspace, b"")
        assert mode(root) & 0o077 == 0
        add_foreign_files(root)
        assert await storage.stale(FUTURE) == []


def add_foreign_files(root: Path) -> None:
    (root / "task-note.txt").write_text("mine")
    (root / "other").mkdir()
    (root / "other" / "file").write_text("mine")
    (root / ("task-" + "0" * 32)).symlink_to(root / "other")


async def test_files_of_a_worker_that_lives_are_kept_whatever_their_age(tmp_path: Path) -> None:
    storage = LocalContentStore(tmp_path)
    async with storage.workspace() as workspace:
        file = await written(workspace, b"12345")
        make_old(tmp_path)
        assert await storage.stale(FUTURE) == []
        assert await read(workspace, file) == b"12345"
    assert await storage.stale(FUTURE) == []


def make_old(root: Path) -> None:
    files = list(root.glob("task-*/*"))
    assert files
    for path in files:
        os.utime(path, (0, 0))


@pytest.mark.parametrize("path", ["../outside", "task-x/../../outside", "outside"])
async def test_what_is_outside_stays(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    outside = [tmp_path / "outside", root / "outside"]
    put_down(outside)
    with pytest.raises(UnsafePathError):
        await LocalContentStore(root).delete(StaleFile(path, 1, FUTURE))
    assert all(map(Path.exists, outside))


def put_down(paths: list[Path]) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"keep")


async def test_deleting_the_last_file_of_a_dead_task_removes_its_folder(tmp_path: Path) -> None:
    left_over(tmp_path, "a")
    storage = LocalContentStore(tmp_path)
    (found,) = await storage.stale(FUTURE)
    assert await storage.delete(found) == 3
    assert names(tmp_path) == []


async def test_a_task_without_files_leaves_no_folder(tmp_path: Path) -> None:
    async with LocalContentStore(tmp_path).workspace():
        assert names(tmp_path) == []


async def test_a_discarded_file_is_gone_from_the_disk(tmp_path: Path) -> None:
    async with LocalContentStore(tmp_path).workspace() as workspace:
        half, whole = await workspace.create("a.png"), await written(workspace, b"x")
        await half.write(bytes(400_000))
        folder = only_in(tmp_path)
        assert [name for name in names(folder) if name.endswith(".png")] == [half.key, whole.key]
        await half.discard()
        await whole.discard()
        assert [name for name in names(folder) if name.endswith(".png")] == []


async def test_nothing_is_deleted_through_a_link(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    put_down([outside / "0000.png", root / "file"])
    name = "task-" + "c" * 32
    (root / name).symlink_to(outside)
    for path in (f"{name}/0000.png", f"{name}/.."):
        with pytest.raises(UnsafePathError):
            await LocalContentStore(root).delete(StaleFile(path, 4, FUTURE))
    assert names(outside) == ["0000.png"]


async def test_a_worker_that_ends_during_a_cleanup_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter in "ab":
        left_over(tmp_path, letter)
    storage = LocalContentStore(tmp_path)
    is_symlink, unlink = Path.is_symlink, Path.unlink

    def ends_while_listed(path: Path) -> bool:
        linked = is_symlink(path)
        if path.name.startswith("task-b"):
            shutil.rmtree(path)
        return linked

    def ends_while_deleted(path: Path) -> None:
        unlink(path)
        shutil.rmtree(path.parent)

    monkeypatch.setattr(Path, "is_symlink", ends_while_listed)
    (found,) = await storage.stale(FUTURE)
    monkeypatch.setattr(Path, "unlink", ends_while_deleted)
    assert await storage.delete(found) == 3


async def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with LocalContentStore(tmp_path / "root").workspace() as workspace:
            await written(workspace, b"x")
            folder = only_in(tmp_path / "root")
            assert {mode(folder / name) for name in names(folder)} == {0o600}
            assert mode(folder) == mode(folder.parent) == 0o700
    finally:
        os.umask(before)


async def test_a_file_that_is_used_after_all_is_not_deleted(tmp_path: Path) -> None:
    storage = LocalContentStore(tmp_path)
    async with storage.workspace() as workspace:
        file = await workspace.create("a.png")
        folder = only_in(tmp_path)
        assert await storage.delete(StaleFile(f"{folder.name}/{file.key}", 0, FUTURE)) == 0
        assert file.key in names(folder)


def has_file(root: Path) -> bool:
    return any(root.glob("task-*/*.png"))


@pytest.mark.process
async def test_the_lock_of_a_stopped_process_holds_and_dies_with_it(tmp_path: Path) -> None:
    process = worker(tmp_path, b"\x00", signal.SIGSTOP)
    storage = LocalContentStore(tmp_path)
    try:
        deadline = time.monotonic() + 30
        while not has_file(tmp_path):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert await storage.stale(FUTURE) == []
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    (found,) = await storage.stale(FUTURE)
    assert await storage.delete(found) >= 0
    assert names(tmp_path) == []


async def test_a_worker_killed_before_its_first_file_leaves_nothing_for_ever(
    tmp_path: Path,
) -> None:
    put_down([tmp_path / ("task-" + "d" * 32) / ".lock"])
    (found,) = await LocalContentStore(tmp_path).stale(FUTURE)
    await LocalContentStore(tmp_path).delete(found)
    assert names(tmp_path) == []


async def test_cleanups_beside_workers_take_nothing_from_them(tmp_path: Path) -> None:
    storage, ended = LocalContentStore(tmp_path), asyncio.Event()

    async def clean() -> None:
        while not ended.is_set():
            for file in await storage.stale(FUTURE):
                await storage.delete(file)

    async def work() -> None:
        for _ in range(60):
            async with storage.workspace() as workspace:
                files = [await written(workspace, b"x") for _ in range(3)]
                assert [await read(workspace, file) for file in files] == [b"x"] * 3

    cleaner = asyncio.create_task(clean())
    try:
        await asyncio.gather(*(work() for _ in range(3)))
    finally:
        ended.set()
        await cleaner


async def test_a_temp_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    storage = LocalContentStore(tmp_path / "deep" / "root")
    for _ in range(2):
        async with storage.workspace() as workspace:
            await written(workspace, b"x")
        shutil.rmtree(tmp_path / "deep")


async def test_a_folder_that_vanishes_under_a_task_is_no_room(tmp_path: Path) -> None:
    async with LocalContentStore(tmp_path / "root").workspace() as workspace:
        small, large = await written(workspace, b"x"), await written(workspace, b"x" * 100_000)
        shutil.rmtree(tmp_path / "root")
        with pytest.raises(NoRoomError, match=r"root.*No such file"):
            await workspace.create("b.png")
        with pytest.raises(NoRoomError, match="No such file"):
            await read(workspace, large)
        assert await read(workspace, small) == b"x"  # it is in memory too


async def test_a_temp_folder_that_cannot_be_made_is_no_room(tmp_path: Path) -> None:
    put_down([tmp_path / "file"])
    storage = LocalContentStore(tmp_path / "file" / "root")
    async with storage.workspace() as workspace:
        with pytest.raises(NoRoomError, match="Not a directory"):
            await workspace.create("a.png")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["write", "close"])
async def test_a_disk_that_takes_nothing_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    class FullFile:
        def write(self, piece: bytes) -> int:
            if call == "close":
                return len(piece)
            raise OSError(code, os.strerror(code))

        def close(self) -> None:
            raise OSError(code, os.strerror(code))

    async with LocalContentStore(tmp_path).workspace() as workspace:
        file = await workspace.create("a.png")
        getattr(file, "_file").close()  # noqa: B009 (of the adapter that is tested)
        monkeypatch.setattr(file, "_file", FullFile())
        with pytest.raises(NoRoomError, match=os.strerror(code)):
            await file.write(bytes(1_000_000)) if call == "write" else await file.close()
    assert names(tmp_path) == []


async def test_a_full_disk_is_no_room_until_there_is_some(small_disk: Path) -> None:
    storage = LocalContentStore(small_disk / "root")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    async with storage.workspace() as workspace:
        file = await workspace.create("a.png")
        with pytest.raises(NoRoomError, match="No space left"):
            await file.write(bytes(1_000_000))
    ballast.unlink()
    async with storage.workspace() as workspace:
        whole = await written(workspace, bytes(300_000))
        assert await read(workspace, whole) == bytes(300_000)
