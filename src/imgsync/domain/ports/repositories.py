"""Ports to stored accounts, settings and sync records."""

from typing import Protocol

from imgsync.domain.accounts import Account
from imgsync.domain.records import EntityKey, SyncRecord
from imgsync.domain.settings import ChildSettings


class AccountRepository(Protocol):
    """Accounts with credentials."""

    def add(self, account: Account) -> None:
        """Stores an account, replacing the one with its id."""
        ...

    def get(self, account_id: str) -> Account:
        """UnknownAccountError where there is none."""
        ...

    def all(self) -> list[Account]:
        """By name."""
        ...


class SettingsRepository(Protocol):
    """Image settings by child account."""

    def get(self, child_account_id: str) -> ChildSettings:
        """The defaults (off) where nothing is stored."""
        ...

    def put(self, child_account_id: str, settings: ChildSettings) -> None: ...


class SyncRecordRepository(Protocol):
    """Records of earlier syncs."""

    def get(self, key: EntityKey) -> SyncRecord | None: ...

    def put(self, key: EntityKey, record: SyncRecord) -> None: ...

    def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        """Ids of the child's entities on which the last sync left images."""
        ...
