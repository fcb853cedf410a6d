"""Port to the content store: source images that all share, and the files of one task."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from imgsync.domain.model import ImageFingerprint, SourceImage

MAX_NOTE = 1000
"""Characters of what is told of a shared file."""


@dataclass(frozen=True, slots=True)
class ContentKey:
    """One version of a source image: the main account's id, the address and the fingerprint.

    The address is part of it, as a payload may name another one for the same image. `made`: how the
    file was made of such an image, '' for the image as it came.
    """

    account_id: str
    address: str
    version: ImageFingerprint
    made: str = ""

    @classmethod
    def of(cls, account_id: str, image: SourceImage) -> "ContentKey | None":
        """The key, or None for an image of which not all is known: it is not shared."""
        version = image.fingerprint
        return None if version is None else cls(account_id, image.download_href, version)

    @classmethod
    def made_of(cls, account_id: str, digest: str, size: int, made: str) -> "ContentKey":
        """The key of a file made in this way of any image of the account with this content: its
        SHA-256, in hexadecimal, and bytes."""
        return cls(account_id, "", ImageFingerprint(digest, size, ""), made)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A shared file that a workspace holds: the key to read it by, and its bytes.

    `is_picture`: it was looked at to its end and found to be a whole picture, as `share` was told;
    `note`: what that told of it. `digest`: the SHA-256 of its bytes, in hexadecimal; '' where the
    store does not know it.
    """

    key: str
    size: int
    is_picture: bool
    note: str = ""
    digest: str = ""


class Turn(Enum):
    """Who fetches content that is not there: whoever asked, or another who is at it."""

    OURS = "ours"
    THEIRS = "theirs"


class Workspace(Protocol):
    """What one task has in use: files of its own, and shared ones, which stay while it holds them.
    Keys are the workspace's own; file names never become paths.

    NoRoomError of any of its methods: the disk is full, cannot be written, or the folder is gone.
    """

    async def create(self, filename: str) -> "TempFile":
        """A new empty file, private to its owner; of `filename` only a plain suffix is used."""
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The finished file's bytes in chunks. KeyError for a key that it did not give."""
        ...

    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        """The shared file, its bytes those that were shared; each time under a new key.

        Where there is none, OURS: no other workspace has the turn to fetch it until this one shares
        it, passes, or is left; or THEIRS: ask again soon. It does not wait. The turn of a process
        that died, or stands still, is given to the next who asks.
        """
        ...

    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        """Makes the whole file `key`, of this workspace's own, the content of `source`, and ends
        the turn. The file stays readable here under its key. `note` is one line of at most
        `MAX_NOTE` characters, given to whoever acquires the file.

        Whoever shares last is right: with a turn or without. What cannot be shared for want of room
        is not. KeyError as `read`; ValueError for a file that is not closed.
        """
        ...

    async def pass_turn(self, source: ContentKey) -> None:
        """Ends the turn, if it is ours, without a file."""
        ...


class TempFile(Protocol):
    """A temp file being written."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes written."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of what was written, in hexadecimal. ValueError where it is not closed."""
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
    """A file that nobody has in use: its path below the folder, bytes, and time of last use."""

    path: str
    size: int
    modified: datetime


class ContentStore(Protocol):
    """Files by their content, shared by all who use the store, and the files of tasks.

    Over its limit of bytes, shared files go that nobody holds, the least recently used first.
    """

    def workspace(self) -> AbstractAsyncContextManager[Workspace]:
        """A new workspace; leaving it deletes its own files, and lets go of the shared ones."""
        ...

    async def stale(self, before: datetime) -> list[StaleFile]:
        """Files of dead workers, and shared ones that nobody holds, last used before that moment.
        Those of a worker that lives, however old, are none of them."""
        ...

    async def live(self) -> int:
        """Workspaces whose worker lives."""
        ...

    async def delete(self, file: StaleFile) -> int:
        """Deletes one and returns the bytes freed, 0 where it was gone or is used after all.

        UnsafePathError for a path that is none of the store's.
        """
        ...
