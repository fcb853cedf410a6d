"""Temp files on the local disk.

The disk is touched in threads, so that no slow one holds the event loop up; small chunks are
gathered, so that they cost no hop to a thread each.
"""

import asyncio
import fcntl
import os
import re
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.formats import safe_suffix
from imgsync.domain.ports.storage import StaleFile

_PIECE_BYTES = 192 * 1024
"""Bytes that one hop to a thread reads or writes; of a read piece no base64 is left over."""

_LOCK_NAME = ".lock"
_WORKSPACE = re.compile(r"task-[0-9a-f]{32}")


class LocalFileStorage:
    """Implements the port `FileStorage` below one folder, which it creates as private (0700).

    It touches only its own ``task-…`` folders, so a shared folder such as /tmp is safe. The
    process that uses such a folder holds a lock in it; what is locked is no left-over.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator["LocalWorkspace"]:
        workspace = LocalWorkspace(self._root / f"task-{uuid.uuid4().hex}")
        try:
            yield workspace
        finally:
            await workspace.remove()

    async def stale(self, before: datetime) -> list[StaleFile]:
        return await asyncio.to_thread(self._stale, before)

    async def live(self) -> int:
        return await asyncio.to_thread(self._live)

    async def delete(self, file: StaleFile) -> int:
        return await asyncio.to_thread(self._delete, file)

    def _stale(self, before: datetime) -> list[StaleFile]:
        found = []
        for path in sorted(self._left_over()):
            try:
                stat = path.lstat()
            except FileNotFoundError:  # another cleanup deleted it meanwhile
                continue
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            if modified < before:
                relative = path.relative_to(self._root).as_posix()
                found.append(StaleFile(relative, stat.st_size, modified))
        return found

    def _live(self) -> int:
        count = 0
        for folder in self._workspaces():
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                _if_abandoned(folder) as abandoned,
            ):
                count += not abandoned
        return count

    def _delete(self, file: StaleFile) -> int:
        path = self._root / file.path
        inside = path.parent.resolve().is_relative_to(self._root.resolve())
        if not inside or path.name == ".." or not _WORKSPACE.fullmatch(path.parent.name):
            raise UnsafePathError(f"'{file.path}' is outside the temp folder")
        try:
            with _if_abandoned(path.parent) as abandoned:
                return _unlink(path) if abandoned else 0
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def _left_over(self) -> Iterator[Path]:
        for folder in self._workspaces():
            with suppress(FileNotFoundError, NotADirectoryError):  # removed by its worker
                yield from _left_over_in(folder)

    def _workspaces(self) -> Iterator[Path]:
        if not self._root.is_dir():
            return
        for folder in self._root.iterdir():
            if _WORKSPACE.fullmatch(folder.name) and not folder.is_symlink():
                yield folder


def _left_over_in(folder: Path) -> list[Path]:
    with _if_abandoned(folder) as abandoned:
        if not abandoned:
            return []
        files = [path for path in folder.iterdir() if not path.is_dir()]
    # The lock goes with the last of the files; alone, it is left-over itself.
    return [path for path in files if path.name != _LOCK_NAME] or files


def _unlink(path: Path) -> int:
    size = path.lstat().st_size
    path.unlink()
    with suppress(OSError):  # not empty, or its worker removed it meanwhile
        if {left.name for left in path.parent.iterdir()} <= {_LOCK_NAME}:
            shutil.rmtree(path.parent)
    return size


class LocalWorkspace:
    """Implements the port `Workspace`: numbered files in a folder made with the first of them.
    Reading a file that is not closed is a ValueError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, LocalTempFile] = {}
        self._made = 0
        self._lock: int | None = None
        # A thread goes on when its task is cancelled: it must not make what was removed already.
        self._change = threading.Lock()
        self._removed = False

    async def create(self, filename: str) -> "LocalTempFile":
        key = f"{self._made:04d}{safe_suffix(filename)}"
        self._made += 1
        return await asyncio.to_thread(self._create, key)

    def read(self, key: str) -> AsyncIterator[bytes]:
        return self._files[key].read()

    async def remove(self) -> None:
        """Closes the files and deletes the folder."""
        if self._made:
            await asyncio.shield(asyncio.to_thread(self._remove))

    def _create(self, key: str) -> "LocalTempFile":
        with self._change, _room_for(self._folder):
            if self._removed:
                raise RuntimeError("the workspace was left")
            if self._lock is None:
                self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock = _make_held(self._folder)
            forget = partial(self._files.pop, key, None)
            self._files[key] = file = LocalTempFile(key, self._folder / key, forget)
            return file

    def _remove(self) -> None:
        with self._change:
            self._removed = True
            for file in self._files.values():
                file.abandon()
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


class LocalTempFile:
    """Implements the port `TempFile`."""

    def __init__(self, key: str, path: Path, forget: Callable[[], object]) -> None:
        self._key = key
        self._path = path
        self._forget = forget
        self._size = 0
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._whole = False
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        # Its lock keeps a close apart from the write of a task that is cancelled.
        self._file: BinaryIO = os.fdopen(descriptor, "wb")

    @property
    def key(self) -> str:
        return self._key

    @property
    def size(self) -> int:
        return self._size

    async def write(self, chunk: bytes) -> None:
        self._gathered.append(bytes(chunk))  # whose buffer may be used again
        self._gathered_size += len(chunk)
        self._size += len(chunk)
        if self._gathered_size >= _PIECE_BYTES:
            await asyncio.to_thread(self._write, self._take())

    async def close(self) -> None:
        if not self._whole:
            await asyncio.to_thread(self._finish, self._take())
            self._whole = True

    async def discard(self) -> None:
        self._forget()
        self._take()
        await asyncio.to_thread(self._drop)

    async def read(self) -> AsyncIterator[bytes]:
        """The bytes in pieces. The file is open for each only, so that none stays open where the
        reader goes away."""
        if not self._whole:
            raise ValueError("the file is not closed yet")
        offset = 0
        while piece := await asyncio.to_thread(self._piece, offset):
            yield piece
            if len(piece) < _PIECE_BYTES:
                return
            offset += len(piece)

    def abandon(self) -> None:
        """Closes the file, whole or not."""
        with suppress(OSError):  # what it still held does not go to a full disk
            self._file.close()

    def _take(self) -> bytes:
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        return b"".join(gathered)

    def _write(self, piece: bytes) -> None:
        with _room_for(self._path.parent):
            self._file.write(piece)

    def _finish(self, rest: bytes) -> None:
        with _room_for(self._path.parent):
            self._file.write(rest)
            self._file.close()

    def _drop(self) -> None:
        self.abandon()
        with suppress(OSError):  # else it goes with its workspace
            self._path.unlink()

    def _piece(self, offset: int) -> bytes:
        with _room_for(self._path.parent), self._path.open("rb") as file:
            file.seek(offset)
            return file.read(_PIECE_BYTES)


@contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """Whatever keeps a temp file from being written or read is no task's fault."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NoRoomError(f"No room for temp files in {folder.parent}: {reason}") from error


def _make_held(folder: Path) -> int:
    """Makes a private folder and locks it for this process by a file in it; closing the
    descriptor frees it.

    The kernel drops the lock however the process ends, and keeps it while the process is stopped.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # a cleanup found the folder without its lock
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(folder / _LOCK_NAME, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a cleanup took the file before it was locked


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def _if_abandoned(folder: Path) -> Iterator[bool]:
    """Whether no process holds the folder; while True is given, none can."""
    try:
        descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield True  # of a version without locks, or its owner is about to make it
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
