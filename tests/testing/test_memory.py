"""The adapters in memory pass the suites of their ports."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imgsync.domain.changes import SavedImage
from imgsync.domain.errors import StoreError
from imgsync.domain.model import Account, Identity, TokenKind
from imgsync.domain.ports.changes import BackupStore
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    SettingsRepository,
    SurveyRepository,
    SyncRecordRepository,
)
from imgsync.domain.ports.storage import ContentStore
from imgsync.domain.tasks import TaskId
from imgsync.testing import (
    AbilityRepositoryContract,
    AccountRepositoryContract,
    BackupStoreContract,
    ChangeLogContract,
    ContentStoreContract,
    FailedImagesContract,
    MemoryAbilities,
    MemoryAccounts,
    MemoryBackups,
    MemoryChanges,
    MemoryContentStore,
    MemoryFailedImages,
    MemoryMoySklad,
    MemoryMoySkladFactory,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemorySurveys,
    MemoryTaskQueue,
    MoySkladContract,
    SetClock,
    SettingsRepositoryContract,
    StoreClockContract,
    SurveyRepositoryContract,
    SyncRecordRepositoryContract,
    TaskQueueContract,
)
from imgsync.testing.moysklad import HOST

GONE = StoreError("The store is gone")


class TestMemoryTaskQueue(TaskQueueContract[MemoryStore]):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(SetClock())

    async def open(self, store: MemoryStore, kinds: Sequence[str]) -> MemoryTaskQueue:
        return MemoryTaskQueue(store, kinds)

    async def advance(self, store: MemoryStore, by: timedelta) -> None:
        assert isinstance(store.clock, SetClock)
        store.clock.advance(by)

    def accounts(self, store: MemoryStore) -> MemoryAccounts:
        return MemoryAccounts(store)

    async def damage(self, store: MemoryStore, task_id: TaskId) -> None:
        store.damage(task_id)

    async def disable(self, store: MemoryStore) -> None:
        store.fault = GONE


class TestMemoryAccounts(AccountRepositoryContract[MemoryStore]):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(SetClock())

    def accounts(self, store: MemoryStore) -> MemoryAccounts:
        return MemoryAccounts(store)

    async def now(self, store: MemoryStore) -> datetime:
        return store.clock.now()

    async def advance(self, store: MemoryStore, by: timedelta) -> None:
        assert isinstance(store.clock, SetClock)
        store.clock.advance(by)

    async def disable(self, store: MemoryStore) -> None:
        store.fault = GONE


class TestMemoryAccountsInRealTime(AccountRepositoryContract[MemoryStore]):
    real_time = True

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    def accounts(self, store: MemoryStore) -> MemoryAccounts:
        return MemoryAccounts(store)


class TestMemoryFailedImages(FailedImagesContract[MemoryStore]):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(SetClock())

    def failures(self, store: MemoryStore) -> MemoryFailedImages:
        return MemoryFailedImages(store)

    async def advance(self, store: MemoryStore, by: timedelta) -> None:
        assert isinstance(store.clock, SetClock)
        store.clock.advance(by)

    async def disable(self, store: MemoryStore) -> None:
        store.fault = GONE


class TestMemoryChanges(ChangeLogContract[MemoryStore]):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(SetClock())

    def changes(self, store: MemoryStore) -> MemoryChanges:
        return MemoryChanges(store)

    async def now(self, store: MemoryStore) -> datetime:
        return store.clock.now()

    async def advance(self, store: MemoryStore, by: timedelta) -> None:
        assert isinstance(store.clock, SetClock)
        store.clock.advance(by)

    async def disable(self, store: MemoryStore) -> None:
        store.fault = GONE


class TestMemoryBackups(BackupStoreContract):
    @pytest.fixture
    def backups(self) -> MemoryBackups:
        return MemoryBackups()

    def off(self, backups: BackupStore) -> MemoryBackups:
        assert isinstance(backups, MemoryBackups)
        return MemoryBackups(backups.saved, is_on=False)

    async def damage(self, backups: BackupStore, place: str, image: SavedImage) -> None:
        assert isinstance(backups, MemoryBackups)
        backups.saved[place][2][image.file] += b"x"

    async def fill(self, backups: BackupStore) -> None:
        assert isinstance(backups, MemoryBackups)
        backups.full = True


class TestMemorySurveys(SurveyRepositoryContract):
    @pytest.fixture
    def surveys(self) -> MemorySurveys:
        return MemorySurveys()

    async def disable(self, surveys: SurveyRepository) -> None:
        assert isinstance(surveys, MemorySurveys)
        surveys.store.fault = GONE


class TestMemoryAbilities(AbilityRepositoryContract):
    @pytest.fixture
    def abilities(self) -> MemoryAbilities:
        return MemoryAbilities()

    async def another_host(self, abilities: AbilityRepository) -> MemoryAbilities:
        assert isinstance(abilities, MemoryAbilities)
        return MemoryAbilities(abilities.store)

    async def disable(self, abilities: AbilityRepository) -> None:
        assert isinstance(abilities, MemoryAbilities)
        abilities.store.fault = GONE


class TestMemorySettings(SettingsRepositoryContract):
    @pytest.fixture
    def settings(self) -> MemorySettings:
        return MemorySettings()

    async def disable(self, settings: SettingsRepository) -> None:
        assert isinstance(settings, MemorySettings)
        settings.store.fault = GONE


class TestMemoryRecords(SyncRecordRepositoryContract):
    @pytest.fixture
    def records(self) -> MemoryRecords:
        return MemoryRecords()

    async def disable(self, records: SyncRecordRepository) -> None:
        assert isinstance(records, MemoryRecords)
        records.store.fault = GONE


class TestMemoryStoreClock(StoreClockContract):
    @pytest.fixture
    def clock(self) -> MemoryStoreClock:
        return MemoryStoreClock(MemoryStore())


class TestMemoryContentStore(ContentStoreContract):
    @pytest.fixture
    def storage(self) -> MemoryContentStore:
        return MemoryContentStore()

    async def leave_behind(self, storage: ContentStore, data: bytes) -> None:
        assert isinstance(storage, MemoryContentStore)
        storage.leave_behind(data)

    async def limit(self, storage: ContentStore, max_bytes: int) -> ContentStore:
        assert isinstance(storage, MemoryContentStore)
        return replace(storage, max_bytes=max_bytes)

    async def damage(self, storage: ContentStore) -> None:
        assert isinstance(storage, MemoryContentStore)
        for content in storage.contents.values():
            content.data[0] ^= 1

    async def fill_up(self, storage: ContentStore) -> None:
        assert isinstance(storage, MemoryContentStore)
        storage.room = 0


class MemoryBackend:
    """Implements `Backend`."""

    def __init__(self, shop: MemoryMoySklad) -> None:
        self.account = Account("main", "Shop", TokenKind.USER, "token")
        self._shop = shop
        shop.cdn = "cdn.invalid"
        identity = Identity("main", "Shop", TokenKind.USER)
        self.factory = MemoryMoySkladFactory({"main": self._shop}, {"token": identity})

    def add(
        self, kind: str, name: str, images: Sequence[tuple[str, bytes]] = (), **codes: str
    ) -> str:
        return self._shop.add(kind, name, images, **codes)

    def images(self, kind: str, entity_id: str) -> list[tuple[str, bytes]]:
        return self._shop.images(kind, entity_id)

    def unknown_image_href(self, kind: str, entity_id: str) -> str:
        return f"{HOST}/entity/{kind}/{entity_id}/images/unknown"

    def unknown_download_href(self) -> str:
        return f"{HOST}/download/unknown"

    def requests(self) -> None:
        return None


class TestMemoryMoySklad(MoySkladContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend(MemoryMoySklad(clock=lambda: datetime.now(UTC)))
