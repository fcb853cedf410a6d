"""Port to what hangs on a stored account, and to its removal.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from dataclasses import dataclass
from typing import Protocol

from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import AccountName


class BusyAccountError(ImgsyncError):
    """Workers are at tasks of an account just now; nothing is changed."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What hangs on an account: the id of its main account, ids of its children, waiting, failed
    and running tasks of its own, running ones of its children, records and failed images as a
    child, and whether webhooks were made in it."""

    main_id: str | None = None
    child_ids: tuple[str, ...] = ()
    waiting: int = 0
    failed: int = 0
    running: int = 0
    running_of_children: int = 0
    records: int = 0
    failed_images: int = 0
    has_webhooks: bool = False


class AccountShelf(Protocol):
    """Stored accounts as a whole, with what goes by their ids."""

    async def names(self) -> list[AccountName]:
        """Of all that are stored, by id; those that are damaged included, whose name may be empty
        or one that no account can have."""
        ...

    async def rename(self, account_id: str, name: str) -> bool:
        """Only the name changes: a parking stays. False where there is no such account."""
        ...

    async def holdings(self, account_id: str) -> Holdings:
        """Also of an account that is not stored."""
        ...

    async def remove(self, account_id: str) -> None:
        """Forgets the account, its credentials wherever they are, its settings, its waiting and
        failed tasks, and all that was learnt of it, together or not at all. Noted changes and ended
        tasks stay until they are old. Nothing where there is no such account.

        BusyAccountError where a task of it, or of one of its children, is running.
        """
        ...
