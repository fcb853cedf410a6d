"""Logs of changes, and stores of backups, that break one sentence of their port each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from imgsync.domain.changes import BackedUp, BackupError, Change, ListedImage, SavedImage
from imgsync.domain.errors import StoreError
from imgsync.testing import MemoryBackups, MemoryChanges
from imgsync.testing.memory import MemoryBackup
from tests.testing.mutants.registry import mutant


@mutant("test_a_change_is_kept_whole")
class ForgetsTheBackup(MemoryChanges):
    async def begin(self, change: Change) -> int:
        return await super().begin(replace(change, backup=None))


@mutant("test_a_change_is_kept_whole")
class BelievesWhatIsGiven(MemoryChanges):
    async def begin(self, change: Change) -> int:
        change_id = await super().begin(change)
        self.store.changes[change_id] = replace(self.store.changes[change_id], after=change.after)
        return change_id


@mutant("test_a_change_is_kept_whole")
class KnowsNoTime(MemoryChanges):
    async def get(self, change_id: int) -> Change | None:
        change = await super().get(change_id)
        return None if change is None else replace(change, changed_at=None)


@mutant("test_a_list_that_was_emptied_is_known")
class EmptyIsUnknown(MemoryChanges):
    async def finish(self, change_id: int, after: Sequence[ListedImage]) -> None:
        if after:
            await super().finish(change_id, after)


@mutant("test_a_text_of_the_api_spoils_no_change")
class SpoiltByText(MemoryChanges):
    async def begin(self, change: Change) -> int:
        images = tuple(
            replace(i, filename=i.filename.encode("utf-8", "replace").decode())
            for i in change.before
        )
        return await super().begin(replace(change, before=images))


@mutant("test_the_newest_come_first")
class OldestChangesFirst(MemoryChanges):
    async def find(self, **which: Any) -> list[Change]:
        return (await super().find(**which))[::-1]


@mutant("test_the_newest_come_first")
class HeedsNoPage(MemoryChanges):
    async def find(self, *, before: int | None = None, **which: Any) -> list[Change]:
        return await super().find(**which)


@mutant("test_those_of_a_run_a_child_and_an_entity_are_found")
class FindsByTheBeginning(MemoryChanges):
    async def find(self, *, run: str | None = None, **which: Any) -> list[Change]:
        found = await super().find(**which)
        return [c for c in found if c.run.startswith(run or "")]


@mutant("test_those_of_a_run_a_child_and_an_entity_are_found")
class KnowsEntitiesByNameOnly(MemoryChanges):
    async def find(self, *, entity: str | None = None, **which: Any) -> list[Change]:
        found = await super().find(**which)
        return [c for c in found if entity in (None, c.entity_name)]


@mutant("test_what_is_kept_no_longer_is_not_there")
class FinishMakesIt(MemoryChanges):
    async def finish(self, change_id: int, after: Sequence[ListedImage]) -> None:
        change = self.store.changes[change_id]
        await super().finish(change.id, after)


@mutant("test_changes_are_pruned_by_age")
class PrunesAll(MemoryChanges):
    async def prune(self, older: timedelta, limit: int = 500) -> int:
        return await super().prune(older)


@mutant("test_changes_are_pruned_by_age")
class PrunesWhatIsFinishedOnly(MemoryChanges):
    async def prune(self, older: timedelta, limit: int = 500) -> int:
        begun = {i: c for i, c in self.store.changes.items() if c.after is None}
        gone = await super().prune(older, limit)
        self.store.changes = dict(sorted((self.store.changes | begun).items()))
        return gone


@mutant("test_changes_are_noted_side_by_side")
class NotesTheLast(MemoryChanges):
    async def begin(self, change: Change) -> int:
        change_id = self.store.last_id + 1
        moment = await self.store.now()
        self.store.last_id = change_id
        self.store.changes[change_id] = replace(change, id=change_id, changed_at=moment)
        return change_id


@mutant("test_a_store_that_cannot_be_used_is_a_store_error")
class NoChangeAtAFault(MemoryChanges):
    async def get(self, change_id: int) -> Change | None:
        try:
            return await super().get(change_id)
        except StoreError:
            return None


@mutant("test_what_was_saved_is_read")
class SavesTheFirst(MemoryBackups):
    async def images(self, place: str) -> list[SavedImage]:
        return (await super().images(place))[:1]


@mutant("test_several_of_one_entity_are_apart")
class OnePlaceForAll(MemoryBackups):
    @asynccontextmanager
    async def begin(
        self, entity: BackedUp, beside: str | None = None
    ) -> AsyncIterator[MemoryBackup]:
        async with super().begin(entity, beside) as backup:
            backup._place = entity.run
            yield backup


@mutant("test_where_it_is_not_on_it_saves_beside_another")
class SavesNowhere(MemoryBackups):
    @asynccontextmanager
    async def begin(
        self, entity: BackedUp, beside: str | None = None
    ) -> AsyncIterator[MemoryBackup]:
        if not self.is_on:
            raise BackupError("off")
        async with super().begin(entity, beside) as backup:
            yield backup


@mutant("test_what_is_not_there_is_no_backup")
class NothingIsABackup(MemoryBackups):
    async def images(self, place: str) -> list[SavedImage]:
        return await super().images(place) if place in self.saved else []


@mutant("test_another_content_is_no_backup")
class ReadsAnything(MemoryBackups):
    async def read(self, place: str, image: SavedImage) -> AsyncIterator[bytes]:
        await self.images(place)
        yield self.saved[place][2][image.file]


@mutant("test_what_cannot_be_written_is_a_backup_error")
class FullIsNoMatter(MemoryBackups):
    def check_room(self) -> None:
        return
