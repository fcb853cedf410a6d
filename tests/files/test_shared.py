"""What the local disk asks of shared files beyond their port."""

import asyncio
import errno
import logging
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.files import local, shared
from imgsync.adapters.files.local import LocalContentStore
from imgsync.domain.errors import NoRoomError
from imgsync.domain.model import ImageFingerprint
from imgsync.domain.ports.storage import ContentKey, SharedFile, Turn, Workspace
from tests.files.test_beside_the_loop import slow
from tests.files.test_local import FUTURE, mode, put_down, read, written

pytestmark = pytest.mark.anyio
DATA = bytes(range(250)) * 4


def source(data: bytes = DATA, number: int = 1) -> ContentKey:
    version = ImageFingerprint(str(number), len(data), "now")
    return ContentKey("main", "https://api.example/download/1", version)


async def share(workspace: Workspace, data: bytes = DATA, number: int = 1) -> None:
    assert await workspace.acquire(source(data, number)) is Turn.OURS
    file = await written(workspace, data)
    await workspace.share(source(data, number), file.key, is_picture=True)


async def shared_in(store: LocalContentStore, data: bytes = DATA, number: int = 1) -> bytes | Turn:
    async with store.workspace() as workspace:
        found = await workspace.acquire(source(data, number))
        return await read(workspace, found) if isinstance(found, SharedFile) else found


def files(root: Path, kind: str) -> list[Path]:
    return [p for p in (root / "imgsync-content" / kind).rglob("*") if not p.is_dir()]


async def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with LocalContentStore(tmp_path / "root").workspace() as workspace:
            await share(workspace)
            assert await workspace.acquire(source(number=2)) is Turn.OURS
    finally:
        os.umask(before)
    paths = list((tmp_path / "root").rglob("*"))
    assert {mode(p) for p in paths if p.is_dir()} == {0o700}
    assert {mode(p) for p in paths if p.is_file()} == {0o600}


@pytest.mark.parametrize("made", ["open to all", "a link", "a file", "another user's"])
async def test_a_folder_that_others_may_fill_is_not_used(
    tmp_path: Path, made: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a common folder such as /tmp, anybody may have made it first."""
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        await share(workspace)
    if made == "another user's":
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(local, "_is_own_folder", lambda _: True)
    else:
        shutil.rmtree(tmp_path / "imgsync-content")
        make_foreign(tmp_path, made)
    before = paths_in(tmp_path)
    with caplog.at_level(logging.WARNING):
        async with store.workspace() as workspace:
            for _ in range(2):
                await share(workspace)
            await workspace.pass_turn(source())
        assert await store.stale(FUTURE) == []
    assert paths_in(tmp_path) == before
    (told,) = caplog.records
    assert "is not this user's alone and is left alone" in told.getMessage()


async def test_cleanups_leave_the_tasks_of_another_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / f"task-{'0' * 32}").mkdir()
    put_down([folder / "0000.png"])
    store = LocalContentStore(tmp_path)
    assert len(await store.stale(FUTURE)) == 1
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert await store.stale(FUTURE) == []
    assert await store.live() == 0


def paths_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def make_foreign(root: Path, made: str) -> None:
    folder = root / "imgsync-content"
    if made == "open to all":
        folder.mkdir()
        folder.chmod(0o777)
    elif made == "a link":
        (root / "elsewhere").mkdir()
        folder.symlink_to(root / "elsewhere")
    else:
        folder.touch()


@pytest.mark.parametrize(
    "text",
    ["", "../../../etc/passwd 1000 1\n", "x" * 64 + " 1000 1\n", "a" * 64 + " 1000 1\n", "\xff"],
)
async def test_an_index_that_makes_no_sense_leads_nowhere(tmp_path: Path, text: str) -> None:
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        await share(workspace)
    (index,) = files(tmp_path, "index")
    index.write_text(text, "latin-1")
    assert await shared_in(store) is Turn.OURS
    async with store.workspace() as workspace:
        await share(workspace)
    assert await shared_in(store) == DATA


@pytest.mark.parametrize("size", [0, 999, 1001])
async def test_a_file_that_lost_its_end_is_fetched_anew(tmp_path: Path, size: int) -> None:
    """As a computer leaves it that lost its power."""
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        await share(workspace)
    (content,) = files(tmp_path, "files")
    os.truncate(content, size)
    assert await shared_in(store) is Turn.OURS
    assert files(tmp_path, "files") == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.ENOTSUP])
async def test_a_disk_without_second_names_has_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuses)
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        await share(workspace)
        assert await shared_in(store) == DATA
    assert await shared_in(store) == DATA


async def test_what_cannot_be_shared_is_the_task_s_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        assert await workspace.acquire(source()) is Turn.OURS
        file = await written(workspace, DATA)
        monkeypatch.setattr(os, "link", refuses)
        with caplog.at_level(logging.WARNING):
            await workspace.share(source(), file.key, is_picture=True)
        assert await read(workspace, file) == DATA
        assert "could not be kept for others: [Errno 30] Read-only" in caplog.text
        assert await workspace.acquire(source()) is Turn.OURS


async def test_a_full_disk_takes_room_from_what_nobody_holds(small_disk: Path) -> None:
    store = LocalContentStore(small_disk / "root")
    for number in range(3):
        async with store.workspace() as workspace:
            await share(workspace, bytes([number]) * 250_000, number)
    async with store.workspace() as workspace:
        found = await workspace.acquire(source(bytes([0]) * 250_000, 0))
        assert isinstance(found, SharedFile)
        whole = await written(workspace, bytes(600_000))
        assert await read(workspace, whole) == bytes(600_000)
        assert await read(workspace, found) == bytes([0]) * 250_000
        with pytest.raises(NoRoomError, match="No space left"):
            await written(workspace, bytes(600_000))
    assert await shared_in(store, bytes([1]) * 250_000, 1) is Turn.OURS
    assert await shared_in(store, bytes([0]) * 250_000, 0) == bytes([0]) * 250_000


async def test_a_folder_that_vanishes_is_no_room_and_then_made_again(tmp_path: Path) -> None:
    store = LocalContentStore(tmp_path / "root")
    async with store.workspace() as workspace:
        await share(workspace)
        found = await workspace.acquire(source())
        assert isinstance(found, SharedFile)
        shutil.rmtree(tmp_path / "root")
        with pytest.raises(NoRoomError, match="No such file"):
            await read(workspace, found)
        assert await workspace.acquire(source()) is Turn.OURS
        with pytest.raises(NoRoomError, match="No such file"):
            await workspace.create("a.png")
    async with store.workspace() as workspace:
        await share(workspace)
    assert await shared_in(store) == DATA


@pytest.mark.slow
async def test_whoever_has_a_turn_shows_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_BEAT_SECONDS", 0.05)
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace, store.workspace() as other:
        assert await workspace.acquire(source()) is Turn.OURS
        (turn,) = files(tmp_path, "turns")
        os.utime(turn, (0, 0))
        await asyncio.sleep(0.5)
        assert await other.acquire(source()) is Turn.THEIRS


@pytest.mark.parametrize("at", [0, 4e9])
async def test_the_turn_of_one_that_stands_still_is_taken_and_not_ended_by_it(
    tmp_path: Path, at: float
) -> None:
    """Long ago, or in the future of a clock that was set back."""
    store = LocalContentStore(tmp_path)
    async with store.workspace() as still, store.workspace() as heir, store.workspace() as third:
        assert await still.acquire(source()) is Turn.OURS
        (turn,) = files(tmp_path, "turns")
        os.utime(turn, (at, at))
        assert await heir.acquire(source()) is Turn.OURS
        await still.pass_turn(source())
        assert await third.acquire(source()) is Turn.THEIRS
        file = await written(heir, DATA)
        await heir.share(source(), file.key, is_picture=True)
    assert await shared_in(store) == DATA
    assert files(tmp_path, "turns") == []


@pytest.mark.slow
async def test_a_task_that_is_cancelled_at_its_turn_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, take = LocalContentStore(tmp_path), slow(shared.SharedFolder.take_turn)
    monkeypatch.setattr(shared.SharedFolder, "take_turn", take)
    open_before = len(os.listdir("/proc/self/fd"))

    async def work() -> None:
        async with store.workspace() as workspace:
            await workspace.acquire(source())

    for _ in range(3):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.4)
    assert files(tmp_path, "turns") == []
    assert tasks(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= open_before


async def test_foreign_files_stay_and_hinder_no_cleanup(tmp_path: Path) -> None:
    store = LocalContentStore(tmp_path, 0)
    async with store.workspace() as workspace:
        await share(workspace)
        folders = [path.parent for kind in ("files", "index") for path in files(tmp_path, kind)]
    folders.append(tmp_path / "imgsync-content" / "turns")
    for folder in folders:
        put_down([folder / ".DS_Store"])
    for file in await store.stale(FUTURE):
        await store.delete(file)
    async with store.workspace() as workspace:
        await share(workspace, number=2)
    assert [path.name for path in files(tmp_path, ".") if path.name == ".DS_Store"] == [
        ".DS_Store"
    ] * 3


async def test_what_dead_workers_left_is_no_use_of_a_shared_file(tmp_path: Path) -> None:
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        await share(workspace)
        (folder,) = tasks(tmp_path)
        leave_a_name(folder, tmp_path / ("task-" + "a" * 32))
    found = await store.stale(FUTURE)
    assert sum(file.size for file in found if "index" not in file.path) == len(DATA)
    freed = [await store.delete(file) for file in found]
    assert freed[0] == 0  # it had another name
    assert files(tmp_path, "files") == []


def tasks(root: Path) -> list[Path]:
    return list(root.glob("task-*"))


def leave_a_name(folder: Path, dead: Path) -> None:
    """As the folder of a worker that was killed has it."""
    dead.mkdir()
    os.link(next(folder.glob("*.png")), dead / "0000.png")


async def test_cleanups_beside_workers_take_nothing_from_them(tmp_path: Path) -> None:
    store, ended = LocalContentStore(tmp_path, 2000), asyncio.Event()

    async def clean() -> None:
        while not ended.is_set():
            for file in await store.stale(datetime.now(UTC) + timedelta(days=1)):
                await store.delete(file)

    async def work(number: int) -> None:
        for turn in range(40):
            wanted = (number + turn) % 5
            async with store.workspace() as workspace:
                data = bytes([wanted]) * 1000
                found = await workspace.acquire(source(data, wanted))
                if found is Turn.OURS:
                    file = await written(workspace, data)
                    await workspace.share(source(data, wanted), file.key, is_picture=True)
                    assert await read(workspace, file) == data
                elif isinstance(found, SharedFile):
                    assert await read(workspace, found) == data

    cleaner = asyncio.create_task(clean())
    try:
        await asyncio.gather(*(work(number) for number in range(3)))
    finally:
        ended.set()
        await cleaner
    assert files(tmp_path, "turns") == []


@pytest.mark.parametrize(
    "note", ["", "jpg 4000 3000", "jpg 1 converted from GIF to JPEG", "a\nb", "\x00%20 %", "жук"]
)
def test_an_entry_of_the_index_is_one_line_whatever_is_told(note: str) -> None:
    entry = shared.Entry("0" * 64, 5, True, note)
    text = str(entry)
    assert text.isascii()
    assert text.count("\n") == 1
    assert shared.Entry.parsed(text) == entry


async def test_an_entry_of_an_earlier_version_has_no_note_and_is_read(tmp_path: Path) -> None:
    store = LocalContentStore(tmp_path)
    async with store.workspace() as workspace:
        assert await workspace.acquire(source()) is Turn.OURS
        file = await written(workspace, DATA)
        await workspace.share(source(), file.key, is_picture=True, note="jpg 1 1")
    (index,) = files(tmp_path, "index")
    index.write_text(" ".join(index.read_text().split()[:3]) + "\n")
    async with store.workspace() as workspace:
        found = await workspace.acquire(source())
        assert isinstance(found, SharedFile)
        assert (found.is_picture, found.note) == (True, "")


@pytest.mark.parametrize("text", ["a b", "é", " "])
async def test_a_note_that_was_damaged_is_no_entry(tmp_path: Path, text: str) -> None:
    async with LocalContentStore(tmp_path).workspace() as workspace:
        await share(workspace)
    (index,) = files(tmp_path, "index")
    index.write_text(index.read_text().strip() + f" {text}\n", "utf-8")
    assert await shared_in(LocalContentStore(tmp_path)) is Turn.OURS
