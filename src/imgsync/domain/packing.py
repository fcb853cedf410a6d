"""Packing images, in order, into requests of limited size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgsync.domain.model import Element, Keep


@dataclass(frozen=True, slots=True)
class RequestRoom:
    """What one request that sets a list can hold: `max_bytes`, of which `size_of` tells how many
    some elements take together. How they are written is the API's matter, so the port tells both.
    """

    max_bytes: int
    size_of: Callable[[Sequence[Element]], int]

    def holds(self, elements: Sequence[Element]) -> bool:
        return self.size_of(elements) <= self.max_bytes


def next_batch(
    wanted: Sequence[Element], room: RequestRoom, max_uploads: int | None = None
) -> list[Element]:
    """Elements of the next request towards the list `wanted`.

    Every `Keep` goes in, wherever it stands, because a request removes what it leaves out; so does
    the earlier copy of an upload that waits. Uploads go in by order, at most `max_uploads`, while
    there is room. The result keeps the order of `wanted` and has no upload when even the first
    does not fit.
    """
    chosen: set[str] = set()
    batch = _with(wanted, chosen)
    for element in wanted:
        if isinstance(element, Keep):
            continue
        if len(chosen) == max_uploads:
            break
        chosen.add(element.key)
        fuller = _with(wanted, chosen)
        if not room.holds(fuller):
            break
        batch = fuller
    return batch


def _with(wanted: Sequence[Element], chosen: set[str]) -> list[Element]:
    """The list with the chosen uploads, and the earlier copies of the others."""
    elements = [e if isinstance(e, Keep) or e.key in chosen else e.stand_in for e in wanted]
    return [e for e in elements if e is not None]
