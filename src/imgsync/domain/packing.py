"""Packing images, in order, into requests of limited size."""

from collections.abc import Sequence

from imgsync.domain.encoding import (
    ARRAY_CLOSE,
    ARRAY_OPEN,
    ELEMENT_SEPARATOR,
    Element,
    Keep,
    element_size,
)


def next_batch(
    wanted: Sequence[Element], max_bytes: int, alone: frozenset[str] = frozenset()
) -> list[Element]:
    """Elements of the next array request towards the list `wanted`.

    Every `Keep` goes in, wherever it stands, because an array request removes what it leaves out.
    Uploads go in by order while the encoded JSON stays within `max_bytes`; one whose key is in
    `alone` shares its request with no other upload. The result keeps the order of `wanted` and
    has no upload when even the first does not fit.
    """
    keeps = [element for element in wanted if isinstance(element, Keep)]
    total = len(ARRAY_OPEN) + len(ARRAY_CLOSE)
    total += sum(element_size(keep) + len(ELEMENT_SEPARATOR) for keep in keeps)
    chosen: set[str] = set()
    for element in wanted:
        if isinstance(element, Keep):
            continue
        if chosen and (element.key in alone or chosen & alone):
            break
        # The array has one separator fewer than elements, hence the allowance of one.
        total += element_size(element) + len(ELEMENT_SEPARATOR)
        if total - len(ELEMENT_SEPARATOR) > max_bytes:
            break
        chosen.add(element.key)
    return [e for e in wanted if isinstance(e, Keep) or e.key in chosen]
