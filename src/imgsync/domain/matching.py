"""Finding the child's counterpart of a main entity."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from imgsync.domain.model import Entity, EntityMatcher, MatchField


@dataclass(frozen=True, slots=True)
class FieldMatcher:
    """Matches by the value of a field; implements `EntityMatcher`."""

    field: MatchField

    @property
    def name(self) -> str:
        return self.field.value

    def key(self, entity: Entity) -> str | None:
        return entity.key(self.field)


@dataclass(slots=True)
class CounterpartIndex:
    """Child entities of one type by what a matcher compares."""

    matcher: EntityMatcher
    type_name: str
    _ids: dict[str, str] = field(default_factory=dict)
    _ambiguous: set[str] = field(default_factory=set)
    _owners: dict[str, str] = field(default_factory=dict)

    def add(self, entities: Iterable[Entity]) -> None:
        for entity in entities:
            key = self.matcher.key(entity)
            if key is None:
                continue
            if self._ids.setdefault(key, entity.id) != entity.id:
                self._ambiguous.add(key)

    def find(self, entity: Entity) -> tuple[str | None, str]:
        """(id of the counterpart, '') or (None, why there is none)."""
        key, name = self.matcher.key(entity), self.matcher.name
        if key is None:
            return None, f"it has no {name}"
        if key in self._ambiguous:
            return None, f"several child entities have {name} '{key}'"
        if key not in self._ids:
            return None, f"no child entity has {name} '{key}'"
        return self._ids[key], ""

    def assign(self, entity: Entity) -> tuple[str | None, str]:
        """As `find`, but a counterpart goes only to the first main entity that asks for it."""
        child_id, reason = self.find(entity)
        if child_id is None:
            return None, reason
        owner = self._owners.setdefault(child_id, entity.id)
        if owner != entity.id:
            return None, f"its counterpart is already that of another {self.type_name} ({owner})"
        return child_id, ""
