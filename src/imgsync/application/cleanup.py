"""Deletes temp files that a killed worker left behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.storage import FileStorage, StaleFile


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Files deleted and bytes freed (or, in a dry run, that would be)."""

    files: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class CleanupTemp:
    storage: FileStorage
    clock: Clock

    def find(self, age: timedelta) -> list[StaleFile]:
        """Temp files last changed longer ago than `age`."""
        return self.storage.stale(self.clock.now() - age)

    def live(self) -> int:
        """Tasks under way, whose temp files are left alone whatever their age."""
        return self.storage.live()

    def delete(
        self, files: Sequence[StaleFile], progress: Callable[[StaleFile], None] = lambda _: None
    ) -> Cleaned:
        """Deletes them, telling `progress` of each."""
        freed = 0
        for file in files:
            freed += self.storage.delete(file)
            progress(file)
        return Cleaned(len(files), freed)
