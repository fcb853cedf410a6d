"""Contract of the port ContentStore, on the local disk."""

from pathlib import Path

import pytest

from imgsync.adapters.files.local import LocalContentStore
from imgsync.domain.ports.storage import ContentStore
from imgsync.testing import ContentStoreContract
from tests.files.killed import leave_behind


class TestLocalContentStore(ContentStoreContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalContentStore:
        self.root = tmp_path / "root"
        return LocalContentStore(self.root)

    async def leave_behind(self, storage: ContentStore, data: bytes) -> None:
        leave_behind(self.root, data)

    async def limit(self, storage: ContentStore, max_bytes: int) -> ContentStore:
        return LocalContentStore(self.root, max_bytes)

    async def open_again(self, storage: ContentStore) -> ContentStore:
        return LocalContentStore(self.root)

    async def damage(self, storage: ContentStore) -> None:
        for path in self.root.glob("imgsync-content/files/*/*"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

    async def fill_up(self, storage: ContentStore) -> None:
        self.root.touch()  # no folder can be made there

    @pytest.mark.process
    async def test_left_over_files_are_found_by_age_and_deleted(
        self, storage: ContentStore
    ) -> None:
        await super().test_left_over_files_are_found_by_age_and_deleted(storage)
