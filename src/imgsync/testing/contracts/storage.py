"""The suite of the port `FileStorage`."""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.ports.storage import FileStorage, StaleFile, TempFile, Workspace
from imgsync.testing.contracts.contract import Contract

_FUTURE = datetime.now(UTC) + timedelta(days=1)
_HOSTILE = ["../../evil.png", "/etc/passwd", "..\\x.jpg", "a/b/c.png", "\x00.png", "", "x" * 500]
_OUTSIDE = ["../outside", "task-x/../../outside", "/etc/hostname", "outside", "", ".", ".."]


async def _written(workspace: Workspace, data: bytes, name: str = "a.png") -> TempFile:
    file = await workspace.create(name)
    await file.write(data)
    await file.close()
    return file


async def _read(workspace: Workspace, key: str) -> bytes:
    return b"".join([chunk async for chunk in workspace.read(key)])


class FileStorageContract(Contract):
    """Proves a `FileStorage`. A test class gives the fixture `storage`; `leave_behind` and
    `fill_up` for the tests that ask for them."""

    @pytest.fixture
    def storage(self) -> Any:
        """To be overridden: a storage without any file; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'storage'")

    async def leave_behind(self, storage: FileStorage, data: bytes) -> None:
        """Leaves a file with these bytes as a worker does that is killed: one of its own
        workspace, closed."""
        pytest.skip("the test class has no 'leave_behind': no worker is killed")

    async def fill_up(self, storage: FileStorage) -> None:
        """Takes the room that is left for files."""
        pytest.skip("the test class has no 'fill_up': there is always room")

    async def test_what_is_written_is_read(self, storage: FileStorage) -> None:
        data = os.urandom(700_001)
        async with storage.workspace() as workspace:
            file = await workspace.create("photo.JPG")
            assert file.size == 0
            for start in range(0, len(data), 65_536):
                await file.write(data[start : start + 65_536])
                assert file.size == min(len(data), start + 65_536)
            await file.close()
            assert file.size == len(data)
            assert await _read(workspace, file.key) == data
            assert await _read(workspace, file.key) == data

    async def test_small_chunks_make_a_whole_file(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            file = await workspace.create("a.png")
            for number in range(1000):
                await file.write(number.to_bytes(2, "big"))
            await file.write(b"")
            assert file.size == 2000
            await file.close()
            data = await _read(workspace, file.key)
            assert data == b"".join(number.to_bytes(2, "big") for number in range(1000))

    async def test_a_chunk_may_be_used_again_once_it_is_written(self, storage: FileStorage) -> None:
        """As readers do that fill one buffer over and over."""
        async with storage.workspace() as workspace:
            file = await workspace.create("a.png")
            buffer = bytearray(b"first ")
            await file.write(memoryview(buffer))  # type: ignore[arg-type]
            buffer[:] = b"second"
            await file.write(memoryview(buffer))  # type: ignore[arg-type]
            await file.close()
            assert await _read(workspace, file.key) == b"first second"

    async def test_large_files_are_read_in_chunks(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x" * 1_000_000)
            sizes = [len(chunk) async for chunk in workspace.read(file.key)]
            assert max(sizes) < 500_000
            assert min(sizes) > 0

    async def test_an_empty_file_has_no_bytes(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"")
            assert await _read(workspace, file.key) == b""

    async def test_a_file_may_be_read_in_part(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x" * 1_000_000)
            async for chunk in workspace.read(file.key):
                assert set(chunk) == {ord("x")}
                break
            assert len(await _read(workspace, file.key)) == 1_000_000

    async def test_a_discarded_file_is_not_known_any_more(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            half = await workspace.create("a.png")
            await half.write(b"half of the first try")
            await half.discard()
            whole = await _written(workspace, b"first")
            await whole.discard()
            second = await _written(workspace, b"second")
            assert len({half.key, whole.key, second.key}) == 3
            for file in (half, whole):
                with pytest.raises(KeyError):
                    await _read(workspace, file.key)
            assert await _read(workspace, second.key) == b"second"

    @pytest.mark.parametrize("name", _HOSTILE)
    async def test_names_never_become_paths(self, storage: FileStorage, name: str) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x", name)
            assert not set(file.key) & {"/", "\\", "\x00"}
            assert len(file.key) < 100
            assert not file.key.startswith(".")
            assert await _read(workspace, file.key) == b"x"

    async def test_of_a_name_only_the_suffix_is_used(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            keys = [(await workspace.create(name)).key for name in ("secret.JPG", "secret.png")]
            assert all("secret" not in key for key in keys)

    async def test_equal_names_do_not_meet(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace, storage.workspace() as other:
            files = [
                await workspace.create("a.png"),
                await workspace.create("a.png"),
                await other.create("a.png"),
            ]
            for number, file in enumerate(files):
                await file.write(bytes([number]))
            for file in files:
                await file.close()
            assert await _read(workspace, files[0].key) == b"\x00"
            assert await _read(workspace, files[1].key) == b"\x01"
            assert await _read(other, files[2].key) == b"\x02"

    async def test_files_are_written_side_by_side(self, storage: FileStorage) -> None:
        async def copy(workspace: Workspace, number: int) -> tuple[str, bytes]:
            file = await workspace.create(f"{number}.png")
            data = bytes([number]) * 100_000
            for start in range(0, len(data), 10_000):
                await file.write(data[start : start + 10_000])
            await file.close()
            return file.key, data

        async with AsyncExitStack() as stack:
            spaces = [await stack.enter_async_context(storage.workspace()) for _ in range(3)]
            written = await asyncio.gather(*(copy(spaces[n % 3], n) for n in range(12)))
            for number, (key, data) in enumerate(written):
                assert await _read(spaces[number % 3], key) == data

    @pytest.mark.parametrize("key", ["../0000.png", "0001.png", "", "nothing"])
    async def test_an_unknown_key_is_refused(self, storage: FileStorage, key: str) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x")
            assert file.key != key
            with pytest.raises(KeyError):
                await _read(workspace, key)

    async def test_a_key_is_one_workspace_s_own(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _written(workspace, b"x")
            second = await _written(workspace, b"y")
            await _written(other, b"z")
            with pytest.raises(KeyError):
                await _read(other, second.key)

    async def test_leaving_a_workspace_deletes_its_files_even_after_an_error(
        self, storage: FileStorage
    ) -> None:
        kept: list[tuple[Workspace, str]] = []

        async def fail_inside() -> None:
            async with storage.workspace() as workspace:
                kept.append((workspace, (await _written(workspace, b"x")).key))
                await (await workspace.create("b.png")).write(b"half")
                raise RuntimeError("the task failed")

        with pytest.raises(RuntimeError, match="the task failed"):
            await fail_inside()
        assert await storage.stale(_FUTURE) == []
        assert await storage.live() == 0
        ((workspace, key),) = kept
        with pytest.raises((KeyError, NoRoomError)):
            await _read(workspace, key)

    async def test_a_cancelled_task_leaves_no_file(self, storage: FileStorage) -> None:
        reached = asyncio.Event()

        async def stand() -> None:
            async with storage.workspace() as workspace:
                await _written(workspace, b"x")
                reached.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(stand())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await storage.live() == 0
        assert await storage.stale(_FUTURE) == []

    async def test_workspaces_of_workers_that_live_are_counted(self, storage: FileStorage) -> None:
        assert await storage.live() == 0
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _written(workspace, b"x")
            await _written(other, b"x")
            assert await storage.live() == 2
        assert await storage.live() == 0

    async def test_files_of_a_worker_that_lives_are_not_left_over(
        self, storage: FileStorage
    ) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"12345")
            assert await storage.stale(_FUTURE) == []
            assert await _read(workspace, file.key) == b"12345"
        assert await storage.stale(_FUTURE) == []

    async def test_left_over_files_are_found_by_age_and_deleted(self, storage: FileStorage) -> None:
        await self.leave_behind(storage, b"12345")
        await self.leave_behind(storage, b"123")
        assert await storage.stale(datetime.now(UTC) - timedelta(hours=1)) == []
        assert await storage.live() == 0
        found = await storage.stale(_FUTURE)
        assert sorted(file.size for file in found) == [3, 5]
        for file in found:
            assert abs(file.modified - datetime.now(UTC)) < timedelta(minutes=1)
            assert await storage.delete(file) == file.size
            assert await storage.delete(file) == 0
        assert await storage.stale(_FUTURE) == []

    @pytest.mark.parametrize("path", _OUTSIDE)
    async def test_nothing_outside_is_deleted(self, storage: FileStorage, path: str) -> None:
        with pytest.raises(UnsafePathError):
            await storage.delete(StaleFile(path, 1, _FUTURE))

    async def test_without_room_nothing_is_written(self, storage: FileStorage) -> None:
        async with storage.workspace() as workspace:
            await self.fill_up(storage)
            with pytest.raises(NoRoomError):
                await _written(workspace, os.urandom(2_000_000))
