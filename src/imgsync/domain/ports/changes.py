"""Ports to the log of changes, and to what was saved before them.

Errors of the log: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from imgsync.domain.changes import BackedUp, Change, ListedImage, SavedImage
from imgsync.domain.ports.storage import TempFile


class ChangeLog(Protocol):
    """Every change of a child's list, for as long as it is kept."""

    async def begin(self, change: Change) -> int:
        """Notes a change that is about to be made, at the store's time, and returns its id, which
        is larger than that of any other that is kept. Its `after`, `id` and `changed_at` are not
        read.

        Texts that the store cannot hold lose those characters."""
        ...

    async def finish(self, change_id: int, after: Sequence[ListedImage]) -> None:
        """Notes what it has left; nothing where it is kept no longer."""
        ...

    async def get(self, change_id: int) -> Change | None:
        """None where it is kept no longer, or cannot be read."""
        ...

    async def find(
        self,
        *,
        run: str | None = None,
        child_account_id: str | None = None,
        entity: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Change]:
        """Those of this run, of this child and of this entity (its name, or its id in either
        account), newest first; all of them where none is given. `before`: those with a smaller id.
        What cannot be read is left out."""
        ...

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        """Deletes at most `limit` changes that were begun longer ago; how many."""
        ...


class Backup(Protocol):
    """What is being saved of one entity's images. Left without `finish`, it counts for nothing.

    BackupError of any of its methods where it cannot be written.
    """

    async def create(self, filename: str) -> TempFile:
        """A new file, whose key is its name in this backup; of the image's file name at most a
        plain part is used."""
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of a closed file, in chunks."""
        ...

    async def finish(self, images: Sequence[SavedImage]) -> str:
        """All is written, and stays written whatever happens: the place by which it is found."""
        ...


class BackupStore(Protocol):
    """Images that were about to be removed. Hosts that save into one store do not disturb one
    another."""

    @property
    def is_on(self) -> bool:
        """Whether anything is saved here."""
        ...

    def begin(
        self, entity: BackedUp, beside: str | None = None
    ) -> AbstractAsyncContextManager[Backup]:
        """A new backup, in this store; where it is not on, in that of the place `beside`.

        BackupError where it cannot be written."""
        ...

    async def images(self, place: str) -> list[SavedImage]:
        """What a backup holds. NoBackupError where it is not there or not whole."""
        ...

    def read(self, place: str, image: SavedImage) -> AsyncIterator[bytes]:
        """The bytes of an image, in chunks. NoBackupError where they are not those that were
        saved; it may come with the last of them."""
        ...
