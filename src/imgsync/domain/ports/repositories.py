"""Ports to stored accounts, settings and sync records.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from typing import Protocol

from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.model import Account, AccountRole, Parking
from imgsync.domain.settings import ChildSettings


class AccountRepository(Protocol):
    """Accounts with credentials."""

    async def add(self, account: Account) -> None:
        """Stores an account, replacing the one with its id.

        It ends a parking, and keeps the role that was known where the new one's is None.
        """
        ...

    async def get(self, account_id: str) -> Account:
        """UnknownAccountError where there is none."""
        ...

    async def all(self) -> list[Account]:
        """By name."""
        ...

    async def set_role(self, account_id: str, role: AccountRole) -> None:
        """Notes the side on which an account stands; nothing where there is no such account."""
        ...

    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        """Notes that an account takes no requests, in place of what was noted before.

        False, and nothing is noted, where its credentials are no longer those of `used`.
        """
        ...

    async def parking(self, account_id: str) -> Parking | None:
        """Its parking; None once `until` has passed by the store's time, and where it has none."""
        ...


class SettingsRepository(Protocol):
    """Image settings by child account."""

    async def get(self, child_account_id: str) -> ChildSettings:
        """The defaults (off) where nothing is stored."""
        ...

    async def put(self, child_account_id: str, settings: ChildSettings) -> None: ...


class SyncRecordRepository(Protocol):
    """Records of earlier syncs."""

    async def get(self, key: EntityKey) -> SyncRecord | None: ...

    async def put(self, key: EntityKey, record: SyncRecord) -> None: ...

    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        """Ids of the child's entities on which the last sync left images."""
        ...
