"""The content store on the local disk.

The disk is touched in threads, so that no slow one holds the event loop up; small chunks are
gathered, so that they cost no hop to a thread each.
"""

import asyncio
import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from imgsync.adapters.files.shared import STILL_SECONDS, Entry, SharedFolder, is_at, is_full
from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.formats import safe_suffix
from imgsync.domain.ports.storage import ContentKey, SharedFile, StaleFile, Turn

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_PIECE_BYTES = 192 * 1024
"""Bytes that one hop to a thread reads or writes; of a read piece no base64 is left over."""
_KEPT_BYTES = 64 * 1024
"""A file that is no larger is kept in memory too until its workspace is left: it is read three
times, and a hop to a thread costs as much as to decode a picture of this size."""
_ALL_KEPT_BYTES = 16_000_000
"""Of all such files of a store: a thousand tasks may wait for their requests at once."""

_BEAT_SECONDS = STILL_SECONDS / 6
_LOCK_NAME = ".lock"
_WORKSPACE = re.compile(r"task-[0-9a-f]{32}")


class LocalContentStore:
    """Implements the port `ContentStore` below one folder, which it creates as private (0700).

    It touches only its own folders, those of tasks (``task-…``) and that of what is shared, so a
    common folder such as /tmp is safe. The process that uses a task's folder holds a lock in it;
    what is locked is no left-over. A shared file that a task has in use has a second name there.

    `max_bytes`: of the shared files together; what is held stays whatever the limit.
    """

    def __init__(self, root: Path, max_bytes: int = 2_000_000_000) -> None:
        self._root = root
        self._shared = SharedFolder(root, max_bytes)
        self._memory = _Memory(_ALL_KEPT_BYTES)

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator["LocalWorkspace"]:
        workspace = LocalWorkspace(
            self._root / f"task-{uuid.uuid4().hex}", self._shared, self._memory
        )
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
        links: Counter[int] = Counter()
        for path in sorted(self._left_over()):
            try:
                stat = path.lstat()
            except FileNotFoundError:  # another cleanup deleted it meanwhile
                continue
            links[stat.st_ino] += 1
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            if modified < before:
                relative = path.relative_to(self._root).as_posix()
                found.append(StaleFile(relative, _freed(stat), modified))
        return [*found, *self._shared.stale(before.timestamp(), links)]

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
        if self._shared.has(file.path):
            return self._shared.delete(file)
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
            with suppress(FileNotFoundError):
                # In a common folder there may be those of another user, whose worker cleans them.
                if _WORKSPACE.fullmatch(folder.name) and _is_own_folder(folder):
                    yield folder


def _is_own_folder(folder: Path) -> bool:
    return not folder.is_symlink() and folder.lstat().st_uid == os.geteuid()


def _left_over_in(folder: Path) -> list[Path]:
    with _if_abandoned(folder) as abandoned:
        if not abandoned:
            return []
        files = [path for path in folder.iterdir() if not path.is_dir()]
    # The lock goes with the last of the files; alone, it is left-over itself.
    return [path for path in files if path.name != _LOCK_NAME] or files


def _unlink(path: Path) -> int:
    freed = _freed(path.lstat())
    path.unlink()
    with suppress(OSError):  # not empty, or its worker removed it meanwhile
        if {left.name for left in path.parent.iterdir()} <= {_LOCK_NAME}:
            shutil.rmtree(path.parent)
    return freed


def _freed(seen: os.stat_result) -> int:
    """Bytes that deleting it frees: none while it has another name, among the shared ones."""
    return seen.st_size if seen.st_nlink == 1 else 0


class _Memory:
    """Bytes that may yet be kept in memory."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._changing = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether so many may be kept; they are counted then."""
        with self._changing:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._changing:
            self._left += size


class LocalWorkspace:
    """Implements the port `Workspace`: numbered files in a folder made with the first of them.
    Reading a file that is not closed is a ValueError."""

    def __init__(self, folder: Path, shared: SharedFolder, memory: _Memory) -> None:
        self._folder = folder
        self._shared = shared
        self._memory = memory
        self._files: dict[str, LocalTempFile | _HeldFile] = {}
        self._made = 0
        self._lock: int | None = None
        self._turns: dict[ContentKey, int] = {}
        self._beating: asyncio.Task[None] | None = None
        # A thread goes on when its task is cancelled: it must not make what was removed already.
        self._change = threading.Lock()
        self._removed = False

    async def create(self, filename: str) -> "LocalTempFile":
        return await asyncio.to_thread(self._create, self._next_key(safe_suffix(filename)))

    def read(self, key: str) -> AsyncIterator[bytes]:
        return self._files[key].read()

    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        given = await asyncio.to_thread(self._acquire, source, self._next_key(""))
        if given is Turn.OURS and self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        return given

    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        file = self._files[key]
        if isinstance(file, LocalTempFile):
            entry = Entry(file.digest, file.size, is_picture, note)
            await asyncio.to_thread(self._share, source, entry, key)
        else:  # it is shared
            await self.pass_turn(source)

    async def pass_turn(self, source: ContentKey) -> None:
        if source in self._turns:  # to share has ended it
            await asyncio.to_thread(self._pass_turn, source)

    async def remove(self) -> None:
        """Closes the files and deletes the folder."""
        if self._beating is not None:
            self._beating.cancel()
        if self._made:
            await asyncio.shield(asyncio.to_thread(self._remove))

    def _next_key(self, suffix: str) -> str:
        self._made += 1
        return f"{self._made - 1:04d}{suffix}"

    def _create(self, key: str) -> "LocalTempFile":
        with self._change, _room_for(self._folder):
            self._make()
            file = _with_room(lambda: self._new_file(key), self._shared, 1)
            self._files[key] = file
            return file

    def _new_file(self, key: str) -> "LocalTempFile":
        forget = partial(self._files.pop, key, None)
        return LocalTempFile(key, self._folder / key, forget, self._shared, self._memory)

    def _acquire(self, source: ContentKey, key: str) -> SharedFile | Turn:
        with self._change, _room_for(self._folder):
            self._make()
            if not self._shared.is_ours():
                return Turn.OURS
            if found := self._hold(source, key):
                return found
            turn = _with_room(lambda: self._shared.take_turn(source), self._shared, 1)
            if turn is None:
                return Turn.THEIRS
            self._turns[source] = turn
            # Another may have shared it since.
            if found := self._hold(source, key):
                self._end_turn(source)
                return found
            return Turn.OURS

    def _hold(self, source: ContentKey, key: str) -> SharedFile | None:
        path = self._folder / key
        entry = self._shared.link(source, path)
        if entry is None:
            return None
        self._files[key] = _HeldFile(path)
        return SharedFile(key, entry.size, entry.is_picture, entry.note, entry.digest)

    def _share(self, source: ContentKey, entry: Entry, key: str) -> None:
        path = self._folder / key
        with self._change:
            try:
                if not self._removed and self._shared.is_ours():
                    put = partial(self._shared.put, source, entry, path)
                    _with_room(put, self._shared, entry.size)
            except OSError as error:  # the task has its file all the same
                _log.warning("a downloaded image could not be kept for others: %s", error)
            finally:
                self._end_turn(source)

    def _pass_turn(self, source: ContentKey) -> None:
        with self._change:
            self._end_turn(source)

    def _end_turn(self, source: ContentKey) -> None:
        turn = self._turns.pop(source, None)
        if turn is not None:
            self._shared.end_turn(source, turn)

    async def _beat(self) -> None:
        """Shows others that whoever has the turns goes on."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            await asyncio.to_thread(self._touch_turns)

    def _touch_turns(self) -> None:
        with self._change:
            for turn in self._turns.values():
                os.utime(turn)

    def _make(self) -> None:
        if self._removed:
            raise RuntimeError("the workspace was left")
        if self._lock is None:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _with_room(lambda: _make_held(self._folder), self._shared, 1)

    def _remove(self) -> None:
        with self._change:
            self._removed = True
            for source in list(self._turns):
                self._end_turn(source)
            for file in self._files.values():
                file.abandon()
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


@dataclass(frozen=True, slots=True)
class _HeldFile:
    """A shared file under its name in a workspace."""

    path: Path

    def read(self) -> AsyncIterator[bytes]:
        return _pieces(self.path)

    def abandon(self) -> None:
        """Nothing is open."""


class LocalTempFile:
    """Implements the port `TempFile`."""

    def __init__(
        self,
        key: str,
        path: Path,
        forget: Callable[[], object],
        shared: SharedFolder,
        memory: _Memory,
    ) -> None:
        self._key = key
        self._path = path
        self._forget = forget
        self._shared = shared
        self._memory = memory
        self._size = 0
        self._hash = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._whole = False
        self._kept: bytes | None = None
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file = io.FileIO(descriptor, "wb")
        # Keeps a close apart from the write of a task that is cancelled.
        self._using = threading.Lock()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes; ValueError where the file is not closed."""
        if not self._whole:
            raise ValueError("the file is not closed yet")
        return self._hash.hexdigest()

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
            rest = self._take()
            await asyncio.to_thread(self._finish, rest)
            self._whole = True
            small = len(rest) == self._size <= _KEPT_BYTES
            if small and self._kept is None and self._memory.take(len(rest)):
                self._kept = rest

    async def discard(self) -> None:
        self._forget()
        self._take()
        await asyncio.to_thread(self._drop)

    def read(self) -> AsyncIterator[bytes]:
        if not self._whole:
            raise ValueError("the file is not closed yet")
        return _pieces(self._path) if self._kept is None else _piece_of(self._kept)

    def abandon(self) -> None:
        """Closes the file, whole or not."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._memory.give_back(len(kept))
        with suppress(OSError), self._using:  # what a full disk says of it does not matter
            self._file.close()

    def _take(self) -> bytes:
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        return b"".join(gathered)

    def _write(self, piece: bytes) -> None:
        with _room_for(self._path.parent), self._using:
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                done = _with_room(partial(self._file.write, rest), self._shared, len(rest))
                rest = rest[done:]

    def _finish(self, rest: bytes) -> None:
        self._write(rest)
        with _room_for(self._path.parent), self._using:
            self._file.close()

    def _drop(self) -> None:
        self.abandon()
        with suppress(OSError):  # else it goes with its workspace
            self._path.unlink()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    """The file's bytes. It is open for each piece only, so that it does not stay open where the
    reader goes away."""
    offset = 0
    while piece := await asyncio.to_thread(_piece, path, offset):
        yield piece
        if len(piece) < _PIECE_BYTES:
            return
        offset += len(piece)


async def _piece_of(kept: bytes) -> AsyncIterator[bytes]:
    if kept:
        yield kept


def _piece(path: Path, offset: int) -> bytes:
    with _room_for(path.parent), path.open("rb") as file:
        file.seek(offset)
        return file.read(_PIECE_BYTES)


def _with_room(act: Callable[[], _T], shared: SharedFolder, wanted: int) -> _T:
    """Acts; on a full disk, shared files that nobody holds make room, as long as there are any."""
    while True:
        try:
            return act()
        except OSError as error:
            if not (is_full(error) and shared.make_room(wanted)):
                raise


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
            if is_at(folder / _LOCK_NAME, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a cleanup took the file before it was locked


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
