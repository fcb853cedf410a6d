"""Temp files on the local disk."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from imgsync.domain.errors import UnsafePathError
from imgsync.domain.filenames import safe_suffix
from imgsync.domain.ports.storage import StaleFile

_CHUNK_BYTES = 192 * 1024
_WORKSPACE = re.compile(r"task-[0-9a-f]{32}")


class LocalFileStorage:
    """Implements the port `FileStorage` below one folder, which it creates as private (0700).

    It touches only its own ``task-…`` folders, so a shared folder such as /tmp is safe.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def workspace(self) -> Iterator["LocalWorkspace"]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        workspace = LocalWorkspace(self._root / f"task-{uuid.uuid4().hex}")
        try:
            yield workspace
        finally:
            workspace.remove()

    def stale(self, before: datetime) -> list[StaleFile]:
        found = []
        for path in sorted(self._own_files()):
            try:
                stat = path.lstat()
            except FileNotFoundError:  # its worker deleted it meanwhile
                continue
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            if modified < before:
                relative = path.relative_to(self._root).as_posix()
                found.append(StaleFile(relative, stat.st_size, modified))
        return found

    def delete(self, file: StaleFile) -> int:
        path = self._root / file.path
        inside = path.parent.resolve().is_relative_to(self._root.resolve())
        if not inside or path.name == ".." or not _WORKSPACE.fullmatch(path.parent.name):
            raise UnsafePathError(f"'{file.path}' is outside the temp folder")
        try:
            size = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        with suppress(OSError):  # not empty, or its worker removed it meanwhile
            path.parent.rmdir()
        return size

    def _own_files(self) -> Iterator[Path]:
        if not self._root.is_dir():
            return
        for folder in self._root.iterdir():
            if not _WORKSPACE.fullmatch(folder.name) or folder.is_symlink():
                continue
            with suppress(FileNotFoundError, NotADirectoryError):  # removed by its worker
                yield from (path for path in folder.iterdir() if not path.is_dir())


class LocalWorkspace:
    """Implements the port `Workspace`: numbered files in a folder made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, LocalTempFile] = {}

    def create(self, filename: str) -> "LocalTempFile":
        self._folder.mkdir(mode=0o700, exist_ok=True)
        key = f"{len(self._files):04d}{safe_suffix(filename)}"
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
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class LocalTempFile:
    """Implements the port `TempFile`."""

    def __init__(self, key: str, path: Path) -> None:
        self._key = key
        self.path = path
        self._size = 0
        self._file: BinaryIO = path.open("xb")

    @property
    def key(self) -> str:
        return self._key

    @property
    def size(self) -> int:
        return self._size

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._size += len(chunk)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._size = 0

    def close(self) -> None:
        self._file.close()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
