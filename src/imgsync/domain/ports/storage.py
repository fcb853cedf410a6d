"""Port to temp files."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Workspace(Protocol):
    """Temp files of one task. Keys are the workspace's own; file names never become paths.

    NoRoomError of any of its methods: the disk is full, cannot be written, or the folder is gone.
    """

    def create(self, filename: str) -> "TempFile":
        """A new empty file, private to its owner; of `filename` only a plain suffix is used."""
        ...

    def read(self, key: str) -> Iterator[bytes]:
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

    def write(self, chunk: bytes) -> None: ...

    def restart(self) -> None:
        """Empties the file."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StaleFile:
    """A left-over temp file: its path below the temp folder, bytes, and time of last change."""

    path: str
    size: int
    modified: datetime


class FileStorage(Protocol):
    """Temp files."""

    def workspace(self) -> AbstractContextManager[Workspace]:
        """A new workspace; leaving it deletes its files."""
        ...

    def stale(self, before: datetime) -> list[StaleFile]:
        """Files last changed before that moment whose worker is dead. Those of a worker that lives,
        however old, are none of them."""
        ...

    def live(self) -> int:
        """Workspaces whose worker lives."""
        ...

    def delete(self, file: StaleFile) -> int:
        """Deletes one and returns the bytes freed, 0 where it was gone or is used after all.

        UnsafePathError for a path outside the temp folder.
        """
        ...
