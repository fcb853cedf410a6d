"""Surveys accounts: what a main catalogue and those of its children have, and how they differ."""

import asyncio
import marshal
import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from imgsync.application.abilities import learn_shown
from imgsync.domain.diff import Change, Clear, SetTo, Skip, SyncRecord, Unchanged, diff
from imgsync.domain.errors import ImgsyncError, PayloadError, UnknownEntityTypeError
from imgsync.domain.matching import CounterpartIndex, FieldMatcher, in_folder
from imgsync.domain.model import (
    AccountRole,
    Entity,
    EntityMatcher,
    EntityType,
    EntityTypes,
    Link,
    MatchField,
    RemoteImage,
    SourceImage,
    SyncRequest,
)
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    AccountRepository,
    SyncRecordRepository,
)

_BATCH = 500
"""Entities whose records are read at once."""
_MOST_ENTITIES = 250_000
"""Entities that a survey holds, those of the main account and of the children under way together;
a packed one takes half a kilobyte."""
_MOST_CHILDREN = 8
"""Children that are read at once."""


def allowed_clears(compared: int) -> int:
    """Of so many entities compared, how many may lose all of their images in one run unasked."""
    return max(20, compared // 100)


class Difference(StrEnum):
    """How a child's entity stands beside main's. UNMATCHED: nobody can tell, as it has no
    counterpart or a list cannot be read."""

    EQUAL = "equal"
    MISSING = "missing"
    DIFFERENT = "different"
    EXTRA = "extra"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A main entity beside its counterpart in a child account, and what must change there.

    `request` is what a task of it would do; without one nothing is to be done, or can be, and
    `reason` says why. `listed` are main's images, `child_images` the child's list, None where it is
    not known. `name` is empty where a row of a list could not be read, and `reason` names it then.
    """

    link: Link
    entity_type: str
    name: str
    code: str | None
    change: Change
    listed: tuple[SourceImage, ...] = ()
    child_images: tuple[RemoteImage, ...] | None = None
    request: SyncRequest | None = None

    @property
    def images(self) -> int:
        """How many main has."""
        return len(self.listed)

    @property
    def clears(self) -> bool:
        return isinstance(self.change, Clear)

    @property
    def reason(self) -> str:
        match self.change:
            case Skip():
                return self.change.reason
            case Unchanged():
                return "; ".join(self.change.warnings)
            case _:
                return ""

    @property
    def difference(self) -> Difference:
        match self.change:
            case Skip():
                return Difference.UNMATCHED
            case Unchanged() if self.listed:
                return Difference.DIFFERENT if self.change.warnings else Difference.EQUAL
            case _ if self.listed:
                return Difference.DIFFERENT if self.child_images else Difference.MISSING
            case _:
                return Difference.EXTRA if self.child_images else Difference.EQUAL


@dataclass(frozen=True, slots=True)
class NotSurveyed:
    """The rest of a link could not be surveyed; the others go on."""

    link: Link
    error: ImgsyncError


Found = Surveyed | NotSurveyed


@dataclass(frozen=True, slots=True)
class Survey:
    """Surveys links. The catalogue of a main account is read once for all its children, and each
    child's once; they are held type by type, packed."""

    accounts: AccountRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    entity_types: EntityTypes
    abilities: AbilityRepository | None = None

    async def __call__(
        self,
        links: Sequence[Link],
        *,
        match_field: MatchField = MatchField.EXTERNAL_CODE,
        match_by: MatchField | None = None,
        only_types: Sequence[str] = (),
        again: Collection[str] = (),
        extras: bool = False,
    ) -> AsyncIterator[Found]:
        """Every main entity that has images, type by type and child by child; after those of a
        child, every one that has none, or whose list is not told, although its counterpart has.

        Links of one main account stand together. `match_field` counts where a link names none,
        `match_by` for all of them; a type with a matcher of its own heeds neither. `only_types`: of
        those of a link. `again`: keys of requests that are made though nothing has changed. With
        `extras` a child is read even where main has no images and imgsync left none.

        Raises UnknownEntityTypeError; an error of the API or of an account costs the links that it
        is about.
        """
        for name in only_types:
            self.entity_types.get(name)
        for _, group in groupby(links, key=lambda link: link.main.id):
            of_main = [link for link in group if link.settings.enabled]
            folders = _Folders(self.moysklad, of_main, self.entity_types)
            failed: set[str] = set()
            for entity_type in self.entity_types:
                name = entity_type.name
                chosen = [
                    link
                    for link in of_main
                    if (not only_types or name in only_types)
                    and (not link.settings.types or name in link.settings.types)
                    and link.child.id not in failed
                ]
                if not chosen:
                    continue
                survey = _TypeSurvey(
                    self, chosen, entity_type, folders, match_field, match_by, again,
                    extras,
                )  # fmt: skip
                async for batch in survey.run():
                    for found in batch:
                        if isinstance(found, NotSurveyed):
                            failed.add(found.link.child.id)
                        yield found
            accounts = {a.id: a for link in of_main for a in (link.main, link.child)}
            await learn_shown(self.abilities, self.moysklad, accounts.values())

    async def note_roles(self, link: Link) -> None:
        """Notes which of two accounts is the main one and which the child, where that is new."""
        for given, role in ((link.main, AccountRole.MAIN), (link.child, AccountRole.CHILD)):
            account = await self.accounts.get(given.id)
            if account.role is None:
                await self.accounts.set_role(account.id, role)


class _Folders:
    """In which product folder each main entity is, as far as a link asks for that."""

    def __init__(
        self, moysklad: MoySkladFactory, links: Sequence[Link], entity_types: EntityTypes
    ) -> None:
        self._moysklad = moysklad
        self._links = links
        self._types = entity_types
        self.count = any(link.settings.folders for link in links)
        self._paths: dict[tuple[str, str], str] = {}
        self._read: set[str] = set()

    def note(self, entity_type: str, entities: Iterable[Entity]) -> None:
        if self.count:
            self._paths |= {(entity_type, e.id): e.folder for e in entities if e.folder}

    def is_read(self, entity_type: str) -> None:
        self._read.add(entity_type)

    async def of(self, entity: Entity) -> str:
        """Path of its folder, or of its parent's; '' where there is none."""
        if entity.folder or entity.parent is None or not self.count:
            return entity.folder
        parent_type = entity.parent[0]
        if parent_type not in self._read:
            self._read.add(parent_type)
            try:
                parents = self._types.get(parent_type)
            except UnknownEntityTypeError:
                return ""
            main = self._moysklad.for_account(self._links[0].main)
            async for page in main.list_entities(parents, with_images=False):
                self.note(parent_type, page.entities)
        return self._paths.get(entity.parent, "")


@dataclass(slots=True)
class _Catalogue:
    """The main entities of one type. `begun` is set once one has images, or all are read."""

    entities: list[bytes] = field(default_factory=list)
    archived: list[bytes] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    total: int = 0
    has_images: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def __iter__(self) -> Iterator[bytes]:
        """Those in the archive last: a counterpart goes to the first that asks for it."""
        yield from self.entities
        yield from self.archived


class _TypeSurvey:
    """The entities of one type of one main account, beside those of its children."""

    def __init__(
        self,
        survey: Survey,
        links: Sequence[Link],
        entity_type: EntityType,
        folders: _Folders,
        match_field: MatchField,
        match_by: MatchField | None,
        again: Collection[str],
        extras: bool,
    ) -> None:
        self.survey = survey
        self.links = links
        self.type = entity_type
        self.folders = folders
        self.match_field = match_field
        self.match_by = match_by
        self.again = again
        self.extras = extras
        self.catalogue = _Catalogue()
        self._reading: asyncio.Task[None] | None = None
        self._found: asyncio.Queue[list[Found]] = asyncio.Queue(maxsize=2)

    async def run(self) -> AsyncIterator[list[Found]]:
        reading = self._reading = asyncio.ensure_future(self._read_main())
        comparing = asyncio.ensure_future(self._children())
        getting: asyncio.Task[list[Found]] | None = None
        try:
            while True:
                getting = asyncio.ensure_future(self._found.get())
                await asyncio.wait({getting, comparing}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    break
                yield getting.result()
            await comparing
            while not self._found.empty():
                yield self._found.get_nowait()
        finally:
            left = [task for task in (getting, comparing, reading) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def matcher(self, link: Link) -> EntityMatcher:
        field = self.match_by or link.settings.match_by or self.match_field
        return self.type.matcher or FieldMatcher(field)

    async def _read_main(self) -> None:
        """Fills the catalogue. A type with a matcher of its own has its key in place of the fields,
        as whole rows would take too much memory."""
        catalogue, own = self.catalogue, self.type.matcher
        try:
            main = self.survey.moysklad.for_account(self.links[0].main)
            async for page in main.list_entities(self.type, with_images=True, permanent_links=True):
                catalogue.total = max(catalogue.total, page.total or 0)
                catalogue.unreadable += page.unreadable
                self.folders.note(self.type.name, page.entities)
                for entity in page.entities:
                    if self.folders.count and not entity.folder:
                        entity = replace(entity, folder=await self.folders.of(entity))
                    packed = _packed(entity, own.key(entity) if own else None)
                    (catalogue.archived if entity.archived else catalogue.entities).append(packed)
                    if entity.images:
                        catalogue.has_images = True
                        catalogue.begun.set()
            self.folders.is_read(self.type.name)
        finally:
            catalogue.begun.set()

    async def _children(self) -> None:
        await self.catalogue.begun.wait()
        most = max(self.catalogue.total, len(self.catalogue.entities), 1)
        at_once = asyncio.Semaphore(max(1, min(_MOST_CHILDREN, _MOST_ENTITIES // most - 1)))

        async def one(link: Link) -> None:
            async with at_once:
                try:
                    await _ChildSurvey(self, link).run()
                except ImgsyncError as error:
                    await self._found.put([NotSurveyed(link, error)])

        try:
            async with asyncio.TaskGroup() as group:
                for link in self.links:
                    group.create_task(one(link))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def tell(self, found: list[Found]) -> None:
        if found:
            await self._found.put(found)

    async def main_is_read(self) -> None:
        assert self._reading is not None  # noqa: S101 (for the type checker: `run` sets it)
        await asyncio.shield(self._reading)


@dataclass(slots=True)
class _Pair:
    """A main entity and its counterpart; `child_images` None where they are not told."""

    entity: Entity
    child_id: str
    child_images: tuple[RemoteImage, ...] | None


class _ChildSurvey:
    """The entities of one type of one child, beside those of its main account."""

    def __init__(self, of_type: _TypeSurvey, link: Link) -> None:
        self._of = of_type
        self._link = link
        self._type = of_type.type
        self._matcher = of_type.matcher(link)
        self._records = of_type.survey.records
        self._index: CounterpartIndex[bytes] = CounterpartIndex(
            self._matcher.name, self._type.name, lambda packed: _unpacked(packed)[0].id
        )
        self._found: list[Found] = []

    async def run(self) -> None:
        catalogue, child_id = self._of.catalogue, self._link.child.id
        if not catalogue.has_images:
            await self._of.main_is_read()
            for text in catalogue.unreadable:
                self._skip(f"main account: {text}")
            anything = catalogue.entities or catalogue.archived
            wanted = anything and (
                self._of.extras or await self._records.copied(child_id, self._type.name)
            )
            if not wanted and not any(not _unpacked(p)[0].images_known for p in catalogue):
                await self._of.tell(self._found)
                return
        await self._read(self._of.survey.moysklad.for_account(self._link.child))
        if catalogue.has_images:
            await self._of.main_is_read()
            of_child, self._found = self._found, []
            for text in catalogue.unreadable:
                self._skip(f"main account: {text}")
            self._found += of_child
        await self._compare()
        await self._of.tell(self._found)

    async def _read(self, child: MoySkladPort) -> None:
        async for page in child.list_entities(self._type, with_images=True):
            for text in page.unreadable:
                self._skip(f"child account: {text}")
            for entity in page.entities:
                small = Entity(
                    entity.id, "", images=entity.images, unreadable=entity.unreadable,
                    images_known=entity.images_known,
                )  # fmt: skip
                self._index.add(
                    self._matcher.key(entity), _packed(small, None), archived=entity.archived
                )

    async def _compare(self) -> None:
        pairs: list[_Pair] = []
        emptied: list[bytes] = []
        for packed in self._of.catalogue:
            entity, own_key = _unpacked(packed)
            folders = self._link.settings.folders
            if folders and not in_folder(entity.folder, folders):
                continue
            for text in _unusable(entity):
                self._skip(f"'{entity.name}': an image is left out: {text}")
            if not entity.images:
                # Not judged now: an entity with images may come that has the same counterpart.
                if not entity.unreadable:
                    emptied.append(packed)
                continue
            if not SourceImage.all_listed(entity.images):
                self._skip("none of its images can be copied", entity)
                continue
            counterpart, reason = self._index.assign(self._key(entity, own_key), entity.id)
            if counterpart is None:
                self._skip(reason, entity)
            else:
                pairs.append(_pair(entity, counterpart))
            if len(pairs) >= _BATCH:
                await self._diff(pairs)
                pairs = []
        await self._diff(pairs)
        pairs = []
        for packed in emptied:
            entity, own_key = _unpacked(packed)
            key = self._key(entity, own_key)
            counterpart, _ = self._index.find(key)
            pair = None if counterpart is None else _pair(entity, counterpart)
            has_any = pair is not None and pair.child_images != ()
            if pair is None or not (has_any or self._is_asked_for(pair)):
                self._untold(entity)
            elif self._index.assign(key, entity.id)[0] is not None:
                pairs.append(pair)
            if len(pairs) >= _BATCH:
                await self._diff(pairs)
                pairs = []
        await self._diff(pairs)

    def _key(self, entity: Entity, own_key: str | None) -> str | None:
        return own_key if self._type.matcher else self._matcher.key(entity)

    async def _diff(self, pairs: Sequence[_Pair]) -> None:
        if not pairs:
            return
        records = await self._records.get_many(
            self._link.child.id, self._type.name, [pair.child_id for pair in pairs]
        )
        most = self._link.settings.limit_for(self._type)
        for pair in pairs:
            self._judge(pair, records.get(pair.child_id), most)
        found, self._found = self._found, []
        await self._of.tell(found)

    def _judge(self, pair: _Pair, record: SyncRecord | None, most: int) -> None:
        entity = pair.entity
        listed = SourceImage.all_listed(entity.images)
        change = diff(listed, record, pair.child_images, most)
        if isinstance(change, Unchanged) and self._is_asked_for(pair):
            change = SetTo(())
        if isinstance(change, Unchanged) and not listed and not entity.images_known:
            self._untold(entity)
            return
        request = None
        if isinstance(change, SetTo | Clear):
            try:
                request = SyncRequest(
                    self._link.main.id,
                    self._link.child.id,
                    self._type.name,
                    entity.id,
                    pair.child_id,
                    listed,
                    entity.name,
                    pair.child_images,
                )
            except PayloadError as error:  # the API gave it an id or address that is none
                change = Skip(f"{error.field}: {error.problem}")
        self._add(entity, change, listed, pair.child_images, request)

    def _is_asked_for(self, pair: _Pair) -> bool:
        """Whether a task of it waits, which would copy what main had when it was queued."""
        key = "/".join((self._link.child.id, self._type.name, pair.child_id))
        return key in self._of.again

    def _untold(self, entity: Entity) -> None:
        if not entity.images_known:
            self._skip("the main account does not tell its images", entity)

    def _skip(self, reason: str, entity: Entity | None = None) -> None:
        if entity is None:
            change = Skip(reason)
            self._found.append(Surveyed(self._link, self._type.name, "", None, change))
        else:
            self._add(entity, Skip(reason), SourceImage.all_listed(entity.images))

    def _add(
        self,
        entity: Entity,
        change: Change,
        listed: tuple[SourceImage, ...],
        child_images: tuple[RemoteImage, ...] | None = None,
        request: SyncRequest | None = None,
    ) -> None:
        self._found.append(
            Surveyed(
                self._link,
                self._type.name,
                entity.name,
                entity.code,
                change,
                listed,
                child_images,
                request,
            )
        )


def _pair(entity: Entity, counterpart: bytes) -> _Pair:
    child, _ = _unpacked(counterpart)
    known = child.images_known and not child.unreadable
    return _Pair(entity, child.id, child.images if known else None)


def _unusable(entity: Entity) -> list[str]:
    """Why images of the entity cannot be copied, one text for each."""
    unnamed = [i.filename for i in entity.images if not i.download_href]
    return [*entity.unreadable, *(f"{name}: it has no download address" for name in unnamed)]


def _packed(entity: Entity, own_key: str | None) -> bytes:
    """An entity without its row, and the key of its type's own matcher, in few bytes."""
    images = tuple(
        (i.href, i.filename, i.size, i.updated, i.download_href, i.permanent_href)
        for i in entity.images
    )
    value = (
        entity.id,
        entity.name,
        entity.external_code,
        entity.code,
        entity.article,
        images,
        entity.unreadable,
        entity.images_known,
        entity.archived,
        entity.folder,
        own_key,
    )
    return zlib.compress(marshal.dumps(value), 1)


def _unpacked(packed: bytes) -> tuple[Entity, str | None]:
    # marshal reads only what this process packed.
    *values, own_key = marshal.loads(zlib.decompress(packed))  # noqa: S302
    values[5] = tuple(RemoteImage(*image) for image in values[5])
    return Entity(*values), own_key
