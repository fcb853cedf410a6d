"""Finding the child's counterpart of a main entity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from imgsync.domain.entity_types import EntityMatcher, MatchField
from imgsync.domain.images import RemoteImage

_NO_FIELDS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entity:
    """A product, bundle, variant or plugin type as the API lists it.

    `images` is filled only where they were asked for, in order. `unreadable` names those of its
    images that the API gave in a shape that cannot be read. `images_known` is False where the API
    does not tell the list (null): `images` is empty then, but the entity may well have some.
    `fields`: the whole row, for a type with a matcher of its own only, so that a large catalogue
    takes little memory.
    """

    id: str
    name: str
    external_code: str | None = None
    code: str | None = None
    article: str | None = None
    images: tuple[RemoteImage, ...] = ()
    unreadable: tuple[str, ...] = ()
    images_known: bool = True
    fields: Mapping[str, object] = field(default_factory=lambda: _NO_FIELDS, compare=False)

    def key(self, match_field: MatchField) -> str | None:
        """Value of the field, None where it is missing or blank."""
        value = {
            MatchField.EXTERNAL_CODE: self.external_code,
            MatchField.CODE: self.code,
            MatchField.ARTICLE: self.article,
            MatchField.NAME: self.name,
        }[match_field]
        return value if value and value.strip() else None


@dataclass(frozen=True, slots=True)
class EntityPage:
    """Part of a list of entities. `unreadable`: a text for each row that cannot be read, which
    names its entity by name, code or id."""

    entities: list[Entity]
    unreadable: list[str] = field(default_factory=list)


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
