"""Contract of the store of the pace: a file of this host, a database, memory."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from imgsync.adapters.sql.pace import DatabasePaces, FilePaces, pace_store
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.pace import PaceStore
from imgsync.testing import MemoryPaceStore, MemoryStore, PaceStoreContract
from tests.contracts.stores import SqlStore, sql_store

pytestmark = pytest.mark.database


class Folder:
    """A file of paces, and those that have it open."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "q.db-pace"
        self.opened: list[FilePaces] = []

    def open(self) -> FilePaces:
        self.opened.append(FilePaces(self.path))
        return self.opened[-1]

    def remove(self) -> None:
        self.path.unlink()

    def is_private(self) -> bool:
        return self.path.stat().st_mode & 0o077 == 0


class TestFilePaces(PaceStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Folder]:
        folder = Folder(tmp_path)
        yield folder
        for paces in folder.opened:
            await paces.close()

    async def another_process(self, store: Folder) -> PaceStore:
        return store.open()

    async def disable(self, store: Folder) -> None:
        store.remove()
        store.path.mkdir()

    async def test_a_file_that_was_removed_is_made_anew(self, store: Folder) -> None:
        paces = store.open()
        await paces.change("a", lambda _, _now: ("kept", None))
        store.remove()
        assert await paces.change("a", lambda text, _: ("new", text)) is None
        assert await store.open().change("a", lambda text, _: ("new", text)) == "new"
        assert store.is_private()

    @pytest.mark.parametrize("begin", [0, 4096])
    async def test_a_file_that_was_damaged_is_made_anew(self, store: Folder, begin: int) -> None:
        text = "a" * 9000  # on pages of its own
        await store.open().change("a", lambda _, _now: (text, None))
        await store.opened.pop().close()
        whole = store.path.read_bytes()
        store.path.write_bytes(whole[:begin] + bytes([0xA5]) * (len(whole) - begin))
        paces = [store.open(), store.open()]
        for one in paces:
            with contextlib.suppress(StoreError):
                await one.change("a", lambda text, _: ("new", text))
        for one in paces:
            assert await one.change("a", lambda text, _: ("new", text)) == "new"
        assert store.is_private()


class TestDatabasePaces(PaceStoreContract):
    @pytest.fixture
    def store(self, postgresql_url: str) -> Iterator[SqlStore]:
        with sql_store(postgresql_url) as store:
            yield store

    async def another_process(self, store: SqlStore) -> PaceStore:
        paces = pace_store(store.another_host())
        assert isinstance(paces, DatabasePaces)
        return paces

    async def disable(self, store: SqlStore) -> None:
        store.drop("paces")


class TestMemoryPaceStore(PaceStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    async def another_process(self, store: MemoryStore) -> PaceStore:
        return MemoryPaceStore(store)

    async def disable(self, store: MemoryStore) -> None:
        store.fault = StoreError("gone")
