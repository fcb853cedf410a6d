"""The shared files of a folder: content by its hash, an index to it, and turns to fetch it.

All of it is synchronous, and safe beside other processes of the host: a name appears with its whole
file or not at all, what a task has in use is linked into its own folder, and a turn is a lock.
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, TypeVar
from urllib.parse import quote, unquote

from imgsync.domain.ports.storage import ContentKey, StaleFile

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
FOLDER = "imgsync-content"
STILL_SECONDS = 30.0
"""A turn that was not touched for so long is that of a process that stands still."""

_FILES, _INDEX, _TURNS = "files", "index", "turns"
_OWN = re.compile(r"\.?[0-9a-f]{32,64}")
_PLACES = (
    re.compile(rf"{FOLDER}/({_FILES}|{_INDEX})/[0-9a-f]{{2}}/\.?[0-9a-f]{{32,64}}"),
    re.compile(rf"{FOLDER}/{_TURNS}/[0-9a-f]{{64}}"),
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV})
_TURN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_PIECE_BYTES = 1 << 20
_SCANS_PER_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a source: the hash (SHA-256, hex) and bytes of its content, and what
    was told of it."""

    digest: str
    size: int
    is_picture: bool
    note: str = ""

    @classmethod
    def parsed(cls, text: str) -> "Entry | None":
        found = re.fullmatch(r"([0-9a-f]{64}) ([0-9]{1,15}) ([01])(?: ([!-~]+))?\n", text)
        if found is None:
            return None
        return cls(found[1], int(found[2]), found[3] == "1", unquote(found[4] or ""))

    def __str__(self) -> str:
        # An entry without a note is as it was before there were any.
        note = f" {quote(self.note)}" if self.note else ""
        return f"{self.digest} {self.size} {int(self.is_picture)}{note}\n"


@dataclass(frozen=True, slots=True)
class _Used:
    """A shared file and its last use, by its inode's time."""

    at: float
    size: int
    path: Path


class SharedFolder:
    """Shared files below `root`; those that nobody holds go once there are more than `max_bytes`.
    Whoever gives or takes them asks `is_ours` before.

    The limit is looked at whenever a sixteenth of it has come in through this object.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._max_bytes = max_bytes
        self._come: int | None = None
        self._has_told = False
        self._counting = threading.Lock()

    def is_ours(self) -> bool:
        """Whether it may be used. The temp folder may be open to others, who must not bring
        pictures in: one that another made first, or may write to, is left alone."""
        try:
            seen = self._folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o022
        if private and seen.st_uid == os.geteuid():
            return True
        if not self._has_told:
            self._has_told = True
            _log.warning(
                "%s is not this user's alone and is left alone: every task downloads its images "
                "for itself",
                self._folder,
            )
        return False

    # --- content

    def link(self, source: ContentKey, to: Path) -> Entry | None:
        """Gives the content of a source the name `to` too, once its bytes have been looked at.
        What is damaged, or is not of the size that the source has, goes."""
        index = self._index(source)
        try:
            entry = Entry.parsed(index.read_text("ascii"))
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        # Of a file that was made, nobody knows the size beforehand.
        if entry is None or (not source.made and entry.size != source.version.size):
            index.unlink(missing_ok=True)
            return None
        content = self._content(entry.digest)
        try:
            _link(content, to)
        except FileNotFoundError:
            return None
        if not _is_intact(to, entry):
            for path in (content, index, to):
                path.unlink(missing_ok=True)
            return None
        for path in (index, to):  # in this order: no entry is newer than its content
            with suppress(FileNotFoundError):
                os.utime(path)
        return entry

    def put(self, source: ContentKey, entry: Entry, path: Path) -> None:
        """Makes the file `path` the content of a source."""
        content = self._content(entry.digest)
        part = content.with_name(f".{uuid.uuid4().hex}")
        try:
            _within(part.parent, lambda: _link(path, part))
            part.replace(content)
        finally:
            part.unlink(missing_ok=True)  # it stays where both are one file
        index = self._index(source)
        part = index.with_name(f".{uuid.uuid4().hex}")
        try:
            _within(part.parent, lambda: _write(part, str(entry)))
            part.replace(index)
        finally:
            part.unlink(missing_ok=True)
        os.utime(content)
        self._count(entry.size)

    def make_room(self, wanted: int) -> bool:
        """Frees so many bytes of the disk where it can; whether it freed any."""
        if not self.is_ours():
            return False
        used, total = self._used()
        return self._evict(used, total, total - max(wanted, self._max_bytes // _SCANS_PER_LIMIT))

    # --- turns

    def take_turn(self, source: ContentKey) -> int | None:
        """The descriptor that holds the turn; None while another that lives has it."""
        path = self._turn(source)
        looked_twice = False
        while True:
            descriptor = _within(path.parent, lambda: os.open(path, _TURN_FLAGS, 0o600))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                still = abs(time.time() - os.fstat(descriptor).st_mtime) > STILL_SECONDS
                if still and looked_twice and is_at(path, descriptor):
                    path.unlink(missing_ok=True)
                os.close(descriptor)
                if not still:
                    return None
                # Whoever has just taken what a dead one left has not touched it yet.
                looked_twice = True
                time.sleep(0.05)
                continue
            except BaseException:
                os.close(descriptor)
                raise
            if is_at(path, descriptor):
                os.utime(descriptor)
                return descriptor
            os.close(descriptor)  # its turn ended before it was locked

    def end_turn(self, source: ContentKey, descriptor: int) -> None:
        path = self._turn(source)
        with suppress(OSError):  # the folder is gone, or cannot be written any more
            if is_at(path, descriptor):
                path.unlink()
        os.close(descriptor)

    # --- cleaning

    def stale(self, before: float, left: Mapping[int, int]) -> Iterator[StaleFile]:
        """What nobody has in use and was last used before that time. `left`: by inode, the names
        that dead workers left of it, which are no use."""
        if not self.is_ours():
            return
        used, _ = self._used(left)
        stale = [file for file in used if file.at < before]
        going = {file.path.name for file in stale}
        stale += [
            file
            for file in [*self._entries(), *self._left_turns()]
            if file.at < before and not self._leads_to_more_than(going, file.path)
        ]
        for file in stale:
            path = file.path.relative_to(self._root).as_posix()
            yield StaleFile(path, file.size, datetime.fromtimestamp(file.at, UTC))

    def has(self, path: str) -> bool:
        """Whether a path below the root may be one of these files."""
        return any(place.fullmatch(path) for place in _PLACES)

    def delete(self, file: StaleFile) -> int:
        """The bytes freed; 0 where it is used after all."""
        path = self._root / file.path
        try:
            if path.parent == self._folder / _TURNS:
                return _delete_turn(path)
            seen = path.lstat()
            if seen.st_nlink > 1 or seen.st_mtime > file.modified.timestamp() + 1e-3:
                return 0
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return seen.st_size

    def _count(self, size: int) -> None:
        with self._counting:
            come, often = self._come, self._max_bytes // _SCANS_PER_LIMIT
            if come is not None and come + size < often:
                self._come = come + size
                return
            self._come = 0
        used, total = self._used()
        if total > self._max_bytes:
            self._evict(used, total, self._max_bytes - often)

    def _evict(self, used: list[_Used], total: int, most: int) -> bool:
        """Deletes the least recently used of these until no more than `most` bytes are there."""
        last = 0.0
        for file in sorted(used, key=lambda file: file.at):
            if total <= most:
                break
            with suppress(FileNotFoundError):  # another process was faster
                file.path.unlink()
            total -= file.size
            last = file.at
        for entry in self._entries() if last else ():
            if entry.at <= last:
                entry.path.unlink(missing_ok=True)
        return last > 0

    def _used(self, left: Mapping[int, int] = MappingProxyType({})) -> tuple[list[_Used], int]:
        """The contents that nobody holds, and the bytes of all."""
        free, total = [], 0
        for entry in _files_in(self._folder / _FILES):
            with suppress(FileNotFoundError):
                seen = entry.stat(follow_symlinks=False)
                total += seen.st_size
                if seen.st_nlink - left.get(seen.st_ino, 0) == 1:
                    free.append(_Used(seen.st_mtime, seen.st_size, Path(entry.path)))
        return free, total

    def _entries(self) -> Iterator[_Used]:
        for entry in _files_in(self._folder / _INDEX):
            with suppress(FileNotFoundError):
                seen = entry.stat(follow_symlinks=False)
                yield _Used(seen.st_mtime, seen.st_size, Path(entry.path))

    def _leads_to_more_than(self, going: set[str], index: Path) -> bool:
        """Whether it is an entry whose content is there, and none of those."""
        with suppress(FileNotFoundError, UnicodeDecodeError):
            entry = Entry.parsed(index.read_text("ascii"))
            if entry is not None and entry.digest not in going:
                return self._content(entry.digest).exists()
        return False

    def _left_turns(self) -> Iterator[_Used]:
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in [e for e in os.scandir(self._folder / _TURNS) if _OWN.fullmatch(e.name)]:
                with suppress(FileNotFoundError):
                    if not _is_locked(Path(entry.path)):
                        seen = entry.stat(follow_symlinks=False)
                        yield _Used(seen.st_mtime, seen.st_size, Path(entry.path))

    def _content(self, digest: str) -> Path:
        return self._folder / _FILES / digest[:2] / digest

    def _index(self, source: ContentKey) -> Path:
        name = _name(source)
        return self._folder / _INDEX / name[:2] / name

    def _turn(self, source: ContentKey) -> Path:
        return self._folder / _TURNS / _name(source)


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return error.errno in _FULL


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file still has that name."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _name(source: ContentKey) -> str:
    version = source.version
    parts = [source.account_id, source.address, version.id, str(version.size), version.updated]
    if source.made:
        parts.append(source.made)
    # Lengths keep two sources apart whose parts run into one another.
    told = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _link(path: Path, to: Path) -> None:
    """A second name of a file; a copy where the disk has no such thing."""
    try:
        os.link(path, to, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("rb") as source, _private(to) as copy:
            shutil.copyfileobj(source, copy)


def _private(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _write(path: Path, text: str) -> None:
    with _private(path) as file:
        file.write(text.encode("ascii"))


def _within(folder: Path, act: Callable[[], _T]) -> _T:
    """Acts in a folder, which it makes, and those above, as private where it is not there."""
    try:
        return act()
    except FileNotFoundError:
        for parent in (*reversed(folder.parents), folder):
            if not parent.is_dir():
                parent.mkdir(mode=0o700, exist_ok=True)
        return act()


def _is_intact(path: Path, entry: Entry) -> bool:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                return False
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except OSError as error:
        if error.errno != errno.EIO:  # a block of the disk that cannot be read any more
            raise
        return False
    return digest.hexdigest() == entry.digest


def _files_in(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files of its folders."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for shard in list(os.scandir(folder)):
            with suppress(FileNotFoundError, NotADirectoryError):
                yield from [e for e in os.scandir(shard.path) if _OWN.fullmatch(e.name)]


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _delete_turn(path: Path) -> int:
    """A turn has no bytes; one that is held stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(path, descriptor):
            path.unlink()
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    return 0
