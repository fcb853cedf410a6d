"""Kinds of MoySklad entities that carry images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from imgsync.domain.errors import PluginError, UnknownEntityTypeError

if TYPE_CHECKING:
    from imgsync.domain.matching import Entity


MAX_IMAGES = 10
"""Images of one product, bundle or variant."""


class MatchField(StrEnum):
    """Field by which an entity's counterpart in the child account is found."""

    EXTERNAL_CODE = "externalCode"
    CODE = "code"
    ARTICLE = "article"
    NAME = "name"


class EntityMatcher(Protocol):
    """How the counterpart of an entity is found where its type has no field of `MatchField`."""

    @property
    def name(self) -> str:
        """What it compares, for messages such as ``no child entity has {name} 'x'``."""
        ...

    def key(self, entity: "Entity") -> str | None:
        """Equal for an entity and its counterpart; None where there is nothing to compare.

        `Entity.fields` is the row as the API gives it. Ids of one account mean nothing in another.
        """
        ...


@dataclass(frozen=True, slots=True)
class EntityType:
    """An entity type: its `name` in payloads and, as ``entity/{name}``, in the API.

    `max_images`: images that the API allows on one. `matcher` stands in for the field that
    configuration names.
    """

    name: str
    max_images: int = MAX_IMAGES
    matcher: EntityMatcher | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not (self.name.isascii() and self.name.isalnum()):
            raise PluginError(f"entity type name {self.name!r} is not ASCII letters and digits")
        if not isinstance(self.max_images, int) or isinstance(self.max_images, bool):
            raise PluginError(f"entity type '{self.name}': max_images is no whole number")
        if self.max_images < 1:
            raise PluginError(f"entity type '{self.name}' allows no image")


class EntityTypes:
    """The registered entity types. Raises PluginError on two of one name."""

    def __init__(self, types: Iterable[EntityType]) -> None:
        self._types: dict[str, EntityType] = {}
        for entity_type in types:
            if entity_type.name in self._types:
                raise PluginError(f"entity type '{entity_type.name}' is registered twice")
            self._types[entity_type.name] = entity_type

    def __iter__(self) -> Iterator[EntityType]:
        return iter(self._types.values())

    @property
    def names(self) -> list[str]:
        return list(self._types)

    def get(self, name: str) -> EntityType:
        """The type of that name; UnknownEntityTypeError lists the known ones."""
        try:
            return self._types[name]
        except KeyError:
            known = ", ".join(self._types)
            raise UnknownEntityTypeError(f"unknown entity type '{name}' (known: {known})") from None
