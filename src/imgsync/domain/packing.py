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
    wanted: Sequence[Element], max_bytes: int, max_uploads: int | None = None
) -> list[Element]:
    """Elements of the next array request towards the list `wanted`.

    Every `Keep` goes in, wherever it stands, because an array request removes what it leaves out;
    so does the earlier copy of an upload that waits. Uploads go in by order, at most
    `max_uploads`, while the encoded JSON stays within `max_bytes`. The result keeps the order of
    `wanted` and has no upload when even the first does not fit.
    """
    waiting = [e if isinstance(e, Keep) else e.stand_in for e in wanted]
    total = len(ARRAY_OPEN) + len(ARRAY_CLOSE) + sum(map(_size, waiting))
    chosen: set[str] = set()
    for element in wanted:
        if isinstance(element, Keep):
            continue
        if len(chosen) == max_uploads:
            break
        # The array has one separator fewer than elements, hence the allowance of one.
        total += _size(element) - _size(element.stand_in)
        if total - len(ELEMENT_SEPARATOR) > max_bytes:
            break
        chosen.add(element.key)
    batch = [
        e if isinstance(e, Keep) or e.key in chosen else stand_in
        for e, stand_in in zip(wanted, waiting, strict=True)
    ]
    return [e for e in batch if e is not None]


def _size(element: Element | None) -> int:
    """Bytes that an element and its separator add to an array."""
    return 0 if element is None else element_size(element) + len(ELEMENT_SEPARATOR)
