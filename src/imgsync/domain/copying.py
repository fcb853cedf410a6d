"""What becomes of each source image: kept, uploaded or failed, and what is remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgsync.domain.encoding import Element, Keep, Upload
from imgsync.domain.errors import NoImageUploadedError
from imgsync.domain.images import ImageFingerprint, RemoteImage, SourceImage, last_segment
from imgsync.domain.records import CopiedImage, SyncRecord
from imgsync.domain.replace import Replacement
from imgsync.domain.tasks import SyncOutcome, SyncResult


@dataclass(frozen=True, slots=True)
class Failure:
    """A source image that was not fetched; `retryable` where another time may help."""

    reason: str
    retryable: bool


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

    def older(self, image: SourceImage) -> tuple[Keep, ImageFingerprint] | None:
        """The child's image made from any version of the source, with that version."""
        for copied in self.record.copied if self.record else ():
            if copied.source.id == image.id and copied.child_image_id in self.hrefs:
                return Keep(self.hrefs[copied.child_image_id]), copied.source
        return None


@dataclass(frozen=True, slots=True)
class ImageCopy:
    """A source image, what stands for it in the child's list, and the version that holds."""

    image: SourceImage
    element: Element | None
    version: ImageFingerprint | None
    failure: Failure | None = None

    @classmethod
    def of(cls, image: SourceImage, got: Element | Failure, history: ChildHistory) -> "ImageCopy":
        """An image that failed is stood in for by its earlier copy, where there is one."""
        if not isinstance(got, Failure):
            return cls(image, got, image.fingerprint)
        older = history.older(image)
        if older is None:
            return cls(image, None, None, got)
        return cls(image, older[0], older[1], got)


def wanted_elements(copies: Sequence[ImageCopy]) -> list[Element]:
    """The child's wanted list; NoImageUploadedError where every image failed."""
    elements = [copy.element for copy in copies if copy.element is not None]
    if not elements:
        raise _nothing(copies, [_warning(c.image, c.failure.reason) for c in copies if c.failure])
    return elements


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Result of a sync, and the record of it."""

    result: SyncResult
    record: SyncRecord


def conclude(copies: Sequence[ImageCopy], replacement: Replacement) -> Conclusion:
    """Sums up a replacement; NoImageUploadedError where the child holds none of the images."""
    warnings: list[str] = []
    copied: list[CopiedImage] = []
    uploaded = kept = size = 0
    settled = not replacement.stopped
    for copy in copies:
        if copy.failure:
            stays = "; its earlier copy stays" if copy.element else ""
            warnings.append(_warning(copy.image, copy.failure.reason + stays))
            settled = settled and not copy.failure.retryable
        href = None
        if isinstance(copy.element, Keep):
            href = copy.element.href
            kept += 1
        elif isinstance(copy.element, Upload):
            size += copy.element.size
            href = replacement.placed.get(copy.element.key)
            uploaded += href is not None
            failed = replacement.rejected | replacement.stopped
            if href is None:
                warnings.append(_warning(copy.image, failed[copy.element.key]))
        if href is not None and copy.version is not None:
            copied.append(CopiedImage(copy.version, last_segment(href)))
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


def _nothing(copies: Sequence[ImageCopy], reasons: list[str]) -> NoImageUploadedError:
    retryable = any(copy.failure is not None and copy.failure.retryable for copy in copies)
    return NoImageUploadedError(reasons, retryable=retryable)


def _warning(image: SourceImage, reason: str) -> str:
    return f"{image.filename}: {reason}"
