"""Contract suites of the log of changes, and of what is saved before them."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from imgsync.domain.changes import (
    BackedUp,
    BackupError,
    Change,
    ChangeAction,
    ListedImage,
    NoBackupError,
    SavedImage,
)
from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import NoRoomError, StoreError
from imgsync.domain.ports.changes import BackupStore, ChangeLog
from imgsync.testing.contracts.contract import Contract, StoreT, TimedContract

_RUN = "20261124-120000-0001"
_BEFORE = (ListedImage("i1", "1.png", 100), ListedImage("i1", "1.png", 100))
_AFTER = (ListedImage("i2", "2.png", 0),)
_CHANGE = Change(
    _RUN,
    ChangeAction.SET,
    "main",
    EntityKey("child", "product", "c1"),
    "m1",
    "Lamp",
    _BEFORE,
    backup="/backup/here",
    entity_code="00017",
)


def _of(entity_id: str, **changes: Any) -> Change:
    return replace(_CHANGE, key=replace(_CHANGE.key, child_entity_id=entity_id), **changes)


class ChangeLogContract(TimedContract[StoreT]):
    """Proves a `ChangeLog`. A test class gives the fixture `store`, `changes` and `advance`;
    `disable` for the test that asks for it."""

    def changes(self, store: StoreT) -> ChangeLog:
        """To be overridden: the log of that store, as another host opens it."""
        raise NotImplementedError("the test class has no 'changes'")

    async def now(self, store: StoreT) -> datetime:
        """To be overridden: the store's time."""
        raise NotImplementedError("the test class has no 'now'")

    async def disable(self, store: StoreT) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    @pytest.fixture
    def log(self, store: StoreT) -> ChangeLog:
        return self.changes(store)

    @pytest.mark.parametrize("action", ChangeAction)
    @pytest.mark.parametrize("backup", [None, "/backup/here"])
    async def test_a_change_is_kept_whole(
        self, store: StoreT, log: ChangeLog, action: ChangeAction, backup: str | None
    ) -> None:
        change = replace(_CHANGE, action=action, backup=backup)
        change_id = await log.begin(replace(change, after=_AFTER, id=77))
        begun = await self.changes(store).get(change_id)
        assert begun is not None
        assert begun.changed_at == await self.now(store)
        assert replace(begun, id=0, changed_at=None) == change
        assert begun.id == change_id
        await log.finish(change_id, _AFTER)
        assert await self.changes(store).get(change_id) == replace(begun, after=_AFTER)

    async def test_a_list_that_was_emptied_is_known(self, log: ChangeLog) -> None:
        change_id = await log.begin(replace(_CHANGE, before=()))
        await log.finish(change_id, ())
        found = await log.get(change_id)
        assert found is not None
        assert (found.before, found.after) == ((), ())

    @pytest.mark.parametrize("name", ["a\x00b", "\ud800", "x\udc00", "\U0001f4a1", "\\u0000"])
    async def test_a_text_of_the_api_spoils_no_change(self, log: ChangeLog, name: str) -> None:
        images = (ListedImage("i1", name, 100),)
        change_id = await log.begin(
            replace(_CHANGE, entity_name=name, entity_code=name, before=images)
        )
        await log.finish(change_id, images)
        found = await log.get(change_id)
        assert found is not None
        assert (found.before, found.after) == (images, images)
        assert [c.id for c in await log.find(run=_RUN)] == [change_id]
        # Nor does one of a user spoil a question.
        assert await log.find(run=f"no {name}", child_account_id=name, entity=f"no {name}") == []

    async def test_the_newest_come_first(self, log: ChangeLog) -> None:
        ids = [await log.begin(_of(f"c{n}")) for n in range(5)]
        assert ids == sorted(set(ids))
        assert [c.id for c in await log.find()] == ids[::-1]
        assert [c.id for c in await log.find(limit=2)] == ids[:2:-1]
        assert [c.id for c in await log.find(before=ids[3], limit=2)] == [ids[2], ids[1]]

    async def test_those_of_a_run_a_child_and_an_entity_are_found(self, log: ChangeLog) -> None:
        one = await log.begin(_CHANGE)
        other_run = await log.begin(replace(_CHANGE, run="20261124-120000-0002"))
        other_child = await log.begin(
            replace(_CHANGE, key=replace(_CHANGE.key, child_account_id="other"))
        )
        other = await log.begin(_of("c2", main_entity_id="m2", entity_name="Desk"))
        unknown = _CHANGE.run[:-1]
        for given, found in (
            ({"run": _RUN}, [other, other_child, one]),
            ({"run": unknown}, []),
            ({"child_account_id": "child"}, [other, other_run, one]),
            ({"child_account_id": "child", "run": _RUN}, [other, one]),
            *(
                ({"child_account_id": "child", "entity": e}, [other_run, one])
                for e in ("Lamp", "m1", "c1")
            ),
            *(({"run": _RUN, "entity": e}, [other]) for e in ("Desk", "m2", "c2")),
            ({"entity": "Lam"}, []),
        ):
            options: dict[str, Any] = given
            assert [c.id for c in await log.find(**options)] == found

    async def test_what_is_kept_no_longer_is_not_there(self, log: ChangeLog) -> None:
        assert await log.get(12345) is None
        await log.finish(12345, _AFTER)
        assert await log.find() == []

    async def test_changes_are_pruned_by_age(self, store: StoreT, log: ChangeLog) -> None:
        old = [await log.begin(_of(f"c{n}")) for n in range(3)]
        await log.finish(old[0], _AFTER)
        await self.advance(store, timedelta(days=10))
        new = await log.begin(_of("c9"))
        assert await log.prune(timedelta(days=11)) == 0
        assert await log.prune(timedelta(days=9), limit=2) == 2
        assert [c.id for c in await log.find()] == [new, old[2]]
        assert await log.prune(timedelta(days=9)) == 1
        assert [c.id for c in await log.find()] == [new]
        later = await log.begin(_of("c9"))
        assert later > new

    async def test_changes_are_noted_side_by_side(self, store: StoreT) -> None:
        logs = [self.changes(store) for _ in range(2)]
        ids = await asyncio.gather(*(logs[n % 2].begin(_of(f"c{n}")) for n in range(20)))
        await asyncio.gather(*(logs[n % 2].finish(i, _AFTER) for n, i in enumerate(ids)))
        found = await logs[0].find(run=_RUN)
        assert {c.key.child_entity_id: c.id for c in found} == {
            f"c{n}": i for n, i in enumerate(ids)
        }
        assert {c.after for c in found} == {_AFTER}

    async def test_a_store_that_cannot_be_used_is_a_store_error(
        self, store: StoreT, log: ChangeLog
    ) -> None:
        await self.disable(store)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: log.begin(_CHANGE),
            lambda: log.finish(1, _AFTER),
            lambda: log.get(1),
            lambda: log.find(run=_RUN),
            lambda: log.prune(timedelta(days=1)),
        ]
        for call in calls:
            with pytest.raises((StoreError, NoRoomError)):
                await call()


_ENTITY = BackedUp(_RUN, "child", "Shop", _CHANGE.key, "m1", "Lamp")
_FILES = [("1.png", b"\x89PNG" * 100_000), ("../1.png", b""), ("1.png", b"no picture")]


class BackupStoreContract(Contract):
    """Proves a `BackupStore`. A test class gives the fixture `backups`, and `off`; `damage` and
    `fill` for the tests that ask for them."""

    @pytest.fixture
    def backups(self) -> Any:
        """To be overridden: an empty store that is on; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'backups'")

    def off(self, backups: BackupStore) -> BackupStore:
        """To be overridden: one that is not on, of a host that reaches what is saved in the
        other."""
        raise NotImplementedError("the test class has no 'off'")

    async def damage(self, backups: BackupStore, place: str, image: SavedImage) -> None:
        """Makes the file of a saved image one that begins as it was saved, and ends otherwise."""
        pytest.skip("the test class has no 'damage'")

    async def fill(self, backups: BackupStore) -> None:
        """Makes the store one in which nothing can be written."""
        pytest.skip("the test class has no 'fill'")

    async def test_what_was_saved_is_read(self, backups: BackupStore) -> None:
        assert backups.is_on
        place = await _save(backups, _FILES)
        assert await _read(backups, place) == _FILES
        images = await backups.images(place)
        assert [image.order for image in images] == [0, 1, 2]
        assert [i.sha256 for i in images] == [hashlib.sha256(c).hexdigest() for _, c in _FILES]
        assert len({image.file for image in images}) == 3

    async def test_another_host_finds_it(self, backups: BackupStore) -> None:
        place = await _save(backups, _FILES)
        assert await _read(self.off(backups), place) == _FILES

    async def test_a_file_is_read_before_the_end(self, backups: BackupStore) -> None:
        async with backups.begin(_ENTITY) as backup:
            file = await backup.create("1.png")
            await file.write(b"12")
            await file.write(b"345")
            await file.close()
            assert file.size == 5
            assert b"".join([chunk async for chunk in backup.read(file.key)]) == b"12345"

    async def test_one_file_may_be_discarded(self, backups: BackupStore) -> None:
        async with backups.begin(_ENTITY) as backup:
            cut = await backup.create("1.png")
            await cut.write(b"cut")
            await cut.discard()
            file = await backup.create("1.png")
            await file.write(b"whole")
            await file.close()
            sha256 = file.digest
            saved = [SavedImage(0, "i0", "1.png", 5, sha256, "now", file.key)]
            place = await backup.finish(saved)
        assert await _read(backups, place) == [("1.png", b"whole")]

    async def test_several_of_one_entity_are_apart(self, backups: BackupStore) -> None:
        files = [[("1.png", bytes([n]))] for n in range(6)]
        places = await asyncio.gather(*(_save(backups, of) for of in files))
        assert [await _read(backups, place) for place in places] == files

    async def test_where_it_is_not_on_it_saves_beside_another(self, backups: BackupStore) -> None:
        off = self.off(backups)
        assert not off.is_on
        with pytest.raises(BackupError):
            await _save(off, _FILES)
        place = await _save(backups, _FILES[:1])
        beside = await _save(off, _FILES, beside=place)
        assert await _read(backups, beside) == _FILES
        assert await _read(backups, place) == _FILES[:1]

    async def test_what_is_not_there_is_no_backup(self, backups: BackupStore) -> None:
        place = await _save(backups, _FILES)
        with pytest.raises(NoBackupError):
            await backups.images(f"{place}-9")

    async def test_another_content_is_no_backup(self, backups: BackupStore) -> None:
        place = await _save(backups, _FILES)
        await self.damage(backups, place, (await backups.images(place))[0])
        with pytest.raises(NoBackupError):
            await _read(backups, place)

    async def test_what_cannot_be_written_is_a_backup_error(self, backups: BackupStore) -> None:
        place = await _save(backups, _FILES[:1])
        await self.fill(backups)
        with pytest.raises(BackupError):
            await _save(backups, _FILES)
        assert await _read(backups, place) == _FILES[:1]


async def _save(
    backups: BackupStore, files: list[tuple[str, bytes]], beside: str | None = None
) -> str:
    async with backups.begin(_ENTITY, beside) as backup:
        saved = []
        for order, (filename, content) in enumerate(files):
            file = await backup.create(filename)
            await file.write(content)
            await file.close()
            sha256 = file.digest
            saved.append(
                SavedImage(order, f"i{order}", filename, len(content), sha256, "now", file.key)
            )
        return await backup.finish(saved)


async def _read(backups: BackupStore, place: str) -> list[tuple[str, bytes]]:
    return [
        (image.filename, b"".join([chunk async for chunk in backups.read(place, image)]))
        for image in await backups.images(place)
    ]
