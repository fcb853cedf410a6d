"""What must change on a child: what the last sync left, what becomes of each source image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


NOTHING_LEFT = SyncRecord((), (), (), settled=True)
"""The record of a child entity without any image of imgsync's."""


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What becomes of one source image on the child, from the diff to the record of the copy.

    `element` stands for it in the list that is set: the child's copy of this very version, the
    file once it is fetched, or where it failed the earlier copy; None where nothing does.
    `problem` says why this version is not on the child; `retryable` where another time may help,
    `settled` where none can while the image stays the same. `earlier`: the child's image made from
    another version of it, which `earlier_version` is. `copied`: which version is there in the end.
    """

    image: SourceImage
    element: Element | None = None
    problem: str | None = None
    retryable: bool = False
    settled: bool = False
    earlier: Keep | None = None
    earlier_version: ImageFingerprint | None = None
    copied: CopiedImage | None = None

    @property
    def is_to_fetch(self) -> bool:
        return self.element is None and self.problem is None

    @property
    def warning(self) -> str:
        return f"{self.image.filename}: {self.problem}"

    def fetched(self, file: Upload) -> "ImageOutcome":
        """With the file to upload; the earlier copy holds its place until it is there."""
        replaces = None if self.earlier is None else self.earlier.href
        return replace(self, element=replace(file, replaces=replaces))

    def failed(
        self, problem: str, *, retryable: bool = False, settled: bool = False
    ) -> "ImageOutcome":
        """Without a file; the earlier copy stands in for it."""
        return replace(
            self, element=self.earlier, problem=problem, retryable=retryable, settled=settled
        )

    def after(self, replacement: Replacement) -> "ImageOutcome":
        """Where it stands now that the list has been set."""
        element = self.element
        if self.problem is not None:
            return self._without(self.problem, replacement)
        if isinstance(element, Upload) and element.key not in replacement.placed:
            reasons = replacement.rejected | replacement.stopped
            return self._without(reasons[element.key], replacement)
        if element is None:
            return self
        href = element.href if isinstance(element, Keep) else replacement.placed[element.key]
        return replace(self, copied=_copied(self.image.fingerprint, href))

    def _without(self, problem: str, replacement: Replacement) -> "ImageOutcome":
        if self.earlier is None:
            return replace(self, problem=problem)
        if self.earlier.href in replacement.final_hrefs:
            there = _copied(self.earlier_version, self.earlier.href)
            return replace(self, problem=f"{problem}; its earlier copy stays", copied=there)
        return replace(self, problem=f"{problem}; its earlier copy is gone")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing is to be done; `warnings`: what the last sync could not copy, and no other can."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetTo:
    """The child's list is to be set: which images are kept, which are fetched."""

    outcomes: tuple[ImageOutcome, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """The child's list is to be emptied, as main's is, and imgsync's images are there."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing can be done, or may be."""

    reason: str


Change = Unchanged | SetTo | Clear | Skip


def diff(
    images: Sequence[SourceImage],
    record: SyncRecord | None,
    current: Sequence[RemoteImage] | None,
    most: int,
) -> Change:
    """What must change on a child entity: `images` are main's, in order, of which the child gets
    `most`; `current` is the child's list, None where it is not known.

    An image is kept where the child's copy of this very version is there still, and to be fetched
    otherwise. Images that imgsync did not put on the child give way to main's only; where main has
    none, they stay.
    """
    if most < 1:
        return Skip("image sync is off")
    if not images:
        if record is None or not record.has_copies:
            return Unchanged()
        left = current is None or record.left_any(image.id for image in current)
        return Clear() if left else Unchanged()
    wanted = images[:most]
    if record is None or current is None:
        return SetTo(tuple(map(ImageOutcome, wanted)))
    if record.is_current([i.fingerprint for i in wanted], [c.id for c in current]):
        return Unchanged(record.warnings)
    hrefs = {image.id: image.href for image in current}
    return SetTo(tuple(_outcomes(wanted, record, hrefs)))


def _outcomes(
    images: Sequence[SourceImage], record: SyncRecord, hrefs: Mapping[str, str]
) -> Iterator[ImageOutcome]:
    """`hrefs`: the child's images by id."""
    # An image may stand on an entity twice; each has a copy of its own.
    copies = [copied for copied in record.copied if copied.child_image_id in hrefs]
    for image in images:
        same = next((c for c in copies if c.source == image.fingerprint), None)
        copied = same or next((c for c in copies if c.source.id == image.id), None)
        if copied is None:
            yield ImageOutcome(image)
            continue
        copies.remove(copied)
        there = Keep(hrefs[copied.child_image_id])
        yield (
            ImageOutcome(image, there)
            if same
            else ImageOutcome(image, earlier=there, earlier_version=copied.source)
        )


def wanted_elements(outcomes: Sequence[ImageOutcome]) -> list[Element]:
    """The child's wanted list; NoImageUploadedError where every image failed."""
    if all(outcome.problem for outcome in outcomes):
        raise _nothing(outcomes)
    return [outcome.element for outcome in outcomes if outcome.element is not None]


def conclude(
    outcomes: Sequence[ImageOutcome], replacement: Replacement
) -> tuple[SyncResult, SyncRecord]:
    """Sums up a replacement, and what is to be remembered of it; NoImageUploadedError where none
    of the images is on the child."""
    ended = [outcome.after(replacement) for outcome in outcomes]
    there = [outcome.element for outcome in ended if outcome.problem is None]
    if not there:
        raise _nothing(ended, _lost(replacement))
    warnings = tuple(outcome.warning for outcome in ended if outcome.problem is not None)
    uploaded = sum(isinstance(element, Upload) for element in there)
    selected = tuple(o.image.fingerprint for o in ended if o.image.fingerprint)
    record = SyncRecord(
        selected=selected,
        copied=tuple(outcome.copied for outcome in ended if outcome.copied is not None),
        child_image_ids=tuple(last_segment(href) for href in replacement.final_hrefs),
        settled=not replacement.stopped
        and len(selected) == len(ended)
        # A file that the child refuses is not asked for again; one that was not fetched may be.
        and all(o.problem is None or isinstance(o.element, Upload) or o.settled for o in ended),
        warnings=warnings,
    )
    result = SyncResult(
        SyncOutcome.COMPLETED_WITH_WARNINGS if warnings else SyncOutcome.COMPLETED,
        warnings,
        uploaded=uploaded,
        kept=len(there) - uploaded,
        downloaded_bytes=sum(o.element.size for o in ended if isinstance(o.element, Upload)),
    )
    return result, record


def _copied(version: ImageFingerprint | None, href: str) -> CopiedImage | None:
    return None if version is None else CopiedImage(version, last_segment(href))


def _lost(replacement: Replacement) -> list[str]:
    lost = len(replacement.dropped - set(replacement.final_hrefs))
    return [f"the API removed {lost} images of the child when it refused them"] if lost else []


def _nothing(outcomes: Sequence[ImageOutcome], more: Sequence[str] = ()) -> NoImageUploadedError:
    reasons = [outcome.warning for outcome in outcomes if outcome.problem is not None]
    retryable = any(outcome.retryable for outcome in outcomes)
    return NoImageUploadedError([*reasons, *more], retryable=retryable)
