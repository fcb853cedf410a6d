"""What becomes of each source image: kept, uploaded or failed, and what is remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from imgsync.domain.encoding import Element, Keep, Upload
from imgsync.domain.errors import NoImageUploadedError
from imgsync.domain.images import ImageFingerprint, RemoteImage, SourceImage, last_segment
from imgsync.domain.records import CopiedImage, SyncRecord
from imgsync.domain.replace import Replacement
from imgsync.domain.tasks import SyncOutcome, SyncResult


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
    warnings: list[str] = []
    copied: list[CopiedImage] = []
    uploaded = kept = size = 0
    settled = not replacement.stopped
    for copy in copies:
        reason, href, version = _placed(copy, replacement)
        if isinstance(copy.element, Upload):
            size += copy.element.size
        if reason is None:
            uploaded += isinstance(copy.element, Upload)
            kept += isinstance(copy.element, Keep)
        else:
            stays = "; its earlier copy stays" if href else ""
            warnings.append(_warning(copy.image, reason + stays))
        settled = settled and (copy.failure is None or copy.failure.settled)
        if href is not None and version is not None:
            copied.append(CopiedImage(version, last_segment(href)))
    if not uploaded and not kept:
        raise _nothing(copies, warnings)
    selected = tuple(c.image.fingerprint for c in copies if c.image.fingerprint)
    record = SyncRecord(
        selected=selected,
        copied=tuple(copied),
        child_image_ids=tuple(last_segment(href) for href in replacement.final_hrefs),
        settled=settled and len(selected) == len(copies),
        warnings=tuple(warnings),
    )
    outcome = SyncOutcome.COMPLETED_WITH_WARNINGS if warnings else SyncOutcome.COMPLETED
    return Conclusion(SyncResult(outcome, tuple(warnings), uploaded, kept, size), record)


def _placed(
    copy: ImageCopy, replacement: Replacement
) -> tuple[str | None, str | None, ImageFingerprint | None]:
    """Why the image is not on the child (None where it is), and the href and version that are."""
    reason = copy.failure.reason if copy.failure else None
    if reason is None and isinstance(copy.element, Keep):
        return None, copy.element.href, copy.image.fingerprint
    if isinstance(copy.element, Upload):
        href = replacement.placed.get(copy.element.key)
        if href is not None:
            return None, href, copy.image.fingerprint
        reason = (replacement.rejected | replacement.stopped)[copy.element.key]
    earlier = copy.earlier
    if earlier is not None and earlier.href in replacement.final_hrefs:
        return reason, earlier.href, earlier.version
    return reason, None, None


def _nothing(copies: Sequence[ImageCopy], reasons: list[str]) -> NoImageUploadedError:
    retryable = any(copy.failure is not None and copy.failure.retryable for copy in copies)
    return NoImageUploadedError(reasons, retryable=retryable)


def _warning(image: SourceImage, reason: str) -> str:
    return f"{image.filename}: {reason}"
