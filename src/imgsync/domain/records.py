"""Records of earlier syncs: they make an unchanged entity cost nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from imgsync.domain.images import ImageFingerprint


@dataclass(frozen=True, slots=True)
class EntityKey:
    """A child entity."""

    child_account_id: str
    entity_type: str
    child_entity_id: str


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """A source image and the child's image made from it (its id in the child account)."""

    source: ImageFingerprint
    child_image_id: str


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """What the last sync of an entity saw and left.

    `selected`: fingerprints of the images it was to copy; `copied`: those that are on the child,
    in order; `child_image_ids`: the child's whole list after it; `settled`: False where a failure
    that may pass is still to be made good. `begun_on`: while a write is under way, or broke off
    without an answer, the child's list before it, whose images are not that write's; else None.
    """

    selected: tuple[ImageFingerprint, ...]
    copied: tuple[CopiedImage, ...]
    child_image_ids: tuple[str, ...]
    settled: bool
    warnings: tuple[str, ...] = ()
    begun_on: tuple[str, ...] | None = None

    @property
    def has_copies(self) -> bool:
        """True where a sync left images on the child, or may have: they are then imgsync's."""
        return bool(self.child_image_ids) or self.begun_on is not None

    def left_any(self, child_ids: Iterable[str]) -> bool:
        """True where any of these images of the child is one that a sync left."""
        there = set(child_ids)
        if self.begun_on is not None and not there.issubset(self.begun_on):
            return True
        return not there.isdisjoint(self.child_image_ids)

    def begun(self, child_ids: Sequence[str]) -> "SyncRecord":
        """This record while the list of these images is being written.

        Where an earlier write broke off, its images may be among them: the list before it counts.
        """
        before = tuple(child_ids) if self.begun_on is None else self.begun_on
        return replace(self, settled=False, begun_on=before)

    def is_current(
        self, selected: Sequence[ImageFingerprint | None], child_ids: Sequence[str]
    ) -> bool:
        """True where neither the source nor the child has changed since."""
        return (
            self.settled
            and self.selected == tuple(selected)
            and self.child_image_ids == tuple(child_ids)
        )

    def child_image_of(self, source: ImageFingerprint) -> str | None:
        """Child image made from exactly this version of a source image."""
        return next((c.child_image_id for c in self.copied if c.source == source), None)


NOTHING_LEFT = SyncRecord((), (), (), settled=True)
"""The record of a child entity without any image of imgsync's."""
