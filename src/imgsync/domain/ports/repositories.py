"""Ports to stored accounts, settings and sync records.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    LinkSettings,
    Parking,
    StoredLink,
)
from imgsync.domain.surveys import PastSurvey, SurveyKey


class AccountRepository(Protocol):
    """Accounts with credentials."""

    async def add(self, account: Account, parking: Parking | None = None) -> None:
        """Stores an account, replacing the one with its id.

        It ends a parking, or begins `parking`, at the same moment; and keeps the role that was
        known where the new one's is None.
        """
        ...

    async def get(self, account_id: str) -> Account:
        """UnknownAccountError where there is none."""
        ...

    async def all(self) -> list[Account]:
        """By name. A damaged one is logged and left out, as it would cost all others; `get` raises
        DamagedRowError for it."""
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


class AbilityRepository(Protocol):
    """What accounts have shown that they can do. An account need not be stored for it."""

    async def get(self, account_id: str) -> Abilities:
        """The defaults where nothing is known, and where what is stored cannot be read: it is
        shown anew."""
        ...

    async def learn(self, account_id: str, shown: Abilities) -> None:
        """Adds what was shown (`Abilities.with_shown`); what others learn at the same time is not
        lost."""
        ...

    async def forget(self, account_id: str) -> None:
        """Nothing is known of the account any more."""
        ...


class SurveyRepository(Protocol):
    """What surveys leave behind for later ones."""

    async def get(self, key: SurveyKey) -> PastSurvey | None: ...

    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        """In place of what was there."""
        ...


class SettingsRepository(Protocol):
    """Links, and the settings of each by its child account. A child has one main account."""

    async def get(self, child_account_id: str) -> LinkSettings:
        """The defaults (off) where nothing is stored; DamagedLinkError where it cannot be read."""
        ...

    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        """Stores the settings; the main account stays as it is."""
        ...

    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        """Stores what `change` makes of the settings, and tells it; nobody changes them between,
        on any host. It may be called again, and what it raises comes as it is; nothing is changed
        then. DamagedLinkError as `get`.
        """
        ...

    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        """Makes `main_id` the child's main account, with these settings.

        AlreadyLinkedError where the child has another one, or where either stands on the other
        side of a link; nothing is changed then, whoever links at the same time.
        """
        ...

    async def unlink(self, child_id: str) -> bool:
        """The child has no main account any more and receives nothing: its settings are the
        defaults again. False where it had no main account; nothing is changed then."""
        ...

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        """Every link, or those of one main account alone, by main and child id; one that cannot be
        read tells its damage."""
        ...


class SyncRecordRepository(Protocol):
    """Records of earlier syncs."""

    async def get(self, key: EntityKey) -> SyncRecord | None: ...

    async def get_many(
        self, child_account_id: str, entity_type: str, child_entity_ids: Sequence[str]
    ) -> dict[str, SyncRecord]:
        """The records of a child's entities by id; only of those that have one. At most 1,000 are
        asked for at once."""
        ...

    async def put(self, key: EntityKey, record: SyncRecord) -> None: ...

    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        """Ids of the child's entities on which the last sync left images."""
        ...
