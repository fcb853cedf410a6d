"""Adapters in memory, and suites that prove an adapter; docs/testing.md shows how."""

import pytest

pytest.register_assert_rewrite("imgsync.testing.contracts")  # before they are imported

# ruff: noqa: E402
from imgsync.testing.contracts.changes import BackupStoreContract, ChangeLogContract
from imgsync.testing.contracts.clock import StoreClockContract
from imgsync.testing.contracts.failures import FailedImagesContract
from imgsync.testing.contracts.moysklad import Backend, MoySkladContract
from imgsync.testing.contracts.pace import PaceStoreContract
from imgsync.testing.contracts.queue import TaskQueueContract
from imgsync.testing.contracts.repositories import (
    AbilityRepositoryContract,
    AccountRepositoryContract,
    SettingsRepositoryContract,
    SurveyRepositoryContract,
    SyncRecordRepositoryContract,
)
from imgsync.testing.contracts.storage import ContentStoreContract
from imgsync.testing.memory import (
    MemoryAbilities,
    MemoryAccounts,
    MemoryBackups,
    MemoryChanges,
    MemoryContentStore,
    MemoryFailedImages,
    MemoryPaceStore,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemorySurveys,
    MemoryTaskQueue,
    MemoryTempFile,
    MemoryWorkspace,
    SetClock,
)
from imgsync.testing.moysklad import (
    MEMORY_LIMITS,
    UNLIMITED,
    MemoryMoySklad,
    MemoryMoySkladFactory,
    picture,
)

__all__ = [
    "MEMORY_LIMITS",
    "UNLIMITED",
    "AbilityRepositoryContract",
    "AccountRepositoryContract",
    "Backend",
    "BackupStoreContract",
    "ChangeLogContract",
    "ContentStoreContract",
    "FailedImagesContract",
    "MemoryAbilities",
    "MemoryAccounts",
    "MemoryBackups",
    "MemoryChanges",
    "MemoryContentStore",
    "MemoryFailedImages",
    "MemoryMoySklad",
    "MemoryMoySkladFactory",
    "MemoryPaceStore",
    "MemoryRecords",
    "MemorySettings",
    "MemoryStore",
    "MemoryStoreClock",
    "MemorySurveys",
    "MemoryTaskQueue",
    "MemoryTempFile",
    "MemoryWorkspace",
    "MoySkladContract",
    "PaceStoreContract",
    "SetClock",
    "SettingsRepositoryContract",
    "StoreClockContract",
    "SurveyRepositoryContract",
    "SyncRecordRepositoryContract",
    "TaskQueueContract",
    "picture",
]
