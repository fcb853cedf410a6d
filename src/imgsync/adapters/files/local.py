"""Temp files on the local disk."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from imgsync.adapters.files.locks import LOCK_NAME, if_abandoned, make_held
from imgsync.domain.errors import NoRoomError, UnsafePathError
from imgsync.domain.formats import safe_suffix
from imgsync.domain.ports.storage import StaleFile

_CHUNK_BYTES = 192 * 1024
_WORKSPACE = re.compile(r"task-[0-9a-f]{32}")


class LocalFileStorage:
    """Implements the port `FileStorage` below one folder, which it creates as private (0700).

    It touches only its own ``task-…`` folders, so a shared folder such as /tmp is safe. The
    process that uses such a folder holds a lock in it; what is locked is no left-over.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def workspace(self) -> Iterator["LocalWorkspace"]:
        workspace = LocalWorkspace(self._root / f"task-{uuid.uuid4().hex}")
        try:
            yield workspace
        finally:
            workspace.remove()

    def stale(self, before: datetime) -> list[StaleFile]:
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

    def live(self) -> int:
        count = 0
        for folder in self._workspaces():
            with suppress(FileNotFoundError, NotADirectoryError), if_abandoned(folder) as abandoned:
                count += not abandoned
        return count

    def delete(self, file: StaleFile) -> int:
        path = self._root / file.path
        inside = path.parent.resolve().is_relative_to(self._root.resolve())
        if not inside or path.name == ".." or not _WORKSPACE.fullmatch(path.parent.name):
            raise UnsafePathError(f"'{file.path}' is outside the temp folder")
        try:
            with if_abandoned(path.parent) as abandoned:
                return _delete(path) if abandoned else 0
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
    with if_abandoned(folder) as abandoned:
        if not abandoned:
            return []
        files = [path for path in folder.iterdir() if not path.is_dir()]
    # The lock goes with the last of the files; alone, it is left-over itself.
    return [path for path in files if path.name != LOCK_NAME] or files


def _delete(path: Path) -> int:
    size = path.lstat().st_size
    path.unlink()
    with suppress(OSError):  # not empty, or its worker removed it meanwhile
        if {left.name for left in path.parent.iterdir()} <= {LOCK_NAME}:
            shutil.rmtree(path.parent)
    return size


class LocalWorkspace:
    """Implements the port `Workspace`: numbered files in a folder made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, LocalTempFile] = {}
        self._lock: int | None = None

    def create(self, filename: str) -> "LocalTempFile":
        key = f"{len(self._files):04d}{safe_suffix(filename)}"
        with _room_for(self._folder):
            if self._lock is None:
                self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock = make_held(self._folder)
            file = LocalTempFile(key, self._folder / key)
        self._files[key] = file
        return file

    def read(self, key: str) -> Iterator[bytes]:
        file = self._files[key]
        file.close()
        return _chunks(file.path)

    def remove(self) -> None:
        """Closes the files and deletes the folder."""
        for file in self._files.values():
            with suppress(NoRoomError):  # it was not whole, and is not wanted any more
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class LocalTempFile:
    """Implements the port `TempFile`."""

    def __init__(self, key: str, path: Path) -> None:
        self._key = key
        self.path = path
        self._size = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")

    @property
    def key(self) -> str:
        return self._key

    @property
    def size(self) -> int:
        return self._size

    def write(self, chunk: bytes) -> None:
        with _room_for(self.path.parent):
            self._file.write(chunk)
        self._size += len(chunk)

    def restart(self) -> None:
        with _room_for(self.path.parent):
            self._file.seek(0)
            self._file.truncate()
        self._size = 0

    def close(self) -> None:
        with _room_for(self.path.parent):
            self._file.close()


@contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """Whatever keeps a temp file from being written or read is no task's fault."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NoRoomError(f"No room for temp files in {folder.parent}: {reason}") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with _room_for(path.parent):
        file = path.open("rb")
    with file:
        while True:
            with _room_for(path.parent):
                chunk = file.read(_CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
