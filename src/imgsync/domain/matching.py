"""Finding the child's counterpart of a main entity, and the entities of a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from imgsync.domain.model import Entity, MatchField

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FieldMatcher:
    """Matches by the value of a field; implements `EntityMatcher`."""

    field: MatchField

    @property
    def name(self) -> str:
        return self.field.value

    def key(self, entity: Entity) -> str | None:
        return entity.key(self.field)


def in_folder(path: str, folders: Sequence[str]) -> bool:
    """Whether the product folder at `path`, such as ``Light/Lamps``, is one of `folders` or below
    one. A folder is named by its name, or by as much of its path as tells it from others."""
    return any(f"/{folder.strip('/')}/" in f"/{path}/" for folder in folders)


@dataclass(slots=True)
class CounterpartIndex(Generic[_T]):
    """What stands for the child entities of one type, by what a matcher compares (`compares`).

    One that is not archived wins over those that are. `id_of`: the id of the one that an entry
    stands for, as one that comes twice is no other.
    """

    compares: str
    type_name: str
    id_of: Callable[[_T], str]
    _live: dict[str, _T] = field(default_factory=dict)
    _archived: dict[str, _T] = field(default_factory=dict)
    _several: set[str] = field(default_factory=set)
    _several_archived: set[str] = field(default_factory=set)
    _owners: dict[str, str] = field(default_factory=dict)

    def add(self, key: str | None, entry: _T, *, archived: bool = False) -> None:
        if key is None:
            return
        entries = self._archived if archived else self._live
        if key in entries and self.id_of(entries[key]) != self.id_of(entry):
            (self._several_archived if archived else self._several).add(key)
        entries.setdefault(key, entry)

    def find(self, key: str | None) -> tuple[_T | None, str]:
        """(what stands for the counterpart, '') or (None, why there is none)."""
        if key is None:
            return None, f"it has no {self.compares}"
        is_live = key in self._live
        if key in (self._several if is_live else self._several_archived):
            return None, f"several child entities have {self.compares} '{key}'"
        entry = (self._live if is_live else self._archived).get(key)
        if entry is None:
            return None, f"no child entity has {self.compares} '{key}'"
        return entry, ""

    def assign(self, key: str | None, main_id: str) -> tuple[_T | None, str]:
        """As `find`, but a counterpart goes only to the first main entity that asks for it."""
        entry, reason = self.find(key)
        if entry is None or key is None:
            return None, reason
        owner = self._owners.setdefault(key, main_id)
        if owner != main_id:
            return None, f"its counterpart is already that of another {self.type_name} ({owner})"
        return entry, ""
