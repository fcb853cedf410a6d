"""Run by test_mutants.py, in a pytest of its own: the suites on each of the mutants."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from imgsync.testing import (
    MemoryAbilities,
    MemoryAccounts,
    MemoryBackups,
    MemoryChanges,
    MemoryContentStore,
    MemoryFailedImages,
    MemoryMoySklad,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemorySurveys,
    MemoryTaskQueue,
)
from tests.testing import test_memory as proofs
from tests.testing.mutants import MUTANTS


def _queue(adapter: Any) -> type:
    class Proof(proofs.TestMemoryTaskQueue):
        async def open(self, store: MemoryStore, kinds: Sequence[str]) -> MemoryTaskQueue:
            queue: MemoryTaskQueue = adapter(store, kinds)
            return queue

    return Proof


def _accounts(adapter: Any) -> type:
    class Proof(proofs.TestMemoryAccounts):
        def accounts(self, store: MemoryStore) -> MemoryAccounts:
            accounts: MemoryAccounts = adapter(store)
            return accounts

    return Proof


def _failures(adapter: Any) -> type:
    class Proof(proofs.TestMemoryFailedImages):
        def failures(self, store: MemoryStore) -> MemoryFailedImages:
            failures: MemoryFailedImages = adapter(store)
            return failures

    return Proof


def _changes(adapter: Any) -> type:
    class Proof(proofs.TestMemoryChanges):
        def changes(self, store: MemoryStore) -> MemoryChanges:
            changes: MemoryChanges = adapter(store)
            return changes

    return Proof


def _backups(adapter: Any) -> type:
    class Proof(proofs.TestMemoryBackups):
        @pytest.fixture
        def backups(self) -> Any:
            return adapter()

        def off(self, backups: Any) -> Any:
            return adapter(backups.saved, is_on=False)

    return Proof


def _surveys(adapter: Any) -> type:
    class Proof(proofs.TestMemorySurveys):
        @pytest.fixture
        def surveys(self) -> Any:
            return adapter()

    return Proof


def _abilities(adapter: Any) -> type:
    class Proof(proofs.TestMemoryAbilities):
        @pytest.fixture
        def abilities(self) -> Any:
            return adapter()

        async def another_host(self, abilities: Any) -> Any:
            return adapter(abilities.store)

    return Proof


def _settings(adapter: Any) -> type:
    class Proof(proofs.TestMemorySettings):
        @pytest.fixture
        def settings(self) -> Any:
            return adapter()

    return Proof


def _records(adapter: Any) -> type:
    class Proof(proofs.TestMemoryRecords):
        @pytest.fixture
        def records(self) -> Any:
            return adapter()

    return Proof


def _clock(adapter: Any) -> type:
    class Proof(proofs.TestMemoryStoreClock):
        @pytest.fixture
        def clock(self) -> Any:
            return adapter(MemoryStore())

    return Proof


def _storage(adapter: Any) -> type:
    class Proof(proofs.TestMemoryContentStore):
        @pytest.fixture
        def storage(self) -> Any:
            return adapter()

    return Proof


def _moysklad(adapter: Any) -> type:
    class Proof(proofs.TestMemoryMoySklad):
        @pytest.fixture
        def backend(self) -> Any:
            return proofs.MemoryBackend(adapter(clock=lambda: datetime.now(UTC)))

    return Proof


_PROOFS = {
    MemoryTaskQueue: _queue,
    MemoryAccounts: _accounts,
    MemoryBackups: _backups,
    MemoryChanges: _changes,
    MemoryAbilities: _abilities,
    MemoryFailedImages: _failures,
    MemorySurveys: _surveys,
    MemorySettings: _settings,
    MemoryRecords: _records,
    MemoryStoreClock: _clock,
    MemoryContentStore: _storage,
    MemoryMoySklad: _moysklad,
}

for _adapter in (*_PROOFS, *MUTANTS):
    _proof = next(proof for base, proof in _PROOFS.items() if issubclass(_adapter, base))(_adapter)
    for _name in dir(_proof):
        # To collect thousands of tests that are not run would take the most of the time.
        if _name.startswith("test_") and MUTANTS.get(_adapter, _name) != _name:
            setattr(_proof, _name, None)
    globals()[f"Test{_adapter.__name__}"] = _proof
