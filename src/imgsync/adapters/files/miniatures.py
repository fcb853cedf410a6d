"""Miniatures in a folder."""

import asyncio
import hashlib
import logging
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from imgsync.domain.ports.miniatures import MOST_MINIATURE_BYTES

_log = logging.getLogger(__name__)
MOST_BYTES = 200_000_000
UNUSED_SECONDS = 30 * 86_400.0
_USED_EVERY_SECONDS = 3600.0
"""How often it is noted that a file is used."""

_LOOK_EVERY = 200
"""Files that are put before the folder's bytes are counted again."""


class FolderMiniatures:
    """Implements `MiniatureStore` below `folder`: files named by the SHA-256 of their key. A file
    is written beside its place and moved there, so that none is read that is not whole."""

    def __init__(
        self,
        folder: Path,
        most_bytes: int = MOST_BYTES,
        *,
        unused_seconds: float = UNUSED_SECONDS,
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._unused_seconds = unused_seconds
        self._put = 0

    async def get(self, key: str) -> bytes | None:
        return await asyncio.to_thread(self._read, self._path(key))

    async def put(self, key: str, content: bytes) -> None:
        if len(content) > MOST_MINIATURE_BYTES:
            return
        await asyncio.to_thread(self._write, self._path(key), content)
        self._put += 1
        if self._put % _LOOK_EVERY == 1:
            await self.clean()

    async def clean(self) -> int:
        return await asyncio.to_thread(self._clean)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / name[:2] / name[2:]

    def _read(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                content = file.read(MOST_MINIATURE_BYTES + 1)
                age = time.time() - os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if age > _USED_EVERY_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return content if 0 < len(content) <= MOST_MINIATURE_BYTES else None

    def _write(self, path: Path, content: bytes) -> None:
        beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(path)
        except OSError as error:
            _log.warning("a miniature could not be kept: %s", error.strerror)
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def _clean(self) -> int:
        """The least recently used go until a tenth of the room is free."""
        found = []
        with suppress(OSError):
            for path in self._folder.glob("??/*"):
                with suppress(OSError):
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        most = total if total <= self._most_bytes else self._most_bytes * 9 // 10
        oldest, gone = time.time() - self._unused_seconds, 0
        for modified, size, path in sorted(found):
            if modified >= oldest and total <= most:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
                gone += 1
        return gone
