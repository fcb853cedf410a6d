"""Port to temp files."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Workspace(Protocol):
    """Temp files of one task. Keys are the workspace's own; file names never become paths.

    NoRoomError of any of its methods: the disk is full, cannot be written, or the folder is gone.
    """

    async def create(self, filename: str) -> "TempFile":
        """A new empty file, private to its owner; of `filename` only a plain suffix is used."""
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The finished file's bytes in chunks. KeyError for a key that `create` did not give."""
        ...


class TempFile(Protocol):
    """A temp file being written."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes written."""
        ...

    async def write(self, chunk: bytes) -> None: ...

    async def close(self) -> None:
        """It is whole, and may be read."""
        ...

    async def discard(self) -> None:
        """It is not wanted any more, whole or not; its key is known no longer."""
        ...


@dataclass(frozen=True, slots=True)
class StaleFile:
    """A left-over temp file: its path below the temp folder, bytes, and time of last change."""

    path: str
    size: int
    modified: datetime


class FileStorage(Protocol):
    """Temp files."""

    def workspace(self) -> AbstractAsyncContextManager[Workspace]:
        """A new workspace; leaving it deletes its files."""
        ...

    async def stale(self, before: datetime) -> list[StaleFile]:
        """Files last changed before that moment whose worker is dead. Those of a worker that lives,
        however old, are none of them."""
        ...

    async def live(self) -> int:
        """Workspaces whose worker lives."""
        ...

    async def delete(self, file: StaleFile) -> int:
        """Deletes one and returns the bytes freed, 0 where it was gone or is used after all.

        UnsafePathError for a path outside the temp folder.
        """
        ...
