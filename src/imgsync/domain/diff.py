"""What must change on a child: what the last sync left, what becomes of each source image."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from imgsync.domain.errors import FailureCause as FailureCause
from imgsync.domain.errors import NoImageUploadedError
from imgsync.domain.formats import CONVERTIBLE, safe_suffix, upload_name
from imgsync.domain.model import (
    MAX_IMAGES,
    Element,
    ImageFingerprint,
    Keep,
    RemoteImage,
    SourceImage,
    Upload,
    last_segment,
)
from imgsync.domain.model import Adopt as Adopt
from imgsync.domain.pictures import (
    AS_BY_DEFAULT,
    ImageContent,
    PictureFacts,
    PictureSettings,
    fingerprint,
    plan,
    same_plan,
)
from imgsync.domain.replace import Replacement
from imgsync.domain.tasks import SyncOutcome, SyncResult


@dataclass(frozen=True, slots=True)
class EntityKey:
    """A child entity."""

    child_account_id: str
    entity_type: str
    child_entity_id: str

    @property
    def dedupe_key(self) -> str:
        """That of every task that writes the entity (`SyncRequest.dedupe_key`)."""
        return "/".join((self.child_account_id, self.entity_type, self.child_entity_id))


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """A source image and the child's image made from it (its id in the child account).

    `content`: that of both; None where it was never known, as of what was adopted by its size.
    """

    source: ImageFingerprint
    child_image_id: str
    content: ImageContent | None = None


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """What the last sync of an entity saw and left.

    `selected`: fingerprints of the images it was to copy; `copied`: those that are on the child,
    in order; `child_image_ids`: the child's whole list after it; `settled`: False where a failure
    that may pass is still to be made good. `begun_on`: while a write is under way, or broke off
    without an answer, the child's list before it, whose images are not that write's; else None.
    `made_with`: the fingerprint of the settings by which it was made, '' before there were such.
    """

    selected: tuple[ImageFingerprint, ...]
    copied: tuple[CopiedImage, ...]
    child_image_ids: tuple[str, ...]
    settled: bool
    warnings: tuple[str, ...] = ()
    begun_on: tuple[str, ...] | None = None
    made_with: str = ""

    @property
    def has_none(self) -> bool:
        """True where none of the images can be copied while they stay as they are."""
        return self.settled and 0 < len(self.selected) <= len(self.warnings)

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

    def saw(self, images: Sequence[ImageFingerprint | None], most: int) -> bool:
        """True where these are the images that main had, and the first `most` that can be copied
        were found among them."""
        tried = len(self.selected)
        sources = {copied.source for copied in self.copied}
        there = sum(copied.source in self.selected for copied in self.copied)
        # What was tried behind those that fill the list is not wanted any more.
        is_full = there == most and self.selected[-1] in sources
        is_whole = is_full or (there < most and tried == len(images))
        return is_whole and self.selected == tuple(images[:tried])

    def is_current(
        self, images: Sequence[ImageFingerprint | None], child_ids: Sequence[str], most: int
    ) -> bool:
        """True where neither the source, `images` in order, nor the child has changed since; what
        the child has does not matter where nothing can be copied."""
        as_left = self.has_none or self.child_image_ids == tuple(child_ids)
        return self.settled and self.saw(images, most) and as_left


NOTHING_LEFT = SyncRecord((), (), (), settled=True)
"""The record of a child entity without any image of imgsync's."""

_ANY_PICTURE = PictureFacts("jpg", 10**9, 10**9, 10**9)
"""Stands for one of which nothing is known: whatever is done to some is done to it."""


@dataclass(frozen=True, slots=True)
class Making:
    """How the pictures of a link are made: its settings, and the names and versions of the
    transformations that plugins bring (`others`)."""

    settings: PictureSettings = AS_BY_DEFAULT
    others: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.settings, self.others)

    @property
    def sends_all_as_they_come(self) -> bool:
        """Whether nothing is done to any JPEG or PNG file, but for the account's limit."""
        return not plan(self.settings, _ANY_PICTURE, self.others)

    def makes_the_same(self, content: ImageContent | None) -> bool:
        """Whether a copy would be made now as it was. One of which nothing is known was made before
        there were such settings."""
        if content is None:
            return self.sends_all_as_they_come
        now = plan(self.settings, content.facts, self.others)
        return same_plan(content.plan, now, self.settings)


BY_DEFAULT = Making()


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What becomes of one source image on the child, from the diff to the record of the copy.

    `element` stands for it in the list that is set: the child's copy of this very version, the
    file once it is fetched, or where it failed the earlier copy; None where nothing does.
    `problem` says why this version is not on the child; `retryable` where another time may help,
    `settled` where none can while the image stays the same. `earlier`: the child's image made from
    another version of it, or in another way, `earlier_version`. `copied`: which version is there in
    the end. `cause` sorts the problem; `content` is that of the file, `note` tells what was done to
    it.
    """

    image: SourceImage
    element: Element | None = None
    problem: str | None = None
    retryable: bool = False
    settled: bool = False
    earlier: Keep | None = None
    earlier_version: CopiedImage | None = None
    copied: CopiedImage | None = None
    cause: FailureCause | None = None
    content: ImageContent | None = None
    note: str = ""

    @property
    def is_to_fetch(self) -> bool:
        return self.element is None and self.problem is None

    @property
    def warning(self) -> str:
        return f"{self.image.filename}: {self.problem}"

    def fetched(
        self, file: Upload, content: ImageContent | None = None, note: str = ""
    ) -> "ImageOutcome":
        """With the file to upload; the earlier copy holds its place until it is there."""
        replaces = None if self.earlier is None else self.earlier.href
        return replace(self, element=replace(file, replaces=replaces), content=content, note=note)

    def failed(
        self,
        problem: str,
        *,
        cause: FailureCause | None = None,
        retryable: bool = False,
        settled: bool = False,
    ) -> "ImageOutcome":
        """Without a file; the earlier copy stands in for it."""
        return replace(
            self,
            element=self.earlier,
            problem=problem,
            cause=cause,
            retryable=retryable,
            settled=settled,
        )

    def after(self, replacement: Replacement) -> "ImageOutcome":
        """Where it stands now that the list has been set."""
        element = self.element
        if self.problem is not None:
            return self._without(self.problem, replacement)
        if isinstance(element, Upload) and element.key not in replacement.placed:
            reasons = replacement.rejected | replacement.stopped
            cause = replacement.causes.get(element.key, FailureCause.NOT_SENT)
            ended = replace(self, cause=cause, note="")
            return ended._without(reasons[element.key], replacement)
        if element is None:
            return self
        href = element.href if isinstance(element, Keep) else replacement.placed[element.key]
        return replace(self, copied=_copied(self.image.fingerprint, href, self.content))

    def _without(self, problem: str, replacement: Replacement) -> "ImageOutcome":
        if self.earlier is None:
            return replace(self, problem=problem)
        if self.earlier.href in replacement.final_hrefs:
            there = self.earlier_version
            return replace(self, problem=f"{problem}; its earlier copy stays", copied=there)
        return replace(self, problem=f"{problem}; its earlier copy is gone")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing is to be done; `warnings`: what the last sync could not copy, and no other can.

    `adopted`: what is to be recorded, where the child has main's images without a record.
    """

    warnings: tuple[str, ...] = ()
    adopted: SyncRecord | None = None


@dataclass(frozen=True, slots=True)
class SetTo:
    """The child's list is to be set to the first `most` images that can be copied: which of them
    are kept, which are fetched."""

    outcomes: tuple[ImageOutcome, ...]
    most: int = MAX_IMAGES


@dataclass(frozen=True, slots=True)
class Clear:
    """The child's list is to be emptied, as main's is, and imgsync's images are there."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing can be done, or may be. `lone`: the child has no counterpart that it could be done
    to."""

    reason: str
    lone: bool = False


Change = Unchanged | SetTo | Clear | Skip


def diff(
    images: Sequence[SourceImage],
    record: SyncRecord | None,
    current: Sequence[RemoteImage] | None,
    most: int,
    making: Making = BY_DEFAULT,
    adopt: Adopt = Adopt.SIZE,
) -> Change:
    """What must change on a child entity: `images` are main's, in order, of which the child gets
    the first `most` that can be copied; `current` is the child's list, None where it is not known.

    An image is kept where the child's copy of this very version is there still, made as it would be
    made now, and to be fetched otherwise. Images that imgsync did not put on the child give way to
    main's only; where main has none, they stay. Those that `adopt` takes for main's are kept; by
    HASH, so are only copies whose content is known.
    """
    if most < 1:
        return Skip("image sync is off")
    if not images:
        if record is None or not record.has_copies:
            return Unchanged()
        left = current is None or record.left_any(image.id for image in current)
        return Clear() if left else Unchanged()
    if current is None:
        return SetTo(tuple(map(ImageOutcome, images)), most)
    if record is None or not record.has_copies:
        found = _adopted(images, current, most, making) if adopt is Adopt.SIZE else None
        if found is not None:
            return Unchanged(adopted=found)
    if record is None:
        return SetTo(tuple(map(ImageOutcome, images)), most)
    is_as_made = _is_as_made(record, making, adopt)
    if (
        record.is_current([i.fingerprint for i in images], [c.id for c in current], most)
        and all(map(is_as_made, record.copied))
        # A failure may be one that other settings do away with.
        and (record.made_with == making.fingerprint or not (record.warnings or _has_failed(record)))
    ):
        return Unchanged(record.warnings)
    hrefs = {image.id: image.href for image in current}
    return SetTo(tuple(_outcomes(images, record, hrefs, is_as_made)), most)


def _is_as_made(record: SyncRecord, making: Making, adopt: Adopt) -> Callable[[CopiedImage], bool]:
    """Tells whether a copy is as it would be made now."""
    same_settings = record.made_with == making.fingerprint

    def is_as_made(copied: CopiedImage) -> bool:
        if copied.content is None and adopt is Adopt.HASH:
            return False
        return same_settings or making.makes_the_same(copied.content)

    return is_as_made


def _has_failed(record: SyncRecord) -> bool:
    there = [copied.source for copied in record.copied]
    return any(there.count(one) < record.selected.count(one) for one in record.selected)


_CONVERTED = CONVERTIBLE | {"tif", "heif"}
_UNIQID = re.compile(r"\A[0-9a-f]{13}_")
"""What the system before imgsync put in front of a name: PHP's uniqid."""


def _adopted(
    images: Sequence[SourceImage], current: Sequence[RemoteImage], most: int, making: Making
) -> SyncRecord | None:
    """The record of images that are main's by number, order, names and sizes.

    Only where they would be sent as they are: of one that is made another, the size is not known
    beforehand. What the child has, its account takes.
    """
    wanted = images[:most]
    if not making.sends_all_as_they_come or len(wanted) != len(current):
        return None
    copied = []
    for image, there in zip(wanted, current, strict=True):
        source = image.fingerprint
        if source is None or source.size != there.size:
            return None
        name = upload_name(image.filename)
        if name not in (there.filename, _UNIQID.sub("", there.filename, count=1)):
            return None
        if safe_suffix(name).removeprefix(".") in _CONVERTED:
            return None
        copied.append(CopiedImage(source, there.id))
    return SyncRecord(
        selected=tuple(one.source for one in copied),
        copied=tuple(copied),
        child_image_ids=tuple(there.id for there in current),
        settled=True,
        made_with=making.fingerprint,
    )


def _outcomes(
    images: Sequence[SourceImage],
    record: SyncRecord,
    hrefs: Mapping[str, str],
    is_as_made: Callable[[CopiedImage], bool],
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
            ImageOutcome(image, there, content=copied.content)
            if same and is_as_made(same)
            else ImageOutcome(image, earlier=there, earlier_version=copied)
        )


def is_filled(outcomes: Sequence[ImageOutcome], most: int) -> bool:
    """Whether these are enough for a list of `most` images. An earlier copy takes the place of one
    that may come later, and none of one that will not."""
    return sum(o.problem is None or _holds_place(o) for o in outcomes) >= most


def _holds_place(outcome: ImageOutcome) -> bool:
    return isinstance(outcome.element, Keep) and not outcome.settled


def without_surplus(outcomes: Sequence[ImageOutcome], most: int) -> list[ImageOutcome]:
    """Where others fill the list, the earlier copies of those that will not come make room."""
    if sum(outcome.element is not None for outcome in outcomes) <= most:
        return list(outcomes)
    return [
        replace(o, element=None, earlier=None, earlier_version=None) if o.settled else o
        for o in outcomes
    ]


def kept_by_content(
    outcomes: Sequence[ImageOutcome], contents: Mapping[str, str]
) -> list[ImageOutcome]:
    """The outcomes, of which those keep an image of the child's that would upload the same bytes.

    `contents`: SHA-256 by href of the child's images, in order; each is kept once.
    """
    used = {
        o.element.href
        for o in outcomes
        if isinstance(o.element, Keep) and (o.problem is None or o.element != o.earlier)
    }
    free = {href: digest for href, digest in contents.items() if href not in used}
    found: dict[int, str] = {}
    for own_first in (True, False):
        for number, outcome in enumerate(outcomes):
            content, element = outcome.content, outcome.element
            if number in found or content is None or not isinstance(element, Upload):
                continue
            own = outcome.earlier.href if outcome.earlier else None
            href = next(
                (
                    href
                    for href, digest in free.items()
                    if digest == content.uploaded and (href == own or not own_first)
                ),
                None,
            )
            if href is not None:
                found[number] = href
                del free[href]
    taken = set(found.values())
    ended = []
    for number, outcome in enumerate(outcomes):
        if (href := found.get(number)) is not None:
            outcome = replace(
                outcome, element=Keep(href), earlier=None, earlier_version=None, note=""
            )
        elif outcome.earlier is not None and outcome.earlier.href in taken:
            element = outcome.element
            if isinstance(element, Upload):
                element = replace(element, replaces=None)
            elif element == outcome.earlier:
                element = None
            outcome = replace(outcome, element=element, earlier=None, earlier_version=None)
        ended.append(outcome)
    return ended


def wanted_elements(outcomes: Sequence[ImageOutcome]) -> list[Element]:
    """The child's wanted list; NoImageUploadedError where every image failed."""
    if all(outcome.problem for outcome in outcomes):
        raise _nothing(outcomes)
    return [outcome.element for outcome in outcomes if outcome.element is not None]


def conclude(
    outcomes: Sequence[ImageOutcome], replacement: Replacement, made_with: str = ""
) -> tuple[SyncResult, SyncRecord]:
    """Sums up a replacement, and what is to be remembered of it; NoImageUploadedError where none
    of the images is on the child. `made_with`: fingerprint of the settings."""
    ended = [outcome.after(replacement) for outcome in outcomes]
    there = [outcome.element for outcome in ended if outcome.problem is None]
    if not there:
        raise _nothing(ended, _lost(replacement))
    warnings = tuple(outcome.warning for outcome in ended if outcome.problem is not None)
    uploaded = sum(isinstance(element, Upload) for element in there)
    selected = tuple(o.image.fingerprint for o in ended if o.image.fingerprint)
    settled = (
        not replacement.stopped
        and len(selected) == len(ended)
        # A file that the child refuses is not asked for again; one that was not fetched may be.
        and all(o.problem is None or isinstance(o.element, Upload) or o.settled for o in ended)
    )
    # By what settings a copy was made that could not be made anew is not known any more.
    is_old = any(
        o.problem is not None and o.copied is not None and o.copied.source == o.image.fingerprint
        for o in ended
    )
    record = SyncRecord(
        selected=selected,
        copied=tuple(outcome.copied for outcome in ended if outcome.copied is not None),
        child_image_ids=tuple(last_segment(href) for href in replacement.final_hrefs),
        settled=settled,
        warnings=warnings,
        made_with="" if is_old and not settled else made_with,
    )
    result = SyncResult(
        SyncOutcome.COMPLETED_WITH_WARNINGS if warnings else SyncOutcome.COMPLETED,
        warnings,
        uploaded=uploaded,
        kept=len(there) - uploaded,
        downloaded_bytes=sum(o.element.size for o in ended if isinstance(o.element, Upload)),
        notes=tuple(f"{o.image.filename}: {o.note}" for o in ended if o.note and not o.problem),
    )
    return result, record


def none_copied(
    outcomes: Sequence[ImageOutcome],
    before: SyncRecord,
    hrefs: Collection[str],
    made_with: str = "",
    replacement: Replacement | None = None,
) -> SyncRecord | None:
    """What is to be remembered where no image can be copied; None where another attempt may help.

    `hrefs`: the child's list now, of which nothing becomes imgsync's by this; `replacement`: of the
    list, where it was set.
    """
    selected = tuple(o.image.fingerprint for o in outcomes if o.image.fingerprint)
    refused = {} if replacement is None else replacement.rejected
    is_settled = all(
        o.element.key in refused if isinstance(o.element, Upload) else o.settled for o in outcomes
    )
    if not is_settled or len(selected) != len(outcomes) or before.begun_on is not None:
        return None
    ids = [last_segment(href) for href in hrefs]
    earlier = [o.earlier_version for o in outcomes if o.earlier_version is not None]
    ended = [o if replacement is None else o.after(replacement) for o in outcomes]
    return SyncRecord(
        selected=selected,
        copied=tuple(copied for copied in earlier if copied.child_image_id in ids),
        child_image_ids=tuple(i for i in ids if i in before.child_image_ids),
        settled=True,
        warnings=tuple(outcome.warning for outcome in ended),
        made_with=made_with,
    )


def _copied(
    version: ImageFingerprint | None, href: str, content: ImageContent | None
) -> CopiedImage | None:
    return None if version is None else CopiedImage(version, last_segment(href), content)


def _lost(replacement: Replacement) -> list[str]:
    lost = len(replacement.dropped - set(replacement.final_hrefs))
    return [f"the API removed {lost} images of the child when it refused them"] if lost else []


def _nothing(outcomes: Sequence[ImageOutcome], more: Sequence[str] = ()) -> NoImageUploadedError:
    reasons = [outcome.warning for outcome in outcomes if outcome.problem is not None]
    retryable = any(outcome.retryable for outcome in outcomes)
    return NoImageUploadedError([*reasons, *more], retryable=retryable)
