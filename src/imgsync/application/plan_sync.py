"""Finds what to copy: main entities with images and their counterparts in a child account."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from imgsync.domain.entity_types import EntityType, EntityTypes, MatchField
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.images import SourceImage
from imgsync.domain.matching import CounterpartIndex, Entity
from imgsync.domain.payloads import SyncRequest
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import AccountRepository


@dataclass(frozen=True, slots=True)
class Planned:
    """A main entity with images; without a counterpart `request` is None and `reason` says why."""

    entity_type: str
    name: str
    images: int
    request: SyncRequest | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanSync:
    """Plans the copies from a main to a child account. Holds one page of entities at a time."""

    accounts: AccountRepository
    moysklad: MoySkladFactory
    entity_types: EntityTypes

    async def __call__(
        self,
        main_id: str,
        child_id: str,
        *,
        match_field: MatchField = MatchField.EXTERNAL_CODE,
        only_types: Sequence[str] = (),
    ) -> AsyncIterator[Planned]:
        """Every main entity that has images, type by type.

        Raises UnknownAccountError, UnknownEntityTypeError and the errors of the API.
        """
        if main_id == child_id:
            raise ImgsyncError("the main and the child account are the same")
        main = self.moysklad.for_account(self.accounts.get(main_id))
        child = self.moysklad.for_account(self.accounts.get(child_id))
        for name in dict.fromkeys(only_types or self.entity_types.names):
            entity_type = self.entity_types.get(name)
            index: CounterpartIndex | None = None
            async for page in main.list_entities(entity_type, with_images=True):
                for entity in page.entities:
                    if not entity.images:
                        continue
                    index = index or await _index(child, entity_type, match_field)
                    child_entity, reason = index.assign(entity)
                    request = (
                        _request(main_id, child_id, entity_type, entity, child_entity)
                        if child_entity
                        else None
                    )
                    yield Planned(name, entity.name, len(entity.images), request, reason)


async def _index(
    child: MoySkladPort, entity_type: EntityType, match_field: MatchField
) -> CounterpartIndex:
    index = CounterpartIndex(match_field, entity_type.name)
    async for page in child.list_entities(entity_type, with_images=False):
        index.add(page.entities)
    return index


def _request(
    main_id: str, child_id: str, entity_type: EntityType, entity: Entity, child_entity_id: str
) -> SyncRequest:
    images = tuple(
        SourceImage(image.download_href, image.filename, image.size, image.updated)
        for image in entity.images
    )
    return SyncRequest(main_id, child_id, entity_type.name, entity.id, child_entity_id, images)
