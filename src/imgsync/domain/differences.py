"""What the last comparison of a child with its main account found, to be shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from imgsync.domain.diff import EntityKey

MOST_SEEN_IMAGES = 20
"""Images of one list that are kept; the API allows 15 at most."""


class _Listed(Protocol):
    @property
    def id(self) -> str | None: ...
    @property
    def filename(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def updated(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image as an account listed it. `size` is bytes, 0 where the API does not tell; `updated`
    the API's own text, which tells its versions apart."""

    id: str
    filename: str
    size: int
    updated: str

    @classmethod
    def all_of(cls, images: "Iterable[_Listed]") -> "tuple[SeenImage, ...]":
        """Those that have an id, by which alone they can be shown."""
        found = [
            cls(image.id, image.filename, image.size or 0, image.updated or "")
            for image in images
            if image.id
        ]
        return tuple(found[:MOST_SEEN_IMAGES])


@dataclass(frozen=True, slots=True)
class EntityDifference:
    """An entity whose images are not equal, or of which nobody can tell.

    `difference` is a text of `Difference`, `reason` says why it is so where that is known. `key` is
    None, and `main_entity_id` empty, where there is no counterpart. `child_images` is None where
    the child's list is not known. `will_change`: a sync would set the child's list. `id` is the
    store's. `changed_since`: imgsync has written the child's list after it was compared.
    """

    entity_type: str
    name: str
    code: str
    difference: str
    reason: str
    main_entity_id: str = ""
    key: EntityKey | None = None
    main_images: tuple[SeenImage, ...] = ()
    child_images: tuple[SeenImage, ...] | None = None
    will_change: bool = False
    id: int = 0
    changed_since: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """The last comparison of a child: `counts` of entities by the texts of `Difference`.

    `ended` is None while it is under way, or broke off without a word. `left_out`: entities that
    differ beyond those that are kept. `error`: why it was not done to its end, for the user. What
    is kept was found by the one that began at `found_at`, the last that came to its end.
    """

    child_account_id: str
    main_account_id: str
    began: datetime
    ended: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    error: str | None = None
    found_at: datetime | None = None
