"""Contract of the port FileStorage, on every adapter."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgsync.adapters.files.local import LocalFileStorage
from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.ports.storage import FileStorage, StaleFile
from tests.fakes.storage import MemoryFileStorage

FUTURE = datetime.now(UTC) + timedelta(days=1)
DIES = """
import os, signal, sys
from pathlib import Path
from imgsync.adapters.files.local import LocalFileStorage
with LocalFileStorage(Path(sys.argv[1])).workspace() as workspace:
    file = workspace.create("a.png")
    file.write(bytes.fromhex(sys.argv[2]))
    file.close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOSTILE = ["../../evil.png", "/etc/passwd", "..\\x.jpg", "a/b/c.png", "\x00.png", "", "x" * 500]


@pytest.fixture(params=["local", "memory"])
def make_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FileStorage]:
    if request.param == "local":
        return lambda: LocalFileStorage(tmp_path / "root")
    return MemoryFileStorage


@pytest.fixture
def storage(make_storage: Callable[[], FileStorage]) -> FileStorage:
    return make_storage()


def test_what_is_written_is_read(storage: FileStorage) -> None:
    data = os.urandom(700_001)
    with storage.workspace() as workspace:
        file = workspace.create("photo.JPG")
        for start in range(0, len(data), 65_536):
            file.write(data[start : start + 65_536])
        file.close()
        assert file.size == len(data)
        assert b"".join(workspace.read(file.key)) == data
        assert b"".join(workspace.read(file.key)) == data


def test_large_files_are_read_in_chunks(storage: FileStorage) -> None:
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        file.write(b"x" * 1_000_000)
        assert max(map(len, workspace.read(file.key))) < 500_000


def test_restart_empties_the_file(storage: FileStorage) -> None:
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        file.write(b"half of the first try")
        file.restart()
        assert file.size == 0
        file.write(b"second")
        assert b"".join(workspace.read(file.key)) == b"second"


def test_an_empty_file_has_no_chunks(storage: FileStorage) -> None:
    with storage.workspace() as workspace:
        assert list(workspace.read(workspace.create("a.png").key)) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_names_never_become_paths(storage: FileStorage, name: str) -> None:
    with storage.workspace() as workspace:
        key = workspace.create(name).key
        assert not set(key) & {"/", "\\", "\x00"}
        assert len(key) < 20
        assert not key.startswith(".")


def test_equal_names_do_not_meet(storage: FileStorage) -> None:
    with storage.workspace() as workspace, storage.workspace() as other:
        files = [workspace.create("a.png"), workspace.create("a.png"), other.create("a.png")]
        for number, file in enumerate(files):
            file.write(bytes([number]))
        read = [b"".join(workspace.read(f.key)) for f in files[:2]]
        assert read == [b"\x00", b"\x01"]
        assert b"".join(other.read(files[2].key)) == b"\x02"


def test_an_unknown_key_is_refused(storage: FileStorage) -> None:
    with storage.workspace() as workspace, pytest.raises(KeyError):
        workspace.read("../0000.png")


def test_leaving_a_workspace_deletes_its_files_even_after_an_error(storage: FileStorage) -> None:
    def fail_inside() -> None:
        with storage.workspace() as workspace:
            workspace.create("a.png").write(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert storage.stale(FUTURE) == []


def leave_behind(storage: FileStorage, tmp_path: Path, data: bytes) -> None:
    """What a worker that was killed leaves."""
    if isinstance(storage, MemoryFileStorage):
        storage.leave_behind(data)
        return
    killed = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path / "root"), data.hex()], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.process
def test_left_over_files_are_found_by_age_and_deleted(storage: FileStorage, tmp_path: Path) -> None:
    leave_behind(storage, tmp_path, b"12345")
    assert storage.stale(datetime.now(UTC) - timedelta(hours=1)) == []
    (found,) = storage.stale(FUTURE)
    assert found.size == 5
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert storage.delete(found) == 5
    assert storage.delete(found) == 0
    assert storage.stale(FUTURE) == []


def test_workspaces_of_workers_that_live_are_counted(
    make_storage: Callable[[], FileStorage],
) -> None:
    storage = make_storage()
    assert storage.live() == 0
    with storage.workspace() as workspace:
        workspace.create("a.png").close()
        assert storage.live() == 1
    assert storage.live() == 0


def test_files_of_a_worker_that_lives_are_not_left_over_whatever_their_age(
    storage: FileStorage, tmp_path: Path
) -> None:
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        file.write(b"12345")
        file.close()
        for path in (tmp_path / "root").glob("task-*/*"):
            os.utime(path, (0, 0))
        assert storage.stale(FUTURE) == []
        assert b"".join(workspace.read(file.key)) == b"12345"
    assert storage.stale(FUTURE) == []


@pytest.mark.parametrize("path", ["../outside", "task-x/../../outside", "/etc/hostname", "outside"])
def test_nothing_outside_is_deleted(storage: FileStorage, path: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"keep")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "outside").write_bytes(b"keep")
    with pytest.raises(UnsafePathError):
        storage.delete(StaleFile(path, 1, FUTURE))
    assert (tmp_path / "outside").exists()
    assert (tmp_path / "root" / "outside").exists()


def test_the_local_folder_is_private_and_foreign_files_stay(tmp_path: Path) -> None:
    root = tmp_path / "root"
    storage = LocalFileStorage(root)
    with storage.workspace() as workspace:
        workspace.create("a.png").close()
        assert root.stat().st_mode & 0o077 == 0
        (root / "task-note.txt").write_text("mine")
        (root / "other").mkdir()
        (root / "other" / "file").write_text("mine")
        (root / ("task-" + "0" * 32)).symlink_to(root / "other")
        assert storage.stale(FUTURE) == []


def test_deleting_the_last_file_of_a_dead_task_removes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("task-" + "a" * 32)
    folder.mkdir()
    (folder / "0000.png").write_bytes(b"xyz")
    storage = LocalFileStorage(tmp_path)
    (found,) = storage.stale(FUTURE)
    assert storage.delete(found) == 3
    assert not folder.exists()


def test_folders_of_tasks_are_private(tmp_path: Path) -> None:
    with LocalFileStorage(tmp_path).workspace() as workspace:
        workspace.create("a.png")
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0


def test_a_task_without_files_leaves_no_folder(tmp_path: Path) -> None:
    with LocalFileStorage(tmp_path).workspace():
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_deleted_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0000.png").write_bytes(b"keep")
    root = tmp_path / "root"
    root.mkdir()
    name = "task-" + "c" * 32
    (root / name).symlink_to(outside)
    with pytest.raises(UnsafePathError):
        LocalFileStorage(root).delete(StaleFile(f"{name}/0000.png", 4, FUTURE))
    with pytest.raises(UnsafePathError):
        LocalFileStorage(root).delete(StaleFile(f"{name}/..", 4, FUTURE))
    assert (outside / "0000.png").exists()


def test_a_worker_that_ends_during_a_cleanup_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter in "ab":
        folder = tmp_path / ("task-" + letter * 32)
        folder.mkdir()
        (folder / "0000.png").write_bytes(b"xyz")
    storage = LocalFileStorage(tmp_path)
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
    (found,) = storage.stale(FUTURE)
    monkeypatch.setattr(Path, "unlink", ends_while_deleted)
    assert storage.delete(found) == 3


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with LocalFileStorage(tmp_path / "root").workspace() as workspace:
            workspace.create("a.png").write(b"x")
            (folder,) = (tmp_path / "root").iterdir()
            modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
            assert modes == {0o600}
            assert folder.stat().st_mode & 0o777 == 0o700
            assert folder.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_file_that_is_used_after_all_is_not_deleted(tmp_path: Path) -> None:
    storage = LocalFileStorage(tmp_path)
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        (folder,) = tmp_path.iterdir()
        name = f"{folder.name}/{file.key}"
        assert storage.delete(StaleFile(name, 0, FUTURE)) == 0
        assert (tmp_path / name).exists()


@pytest.mark.process
def test_the_lock_of_a_stopped_process_holds_and_dies_with_it(tmp_path: Path) -> None:
    code = DIES.replace("SIGKILL", "SIGSTOP")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), "00"])
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("task-*/*.png")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert LocalFileStorage(tmp_path).stale(FUTURE) == []
    finally:
        process.kill()
        process.wait()
    (found,) = LocalFileStorage(tmp_path).stale(FUTURE)
    assert LocalFileStorage(tmp_path).delete(found) >= 0
    assert list(tmp_path.iterdir()) == []


def test_a_worker_killed_before_its_first_file_leaves_nothing_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / ("task-" + "d" * 32)
    folder.mkdir()
    (folder / ".lock").touch()
    (found,) = LocalFileStorage(tmp_path).stale(FUTURE)
    LocalFileStorage(tmp_path).delete(found)
    assert list(tmp_path.iterdir()) == []


def test_cleanups_beside_workers_take_nothing_from_them(tmp_path: Path) -> None:
    storage, stop, errors = LocalFileStorage(tmp_path), threading.Event(), list[BaseException]()

    def clean() -> None:
        while not stop.is_set():
            for file in storage.stale(FUTURE):
                storage.delete(file)

    def work() -> None:
        try:
            for _ in range(100):
                with storage.workspace() as workspace:
                    files = [workspace.create("a.png") for _ in range(3)]
                    for file in files:
                        file.write(b"x")
                    assert all(list(workspace.read(file.key)) == [b"x"] for file in files)
        except BaseException as error:
            errors.append(error)

    cleaner = threading.Thread(target=clean)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in (cleaner, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    cleaner.join()
    assert errors == []


def test_a_temp_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    storage = LocalFileStorage(tmp_path / "deep" / "root")
    for _ in range(2):
        with storage.workspace() as workspace:
            workspace.create("a.png").write(b"x")
        shutil.rmtree(tmp_path / "deep")


def test_a_folder_that_vanishes_under_a_task_is_no_room(tmp_path: Path) -> None:
    with LocalFileStorage(tmp_path / "root").workspace() as workspace:
        first = workspace.create("a.png")
        first.close()
        shutil.rmtree(tmp_path / "root")
        with pytest.raises(NoRoomError, match=r"root.*No such file"):
            workspace.create("b.png")
        with pytest.raises(NoRoomError, match="No such file"):
            list(workspace.read(first.key))


def test_a_temp_folder_that_cannot_be_made_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    storage = LocalFileStorage(tmp_path / "file" / "root")
    with storage.workspace() as workspace, pytest.raises(NoRoomError, match="Not a directory"):
        workspace.create("a.png")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["write", "close"])
def test_a_disk_that_takes_nothing_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    class FullFile:
        def write(self, _: bytes) -> int:
            raise OSError(code, os.strerror(code))

        def close(self) -> None:
            raise OSError(code, os.strerror(code))

    with LocalFileStorage(tmp_path).workspace() as workspace:
        file = workspace.create("a.png")
        file.close()
        monkeypatch.setattr(file, "_file", FullFile())
        with pytest.raises(NoRoomError, match=os.strerror(code)):
            file.write(b"x") if call == "write" else file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_room_until_there_is_some(small_disk: Path) -> None:
    storage = LocalFileStorage(small_disk / "root")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        with pytest.raises(NoRoomError, match="No space left"):
            file.write(bytes(1_000_000))
    ballast.unlink()
    with storage.workspace() as workspace:
        file = workspace.create("a.png")
        file.write(bytes(300_000))
        file.close()
        assert sum(map(len, workspace.read(file.key))) == 300_000
