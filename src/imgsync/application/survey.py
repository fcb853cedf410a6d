"""Surveys accounts: what a main catalogue and those of its children have, and how they differ."""

import asyncio
import marshal
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any, Generic, TypeVar

from imgsync.application.abilities import learn_shown
from imgsync.domain.diff import (
    Adopt,
    Change,
    Clear,
    EntityKey,
    Making,
    SetTo,
    Skip,
    SyncRecord,
    Unchanged,
    diff,
)
from imgsync.domain.errors import ImgsyncError, PayloadError, UnknownEntityTypeError
from imgsync.domain.labels import entity_label, label
from imgsync.domain.matching import CounterpartIndex, FieldMatcher, in_folder
from imgsync.domain.model import (
    Abilities,
    AccountRole,
    Entity,
    EntityMatcher,
    EntityPage,
    EntityType,
    EntityTypes,
    Link,
    MatchField,
    RemoteImage,
    SourceImage,
    SyncRequest,
)
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    AccountRepository,
    SurveyRepository,
    SyncRecordRepository,
)
from imgsync.domain.surveys import MARGIN, Catalogue, PastSurvey, Since, SurveyKey
from imgsync.domain.text import natural_key

_T = TypeVar("_T")
_BATCH = 500
"""Entities whose records are read at once."""
_MOST_ENTITIES = 250_000
"""Entities that a survey holds, those of the main account and of the children under way together;
a packed one takes half a kilobyte."""
_MOST_CHANGED = 1000
"""Entities of a type that an incremental survey looks up one by one in the children."""
_MOST_CHILDREN = 8
"""Children that are read at once."""


MOST_UNASKED_CLEARS = _MOST_ENTITIES // 100
"""More clears on one child than these are not even held, unless somebody asked for more."""


def allowed_clears(compared: int) -> int:
    """Of so many entities compared, how many may lose all of their images in one run unasked."""
    return max(20, min(compared // 100, MOST_UNASKED_CLEARS))


MOST_SAMPLED = 1000


@dataclass(slots=True)
class Sample(Generic[_T]):
    """The first thousand of some things, and how many there were: a catalogue may be large."""

    items: list[_T] = field(default_factory=list)
    count: int = 0

    def add(self, one: _T) -> None:
        self.count += 1
        if len(self.items) < MOST_SAMPLED:
            self.items.append(one)

    @property
    def left_out(self) -> int:
        return self.count - len(self.items)


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
    `main_id` and `key` are of the two entities, where both are there.
    """

    link: Link
    entity_type: str
    name: str
    code: str | None
    change: Change
    listed: tuple[SourceImage, ...] = ()
    child_images: tuple[RemoteImage, ...] | None = None
    request: SyncRequest | None = None
    main_id: str = ""
    key: EntityKey | None = None

    @property
    def label(self) -> str:
        """Such as ``Omsk: product 'Lamp' (code 00017)``; of a row that could not be read the type
        alone is known."""
        entity = entity_label(self.entity_type, self.name, self.code, self.main_id)
        return label(self.link.child.name, entity or self.entity_type)

    @property
    def adopted(self) -> SyncRecord | None:
        """What is to be recorded, where the child has main's images without a record."""
        return self.change.adopted if isinstance(self.change, Unchanged) else None

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
    def is_unsure(self) -> bool:
        """Whether nobody can tell how the two stand, though there are two, or may be."""
        if isinstance(self.change, Skip):
            return not self.change.lone
        return self.difference is Difference.UNMATCHED

    @property
    def difference(self) -> Difference:
        match self.change:
            case Skip():
                return Difference.UNMATCHED
            case Unchanged() if self.listed and not self.change.warnings:
                return Difference.EQUAL
            case SetTo() | Clear() if self.child_images is None:
                return Difference.UNMATCHED
            case _ if self.listed:
                return Difference.DIFFERENT if self.child_images else Difference.MISSING
            case _:
                return Difference.EXTRA if self.child_images else Difference.EQUAL


@dataclass(frozen=True, slots=True)
class NotSurveyed:
    """The rest of a link could not be surveyed; the others go on."""

    link: Link
    error: ImgsyncError


_Any = TypeVar("_Any", Surveyed, NotSurveyed)


def by_children(found: Iterable[_Any]) -> list[_Any]:
    """As people count: main account by main account, "Child 2" before "Child 10"; those of one
    child stay in their order. Children are surveyed beside one another, so that theirs mingle."""
    return sorted(found, key=lambda one: place_of(one.link))


def place_of(link: Link) -> tuple[Any, ...]:
    """Sorts links as people count."""
    return natural_key(link.main.name), natural_key(link.child.name)


def not_surveyed_as_dict(found: NotSurveyed) -> dict[str, str]:
    """For JSON."""
    child = found.link.child
    return {"child": child.id, "child_name": child.name, "error": str(found.error)}


@dataclass(frozen=True, slots=True)
class SurveyMemory:
    """What surveys leave behind, and what a main account has shown; with it they can be
    incremental."""

    surveys: SurveyRepository
    abilities: AbilityRepository
    clock: StoreClock


@dataclass(slots=True)
class SurveyLog:
    """What became of a survey beside what it found.

    `in_full`: why it was no incremental one though that was asked for, a line each; `since`: where
    it was, the earliest moment; `empty_folders`: those of links that main has nothing in, a line
    each; `ended`: what may be noted of each child and type once what was found is queued
    (`Survey.note`).
    """

    in_full: list[str] = field(default_factory=list)
    since: datetime | None = None
    empty_folders: list[str] = field(default_factory=list)
    ended: dict[SurveyKey, PastSurvey] = field(default_factory=dict)

    def tell(self, line: str) -> None:
        if line not in self.in_full:
            self.in_full.append(line)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entities that alone are surveyed: their ids by type, of main, or `of_child`, of the only
    child. A type with a matcher of its own cannot be asked for by its keys: all of it is read."""

    ids: Mapping[str, Collection[str]]
    of_child: bool = False


Found = Surveyed | NotSurveyed
Waiting = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Which of some keys of requests, 500 at most, a task has that waits or runs."""


async def nothing_waits(keys: Collection[str]) -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Survey:
    """Surveys links. The catalogue of a main account is read once for all its children, and each
    child's once; they are held type by type, packed. `others`: the names and versions of the
    transformations that plugins bring."""

    accounts: AccountRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    entity_types: EntityTypes
    abilities: AbilityRepository | None = None
    memory: SurveyMemory | None = None
    others: str = ""

    async def __call__(
        self,
        links: Sequence[Link],
        *,
        match_field: MatchField = MatchField.EXTERNAL_CODE,
        match_by: MatchField | None = None,
        only_types: Sequence[str] = (),
        waiting: Waiting = nothing_waits,
        extras: bool = False,
        since: Since | None = None,
        adopt: Adopt = Adopt.SIZE,
        chosen: Chosen | None = None,
        log: SurveyLog | None = None,
    ) -> AsyncIterator[Found]:
        """Every main entity that has images, type by type and child by child; after those of a
        child, every one that has none, or whose list is not told, although its counterpart has.

        Links of one main account stand together. `match_field` counts where a link names none,
        `match_by` for all of them; a type with a matcher of its own heeds neither. `only_types`: of
        those of a link. What is `waiting` is asked for though nothing has changed: its task would
        copy what main had when it was queued. With `extras` a child is read even where main has no
        images and imgsync left none.

        `since`: only of entities that have changed since then, where the main account has shown
        that it can be asked for them; `log` tells where it was not. `adopt`: what becomes of
        images that a child has without a record; nothing is recorded here (see `adopted`).
        `chosen`: only of these entities, and `since` is not heeded; no later survey goes on from
        such a one.

        Raises UnknownEntityTypeError; an error of the API or of an account costs the links that it
        is about.
        """
        log = SurveyLog() if log is None else log
        for name in only_types:
            self.entity_types.get(name)
        for _, group in groupby(links, key=lambda link: link.main.id):
            of_main = [link for link in group if link.settings.enabled]
            folders = _Folders(self.moysklad, of_main, self.entity_types, chosen is not None)
            failed: set[str] = set()
            for link in of_main:
                if error := self._unknown_type(link):
                    failed.add(link.child.id)
                    yield NotSurveyed(link, error)
            for entity_type in self.entity_types:
                name = entity_type.name
                if chosen is not None and not chosen.ids.get(name):
                    continue
                concerned = [
                    link
                    for link in of_main
                    if (not only_types or name in only_types)
                    and (not link.settings.types or name in link.settings.types)
                    and link.child.id not in failed
                ]
                if not concerned:
                    continue
                survey = _TypeSurvey(
                    self, concerned, entity_type, folders, match_field, match_by, waiting,
                    extras, log, adopt, chosen,
                )  # fmt: skip
                if since is not None and chosen is None:
                    await survey.begin_with(since)
                async for batch in survey.run():
                    for found in batch:
                        if isinstance(found, NotSurveyed):
                            failed.add(found.link.child.id)
                        yield found
            if chosen is None:
                log.empty_folders += folders.empty(failed)
            accounts = {a.id: a for link in of_main for a in (link.main, link.child)}
            await learn_shown(self.abilities, self.moysklad, accounts.values())

    def _unknown_type(self, link: Link) -> ImgsyncError | None:
        """What is wrong with a link's entity types: of one whose plugin is gone, or that another
        program wrote, nothing would ever be copied, and nobody told."""
        try:
            for name in link.settings.types:
                self.entity_types.get(name)
        except UnknownEntityTypeError as error:
            return error
        return None

    async def note(self, log: SurveyLog, child_ids: Collection[str]) -> None:
        """The next survey of these children may go on from this one, as all that it found is
        done or queued."""
        if self.memory is None:
            return
        for key, survey in log.ended.items():
            if key.child_account_id in child_ids:
                await self.memory.surveys.put(key, survey)

    async def adopt(self, found: Sequence[Surveyed]) -> None:
        """Records what these have adopted, but for entities that have a record by now."""
        for (child_id, name), group in groupby(found, key=_of_type):
            adopted = {f.key.child_entity_id: f.adopted for f in group if f.key and f.adopted}
            there = await self.records.get_many(child_id, name, list(adopted))
            for entity_id, record in adopted.items():
                # One that broke off before anything was placed is as good as none.
                if (known := there.get(entity_id)) is None or not known.has_copies:
                    await self.records.put(EntityKey(child_id, name, entity_id), record)

    async def note_roles(self, link: Link) -> None:
        """Notes which of two accounts is the main one and which the child, where that is new."""
        for given, role in ((link.main, AccountRole.MAIN), (link.child, AccountRole.CHILD)):
            account = await self.accounts.get(given.id)
            if account.role is None:
                await self.accounts.set_role(account.id, role)


def _of_type(found: Surveyed) -> tuple[str, str]:
    return found.link.child.id, found.entity_type


class _Folders:
    """In which product folder each main entity is, as far as a link asks for that."""

    def __init__(
        self,
        moysklad: MoySkladFactory,
        links: Sequence[Link],
        entity_types: EntityTypes,
        by_ids: bool = False,
    ) -> None:
        self._moysklad = moysklad
        self._by_ids = by_ids
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

    def empty(self, failed: Collection[str]) -> list[str]:
        """What is said of folders that none of what was read is in. Their names may be misspelled,
        and all would be called equal. `failed`: children that were not surveyed."""
        naming: dict[str, list[str]] = {}
        for link in self._links:
            for folder in link.settings.folders if link.child.id not in failed else ():
                naming.setdefault(folder, []).append(f"'{link.child.name}'")
        paths = set(self._paths.values())
        told = []
        for folder, names in naming.items():
            if any(in_folder(path, (folder,)) for path in paths):
                continue
            *others, last = names
            of = f"link of {last} names"
            if others:
                of = f"links of {', '.join(others)} and {last} name"
            main = f"main account '{self._links[0].main.name}'"
            told.append(f"Nothing of {main} is in the product folder '{folder}' that the {of}")
        return told

    async def of(self, entity: Entity) -> str:
        """Path of its folder, or of its parent's; '' where there is none."""
        if entity.folder or entity.parent is None or not self.count:
            return entity.folder
        parent_type = entity.parent[0]
        if parent_type not in self._read and not self._by_ids:
            self._read.add(parent_type)
            await self._read_parents(parent_type, None)
        return self._paths.get(entity.parent, "")

    async def note_parents(self, entities: Iterable[Entity]) -> None:
        """Those of these entities, where not all are read."""
        wanted: dict[str, set[str]] = {}
        for entity in entities:
            if self.count and self._by_ids and entity.parent and not entity.folder:
                wanted.setdefault(entity.parent[0], set()).add(entity.parent[1])
        for parent_type, ids in wanted.items():
            await self._read_parents(parent_type, ids)

    async def _read_parents(self, parent_type: str, ids: Collection[str] | None) -> None:
        try:
            parents = self._types.get(parent_type)
        except UnknownEntityTypeError:
            return
        main = self._moysklad.for_account(self._links[0].main)
        async for page in main.list_entities(parents, with_images=False, ids=ids):
            self.note(parent_type, page.entities)


@dataclass(slots=True)
class _Catalogue:
    """The main entities of one type. `begun` is set once one has images, or all are read; `began`
    tells when. `shared`: of an incremental survey, by field the keys that several of main have;
    `repeated`: by matcher those that came again, `keys` the hashes of all that came."""

    entities: list[bytes] = field(default_factory=list)
    archived: list[bytes] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    total: int = 0
    began: datetime | None = None
    shrank: bool = False
    shared: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, set[int]] = field(default_factory=dict)
    repeated: dict[str, set[str]] = field(default_factory=dict)
    has_images: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def note_key(self, matcher: str, key: str) -> None:
        known = self.keys.setdefault(matcher, set())
        if hash(key) in known:  # or that of another key, which costs a moment
            self.repeated.setdefault(matcher, set()).add(key)
        known.add(hash(key))

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
        waiting: Waiting,
        extras: bool,
        log: SurveyLog,
        adopt: Adopt,
        chosen: Chosen | None,
    ) -> None:
        self.survey = survey
        self.chosen = chosen
        ids = chosen.ids[entity_type.name] if chosen else None
        self.ids = None if entity_type.matcher else ids
        self.adopt = adopt
        self.links = links
        self.type = entity_type
        self.folders = folders
        self.match_field = match_field
        self.match_by = match_by
        self.waiting = waiting
        self.extras = extras
        self.log = log
        self.since: datetime | None = None
        self.catalogue = _Catalogue()
        self._matchers = {m.name: m for m in map(self.matcher, links)}.values()
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

    @property
    def _main_key(self) -> SurveyKey:
        return SurveyKey(self.links[0].main.id, "", self.type.name)

    @property
    def is_partial(self) -> bool:
        """Whether only some of main's entities are read."""
        return self.since is not None or self.ids is not None

    async def ended(self, link: Link) -> None:
        """All of the child has been compared."""
        catalogue = self.catalogue
        if self.chosen is not None:
            return
        if catalogue.began is None or catalogue.shrank or catalogue.unreadable:
            return
        if self.since is not None:
            # What changed between the end of the last one and this beginning nobody has seen.
            past = await self._past(link)
            if past is None or past.began - MARGIN < self.since:
                return
        key = SurveyKey(link.main.id, link.child.id, self.type.name)
        self.log.ended[key] = PastSurvey(catalogue.began, self._settings_of(link))

    async def _past(self, link: Link) -> PastSurvey | None:
        """The last survey of a child under the same settings."""
        if self.survey.memory is None:
            return None
        key = SurveyKey(link.main.id, link.child.id, self.type.name)
        past = await self.survey.memory.surveys.get(key)
        return None if past is None or past.settings != self._settings_of(link) else past

    def _settings_of(self, link: Link) -> str:
        return f"{link.settings!r} {self.matcher(link).name} {self.survey.others}".rstrip()

    async def begin_with(self, since: Since) -> None:
        """Surveys only what has changed since then, unless something speaks against it."""
        why = await self._find_since(since)
        if why:
            main = self.links[0].main.name
            self.log.tell(f"Main account '{main}' is surveyed in full: {why}")

    async def _find_since(self, since: Since) -> str:
        """Sets `since`, or says why it cannot be."""
        memory = self.survey.memory
        if memory is None:
            return "earlier surveys are not remembered"
        main = self.links[0].main
        moves = (await memory.abilities.get(main.id)).images_move_updated
        if moves is None:
            return "it has not shown yet that a change of images moves an entity's 'updated'"
        if not moves:
            return "a change of images alone does not move an entity's 'updated' there"
        past = await memory.surveys.get(self._main_key)
        if past is not None and not past.seen:
            return ""  # it had none, so a whole survey is as cheap
        if self.type.matcher is not None or past is None:
            return (
                f"entities of type '{self.type.name}' have not been surveyed whole yet, or do not "
                "tell when they changed"
            )
        if self.folders.count:
            return "a link names folders, and what moves into one need not have changed itself"
        if since.moment is not None or since.span is not None:
            here = await memory.clock.now()
            # The earlier of the two: a clock that is wrong may cost requests, but hide no change.
            there = min(await self._time_of_main() or here, here)
            wanted = there - since.span if since.span is not None else since.moment
            # Of a clock that is behind ours, all that carries its time is earlier too.
            late = here - there if since.span is None else timedelta(0)
            self.since = (wanted or there) - late - MARGIN
        else:
            began: list[datetime] = []
            for link in self.links:
                past = await self._past(link)
                if past is None:
                    name = link.child.name
                    return f"no whole survey of '{name}' under these settings is remembered"
                began.append(past.began)
            self.since = min(began) - MARGIN
        return ""

    async def _time_of_main(self) -> datetime | None:
        """The present by the main account's clock."""
        main = self.survey.moysklad.for_account(self.links[0].main)
        async for page in main.list_entities(self.type, with_images=False):
            return page.answered
        return None

    async def _read_main(self) -> None:
        """Fills the catalogue. A type with a matcher of its own has its key in place of the fields,
        as whole rows would take too much memory."""
        try:
            if self.ids is not None:
                await self._read_chosen(self.ids)
                return
            if self.since is None or not await self._read_changed(self.since):
                self.since = None
                await self._read_all()
            elif self.log.since is None or self.since < self.log.since:
                self.log.since = self.since
            self.folders.is_read(self.type.name)
        finally:
            self.catalogue.begun.set()

    async def _read_chosen(self, ids: Collection[str]) -> None:
        catalogue = self.catalogue
        found: list[Entity] = []
        of_child = self.chosen is not None and self.chosen.of_child
        if of_child:
            # Of one link, which has one matcher.
            field, keys = await self._keys_of_child(ids)
            async for page in self._pages_of_main(None, having=(field, sorted(keys))):
                found += [one for one in page.entities if one.key(field) in keys]
        else:
            async for page in self._pages_of_main(None, ids=ids):
                found += page.entities
        self.folders.note(self.type.name, found)
        await self.folders.note_parents(found)
        for entity in found:
            await self._add(entity)
        for match_field in self._match_fields:
            catalogue.shared[match_field.value] = await self._shared(
                match_field, found, are_all=of_child
            )

    async def _keys_of_child(self, ids: Collection[str]) -> tuple[MatchField, set[str]]:
        """By which field, and by which values of it, main's entities are found."""
        (field,) = self._match_fields
        child = self.survey.moysklad.for_account(self.links[0].child)
        keys: set[str] = set()
        async for page in child.list_entities(self.type, with_images=False, ids=ids):
            keys |= {key for one in page.entities if (key := one.key(field)) is not None}
        return field, keys

    async def _read_all(self) -> None:
        catalogue = self.catalogue
        memory = self.survey.memory if self.chosen is None else None
        past = await memory.surveys.get(self._main_key) if memory else None
        shown = Catalogue(past.seen, past.moved) if past else Catalogue()
        async for page in self._pages_of_main(None):
            self.folders.note(self.type.name, page.entities)
            for entity in page.entities:
                if memory:
                    shown.add(entity)
                await self._add(entity)
                if entity.images:
                    catalogue.begun.set()
        is_told = shown.has_times or not catalogue.total
        if memory is None or catalogue.began is None or not is_told:
            return
        # One counterexample counts until the account is forgotten: others may be rare.
        main_id = self.links[0].main.id
        moves = (await memory.abilities.get(main_id)).images_move_updated
        if shown.verdict is not None and moves is not False and moves != shown.verdict:
            await memory.abilities.learn(main_id, Abilities(images_move_updated=shown.verdict))
        moved = 0 if shown.unmoved else shown.moved
        left = PastSurvey(catalogue.began, seen=shown.seen, moved=moved)
        await memory.surveys.put(self._main_key, left)

    async def _read_changed(self, since: datetime) -> bool:
        """False where a full survey is the better one."""
        catalogue = self.catalogue
        changed: list[Entity] = []
        async for page in self._pages_of_main(since):
            changed += page.entities
            if len(changed) > _MOST_CHANGED:
                self.log.tell(
                    f"Main account '{self.links[0].main.name}' is surveyed in full: more than "
                    f"{_MOST_CHANGED} entities of type '{self.type.name}' have changed"
                )
                self.catalogue = _Catalogue(begun=catalogue.begun)
                return False
        for entity in changed:
            await self._add(entity)
        for match_field in self._match_fields:
            catalogue.shared[match_field.value] = await self._shared(match_field, changed)
        return True

    @property
    def _match_fields(self) -> set[MatchField]:
        return {m.field for m in map(self.matcher, self.links) if isinstance(m, FieldMatcher)}

    async def _shared(
        self, match_field: MatchField, changed: Sequence[Entity], *, are_all: bool = False
    ) -> set[str]:
        """Of the keys of these entities, those that others of main have too: a full survey alone
        tells whose the counterpart is. `are_all`: there are no others with their keys."""
        owners: dict[str, set[str]] = {}
        for entity in changed:
            if (key := entity.key(match_field)) is not None:
                owners.setdefault(key, set()).add(entity.id)
        main = self.survey.moysklad.for_account(self.links[0].main)
        having = (match_field, list(owners))
        if owners and not are_all:
            async for page in main.list_entities(self.type, with_images=False, having=having):
                for entity in page.entities:
                    if (key := entity.key(match_field)) in owners:
                        owners[key].add(entity.id)
        return {key for key, ids in owners.items() if len(ids) > 1}

    async def _pages_of_main(
        self,
        since: datetime | None,
        *,
        having: tuple[MatchField, Sequence[str]] | None = None,
        ids: Collection[str] | None = None,
    ) -> AsyncIterator[EntityPage]:
        catalogue, memory = self.catalogue, self.survey.memory
        account = self.links[0].main
        main = self.survey.moysklad.for_account(account)
        asked = await memory.clock.now() if memory else None
        catalogue.began, is_told = asked, False
        # Permanent links are asked for although none came before: it costs nothing.
        async for page in main.list_entities(
            self.type,
            with_images=True,
            permanent_links=True,
            updated_since=since,
            having=having,
            ids=ids,
        ):
            # Before a task is made: whoever runs it needs to know the hosts of its links.
            await learn_shown(self.survey.abilities, self.survey.moysklad, [account])
            if not is_told and memory and page.answered is not None:
                catalogue.began, is_told = min(page.answered, asked or page.answered), True
            # Where the list became shorter, a row may have moved to a page that was read already.
            catalogue.shrank |= (page.total or catalogue.total) < catalogue.total
            catalogue.total = max(catalogue.total, page.total or 0)
            catalogue.unreadable += page.unreadable
            yield page
        if since is None or is_told or memory is None or asked is None:
            return
        # Nothing has changed, so nothing told the time; ours may be another.
        there = await self._time_of_main()
        if there is not None:
            catalogue.began = min(there - (await memory.clock.now() - asked), asked)

    async def _add(self, entity: Entity) -> None:
        catalogue, own = self.catalogue, self.type.matcher
        if self.folders.count and not entity.folder:
            entity = replace(entity, folder=await self.folders.of(entity))
        own_key = own.key(entity) if own else None
        for matcher in self._matchers:
            if (key := own_key if own else matcher.key(entity)) is not None:
                self.catalogue.note_key(matcher.name, key)
        packed = _packed(entity, own_key)
        (catalogue.archived if entity.archived else catalogue.entities).append(packed)
        catalogue.has_images |= bool(entity.images)

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
                await self._of.ended(self._link)
                return
        child = self._of.survey.moysklad.for_account(self._link.child)
        if self._of.is_partial:
            await self._of.main_is_read()
        await self._read(child)
        if catalogue.has_images:
            await self._of.main_is_read()
            of_child, self._found = self._found, []
            for text in catalogue.unreadable:
                self._skip(f"main account: {text}")
            self._found += of_child
        await self._compare()
        await self._of.tell(self._found)
        await self._of.ended(self._link)

    async def _read(self, child: MoySkladPort) -> None:
        having = None
        if self._of.is_partial and isinstance(self._matcher, FieldMatcher):
            keys = (self._matcher.key(_unpacked(packed)[0]) for packed in self._of.catalogue)
            having = self._matcher.field, [key for key in keys if key is not None]
        async for page in child.list_entities(self._type, with_images=True, having=having):
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
        catalogue = self._of.catalogue
        self._settle_shared(catalogue.entities)
        await self._compare_some(catalogue.entities)
        if catalogue.archived:
            for packed in catalogue.entities:
                # Whatever became of it: its counterpart is not that of one in the archive.
                entity, own_key = _unpacked(packed)
                self._index.assign(self._key(entity, own_key), entity.id)
            self._settle_shared(catalogue.archived)
            await self._compare_some(catalogue.archived)

    def _settle_shared(self, of_main: Sequence[bytes]) -> None:
        """A key that several of main have is that of one with images, and of those of the one whose
        id is the smallest: by the order of a list, pictures would change whenever that does."""
        repeated = self._of.catalogue.repeated.get(self._matcher.name)
        if not repeated:
            return
        firsts: dict[str, tuple[bool, str]] = {}
        for packed in of_main:
            entity, own_key = _unpacked(packed)
            key = self._key(entity, own_key)
            has_some = bool(SourceImage.all_listed(entity.images))
            asks = has_some or not (entity.images or entity.unreadable)
            if key in repeated and asks and self._is_chosen(entity):
                asking = (not has_some, entity.id)
                firsts[key] = min(firsts.get(key, asking), asking)
        for key, (_, main_id) in firsts.items():
            self._index.assign(key, main_id)

    def _is_chosen(self, entity: Entity) -> bool:
        folders = self._link.settings.folders
        return not folders or in_folder(entity.folder, folders)

    async def _compare_some(self, of_main: Sequence[bytes]) -> None:
        pairs: list[_Pair] = []
        emptied: list[bytes] = []
        for packed in of_main:
            entity, own_key = _unpacked(packed)
            if not self._is_chosen(entity):
                continue
            for text in _unusable(entity):
                skip = Skip(f"'{entity.name}': an image is left out: {text}")
                of = Surveyed(self._link, self._type.name, entity.name, entity.code, skip)
                self._found.append(of)
            if not entity.images:
                # Not judged now: an entity with images may come that has the same counterpart.
                if not entity.unreadable:
                    emptied.append(packed)
                continue
            if not SourceImage.all_listed(entity.images):
                self._skip("none of its images can be copied", entity)
                continue
            if self._is_shared(self._key(entity, own_key)):
                self._skip(
                    f"several main entities have its {self._matcher.name}; only a whole survey "
                    "tells whose the counterpart is",
                    entity,
                )
                continue
            counterpart, reason = self._index.assign(self._key(entity, own_key), entity.id)
            if counterpart is None:
                self._add(entity, Skip(reason, lone=True), SourceImage.all_listed(entity.images))
            else:
                pairs.append(_pair(entity, counterpart))
            if len(pairs) >= _BATCH:
                await self._diff(pairs)
                pairs = []
        await self._diff(pairs)
        for start in range(0, len(emptied), _BATCH):
            await self._compare_emptied(emptied[start : start + _BATCH])

    async def _compare_emptied(self, emptied: Sequence[bytes]) -> None:
        """Entities without images, whose counterparts may have some, or get some by a task."""
        found: list[tuple[str | None, Entity, _Pair | None]] = []
        for packed in emptied:
            entity, own_key = _unpacked(packed)
            key = self._key(entity, own_key)
            counterpart, _ = self._index.find(key)
            found.append((key, entity, _pair(entity, counterpart) if counterpart else None))
        waiting = await self._waiting([pair for _, _, pair in found if pair is not None])
        pairs: list[_Pair] = []
        for key, entity, pair in found:
            if self._is_shared(key):
                continue
            if pair is None or (pair.child_images == () and pair.child_id not in waiting):
                self._untold(entity)
            elif self._index.assign(key, entity.id)[0] is not None:
                pairs.append(pair)
        await self._diff(pairs)

    def _is_shared(self, key: str | None) -> bool:
        return key in self._of.catalogue.shared.get(self._matcher.name, ())

    def _key(self, entity: Entity, own_key: str | None) -> str | None:
        return own_key if self._type.matcher else self._matcher.key(entity)

    async def _diff(self, pairs: Sequence[_Pair]) -> None:
        if not pairs:
            return
        # Asked before the records are read: a task that ends between the two has left its own.
        waiting = await self._waiting(pairs)
        records = await self._records.get_many(
            self._link.child.id, self._type.name, [pair.child_id for pair in pairs]
        )
        most = self._link.settings.limit_for(self._type)
        for pair in pairs:
            self._judge(pair, records.get(pair.child_id), most, pair.child_id in waiting)
        found, self._found = self._found, []
        await self._of.tell(found)

    def _judge(self, pair: _Pair, record: SyncRecord | None, most: int, is_waiting: bool) -> None:
        entity = pair.entity
        listed = SourceImage.all_listed(entity.images)
        making = Making(self._link.settings.pictures, self._of.survey.others)
        change = diff(listed, record, pair.child_images, most, making, self._of.adopt)
        if isinstance(change, Unchanged) and is_waiting:
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
                    self._of.adopt,
                    code=entity.code or "",
                )
            except PayloadError as error:  # the API gave it an id or address that is none
                change = Skip(f"{error.field}: {error.problem}")
        self._add(entity, change, listed, pair, request)

    async def _waiting(self, pairs: Sequence[_Pair]) -> set[str]:
        """Ids of the child's entities for which a task waits, which would copy what main had when
        it was queued."""
        of = "/".join((self._link.child.id, self._type.name, ""))
        found = await self._of.waiting([of + pair.child_id for pair in pairs]) if pairs else ()
        return {key.removeprefix(of) for key in found}

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
        pair: _Pair | None = None,
        request: SyncRequest | None = None,
    ) -> None:
        child_id, name = self._link.child.id, self._type.name
        self._found.append(
            Surveyed(
                self._link,
                name,
                entity.name,
                entity.code,
                change,
                listed,
                pair.child_images if pair else None,
                request,
                entity.id,
                EntityKey(child_id, name, pair.child_id) if pair else None,
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
