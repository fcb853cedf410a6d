"""Finds what to copy: main entities with images and their counterparts in a child account."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from imgsync.domain.errors import PayloadError
from imgsync.domain.matching import CounterpartIndex, FieldMatcher
from imgsync.domain.model import (
    AccountRole,
    Entity,
    EntityType,
    EntityTypes,
    MatchField,
    SourceImage,
    SyncRequest,
    check_roles,
)
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import AccountRepository, SyncRecordRepository


def allowed_clears(compared: int) -> int:
    """Of so many entities compared, how many may lose all of their images in one run unasked."""
    return max(20, compared // 100)


@dataclass(frozen=True, slots=True)
class Planned:
    """A main entity whose counterpart is to get its images, or to lose them (`clears`).

    Without a `request` nothing can be done, and `reason` says why; `name` is empty where a row of
    a list could not be read, and `reason` names it then.
    """

    entity_type: str
    name: str
    images: int
    request: SyncRequest | None
    reason: str = ""
    clears: bool = False


@dataclass(frozen=True, slots=True)
class PlanSync:
    """Plans the copies from a main to a child account. Holds one page of entities at a time."""

    accounts: AccountRepository
    records: SyncRecordRepository
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
        """Every main entity that has images, type by type; after those of a type, every one that
        has none, or whose list is not told, although the record says that imgsync's stand on its
        counterpart.

        A type with a matcher of its own does not heed `match_field`. Raises UnknownAccountError,
        WrongAccountError, UnknownEntityTypeError and the errors of the API.
        """
        main_account = await self.accounts.get(main_id)
        child_account = await self.accounts.get(child_id)
        check_roles(main_account, child_account)
        main = self.moysklad.for_account(main_account)
        child = self.moysklad.for_account(child_account)
        for name in dict.fromkeys(only_types or self.entity_types.names):
            entity_type = self.entity_types.get(name)
            copied = await self.records.copied(child_id, name)
            planner = _TypePlanner(main_id, child_id, entity_type, child, match_field, copied)
            async for page in main.list_entities(entity_type, with_images=True):
                for text in page.unreadable:
                    yield planner.unreadable(f"main account: {text}")
                for entity in page.entities:
                    for planned in await planner.plan(entity):
                        yield planned
            for planned in planner.clears():
                yield planned

    async def note_roles(self, main_id: str, child_id: str) -> None:
        """Notes which of two accounts is the main one and which the child, where that is new."""
        for account_id, role in ((main_id, AccountRole.MAIN), (child_id, AccountRole.CHILD)):
            account = await self.accounts.get(account_id)
            if account.role is None:
                await self.accounts.set_role(account_id, role)


class _TypePlanner:
    """Plans the entities of one type. `copied`: child entities with images of imgsync's."""

    def __init__(
        self,
        main_id: str,
        child_id: str,
        entity_type: EntityType,
        child: MoySkladPort,
        match_field: MatchField,
        copied: set[str],
    ) -> None:
        self._accounts = (main_id, child_id)
        self._type = entity_type
        self._child = child
        self._copied = copied
        matcher = entity_type.matcher or FieldMatcher(match_field)
        self._index = CounterpartIndex(matcher, entity_type.name)
        self._index_is_full = False
        self._emptied: list[Entity] = []

    async def plan(self, entity: Entity) -> list[Planned]:
        found = [
            self.unreadable(f"'{entity.name}': an image is left out: {text}")
            for text in _unusable(entity)
        ]
        may_clear = bool(self._copied) and not entity.unreadable
        if not entity.images and not may_clear:
            return found + self._untold(entity)
        if not self._index_is_full:
            found += await self._read_child()
        if entity.images and not SourceImage.all_listed(entity.images):
            found.append(self._planned(entity, None, "none of its images can be copied"))
        elif entity.images:
            found.append(self._planned(entity, *self._index.assign(entity)))
        elif self._index.find(entity)[0] in self._copied:
            # Not planned now: an entity with images may come that has the same counterpart. Where
            # the list does not tell the images (null), the task asks for them before it clears.
            self._emptied.append(entity)
        else:
            found += self._untold(entity)
        return found

    def clears(self) -> list[Planned]:
        """The entities without images whose counterparts no other entity has got."""
        assigned = [(entity, *self._index.assign(entity)) for entity in self._emptied]
        return [self._planned(entity, child) for entity, child, _ in assigned if child]

    def unreadable(self, reason: str) -> Planned:
        return Planned(self._type.name, "", 0, None, reason)

    def _untold(self, entity: Entity) -> list[Planned]:
        if entity.images_known:
            return []
        return [self._planned(entity, None, "the main account does not tell its images")]

    async def _read_child(self) -> list[Planned]:
        """Fills the index; returns the rows that cannot be read."""
        found = []
        async for page in self._child.list_entities(self._type, with_images=False):
            self._index.add(page.entities)
            found += [self.unreadable(f"child account: {text}") for text in page.unreadable]
        self._index_is_full = True
        return found

    def _planned(self, entity: Entity, child_entity_id: str | None, reason: str = "") -> Planned:
        images = SourceImage.all_listed(entity.images)
        request = None
        if child_entity_id is not None:
            main_id, child_id = self._accounts
            kind, name = self._type.name, entity.name
            try:
                request = SyncRequest(
                    main_id, child_id, kind, entity.id, child_entity_id, images, name
                )
            except PayloadError as error:  # the API gave it an id or address that is none
                reason = f"{error.field}: {error.problem}"
        clears = request is not None and not entity.images
        return Planned(self._type.name, entity.name, len(images), request, reason, clears)


def _unusable(entity: Entity) -> list[str]:
    """Why images of the entity cannot be copied, one text for each."""
    unnamed = [i.filename for i in entity.images if not i.download_href]
    return [*entity.unreadable, *(f"{name}: it has no download address" for name in unnamed)]
