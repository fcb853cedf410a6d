"""What must change on a child: what the last sync left, what becomes of each source image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from imgsync.domain.errors import NoImageUploadedError
from imgsync.domain.model import (
    Element,
    ImageFingerprint,
    Keep,
    RemoteImage,
    SourceImage,
    Upload,
    last_segment,
)
from imgsync.domain.replace import Replacement
from imgsync.domain.tasks import SyncOutcome, SyncResult


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


@dataclass(frozen=True, slots=True)
class Failure:
    """A source image that was not fetched; `retryable` where another time may help.

    `settled`: no later sync can do better while the image stays the same.
    """

    reason: str
    retryable: bool
    settled: bool = False


@dataclass(frozen=True, slots=True)
class EarlierCopy:
    """The child's image made from some version of a source image."""

    href: str
    version: ImageFingerprint


@dataclass(frozen=True, slots=True)
class ChildHistory:
    """What the last sync left on the child and is still there."""

    record: SyncRecord | None
    hrefs: Mapping[str, str]

    @classmethod
    def of(cls, record: SyncRecord | None, current: Sequence[RemoteImage]) -> "ChildHistory":
        return cls(record, {image.id: image.href for image in current})

    def same(self, image: SourceImage) -> Keep | None:
        """The child's image made from exactly this version of the source."""
        if self.record is None or image.fingerprint is None:
            return None
        href = self.hrefs.get(self.record.child_image_of(image.fingerprint) or "")
        return Keep(href) if href else None

    def earlier(self, image: SourceImage) -> EarlierCopy | None:
        """The child's image made from any version of the source."""
        for copied in self.record.copied if self.record else ():
            if copied.source.id == image.id and copied.child_image_id in self.hrefs:
                return EarlierCopy(self.hrefs[copied.child_image_id], copied.source)
        return None


@dataclass(frozen=True, slots=True)
class ImageCopy:
    """A source image, what stands for it in the child's list, and its earlier copy there."""

    image: SourceImage
    element: Element | None
    earlier: EarlierCopy | None = None
    failure: Failure | None = None

    @classmethod
    def of(cls, image: SourceImage, got: Element | Failure, history: ChildHistory) -> "ImageCopy":
        """The earlier copy stands in for an image that failed, and for one that waits."""
        if isinstance(got, Keep):
            return cls(image, got)
        earlier = history.earlier(image)
        if isinstance(got, Failure):
            return cls(image, Keep(earlier.href) if earlier else None, earlier, got)
        return cls(image, replace(got, replaces=earlier.href) if earlier else got, earlier)


def wanted_elements(copies: Sequence[ImageCopy]) -> list[Element]:
    """The child's wanted list; NoImageUploadedError where every image failed."""
    if all(copy.failure for copy in copies):
        raise _nothing(copies, [_warning(c.image, c.failure.reason) for c in copies if c.failure])
    return [copy.element for copy in copies if copy.element is not None]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Result of a sync, and the record of it."""

    result: SyncResult
    record: SyncRecord


def conclude(copies: Sequence[ImageCopy], replacement: Replacement) -> Conclusion:
    """Sums up a replacement; NoImageUploadedError where none of the images is on the child."""
    places = [_Place.of(copy, replacement) for copy in copies]
    warnings = tuple(_warning(p.copy.image, p.problem) for p in places if p.problem is not None)
    there = [p.copy.element for p in places if p.problem is None]
    if not there:
        raise _nothing(copies, [*warnings, *_lost(replacement)])
    uploads = [copy.element for copy in copies if isinstance(copy.element, Upload)]
    uploaded = sum(isinstance(element, Upload) for element in there)
    selected = tuple(c.image.fingerprint for c in copies if c.image.fingerprint)
    record = SyncRecord(
        selected=selected,
        copied=tuple(p.copied for p in places if p.copied is not None),
        child_image_ids=tuple(last_segment(href) for href in replacement.final_hrefs),
        settled=not replacement.stopped
        and len(selected) == len(copies)
        and all(copy.failure is None or copy.failure.settled for copy in copies),
        warnings=warnings,
    )
    result = SyncResult(
        SyncOutcome.COMPLETED_WITH_WARNINGS if warnings else SyncOutcome.COMPLETED,
        warnings,
        uploaded=uploaded,
        kept=len(there) - uploaded,
        downloaded_bytes=sum(upload.size for upload in uploads),
    )
    return Conclusion(result, record)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a source image ended: why it is not on the child (None where it is), and which copy of
    it is there, of this version or an earlier one."""

    copy: ImageCopy
    problem: str | None
    copied: CopiedImage | None

    @classmethod
    def of(cls, copy: ImageCopy, replacement: Replacement) -> "_Place":
        element = copy.element
        if copy.failure is not None:
            return cls._without(copy, copy.failure.reason, replacement)
        if isinstance(element, Upload) and element.key not in replacement.placed:
            reasons = replacement.rejected | replacement.stopped
            return cls._without(copy, reasons[element.key], replacement)
        if element is None:
            return cls(copy, None, None)
        href = element.href if isinstance(element, Keep) else replacement.placed[element.key]
        return cls(copy, None, _copied(copy.image.fingerprint, href))

    @classmethod
    def _without(cls, copy: ImageCopy, reason: str, replacement: Replacement) -> "_Place":
        earlier = copy.earlier
        if earlier is None:
            return cls(copy, reason, None)
        if earlier.href in replacement.final_hrefs:
            stays = f"{reason}; its earlier copy stays"
            return cls(copy, stays, _copied(earlier.version, earlier.href))
        return cls(copy, f"{reason}; its earlier copy is gone", None)


def _copied(version: ImageFingerprint | None, href: str) -> CopiedImage | None:
    return None if version is None else CopiedImage(version, last_segment(href))


def _lost(replacement: Replacement) -> list[str]:
    lost = len(replacement.dropped - set(replacement.final_hrefs))
    return [f"the API removed {lost} images of the child when it refused them"] if lost else []


def _nothing(copies: Sequence[ImageCopy], reasons: list[str]) -> NoImageUploadedError:
    retryable = any(copy.failure is not None and copy.failure.retryable for copy in copies)
    return NoImageUploadedError(reasons, retryable=retryable)


def _warning(image: SourceImage, reason: str) -> str:
    return f"{image.filename}: {reason}"
