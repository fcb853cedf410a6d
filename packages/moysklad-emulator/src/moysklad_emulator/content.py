"""Image bytes: files of a temporary directory, one per content."""

import hashlib
import shutil
import tempfile
import weakref
from collections import Counter
from pathlib import Path


def digest_of(content: bytes) -> str:
    """Name of a content in the store (SHA-256, hex)."""
    return hashlib.sha256(content).hexdigest()


class ContentStore:
    """Counts the references to each content; not thread-safe.

    The directory is removed when the store is garbage-collected or the interpreter exits.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="moysklad-emulator-"))
        self._references: Counter[str] = Counter()
        weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)

    def path(self, digest: str) -> Path:
        return self._directory / digest

    def add(self, digest: str, content: bytes) -> None:
        """Adds a reference; writes the file with the first one."""
        if not self._references[digest]:
            self.path(digest).write_bytes(content)
        self._references[digest] += 1

    def release(self, digest: str) -> None:
        """Drops a reference; removes the file with the last one."""
        self._references[digest] -= 1
        if not self._references[digest]:
            del self._references[digest]
            self.path(digest).unlink(missing_ok=True)
