"""Replace strategies: how a child's image list becomes the wanted one.

A strategy is a generator. It yields actions; the driver performs each and sends back its outcome.
It returns what became of every wanted image, and does no I/O itself. `Rejected` and `Stopped`
answer only a `SetImages` with uploads; a failure of any other action ends the strategy.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imgsync.domain.errors import ChildChangedError, FailureCause
from imgsync.domain.model import Element, Keep, RemoteImage, Upload, last_segment
from imgsync.domain.packing import RequestRoom, next_batch


@dataclass(frozen=True, slots=True)
class SetImages:
    """POST the array: the child's list becomes exactly these elements, in this order."""

    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class DeleteImages:
    """POST images/delete with the metas of these hrefs."""

    hrefs: tuple[str, ...]


Action = SetImages | DeleteImages


@dataclass(frozen=True, slots=True)
class Done:
    """The action succeeded.

    `hrefs`: what became of each element sent, in their order. `listed`: the child's list where it
    stands in another order.
    """

    hrefs: tuple[str, ...] = ()
    listed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused an image of the request. `listed`: the child's list after that, as no
    document says that it stays as it was. `cause`: what is wrong with the image."""

    reason: str
    listed: tuple[str, ...]
    cause: FailureCause = FailureCause.REFUSED


@dataclass(frozen=True, slots=True)
class Stopped:
    """The request failed for a reason other than its images; no further upload is worth a try."""

    reason: str


Outcome = Done | Rejected | Stopped


@dataclass(slots=True)
class Replacement:
    """Result of a strategy: hrefs by upload key, the final list, and what failed and why.

    `dropped`: hrefs that refused requests took off the list. `causes`: of those rejected.
    """

    placed: dict[str, str] = field(default_factory=dict)
    final_hrefs: tuple[str, ...] = ()
    rejected: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    causes: dict[str, FailureCause] = field(default_factory=dict)

    def add(self, later: "Replacement") -> None:
        """With what a later run on the list that this one left did."""
        self.placed |= later.placed
        self.rejected |= later.rejected
        self.causes |= later.causes
        self.stopped = later.stopped
        self.final_hrefs = later.final_hrefs
        self.dropped |= later.dropped

    def lose(self, left: Sequence[str]) -> None:
        """A refused request left these on the list; what was placed and is gone is to be placed
        anew."""
        self.dropped |= set(self.final_hrefs) - set(left)
        self.final_hrefs = tuple(left)
        self.placed = {key: href for key, href in self.placed.items() if href in left}


Steps = Generator[Action, Outcome, Replacement]


class ReplaceStrategy(Protocol):
    """Turns the child's `current` list (hrefs) into `wanted`, by requests that hold what
    `room` tells."""

    def __call__(
        self, wanted: Sequence[Element], current: Sequence[str], room: RequestRoom
    ) -> Steps: ...


def atomic(wanted: Sequence[Element], current: Sequence[str], room: RequestRoom) -> Steps:
    """One array request where it fits; later ones repeat the metas of the earlier.

    The child never has an empty list in between: the first request already holds images.
    A refused request of several uploads is repeated with half as many at a time, so that one bad
    image costs only itself, and so does a request that is too large for the API. The earlier copy
    of an image stays until the image is there.

    ChildChangedError where the child has lost an image to keep, whose file is not at hand, or
    does not keep the order that was set.
    """
    result = Replacement(final_hrefs=tuple(current))
    slots = _Slots.of(wanted)
    max_uploads: int | None = None
    while slots:
        pending = slots.pending
        if not pending and result.final_hrefs == slots.kept:
            break
        batch = next_batch(slots.elements, room, max_uploads)
        uploads = [e for e in batch if isinstance(e, Upload)]
        if pending and not uploads:
            result.causes[pending[0].key] = FailureCause.TOO_LARGE
            result.rejected[pending[0].key] = f"it does not fit a request of {room.max_bytes} bytes"
            slots.give_up(pending[0].key)
            continue
        match (yield SetImages(tuple(batch))):
            case Done(hrefs, listed):
                result.final_hrefs = hrefs if listed is None else listed
                slots.place(dict(zip(batch, hrefs, strict=True)))
                if not uploads and result.final_hrefs != slots.kept:
                    raise ChildChangedError("the child does not keep the order that was set")
            case Rejected(reason, listed, cause):
                result.dropped |= set(result.final_hrefs) - set(listed)
                result.final_hrefs = listed
                slots.survive(listed)
                if len(uploads) == 1:
                    result.rejected[uploads[0].key] = reason
                    result.causes[uploads[0].key] = cause
                    slots.give_up(uploads[0].key)
                else:
                    max_uploads = len(uploads) // 2
            case Stopped(reason):
                result.stopped = {e.key: reason for e in pending}
                break
    result.placed = slots.placed
    return result


@dataclass(slots=True)
class _Slot:
    """A place in the wanted list: `href` of what stands there, `upload` where its file is at hand.

    Without `href` the upload waits, with its earlier copy standing in for it if there is one.
    """

    upload: Upload | None
    href: str | None


@dataclass(slots=True)
class _Slots:
    """The wanted list while it comes true."""

    slots: list[_Slot]

    @classmethod
    def of(cls, wanted: Sequence[Element]) -> "_Slots":
        return cls([_Slot(None, e.href) if isinstance(e, Keep) else _Slot(e, None) for e in wanted])

    def __bool__(self) -> bool:
        return bool(self.slots)

    @property
    def elements(self) -> list[Element]:
        found = [Keep(slot.href) if slot.href is not None else slot.upload for slot in self.slots]
        return [element for element in found if element is not None]

    @property
    def pending(self) -> list[Upload]:
        return [e for e in self.elements if isinstance(e, Upload)]

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(e.href for e in self.elements if isinstance(e, Keep))

    @property
    def placed(self) -> dict[str, str]:
        """Hrefs by upload key."""
        return {s.upload.key: s.href for s in self.slots if s.upload and s.href is not None}

    def place(self, hrefs: Mapping[Element, str]) -> None:
        """Notes what became of the elements of a request."""
        for slot in self.slots:
            if slot.href is None and slot.upload is not None:
                slot.href = hrefs.get(slot.upload)

    def survive(self, listed: Sequence[str]) -> None:
        """Goes on from the list that a refused request has left.

        What this run had placed waits anew; ChildChangedError where an image to keep is gone.
        """
        for slot in self.slots:
            if slot.upload is None:
                if slot.href not in listed:
                    raise ChildChangedError("a refused request removed an image to keep")
                continue
            if slot.href not in listed:
                slot.href = None
            if slot.upload.replaces not in listed:
                slot.upload = replace(slot.upload, replaces=None)

    def give_up(self, key: str) -> None:
        """The earlier copy, or nothing, in place of an upload."""
        for slot in self.slots:
            if slot.upload is not None and slot.upload.key == key:
                slot.href = slot.upload.replaces
                slot.upload = None
        self.slots = [s for s in self.slots if s.upload is not None or s.href is not None]


def delete_then_upload(
    wanted: Sequence[Element], current: Sequence[str], room: RequestRoom
) -> Steps:
    """Deletes the images that are not kept in one request, then uploads as `atomic` does.

    Where none is kept, the first old image stays until the first upload, so that a failure in
    between leaves the child with an image.
    """
    kept = {e.href for e in wanted if isinstance(e, Keep)}
    left = tuple(href for href in current if href in kept) or tuple(current[:1])
    doomed = tuple(href for href in current if href not in left)
    if doomed and any(isinstance(e, Upload) for e in wanted):
        yield DeleteImages(doomed)
        current = left
        wanted = [replace(e, replaces=None) if isinstance(e, Upload) else e for e in wanted]
    return (yield from atomic(wanted, current, room))


STRATEGIES: dict[str, ReplaceStrategy] = {
    "atomic": atomic,
    "delete-then-upload": delete_then_upload,
}
"""The strategies by the names that configuration uses."""


def in_order(elements: Sequence[Element], images: Sequence[RemoteImage]) -> bool:
    """True where the images are those of the elements, one by one."""
    return len(elements) == len(images) and all(map(_same, elements, images))


def places(
    elements: Sequence[Element], answered: Sequence[RemoteImage], listed: Sequence[RemoteImage]
) -> list[RemoteImage] | None:
    """The image of `listed` that each element became; None where that cannot be told.

    `answered`: what the API answered to the request. It is taken at its word only where the list
    says the same, image by image, and each image has at least the name or the size that was sent:
    then the API has given new names or written the files anew.
    """
    if len(elements) != len(listed):
        return None
    left = list(listed)
    found = []
    for element, same_place in zip(elements, listed, strict=True):
        # Of two that look the same, the one in the same place.
        candidates = [same_place, *left] if same_place in left else left
        image = next((i for i in candidates if _same(element, i)), None)
        if image is None:
            break
        left.remove(image)
        found.append(image)
    else:
        return found
    told = [image.id for image in answered] == [image.id for image in listed]
    return list(listed) if told and all(map(_alike, elements, listed)) else None


def _same(element: Element, image: RemoteImage) -> bool:
    if isinstance(element, Keep):
        return last_segment(element.href) == image.id
    return image.filename == element.filename and image.size in (0, element.size)


def _alike(element: Element, image: RemoteImage) -> bool:
    if isinstance(element, Keep):
        return last_segment(element.href) == image.id
    return image.filename == element.filename or image.size in (0, element.size)
