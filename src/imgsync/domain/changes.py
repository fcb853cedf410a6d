"""What was changed on a child, run by run, and what was saved before: the nouns of undo."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.labels import entity_label
from imgsync.domain.model import Element, Keep, RemoteImage

KIND_OF_UNDO = "undo"
"""Kind of the tasks that put a child's list back."""


def run_id(moment: datetime, distinct: int) -> str:
    """Of a run that begins at that moment, such as ``20261127-223015-4f2a``: those of one host
    sort by time, and `distinct` (of 16 bits) tells apart those that begin in the same second."""
    return f"{moment.astimezone(UTC):%Y%m%d-%H%M%S}-{distinct & 0xFFFF:04x}"


class ChangeAction(StrEnum):
    SET = "set"
    CLEAR = "clear"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a child's list; `size` in bytes, 0 where the API did not tell."""

    id: str
    filename: str
    size: int

    @classmethod
    def all_of(cls, images: Iterable[RemoteImage]) -> "tuple[ListedImage, ...]":
        return tuple(cls(image.id, image.filename, image.size) for image in images)


@dataclass(frozen=True, slots=True)
class Change:
    """A child's list was set, by `run`: it was `before` and is `after`, each in order.

    `after` is None until it is known, as where the process was lost. `backup`: the place of what
    was saved of `before`. `entity_code`: main's, '' where there is none or it is not known, as of
    what an earlier version has noted. `id` and `changed_at` are the log's own; a later change has
    a larger id.
    """

    run: str
    action: ChangeAction
    main_account_id: str
    key: EntityKey
    main_entity_id: str
    entity_name: str
    before: tuple[ListedImage, ...]
    after: tuple[ListedImage, ...] | None = None
    backup: str | None = None
    id: int = 0
    changed_at: datetime | None = None
    entity_code: str = ""

    @property
    def did_nothing(self) -> bool:
        """Whether it is known to have left the list as it was."""
        return self.after == self.before

    @property
    def label(self) -> str:
        """Such as ``product 'Lamp' (code 00017)``, or by the child's id where it has no name."""
        key = self.key
        return entity_label(
            key.entity_type, self.entity_name, self.entity_code, key.child_entity_id
        )


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image in a backup: its place in the list (from 0), and its file, by the backup's own
    name; `sha256` in hexadecimal."""

    order: int
    image_id: str
    filename: str
    size: int
    sha256: str
    updated: str
    file: str


@dataclass(frozen=True, slots=True)
class BackedUp:
    """Whose images a backup holds, and of which run."""

    run: str
    account_id: str
    account_name: str
    key: EntityKey
    main_entity_id: str
    entity_name: str


class BackupError(ImgsyncError):
    """What is about to be removed could not be saved, so that nothing was removed."""

    retryable = True


class NoBackupError(ImgsyncError):
    """A backup is not there, or not as it was written."""


class UndoError(ImgsyncError):
    """A change cannot be undone, or may not be; the child is as it was."""


Place = RemoteImage | SavedImage
"""What stands in a list that is put back: an image that is on the child still, or a saved one."""


def put_back(
    before: Sequence[ListedImage], current: Sequence[RemoteImage], saved: Collection[SavedImage]
) -> tuple[list[Place], list[ListedImage]]:
    """How a list becomes `before` again: place by place the image that is still there, else the
    one that is saved. And those that are neither, which are lost."""
    there = list(current)
    by_id = {image.image_id: image for image in saved}
    places: list[Place] = []
    lost = []
    for image in before:
        same = next((i for i in there if i.id == image.id), None)
        if same is not None:
            there.remove(same)  # an image may stand on an entity twice
            places.append(same)
        elif image.id in by_id:
            places.append(by_id[image.id])
        else:
            lost.append(image)
    return places, lost


def is_list(images: Sequence[RemoteImage], listed: Sequence[ListedImage] | None) -> bool:
    """Whether these are the images of that list, in its order."""
    return listed is not None and [i.id for i in images] == [i.id for i in listed]


def to_be_removed(
    listed: Sequence[RemoteImage], elements: Sequence[Element], own: Collection[str]
) -> list[tuple[int, RemoteImage]]:
    """The images, each with its place, that the list of these elements does without, but for those
    whose ids are `own`."""
    kept = {element.href for element in elements if isinstance(element, Keep)}
    return [
        (order, image)
        for order, image in enumerate(listed)
        if image.href not in kept and image.id not in own
    ]


def by_entity(changes: Iterable[Change]) -> list[tuple[Change, ...]]:
    """The changes of each entity, newest first, of all of them newest first."""
    found: dict[EntityKey, list[Change]] = {}
    for change in changes:
        found.setdefault(change.key, []).append(change)
    return [tuple(of) for of in found.values()]
