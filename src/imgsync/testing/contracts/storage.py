"""The suite of the port `ContentStore`."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.model import ImageFingerprint
from imgsync.domain.ports.storage import (
    MAX_NOTE,
    ContentKey,
    ContentStore,
    SharedFile,
    StaleFile,
    TempFile,
    Turn,
    Workspace,
)
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


def _source(data: bytes, number: int = 0, account: str = "main") -> ContentKey:
    address = f"https://api.example/download/{number}"
    return ContentKey(account, address, ImageFingerprint(str(number), len(data), "2026-01-01"))


async def _share(
    workspace: Workspace, source: ContentKey, data: bytes, *, is_picture: bool = True
) -> str:
    """Shares it as a task does that fetched it; the key of the file."""
    assert await workspace.acquire(source) is Turn.OURS
    file = await _written(workspace, data)
    await workspace.share(source, file.key, is_picture=is_picture)
    return file.key


async def _shared(workspace: Workspace, source: ContentKey) -> bytes | Turn:
    """The bytes, as another task gets them."""
    found = await workspace.acquire(source)
    if isinstance(found, Turn):
        return found
    data = await _read(workspace, found.key)
    assert found.size == len(data)
    return data


class ContentStoreContract(Contract):
    """Proves a `ContentStore`. A test class gives the fixture `storage`; the other methods
    for the tests that ask for them."""

    @pytest.fixture
    def storage(self) -> Any:
        """To be overridden: a storage without any file; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'storage'")

    async def leave_behind(self, storage: ContentStore, data: bytes) -> None:
        """Leaves a file with these bytes as a worker does that is killed: one of its own
        workspace, closed."""
        pytest.skip("the test class has no 'leave_behind': no worker is killed")

    async def fill_up(self, storage: ContentStore) -> None:
        """Takes the room that is left for files."""
        pytest.skip("the test class has no 'fill_up': there is always room")

    async def limit(self, storage: ContentStore, max_bytes: int) -> ContentStore:
        """The store, or another one, which keeps so many bytes at most beyond what is in use."""
        pytest.skip("the test class has no 'limit': it cannot be set")

    async def damage(self, storage: ContentStore) -> None:
        """Changes one byte of every shared file, as a bad disk does."""
        pytest.skip("the test class has no 'damage': its store cannot be damaged")

    async def open_again(self, storage: ContentStore) -> ContentStore:
        """The same store as another process has it."""
        pytest.skip("the test class has no 'open_again': one process has the store alone")

    async def test_what_is_written_is_read(self, storage: ContentStore) -> None:
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

    async def test_small_chunks_make_a_whole_file(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            file = await workspace.create("a.png")
            for number in range(1000):
                await file.write(number.to_bytes(2, "big"))
            await file.write(b"")
            assert file.size == 2000
            await file.close()
            data = await _read(workspace, file.key)
            assert data == b"".join(number.to_bytes(2, "big") for number in range(1000))

    async def test_a_chunk_may_be_used_again_once_it_is_written(
        self, storage: ContentStore
    ) -> None:
        """As readers do that fill one buffer over and over."""
        async with storage.workspace() as workspace:
            file = await workspace.create("a.png")
            buffer = bytearray(b"first ")
            await file.write(memoryview(buffer))  # type: ignore[arg-type]
            buffer[:] = b"second"
            await file.write(memoryview(buffer))  # type: ignore[arg-type]
            await file.close()
            assert await _read(workspace, file.key) == b"first second"

    async def test_large_files_are_read_in_chunks(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x" * 1_000_000)
            sizes = [len(chunk) async for chunk in workspace.read(file.key)]
            assert max(sizes) < 500_000
            assert min(sizes) > 0

    async def test_an_empty_file_has_no_bytes(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"")
            assert await _read(workspace, file.key) == b""

    async def test_a_file_may_be_read_in_part(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x" * 1_000_000)
            async for chunk in workspace.read(file.key):
                assert set(chunk) == {ord("x")}
                break
            assert len(await _read(workspace, file.key)) == 1_000_000

    async def test_a_discarded_file_is_not_known_any_more(self, storage: ContentStore) -> None:
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
    async def test_names_never_become_paths(self, storage: ContentStore, name: str) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x", name)
            assert not set(file.key) & {"/", "\\", "\x00"}
            assert len(file.key) < 100
            assert not file.key.startswith(".")
            assert await _read(workspace, file.key) == b"x"

    async def test_of_a_name_only_the_suffix_is_used(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            keys = [(await workspace.create(name)).key for name in ("secret.JPG", "secret.png")]
            assert all("secret" not in key for key in keys)

    async def test_equal_names_do_not_meet(self, storage: ContentStore) -> None:
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

    async def test_files_are_written_side_by_side(self, storage: ContentStore) -> None:
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
    async def test_an_unknown_key_is_refused(self, storage: ContentStore, key: str) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"x")
            assert file.key != key
            with pytest.raises(KeyError):
                await _read(workspace, key)

    async def test_a_key_is_one_workspace_s_own(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _written(workspace, b"x")
            second = await _written(workspace, b"y")
            await _written(other, b"z")
            with pytest.raises(KeyError):
                await _read(other, second.key)

    async def test_leaving_a_workspace_deletes_its_files_even_after_an_error(
        self, storage: ContentStore
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

    async def test_a_cancelled_task_leaves_no_file(self, storage: ContentStore) -> None:
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

    async def test_workspaces_of_workers_that_live_are_counted(self, storage: ContentStore) -> None:
        assert await storage.live() == 0
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _written(workspace, b"x")
            await _written(other, b"x")
            assert await storage.live() == 2
        assert await storage.live() == 0

    async def test_files_of_a_worker_that_lives_are_not_left_over(
        self, storage: ContentStore
    ) -> None:
        async with storage.workspace() as workspace:
            file = await _written(workspace, b"12345")
            assert await storage.stale(_FUTURE) == []
            assert await _read(workspace, file.key) == b"12345"
        assert await storage.stale(_FUTURE) == []

    async def test_left_over_files_are_found_by_age_and_deleted(
        self, storage: ContentStore
    ) -> None:
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
    async def test_nothing_outside_is_deleted(self, storage: ContentStore, path: str) -> None:
        with pytest.raises(UnsafePathError):
            await storage.delete(StaleFile(path, 1, _FUTURE))

    async def test_without_room_nothing_is_written(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            await self.fill_up(storage)
            with pytest.raises(NoRoomError):
                await _written(workspace, os.urandom(2_000_000))

    async def test_what_one_task_shares_another_reads(self, storage: ContentStore) -> None:
        data = os.urandom(700_001)
        async with storage.workspace() as first:
            key = await _share(first, _source(data), data)
            assert await _read(first, key) == data
            async with storage.workspace() as second:
                assert await _shared(second, _source(data)) == data
        async with storage.workspace() as third:
            assert await _shared(third, _source(data)) == data

    @pytest.mark.parametrize("is_picture", [True, False])
    async def test_whether_it_is_a_picture_is_told_with_it(
        self, storage: ContentStore, is_picture: bool
    ) -> None:
        async with storage.workspace() as workspace:
            await _share(workspace, _source(b"x"), b"x", is_picture=is_picture)
            found = await workspace.acquire(_source(b"x"))
            assert isinstance(found, SharedFile)
            assert found.is_picture is is_picture

    async def test_every_part_of_the_source_counts(self, storage: ContentStore) -> None:
        source = _source(b"x")
        version = source.version
        others = [
            replace(source, account_id="another"),
            replace(source, address="https://elsewhere.example/download/0"),
            *(
                replace(source, version=replace(version, **changed))
                for changed in ({"id": "1"}, {"size": 2}, {"updated": "2026-01-02"})
            ),
        ]
        async with storage.workspace() as workspace:
            await _share(workspace, source, b"x")
            assert [await workspace.acquire(other) for other in others] == [Turn.OURS] * 5

    async def test_a_file_of_another_size_than_its_source_is_not_given(
        self, storage: ContentStore
    ) -> None:
        async with storage.workspace() as workspace:
            await _share(workspace, _source(b"four"), b"fours")
            assert await workspace.acquire(_source(b"four")) is Turn.OURS

    async def test_its_note_and_its_hash_come_with_it(self, storage: ContentStore) -> None:
        note = "jpg 4000 3000 и % \\ so on"
        async with storage.workspace() as workspace, storage.workspace() as other:
            assert await workspace.acquire(_source(b"x")) is Turn.OURS
            file = await _written(workspace, b"x")
            await workspace.share(_source(b"x"), file.key, is_picture=True, note=note)
            for space in (workspace, other):
                found = await space.acquire(_source(b"x"))
                assert isinstance(found, SharedFile)
                assert found.note == note
                assert found.digest in ("", sha256(b"x").hexdigest())
            await _share(workspace, _source(b"x", 1), b"x")
            found = await other.acquire(_source(b"x", 1))
            assert isinstance(found, SharedFile)
            assert found.note == ""

    async def test_the_longest_note_comes_back(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace:
            assert await workspace.acquire(_source(b"x")) is Turn.OURS
            file = await _written(workspace, b"x")
            note = "\N{CYRILLIC SMALL LETTER ZHE}" * MAX_NOTE
            await workspace.share(_source(b"x"), file.key, is_picture=True, note=note)
            found = await workspace.acquire(_source(b"x"))
            assert isinstance(found, SharedFile)
            assert found.note == note

    async def test_the_hash_of_a_file_is_that_of_its_bytes(self, storage: ContentStore) -> None:
        data = os.urandom(300_000)
        async with storage.workspace() as workspace:
            file = await workspace.create("a.png")
            await file.write(data)
            with pytest.raises(ValueError, match="not closed"):
                _ = file.digest
            await file.close()
            assert file.digest == sha256(data).hexdigest()

    async def test_what_was_made_is_found_by_how_it_was_made(self, storage: ContentStore) -> None:
        """Of whatever size it came to be."""
        digest = sha256(b"main's").hexdigest()
        source = ContentKey.made_of("main", digest, 6, "side=800")
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _share(workspace, source, b"made")
            assert await _shared(other, source) == b"made"
            for another in (
                ContentKey.made_of("main", digest, 6, "side=900"),
                ContentKey.made_of("main", digest[::-1], 6, "side=800"),
                ContentKey.made_of("another", digest, 6, "side=800"),
                ContentKey.made_of("main", digest, 6, ""),
            ):
                assert await other.acquire(another) is Turn.OURS

    async def test_each_time_it_has_a_key_of_its_own(self, storage: ContentStore) -> None:
        """One image may stand twice on an entity."""
        async with storage.workspace() as workspace:
            keys = {await _share(workspace, _source(b"x"), b"x")}
            for _ in range(3):
                found = await workspace.acquire(_source(b"x"))
                assert isinstance(found, SharedFile)
                keys.add(found.key)
            assert len(keys) == 4
            assert [await _read(workspace, key) for key in keys] == [b"x"] * 4

    async def test_one_fetches_while_the_others_wait(self, storage: ContentStore) -> None:
        source = _source(b"x")
        async with storage.workspace() as first, storage.workspace() as second:
            assert await first.acquire(source) is Turn.OURS
            assert await second.acquire(source) is Turn.THEIRS
            assert await first.acquire(source) is Turn.THEIRS
            assert await second.acquire(_source(b"y", 1)) is Turn.OURS
            file = await _written(first, b"x")
            assert await second.acquire(source) is Turn.THEIRS
            await first.share(source, file.key, is_picture=True)
            assert await _shared(second, source) == b"x"

    async def test_of_many_at_once_one_has_the_turn(self, storage: ContentStore) -> None:
        async with AsyncExitStack() as stack:
            spaces = [await stack.enter_async_context(storage.workspace()) for _ in range(8)]
            given = await asyncio.gather(*(space.acquire(_source(b"x")) for space in spaces))
            assert sorted(turn.name for turn in given if isinstance(turn, Turn)) == [
                "OURS",
                *["THEIRS"] * 7,
            ]

    async def test_a_turn_that_is_passed_is_another_s(self, storage: ContentStore) -> None:
        source = _source(b"x")
        async with storage.workspace() as first, storage.workspace() as second:
            assert await first.acquire(source) is Turn.OURS
            await second.pass_turn(source)  # which is not its own
            assert await second.acquire(source) is Turn.THEIRS
            await first.pass_turn(source)
            await first.pass_turn(source)
            assert await second.acquire(source) is Turn.OURS

    async def test_a_workspace_that_is_left_passes_its_turns(self, storage: ContentStore) -> None:
        async with storage.workspace() as first:
            assert await first.acquire(_source(b"x")) is Turn.OURS
        async with storage.workspace() as second:
            assert await second.acquire(_source(b"x")) is Turn.OURS

    async def test_a_half_written_file_is_never_seen(self, storage: ContentStore) -> None:
        source = _source(b"half")
        async with storage.workspace() as first, storage.workspace() as second:
            assert await first.acquire(source) is Turn.OURS
            file = await first.create("a.png")
            await file.write(b"half")
            with pytest.raises(ValueError, match="not closed"):
                await first.share(source, file.key, is_picture=True)
            with pytest.raises(KeyError):
                await first.share(source, "nothing", is_picture=True)
            await first.pass_turn(source)
            assert await second.acquire(source) is Turn.OURS

    async def test_whoever_lost_the_turn_may_share_all_the_same(
        self, storage: ContentStore
    ) -> None:
        source = _source(b"x")
        async with storage.workspace() as first, storage.workspace() as second:
            assert await first.acquire(source) is Turn.OURS
            file = await _written(second, b"x")
            await second.share(source, file.key, is_picture=True)
            assert await _shared(second, source) == b"x"
            file = await _written(first, b"x")
            await first.share(source, file.key, is_picture=True)
            assert await _shared(second, source) == b"x"

    async def test_equal_bytes_of_two_sources_are_given_for_each(
        self, storage: ContentStore
    ) -> None:
        async with storage.workspace() as workspace:
            for account in ("main", "another"):
                await _share(workspace, _source(b"x", account=account), b"x")
            for account in ("main", "another"):
                assert await _shared(workspace, _source(b"x", account=account)) == b"x"

    async def test_files_that_are_not_shared_are_nobody_else_s(self, storage: ContentStore) -> None:
        async with storage.workspace() as workspace, storage.workspace() as other:
            file = await _written(workspace, b"x")
            with pytest.raises(KeyError):
                await _read(other, file.key)
            found = await workspace.acquire(_source(b"x"))
            assert found is Turn.OURS

    async def test_another_process_shares_the_store(self, storage: ContentStore) -> None:
        again = await self.open_again(storage)
        source, data = _source(b"x" * 1000), b"x" * 1000
        async with storage.workspace() as first, again.workspace() as second:
            assert await first.acquire(source) is Turn.OURS
            assert await second.acquire(source) is Turn.THEIRS
            file = await _written(first, data)
            await first.share(source, file.key, is_picture=True)
            assert await _shared(second, source) == data

    async def test_damage_is_noticed_and_the_file_fetched_anew(self, storage: ContentStore) -> None:
        data = os.urandom(300_000)
        source = _source(data)
        async with storage.workspace() as workspace:
            await _share(workspace, source, data)
        await self.damage(storage)
        async with storage.workspace() as workspace, storage.workspace() as other:
            await _share(workspace, source, data)
            assert await _shared(other, source) == data

    async def test_the_least_recently_used_go_first(self, storage: ContentStore) -> None:
        storage = await self.limit(storage, 3000)
        contents = [bytes([number]) * 1000 for number in range(5)]
        for number in (0, 1):
            async with storage.workspace() as workspace:
                await _share(workspace, _source(contents[number], number), contents[number])
        async with storage.workspace() as workspace:
            assert await _shared(workspace, _source(contents[0], 0)) == contents[0]
        for number in (2, 3):
            async with storage.workspace() as workspace:
                await _share(workspace, _source(contents[number], number), contents[number])
        async with storage.workspace() as workspace:
            assert await workspace.acquire(_source(contents[1], 1)) is Turn.OURS
            assert await _shared(workspace, _source(contents[3], 3)) == contents[3]

    @pytest.mark.parametrize("max_bytes", [0, 1500])
    async def test_what_is_in_use_stays_over_any_limit(
        self, storage: ContentStore, max_bytes: int
    ) -> None:
        storage = await self.limit(storage, max_bytes)
        contents = [bytes([number]) * 1000 for number in range(4)]
        async with AsyncExitStack() as stack:
            spaces = [await stack.enter_async_context(storage.workspace()) for _ in contents]
            keys = []
            for number, (space, data) in enumerate(zip(spaces, contents, strict=True)):
                keys.append(await _share(space, _source(data, number), data))
            held = await spaces[0].acquire(_source(contents[3], 3))
            assert isinstance(held, SharedFile)
            for space, key, data in zip(spaces, keys, contents, strict=True):
                assert await _read(space, key) == data
            assert await _read(spaces[0], held.key) == contents[3]
        async with storage.workspace() as workspace:
            data = b"x" * 1000
            await _share(workspace, _source(data, 9), data)
            assert await workspace.acquire(_source(contents[0], 0)) is Turn.OURS

    async def test_shared_files_that_nobody_holds_are_cleaned_by_age(
        self, storage: ContentStore
    ) -> None:
        source = _source(b"12345")
        async with storage.workspace() as workspace:
            await _share(workspace, source, b"12345")
            assert await storage.stale(_FUTURE) == []
        assert await storage.stale(datetime.now(UTC) - timedelta(hours=1)) == []
        found = await storage.stale(_FUTURE)
        assert 5 in [file.size for file in found]
        async with storage.workspace() as workspace:
            assert await _shared(workspace, source) == b"12345"
            for file in found:
                if file.size == 5:  # used after all
                    assert await storage.delete(file) == 0
            assert await _shared(workspace, source) == b"12345"
        for file in await storage.stale(_FUTURE):
            assert await storage.delete(file) == file.size
        assert await storage.stale(_FUTURE) == []
        async with storage.workspace() as workspace:
            assert await workspace.acquire(source) is Turn.OURS
