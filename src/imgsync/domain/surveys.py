"""What surveys leave behind for later ones, and what two of one catalogue show together."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from imgsync.domain.model import Entity

MARGIN = timedelta(minutes=10)
"""A survey that goes on from an earlier one begins so much before it: an answer takes its time,
and what is written meanwhile may carry an earlier time."""

ENOUGH_MOVED = 3
"""Entities whose images changed, and whose `updated` did at once, that show that it always does."""

_SAME = timedelta(seconds=2)
_SLACK = timedelta(seconds=1)
_DIGEST = 8
_ROW = 3 * _DIGEST


@dataclass(frozen=True, slots=True)
class SurveyKey:
    """A type of a main account's entities, and the child that was compared with it; '' where the
    catalogue alone is remembered."""

    main_account_id: str
    child_account_id: str
    entity_type: str


@dataclass(frozen=True, slots=True)
class PastSurvey:
    """What the last survey left.

    `began`: when, by the main account's own clock where it told. `settings`: those of the link,
    under others the next survey is a full one. `seen`: of each entity what tells whether its images
    or its `updated` changed (`Catalogue`); `moved`: how many were seen to change both at once.
    """

    began: datetime
    settings: str = ""
    seen: bytes = b""
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Since:
    """What an incremental survey begins with: a moment, a span before now, or without either what
    the last survey of the same link did."""

    moment: datetime | None = None
    span: timedelta | None = None


_SPAN = re.compile(r"([0-9]{1,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def since_of(text: str) -> Since:
    """What ``last``, a span (``30m``, ``2h``, ``1d``) or a time in ISO 8601 stands for, which may
    be without a zone. ValueError for anything else."""
    if text == "last":
        return Since()
    if found := _SPAN.fullmatch(text):
        return Since(span=timedelta(**{_UNITS[found[2]]: int(found[1])}))
    try:
        return Since(moment=datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time such as 2026-01-31T12:00, nor a span such as 30m, 2h "
            "or 1d, nor 'last'"
        ) from None


class Catalogue:
    """Finds out whether a change of images alone moves an entity's `updated`, from what it was told
    of each entity at the last full survey (`before`) and is now. 24 bytes an entity."""

    def __init__(self, before: bytes = b"", moved: int = 0) -> None:
        self._before = dict(_rows(before))
        self._seen = bytearray()
        self.moved = moved
        self.unmoved = 0
        self.has_times = False

    def add(self, entity: Entity) -> None:
        """Of an entity whose images are not all known, nothing can be told."""
        if not entity.updated or not entity.images_known or entity.unreadable:
            return
        self.has_times = True
        times = [time for i in entity.images if (time := api_time(i.updated)) is not None]
        images = _digest(*(text for i in entity.images for text in (i.id, i.updated)))
        name, updated = _digest(entity.id), _digest(entity.updated)
        self._seen += name + updated + images
        moment = api_time(entity.updated)
        if moment is None:
            return
        if times and max(times) > moment + _SLACK:
            self.unmoved += 1
            return
        was = self._before.get(name)
        if was is None or was[1] == images:
            return
        if was[0] == updated:
            self.unmoved += 1
        elif times and abs(max(times) - moment) <= _SAME:
            self.moved += 1

    @property
    def seen(self) -> bytes:
        return bytes(self._seen)

    @property
    def verdict(self) -> bool | None:
        """None while it is not shown. One that did not move outweighs all that did."""
        if self.unmoved:
            return False
        return True if self.moved >= ENOUGH_MOVED else None


def api_time(text: str) -> datetime | None:
    """A time of the API, without its zone; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is None else None


def _rows(packed: bytes) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    for start in range(0, len(packed) - _ROW + 1, _ROW):
        row = packed[start : start + _ROW]
        yield row[:_DIGEST], (row[_DIGEST : 2 * _DIGEST], row[2 * _DIGEST :])


def _digest(*texts: str) -> bytes:
    joined = "\n".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=_DIGEST).digest()
