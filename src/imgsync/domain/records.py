"""Records of earlier syncs: they make an unchanged entity cost nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    that may pass is still to be made good.
    """

    selected: tuple[ImageFingerprint, ...]
    copied: tuple[CopiedImage, ...]
    child_image_ids: tuple[str, ...]
    settled: bool
    warnings: tuple[str, ...] = ()

    @property
    def has_copies(self) -> bool:
        """True where the sync left images on the child, all of which were then imgsync's."""
        return bool(self.child_image_ids)

    def left_any(self, child_ids: Iterable[str]) -> bool:
        """True where any of these images of the child is one that the sync left."""
        return not set(self.child_image_ids).isdisjoint(child_ids)

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
