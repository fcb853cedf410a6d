"""Contract of the port FileStorage, on the local disk."""

from pathlib import Path

import pytest

from imgsync.adapters.files.local import LocalFileStorage
from imgsync.domain.ports.storage import FileStorage
from imgsync.testing import FileStorageContract
from tests.files.killed import leave_behind


class TestLocalFileStorage(FileStorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalFileStorage:
        self.root = tmp_path / "root"
        return LocalFileStorage(self.root)

    async def leave_behind(self, storage: FileStorage, data: bytes) -> None:
        leave_behind(self.root, data)

    async def fill_up(self, storage: FileStorage) -> None:
        self.root.touch()  # no folder can be made there

    @pytest.mark.process
    async def test_left_over_files_are_found_by_age_and_deleted(self, storage: FileStorage) -> None:
        await super().test_left_over_files_are_found_by_age_and_deleted(storage)
