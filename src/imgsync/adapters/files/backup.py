"""Backups of images in a folder, readable by people: one folder for each entity and run."""

import asyncio
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from imgsync.domain.changes import BackedUp, BackupError, NoBackupError, SavedImage

_T = TypeVar("_T")
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
"""End of the name of a folder whose backup was never finished; nothing was removed for it, and it
may be deleted."""

_VERSION = 1
_PIECE_BYTES = 256 * 1024
_LONGEST_NAME = 80
"""Bytes of UTF-8 of a part of a path; systems take 255, of which a number and an id have theirs."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_MANY = 10_000


class FolderBackups:
    """Implements `BackupStore` below `folder`; None: nothing is saved but beside an earlier backup.

    A backup is ``run/child (its id)/type/entity's id``, and is found by its absolute path. It is
    written beside that place and moved there once all of it is on the disk.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder.expanduser().absolute()

    @property
    def is_on(self) -> bool:
        return self._folder is not None

    @asynccontextmanager
    async def begin(
        self, entity: BackedUp, beside: str | None = None
    ) -> AsyncIterator["FolderBackup"]:
        folder = self._folder
        if folder is None and beside is not None:
            folder = Path(beside).parents[3]
        if folder is None:
            raise BackupError("no folder for backups is configured")
        backup = FolderBackup(folder, entity)
        await _beside_the_loop(backup.open)
        try:
            yield backup
        finally:
            await _beside_the_loop(backup.drop)

    async def images(self, place: str) -> list[SavedImage]:
        return await _beside_the_loop(lambda: _manifest(Path(place)))

    async def read(self, place: str, image: SavedImage) -> AsyncIterator[bytes]:
        path = Path(place) / _own_name(image.file)
        told, size, offset = hashlib.sha256(), 0, 0
        while piece := await _beside_the_loop(partial(_piece, path, offset)):
            told.update(piece)
            size += len(piece)
            offset += len(piece)
            if size > image.size:
                break  # whatever lies there by now may be of any length
            yield piece
        if (size, told.hexdigest()) != (image.size, image.sha256):
            raise NoBackupError(f"the file {path} is not the one that was saved")


class FolderBackup:
    """Implements `Backup`: a folder of its own until it is finished."""

    def __init__(self, folder: Path, entity: BackedUp) -> None:
        key = entity.key
        child = f"{safe_name(entity.account_name)} ({safe_name(entity.account_id)})"
        self._root = folder
        self._parent = folder / safe_name(entity.run) / child / safe_name(key.entity_type)
        self._name = safe_name(key.child_entity_id)
        self._entity = entity
        self._here = self._parent / f".{self._name}.{secrets.token_hex(4)}{UNFINISHED}"
        self._files: dict[str, _File] = {}

    def open(self) -> None:
        with self._writing():
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._here.mkdir(mode=0o700)

    def drop(self) -> None:
        """Deletes what was not finished."""
        for file in self._files.values():
            file.abandon()
        if self._here.exists():
            with suppress(OSError):
                shutil.rmtree(self._here)

    async def create(self, filename: str) -> "_File":
        name = f"{len(self._files) + 1:02}-{safe_name(filename)}"

        def make() -> _File:
            with self._writing():
                return _File(name, (self._here / name).open("xb"), self._writing)

        file = self._files[name] = await _beside_the_loop(make)
        return file

    async def read(self, key: str) -> AsyncIterator[bytes]:
        path, offset = self._here / self._files[key].key, 0
        while piece := await _beside_the_loop(partial(_piece, path, offset)):
            offset += len(piece)
            yield piece

    async def finish(self, images: Sequence[SavedImage]) -> str:
        return await _beside_the_loop(lambda: self._finish(images))

    def _finish(self, images: Sequence[SavedImage]) -> str:
        with self._writing():
            with (self._here / MANIFEST).open("x", encoding="utf-8") as file:
                json.dump(_told(self._entity, images), file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self._here)
            place = self._move()
            # With the folders that were made for it, perhaps a moment ago by another.
            for folder in (self._parent, *self._parent.parents[:3]):
                _sync_folder(folder)
        return str(place)

    def _move(self) -> Path:
        """Where no other is: a run may change an entity again and again."""
        for number in range(1, _MANY):
            place = self._parent / (self._name if number == 1 else f"{self._name}-{number}")
            try:
                if not place.exists():
                    self._here.rename(place)
                    return place
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
        raise OSError(errno.EEXIST, "too many backups of one entity in one run")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BackupError(
                f"The backup in {self._root} cannot be written: {reason}; nothing was removed"
            ) from error


class _File:
    """Implements `TempFile`; on the disk, and not only on its way there, once it is closed."""

    def __init__(self, name: str, file: BinaryIO, writing: Callable[[], Any]) -> None:
        self.key = name
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = file
        self._writing = writing

    @property
    def digest(self) -> str:
        if not self._file.closed:
            raise ValueError("the file is not closed")
        return self._hash.hexdigest()

    async def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        await _beside_the_loop(lambda: self._write(chunk))

    async def close(self) -> None:
        await _beside_the_loop(self._close)

    async def discard(self) -> None:
        await _beside_the_loop(self._discard)

    def abandon(self) -> None:
        with suppress(OSError):  # what is left in its buffer has no place on the disk
            self._file.close()

    def _write(self, chunk: bytes) -> None:
        with self._writing():
            self._hash.update(chunk)
            self._file.write(chunk)

    def _close(self) -> None:
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _discard(self) -> None:
        self.abandon()
        with suppress(OSError):
            Path(self._file.name).unlink()


def safe_name(text: str) -> str:
    """A plain part of a path for any text, on any system: letters and digits of every script, and
    what is between them; never empty, hidden or reserved, and short. Several texts may have the
    same."""
    plain = "".join(c if c.isalnum() or c in " -_.," else "_" for c in text)
    stem, dot, suffix = plain.rpartition(".")
    if not dot or len(suffix) > 5:
        stem, suffix = plain, ""
    end = f".{suffix}" if suffix.strip(" .") else ""
    room = _LONGEST_NAME - len(end.encode())
    stem = stem.encode()[:room].decode(errors="ignore").strip(" .")
    name = f"{stem or '_'}{end}".rstrip(" .")
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _own_name(name: str) -> str:
    """NoBackupError for what would lie elsewhere."""
    if name in ("", ".", "..") or Path(name).name != name or "\x00" in name:
        raise NoBackupError(f"the backup names a file that is none of its own: {name!r}")
    return name


def _told(entity: BackedUp, images: Sequence[SavedImage]) -> dict[str, Any]:
    return {
        "imgsync_backup": _VERSION,
        "run": entity.run,
        "account": {"id": entity.account_id, "name": entity.account_name},
        "entity": {
            "type": entity.key.entity_type,
            "id": entity.key.child_entity_id,
            "name": entity.entity_name,
            "main_id": entity.main_entity_id,
        },
        "images": [asdict(image) for image in images],
    }


def _manifest(place: Path) -> list[SavedImage]:
    try:
        told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if told["imgsync_backup"] != _VERSION:
            raise NoBackupError(f"the backup {place} is of another version of imgsync")
        images = [SavedImage(**image) for image in told["images"]]
        for image in images:
            if not _is_saved(image):
                raise NoBackupError(f"the manifest of the backup {place} is damaged")
            if not (place / _own_name(image.file)).is_file():
                raise NoBackupError(f"the backup {place} lacks the file {image.file!r}")
    except FileNotFoundError:
        raise NoBackupError(f"there is no backup in {place}") from None
    except OSError as error:
        raise NoBackupError(f"the backup {place} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoBackupError(f"the manifest of the backup {place} is damaged") from error
    return images


def _is_saved(image: SavedImage) -> bool:
    """Whether its fields, which anybody may have edited, are of their types."""
    texts = (image.image_id, image.filename, image.sha256, image.updated, image.file)
    numbers = (image.order, image.size)
    return all(type(t) is str for t in texts) and all(type(n) is int for n in numbers)


def _piece(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_PIECE_BYTES)
    except OSError as error:
        raise NoBackupError(f"the file {path} cannot be read: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _beside_the_loop(work: Callable[[], _T]) -> _T:
    """To its end, whatever becomes of whoever waits: the next step finds no half of it."""
    under_way = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        await asyncio.wait([under_way])
        raise
