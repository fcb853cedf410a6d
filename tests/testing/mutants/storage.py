"""Temp files in memory that break one sentence of their port each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import ClassVar

from imgsync.domain.errors import UnsafePathError
from imgsync.domain.ports.storage import StaleFile
from imgsync.testing import MemoryFileStorage, MemoryTempFile, MemoryWorkspace
from tests.testing.mutants.registry import mutant


class _OwnSpaces(MemoryFileStorage):
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
class KeepsFilesAfterAnError(MemoryFileStorage):
    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        name, workspace = self._new()
        self.workspaces[name] = workspace
        yield workspace
        del self.workspaces[name]


@mutant("test_leaving_a_workspace_deletes_its_files_even_after_an_error")
class LeavesAllBehind(MemoryFileStorage):
    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        async with super().workspace() as workspace:
            try:
                yield workspace
            finally:
                self.left_over[str(self.made)] = MemoryWorkspace(self, dict(workspace.files))


@mutant("test_equal_names_do_not_meet")
class OneWorkspaceForAll(MemoryFileStorage):
    def _new(self) -> tuple[str, MemoryWorkspace]:
        name, workspace = super()._new()
        for other in self.workspaces.values():
            workspace.files = other.files
        return name, workspace


@mutant("test_workspaces_of_workers_that_live_are_counted")
class CountsAllEverMade(MemoryFileStorage):
    async def live(self) -> int:
        return self.made


@mutant("test_files_of_a_worker_that_lives_are_not_left_over")
class TakesFromTheLiving(MemoryFileStorage):
    async def stale(self, before: datetime) -> list[StaleFile]:
        kept, self.left_over = self.left_over, {**self.left_over, **self.workspaces}
        try:
            return await super().stale(before)
        finally:
            self.left_over = kept


@mutant("test_left_over_files_are_found_by_age_and_deleted")
class StaleAtAnyAge(MemoryFileStorage):
    async def stale(self, before: datetime) -> list[StaleFile]:
        return await super().stale(datetime.max.replace(tzinfo=before.tzinfo))


@mutant("test_left_over_files_are_found_by_age_and_deleted")
class FreesNothing(MemoryFileStorage):
    async def delete(self, file: StaleFile) -> int:
        await super().delete(file)
        return 0


@mutant("test_nothing_outside_is_deleted")
class AnywhereIsFine(MemoryFileStorage):
    async def delete(self, file: StaleFile) -> int:
        try:
            return await super().delete(file)
        except UnsafePathError:
            return 0


@mutant("test_without_room_nothing_is_written")
class NoRoomIsNoMatter(MemoryFileStorage):
    def check_room(self, size: int) -> None:
        return
