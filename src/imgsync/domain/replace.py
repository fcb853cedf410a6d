"""Replace strategies: how a child's image list becomes the wanted one.

A strategy is a generator. It yields actions; the driver performs each and sends back its outcome.
It returns what became of every wanted image, and does no I/O itself. `Rejected` and `Stopped`
answer only a `SetImages` with uploads; a failure of any other action ends the strategy.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imgsync.domain.encoding import Element, Keep, Upload
from imgsync.domain.packing import next_batch


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
    """The action succeeded. `hrefs`: the child's list after it, one per element sent."""

    hrefs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused an image of the request; the list is as it was."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The request failed for a reason other than its images; no further upload is worth a try."""

    reason: str


Outcome = Done | Rejected | Stopped


@dataclass(slots=True)
class Replacement:
    """Result of a strategy: hrefs by upload key, the final list, and what failed and why."""

    placed: dict[str, str] = field(default_factory=dict)
    final_hrefs: tuple[str, ...] = ()
    rejected: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)


Steps = Generator[Action, Outcome, Replacement]


class ReplaceStrategy(Protocol):
    """Turns the child's `current` list (hrefs) into `wanted`, with bodies of `max_bytes`."""

    def __call__(
        self, wanted: Sequence[Element], current: Sequence[str], max_bytes: int
    ) -> Steps: ...


def atomic(wanted: Sequence[Element], current: Sequence[str], max_bytes: int) -> Steps:
    """One array request where it fits; later ones repeat the metas of the earlier.

    The child never has an empty list in between: the first request already holds images.
    A rejected request of several uploads is repeated with each of them alone, so that one bad
    image costs only itself. The earlier copy of an image stays until the image is there.
    """
    result = Replacement(final_hrefs=tuple(current))
    slots: list[Element] = list(wanted)
    alone: frozenset[str] = frozenset()
    while slots:
        batch = next_batch(slots, max_bytes, alone)
        uploads = [e for e in batch if isinstance(e, Upload)]
        pending = [e for e in slots if isinstance(e, Upload)]
        if not pending and result.final_hrefs == tuple(
            e.href for e in slots if isinstance(e, Keep)
        ):
            break
        if pending and not uploads:
            result.rejected[pending[0].key] = f"it does not fit a request of {max_bytes} bytes"
            slots = _without(slots, pending[0])
            continue
        outcome = yield SetImages(tuple(batch))
        match outcome:
            case Done(hrefs):
                result.final_hrefs = hrefs
                new = {
                    e.key: href
                    for e, href in zip(batch, hrefs, strict=True)
                    if isinstance(e, Upload)
                }
                result.placed |= new
                slots = [
                    Keep(new[e.key]) if isinstance(e, Upload) and e.key in new else e for e in slots
                ]
                if len(new) == len(pending):
                    break
            case Rejected(reason) if len(uploads) == 1:
                result.rejected[uploads[0].key] = reason
                slots = _without(slots, uploads[0])
            case Rejected():
                alone |= {e.key for e in uploads}
            case Stopped(reason):
                result.stopped |= {e.key: reason for e in pending}
                break
    return result


def _without(slots: Sequence[Element], refused: Upload) -> list[Element]:
    """The wanted list with the earlier copy, or nothing, in place of an upload."""
    changed = [refused.stand_in if slot == refused else slot for slot in slots]
    return [slot for slot in changed if slot is not None]


def delete_then_upload(wanted: Sequence[Element], current: Sequence[str], max_bytes: int) -> Steps:
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
    return (yield from atomic(wanted, current, max_bytes))


STRATEGIES: dict[str, ReplaceStrategy] = {
    "atomic": atomic,
    "delete-then-upload": delete_then_upload,
}
"""The strategies by the names that configuration uses."""
