"""Temp files in memory; they pass the contract of the port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from imgsync.domain.errors import UnsafePathError
from imgsync.domain.formats import safe_suffix
from imgsync.domain.ports.storage import StaleFile


@dataclass
class MemoryTempFile:
    key: str
    data: bytearray = field(default_factory=bytearray)
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def restart(self) -> None:
        self.data.clear()

    def close(self) -> None:
        return


@dataclass
class MemoryWorkspace:
    files: dict[str, MemoryTempFile] = field(default_factory=dict)

    def create(self, filename: str) -> MemoryTempFile:
        file = MemoryTempFile(f"{len(self.files):04d}{safe_suffix(filename)}")
        self.files[file.key] = file
        return file

    def read(self, key: str) -> Iterator[bytes]:
        data = bytes(self.files[key].data)
        return iter([data[i : i + 1000] for i in range(0, len(data), 1000)])


@dataclass
class MemoryFileStorage:
    """Implements `FileStorage`; `made` counts the workspaces ever made. `workspaces` are those
    whose owner lives, `left_over` those of the dead."""

    workspaces: dict[str, MemoryWorkspace] = field(default_factory=dict)
    left_over: dict[str, MemoryWorkspace] = field(default_factory=dict)
    made: int = 0

    @contextmanager
    def workspace(self) -> Iterator[MemoryWorkspace]:
        self.made += 1
        name = f"task-{self.made:032x}"
        self.workspaces[name] = MemoryWorkspace()
        try:
            yield self.workspaces[name]
        finally:
            self.workspaces.pop(name)

    def stale(self, before: datetime) -> list[StaleFile]:
        return [
            StaleFile(f"{name}/{file.key}", file.size, file.modified)
            for name, workspace in self.left_over.items()
            for file in workspace.files.values()
            if file.modified < before
        ]

    def live(self) -> int:
        return len(self.workspaces)

    def delete(self, file: StaleFile) -> int:
        name, _, key = file.path.partition("/")
        if not name.startswith("task-") or "/" in key or key in ("", ".", ".."):
            raise UnsafePathError(file.path)
        if name not in self.left_over or key not in self.left_over[name].files:
            return 0
        return self.left_over[name].files.pop(key).size

    def leave_behind(self, data: bytes) -> None:
        """A file whose worker was killed."""
        self.made += 1
        workspace = self.left_over[f"task-{self.made:032x}"] = MemoryWorkspace()
        workspace.create("a.png").write(data)
