"""Temp files in memory that break one sentence of their port each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar

from imgsync.domain.errors import UnsafePathError
from imgsync.domain.ports.storage import ContentKey, SharedFile, StaleFile, Turn
from imgsync.testing import MemoryContentStore, MemoryTempFile, MemoryWorkspace
from tests.testing.mutants.registry import mutant

_FIRST = datetime(2020, 1, 1, tzinfo=UTC)


class _OwnSpaces(MemoryContentStore):
    """Gives workspaces of another class."""

    space: ClassVar[type[MemoryWorkspace]]

    def _new(self) -> tuple[str, MemoryWorkspace]:
        name, _ = super()._new()
        return name, self.space(self)


def of_spaces(test: str, space: type[MemoryWorkspace]) -> None:
    mutant(test)(type(f"Of{space.__name__}", (_OwnSpaces,), {"space": space}))


class OneChunk(MemoryWorkspace):
    async def read(self, key: str) -> AsyncIterator[bytes]:
        yield b"".join([chunk async for chunk in super().read(key)])


class NothingForUnknown(MemoryWorkspace):
    async def read(self, key: str) -> AsyncIterator[bytes]:
        if key in self.files:
            async for chunk in super().read(key):
                yield chunk


class NamesBecomeKeys(MemoryWorkspace):
    async def create(self, filename: str) -> MemoryTempFile:
        file = await super().create(filename)
        del self.files[file.key]
        file.key = f"{self.made}-{filename}"
        self.files[file.key] = file
        return file


class KeysComeAgain(MemoryWorkspace):
    async def create(self, filename: str) -> MemoryTempFile:
        self.made = len(self.files)
        return await super().create(filename)


class KeepsTheDiscarded(MemoryWorkspace):
    async def create(self, filename: str) -> MemoryTempFile:
        class Kept(MemoryTempFile):
            async def discard(self) -> None:
                await self.close()

        file = await super().create(filename)
        self.files[file.key] = file = Kept(file.key, self)
        return file


class HoldsTheChunk(MemoryWorkspace):
    async def create(self, filename: str) -> MemoryTempFile:
        class Held(MemoryTempFile):
            held: bytes = b""

            async def write(self, chunk: bytes) -> None:
                held, self.held = self.held, chunk
                await super().write(held)

            async def close(self) -> None:
                await super().write(self.held)
                await super().close()

        file = await super().create(filename)
        self.files[file.key] = file = Held(file.key, self)
        return file


of_spaces("test_large_files_are_read_in_chunks", OneChunk)
of_spaces("test_an_unknown_key_is_refused", NothingForUnknown)
of_spaces("test_of_a_name_only_the_suffix_is_used", NamesBecomeKeys)
of_spaces("test_a_discarded_file_is_not_known_any_more", KeysComeAgain)
of_spaces("test_a_discarded_file_is_not_known_any_more", KeepsTheDiscarded)
of_spaces("test_a_chunk_may_be_used_again_once_it_is_written", HoldsTheChunk)


@mutant("test_leaving_a_workspace_deletes_its_files_even_after_an_error")
class KeepsFilesAfterAnError(MemoryContentStore):
    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        name, workspace = self._new()
        self.workspaces[name] = workspace
        yield workspace
        del self.workspaces[name]


@mutant("test_leaving_a_workspace_deletes_its_files_even_after_an_error")
class LeavesAllBehind(MemoryContentStore):
    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        async with super().workspace() as workspace:
            try:
                yield workspace
            finally:
                self.left_over[str(self.made)] = MemoryWorkspace(self, dict(workspace.files))


@mutant("test_equal_names_do_not_meet")
class OneWorkspaceForAll(MemoryContentStore):
    def _new(self) -> tuple[str, MemoryWorkspace]:
        name, workspace = super()._new()
        for other in self.workspaces.values():
            workspace.files = other.files
        return name, workspace


@mutant("test_workspaces_of_workers_that_live_are_counted")
class CountsAllEverMade(MemoryContentStore):
    async def live(self) -> int:
        return self.made


@mutant("test_files_of_a_worker_that_lives_are_not_left_over")
class TakesFromTheLiving(MemoryContentStore):
    async def stale(self, before: datetime) -> list[StaleFile]:
        kept, self.left_over = self.left_over, {**self.left_over, **self.workspaces}
        try:
            return await super().stale(before)
        finally:
            self.left_over = kept


@mutant("test_left_over_files_are_found_by_age_and_deleted")
class StaleAtAnyAge(MemoryContentStore):
    async def stale(self, before: datetime) -> list[StaleFile]:
        return await super().stale(datetime.max.replace(tzinfo=before.tzinfo))


@mutant("test_left_over_files_are_found_by_age_and_deleted")
class FreesNothing(MemoryContentStore):
    async def delete(self, file: StaleFile) -> int:
        await super().delete(file)
        return 0


@mutant("test_nothing_outside_is_deleted")
class AnywhereIsFine(MemoryContentStore):
    async def delete(self, file: StaleFile) -> int:
        try:
            return await super().delete(file)
        except UnsafePathError:
            return 0


@mutant("test_without_room_nothing_is_written")
class NoRoomIsNoMatter(MemoryContentStore):
    def check_room(self, size: int) -> None:
        return


class SharesTheHalfWritten(MemoryWorkspace):
    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        if key in self.files:
            self.files[key].closed = True
        await super().share(source, key, is_picture=is_picture, note=note)


class EveryTurnIsOurs(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        return Turn.OURS if found is Turn.THEIRS else found


class LooksBeforeItTakesTheTurn(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        taken = source in self.storage.turns
        found = await super().acquire(source)
        return found if taken or isinstance(found, SharedFile) else Turn.OURS


class KeepsTheTurn(MemoryWorkspace):
    async def pass_turn(self, source: ContentKey) -> None:
        return


class PassesAnothersTurn(MemoryWorkspace):
    async def pass_turn(self, source: ContentKey) -> None:
        self.storage.turns.pop(source, None)


class KeepsTurnsAfterItsEnd(MemoryWorkspace):
    def leave(self) -> None:
        turns = dict(self.storage.turns)
        super().leave()
        self.storage.turns.update(turns)


class OneKeyForOneFile(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        if not isinstance(found, SharedFile):
            return found
        self.held["one"] = self.held.pop(found.key)
        return SharedFile("one", found.size, found.is_picture, found.note, found.digest)


class EverythingIsAPicture(MemoryWorkspace):
    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        await super().share(source, key, is_picture=True, note=note)


class AnyUpdatedWillDo(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        return await super().acquire(_ageless(source))

    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        await super().share(_ageless(source), key, is_picture=is_picture, note=note)


class OnlyWhoHasTheTurnShares(MemoryWorkspace):
    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        if self.storage.turns.get(source) is self:
            await super().share(source, key, is_picture=is_picture, note=note)


class TheFileGoesWhenItIsShared(MemoryWorkspace):
    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        await super().share(source, key, is_picture=is_picture, note=note)
        self.held.pop(key, None)


class ForgetsTheNote(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        return replace(found, note="") if isinstance(found, SharedFile) else found


class CutsTheNote(MemoryWorkspace):
    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        await super().share(source, key, is_picture=is_picture, note=note[:255])


class OneNoteForEqualBytes(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        first = next(iter(self.storage.notes.values()), "")
        return replace(found, note=first) if isinstance(found, SharedFile) else found


class HashOfNothing(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        return replace(found, digest="0" * 64) if isinstance(found, SharedFile) else found


class AnyWayOfMakingWillDo(MemoryWorkspace):
    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        return await super().acquire(replace(source, made="any"))

    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        made = replace(source, made="any")
        await super().share(made, key, is_picture=is_picture, note=note)


class HashesWhatIsNotClosed(MemoryTempFile):
    @property
    def digest(self) -> str:
        return sha256(self.data).hexdigest()


class _HashesAtAnyTime(MemoryWorkspace):
    async def create(self, filename: str) -> MemoryTempFile:
        file = await super().create(filename)
        self.files[file.key] = changed = HashesWhatIsNotClosed(file.key, self)
        return changed


def _ageless(source: ContentKey) -> ContentKey:
    return replace(source, version=replace(source.version, updated=""))


of_spaces("test_a_half_written_file_is_never_seen", SharesTheHalfWritten)
of_spaces("test_one_fetches_while_the_others_wait", EveryTurnIsOurs)
of_spaces("test_of_many_at_once_one_has_the_turn", LooksBeforeItTakesTheTurn)
of_spaces("test_a_turn_that_is_passed_is_another_s", KeepsTheTurn)
of_spaces("test_a_turn_that_is_passed_is_another_s", PassesAnothersTurn)
of_spaces("test_a_workspace_that_is_left_passes_its_turns", KeepsTurnsAfterItsEnd)
of_spaces("test_its_note_and_its_hash_come_with_it", ForgetsTheNote)
of_spaces("test_its_note_and_its_hash_come_with_it", OneNoteForEqualBytes)
of_spaces("test_its_note_and_its_hash_come_with_it", HashOfNothing)
of_spaces("test_the_longest_note_comes_back", CutsTheNote)
of_spaces("test_what_was_made_is_found_by_how_it_was_made", AnyWayOfMakingWillDo)
of_spaces("test_the_hash_of_a_file_is_that_of_its_bytes", _HashesAtAnyTime)
of_spaces("test_each_time_it_has_a_key_of_its_own", OneKeyForOneFile)
of_spaces("test_whether_it_is_a_picture_is_told_with_it", EverythingIsAPicture)
of_spaces("test_every_part_of_the_source_counts", AnyUpdatedWillDo)
of_spaces("test_whoever_lost_the_turn_may_share_all_the_same", OnlyWhoHasTheTurnShares)
of_spaces("test_what_one_task_shares_another_reads", TheFileGoesWhenItIsShared)


@mutant("test_damage_is_noticed_and_the_file_fetched_anew")
class TrustsTheDisk(MemoryContentStore):
    def intact(self, source: ContentKey) -> Any:
        return self.contents.get(source)


@mutant("test_a_file_of_another_size_than_its_source_is_not_given")
class TrustsTheSize(MemoryContentStore):
    def intact(self, source: ContentKey) -> Any:
        return self.contents.get(source)


@mutant("test_the_least_recently_used_go_first")
class KeepsEverything(MemoryContentStore):
    def evict(self, most: int | None = None) -> int:
        return 0


@mutant("test_the_least_recently_used_go_first")
class LastInFirstOut(MemoryContentStore):
    def evict(self, most: int | None = None) -> int:
        self._turn_back_time()
        try:
            return super().evict(most)
        finally:
            self._turn_back_time()

    def _turn_back_time(self) -> None:
        for content in self.contents.values():
            content.used = _FIRST - (content.used - _FIRST)


@mutant("test_what_is_in_use_stays_over_any_limit")
class TakesWhatIsInUse(MemoryContentStore):
    def evict(self, most: int | None = None) -> int:
        for content in self.contents.values():
            content.data.clear()
        return 0


@mutant("test_shared_files_that_nobody_holds_are_cleaned_by_age")
class CleansNothingShared(MemoryContentStore):
    async def stale(self, before: datetime) -> list[StaleFile]:
        return [f for f in await super().stale(before) if not f.path.startswith("content/")]


@mutant("test_files_that_are_not_shared_are_nobody_else_s")
class SharesWhateverItIsAsked(_OwnSpaces):
    class space(MemoryWorkspace):  # noqa: N801
        async def acquire(self, source: ContentKey) -> SharedFile | Turn:
            for key, file in self.files.items():
                return SharedFile(key, file.size, is_picture=True)
            return await super().acquire(source)


@mutant("test_equal_bytes_of_two_sources_are_given_for_each")
class OneSourceForOneContent(MemoryContentStore):
    def put(self, source: ContentKey, data: bytes, is_picture: bool) -> Any:
        for other in [s for s, c in self.contents.items() if bytes(c.data) == data]:
            del self.contents[other]
        return super().put(source, data, is_picture)
