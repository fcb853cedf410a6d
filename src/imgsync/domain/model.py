"""The nouns, with their invariants: accounts, entities, images, requests."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from imgsync.domain.errors import (
    AlreadyLinkedError,
    PayloadError,
    PluginError,
    SyncIsOffError,
    UnknownEntityTypeError,
    WrongAccountError,
    WrongRoleError,
)
from imgsync.domain.pictures import AS_BY_DEFAULT, PictureSettings
from imgsync.domain.schedule import BY_DEFAULT, LinkSchedule


class TokenKind(StrEnum):
    """How an account authenticates: Bearer token of a solution or user, or Basic login:password.

    DRAFT is the token of a solution in draft or moderation: as SOLUTION, but each request costs 4.
    """

    SOLUTION = "solution"
    DRAFT = "draft"
    USER = "user"
    PASSWORD = "password"  # noqa: S105 (a kind, not a secret)


class Adopt(StrEnum):
    """When images that are on a child without a record of imgsync's count as copies of main's.

    SIZE: where number, order, names and sizes are the same; HASH: where the content is, for which
    both are downloaded; NONE: never.
    """

    SIZE = "size"
    HASH = "hash"
    NONE = "none"


class AccountRole(StrEnum):
    """Which side of a copy an account stands on. An account never stands on both."""

    MAIN = "main"
    CHILD = "child"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose credentials these are, as the API tells: account id, a name, and the kind.

    `token_kind` is SOLUTION for every token of a solution; the API does not tell a draft.
    """

    account_id: str
    name: str
    token_kind: TokenKind


NO_END = datetime(9999, 1, 1, tzinfo=UTC)
"""`until` of a parking that ends once the account is stored anew, and not by itself."""

NO_TOKEN = "-"  # noqa: S105 (the want of one)
"""What is stored in place of a token that MoySklad has ended, and that is forgotten."""

TOKEN_ENDED = "MoySklad has ended its token: the solution was removed or suspended there"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Parking:
    """An account takes no requests until the aware moment `until`; `reason` is for the user.

    `is_brief`: it ends by itself, and nobody need be told; not kept with it.
    """

    reason: str
    until: datetime
    is_brief: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an account's API has shown that it can do; None: not shown yet."""

    bulk: bool | None = None
    """Takes lists of images in one request for many entities."""

    bulk_keeps: bool | None = None
    """Keeps images by meta in such lists."""

    permanent_links: bool | None = None
    """Gives addresses of images that cost the account nothing."""

    permanent_hosts: frozenset[str] = frozenset()
    """Hosts, in lower case and with the port where it is not the usual one, that the API itself
    named in such addresses."""

    images_move_updated: bool | None = None
    """A change of images alone moves the entity's `updated`."""

    accepted_image_bytes: int | None = None
    """Bytes of the largest image file that was taken."""

    refused_image_bytes: int | None = None
    """Bytes of the smallest that was refused as too large."""

    refused_formats: frozenset[str] = frozenset()
    """Formats, in lower case, that were refused as no image though the picture was whole."""

    head: bool | None = None
    """HEAD on a download address tells the size."""

    def with_shown(self, later: "Abilities") -> "Abilities":
        """What both have shown; `later` has the last word where they contradict each other."""

        def last(was: bool | None, now: bool | None) -> bool | None:
            return was if now is None else now

        accepted = _largest(self.accepted_image_bytes, later.accepted_image_bytes)
        refused = _smallest(self.refused_image_bytes, later.refused_image_bytes)
        if accepted is not None and refused is not None and accepted >= refused:
            # The limit was changed, and what was shown before tells of the old one.
            accepted, refused = later.accepted_image_bytes, later.refused_image_bytes
        return Abilities(
            bulk=last(self.bulk, later.bulk),
            bulk_keeps=last(self.bulk_keeps, later.bulk_keeps),
            permanent_links=last(self.permanent_links, later.permanent_links),
            permanent_hosts=self.permanent_hosts | later.permanent_hosts,
            images_move_updated=last(self.images_move_updated, later.images_move_updated),
            accepted_image_bytes=accepted,
            refused_image_bytes=refused,
            refused_formats=self.refused_formats | later.refused_formats,
            head=last(self.head, later.head),
        )


def _largest(*sizes: int | None) -> int | None:
    return max((size for size in sizes if size is not None), default=None)


def _smallest(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


@dataclass(frozen=True, slots=True)
class Account:
    """An account and its credentials. `secret` is left out of repr so that no log shows it.

    `login` is set exactly when `token_kind` is PASSWORD; `role` is None until it is known.
    """

    id: str
    name: str
    token_kind: TokenKind
    secret: str = field(repr=False)
    login: str | None = None
    role: AccountRole | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise ValueError("account id is empty")
        if not (self.id + self.name + (self.login or "")).isprintable():
            raise ValueError("the id, name or login has characters that cannot be printed")
        if not self.secret:
            raise ValueError("the token or password is empty")
        is_password = self.token_kind is TokenKind.PASSWORD
        if not is_password and not re.fullmatch(r"[!-~]+", self.secret):
            raise ValueError("the token has spaces, line breaks or other than ASCII characters")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in self.secret):
            raise ValueError("the password has control characters")
        if is_password != (self.login is not None):
            raise ValueError("a login goes with a password, and only with a password")

    @property
    def has_token(self) -> bool:
        """Whether there is anything to authorise a request with."""
        return self.secret != NO_TOKEN


@dataclass(frozen=True, slots=True)
class AccountName:
    """An account as one may tell of it: without its credentials."""

    id: str
    name: str

    def __str__(self) -> str:
        return self.name


def check_roles(main: Account, child: Account) -> None:
    """WrongAccountError where these two cannot be the main and the child account of a copy."""
    if main.id.casefold() == child.id.casefold():
        raise WrongAccountError(
            f"the main and the child account are the same: {_named(main)} and {_named(child)}"
        )
    for account, role, other in (
        (main, AccountRole.MAIN, child),
        (child, AccountRole.CHILD, main),
    ):
        check_role(account, role, f" beside {_named(other)}")


def check_role(account: Account, role: AccountRole, beside: str = "") -> None:
    """WrongRoleError where the account stands on the other side; `beside` ends its text."""
    if account.role not in (None, role):
        raise WrongRoleError(
            f"{_named(account)} is a {account.role} account and cannot be the {role} account"
            + beside,
            account.id,
            role,
        )


def _named(account: Account) -> str:
    return f"account '{account.name}' ({account.id})"


_NAMELESS = "image"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of an entity as GET …/images lists it.

    `href` is meta.href (needed to keep the image), `size` is bytes (0 where the API does not tell),
    `updated` the API's own text, such as ``2019-01-24 16:55:24.567`` (Moscow time; '' untold).
    `permanent_href`: an address that costs the account nothing, '' where none was given.
    """

    href: str
    filename: str
    size: int
    updated: str
    download_href: str
    permanent_href: str = ""

    @property
    def id(self) -> str:
        """Id of the image, the last segment of `href`."""
        return last_segment(self.href)

    def is_of(self, entity_id: str) -> bool:
        """Whether `href`, ``…/{entity id}/images/{id}``, names this entity."""
        return entity_id in _without_query(self.href).split("/")


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What tells whether a source image changed: its id, size in bytes and updated time."""

    id: str
    size: int
    updated: str


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to copy, as a payload names it; `size` (bytes) and `updated` may be unknown.

    `permanent_href`: where it can be fetched at no cost, while that works. `given_id`: its id, for
    an address that does not tell it.
    """

    download_href: str
    filename: str
    size: int | None = None
    updated: str | None = None
    permanent_href: str | None = None
    given_id: str | None = None

    @property
    def id(self) -> str | None:
        """Image id where `download_href` is MoySklad's ``…/download/{id}``, else `given_id`."""
        path = _without_query(self.download_href)
        if "/download/" not in path:
            return self.given_id
        found = last_segment(path)
        return found if _UUID.fullmatch(found) else self.given_id

    @property
    def fingerprint(self) -> ImageFingerprint | None:
        """The fingerprint, or None while any part of it is unknown."""
        if self.id is None or not self.size or not self.updated:
            return None
        return ImageFingerprint(self.id, self.size, self.updated)

    @classmethod
    def all_listed(cls, images: Iterable[RemoteImage]) -> "tuple[SourceImage, ...]":
        """The images that the main account lists, but those that cannot be downloaded."""
        return tuple(
            cls(
                image.download_href.strip(),
                image.filename.strip() or _NAMELESS,
                permanent_href=image.permanent_href.strip() or None,
            ).described_by(image)
            for image in images
            if image.download_href.strip()
        )

    def described_by(self, listed: RemoteImage) -> "SourceImage":
        """This image with size, updated time and id as the main account lists them."""
        return replace(
            self,
            size=listed.size or None,
            updated=listed.updated or None,
            given_id=self.given_id if self.id else listed.id,
        )


_HTTP_ADDRESS = re.compile(
    r"https?://([^/?#@\\]*@)?(\[[0-9a-f:.%]+\]|[^/?#@:\[\]\\]+)(:(?P<port>[0-9]{0,5}))?([/?#].*)?",
    re.IGNORECASE,
)
MAX_ADDRESS_LENGTH = 8192
"""Characters; the API refuses longer headers, and so longer addresses."""


def is_http_address(text: str) -> bool:
    """Whether it has the form of an absolute http or https address; where it may lead is for the
    adapter to say."""
    found = _HTTP_ADDRESS.fullmatch(text)
    return (
        found is not None
        and text.isprintable()
        and len(text) <= MAX_ADDRESS_LENGTH
        and int(found["port"] or 0) < 65_536
    )


def last_segment(url: str) -> str:
    """Last path segment of a URL, without query or fragment."""
    return _without_query(url).rstrip("/").rsplit("/", 1)[-1]


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Keep:
    """An image that is on the child already; `href` is its meta.href."""

    href: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to send. `key` names its downloaded file, `size` is that file's bytes.

    `replaces`: href of the child's earlier copy, which holds its place until it is there.
    """

    key: str
    filename: str
    size: int
    replaces: str | None = None

    @property
    def stand_in(self) -> Keep | None:
        """The earlier copy."""
        return None if self.replaces is None else Keep(self.replaces)


Element = Keep | Upload
"""A place in the list that a request sets."""


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


_NO_FIELDS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entity:
    """A product, bundle, variant or plugin type as the API lists it.

    `images` is filled only where they were asked for, in order. `unreadable` names those of its
    images that the API gave in a shape that cannot be read. `images_known` is False where the API
    does not tell the list (null): `images` is empty then, but the entity may well have some.
    `folder`: path of the product folder that it is in, '' for none; of an entity whose type has
    none, `parent` is the type and id of the one whose folder is its own. `updated` is the API's own
    text, as that of `RemoteImage`, '' where the type has none.
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
    archived: bool = False
    folder: str = ""
    parent: tuple[str, str] | None = None
    updated: str = ""
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
class LinkSettings:
    """Which images a child receives: none (the default), the first only, or all.

    The two switches exclude each other; use `with_first_only` and `with_all` to change them.
    `match_by`: the field that finds counterparts, None for the one that configuration names.
    `types`: those entity types alone; `folders`: the entities in those product folders alone, and
    in the folders below; where they are empty, all. `guard`: whether a change in the child's own
    images is noticed by its webhooks, and undone.
    """

    sync_images: bool = False
    sync_images_all: bool = False
    match_by: MatchField | None = None
    types: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    pictures: PictureSettings = AS_BY_DEFAULT
    # No part of what a survey remembers the settings by: neither changes what it finds.
    schedule: LinkSchedule = field(default=BY_DEFAULT, repr=False)
    guard: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.sync_images and self.sync_images_all:
            raise ValueError("sync_images and sync_images_all exclude each other")
        for name in (*self.types, *self.folders):
            if not name.strip(" /") or not name.isprintable():
                raise ValueError(f"{name!a} is no name of an entity type or a folder")

    def limit_for(self, entity_type: EntityType) -> int:
        """Images to copy per entity: 0, 1, or as many as the type may have; 0 of a type that is
        left out."""
        if self.types and entity_type.name not in self.types:
            return 0
        if self.sync_images_all:
            return entity_type.max_images
        return 1 if self.sync_images else 0

    @property
    def enabled(self) -> bool:
        return self.sync_images or self.sync_images_all

    @property
    def received(self) -> "LinkSettings":
        """What tells which pictures the child should show, and nothing else."""
        return replace(self, schedule=BY_DEFAULT, guard=False)

    def with_first_only(self, on: bool) -> "LinkSettings":
        """Sets `sync_images`; turning it on clears `sync_images_all`."""
        return replace(self, sync_images=on, sync_images_all=self.sync_images_all and not on)

    def with_all(self, on: bool) -> "LinkSettings":
        """Sets `sync_images_all`; turning it on clears `sync_images`."""
        return replace(self, sync_images=self.sync_images and not on, sync_images_all=on)


@dataclass(frozen=True, slots=True)
class Link:
    """A main account, and a child account that receives images of it by these settings.

    WrongAccountError for two that cannot be linked.
    """

    main: Account
    child: Account
    settings: LinkSettings

    def __post_init__(self) -> None:
        check_roles(self.main, self.child)

    def check_on(self) -> None:
        """SyncIsOffError where the child receives no images."""
        if not self.settings.enabled:
            raise SyncIsOffError(self.child.name, self.child.id)


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link as it is stored, by account ids. `damage`: why its settings cannot be read; they are
    then off."""

    main_id: str
    child_id: str
    settings: LinkSettings
    damage: str | None = None


def check_links(main_id: str, child_id: str, links: Iterable[StoredLink]) -> None:
    """AlreadyLinkedError where these links do not let the one account be the main and the other the
    child account of a copy: a child has one main account, and none stands on both sides."""
    for link in links:
        if link.main_id == child_id:
            raise AlreadyLinkedError(child_id, None)
        if link.child_id == main_id or (link.child_id == child_id and link.main_id != main_id):
            raise AlreadyLinkedError(link.child_id, link.main_id)


@dataclass(frozen=True, slots=True)
class EntityPage:
    """Part of a list of entities. `unreadable`: a text for each row that cannot be read, which
    names its entity by name, code or id. `total`: entities of the whole list, where it tells.
    `answered`: when the page was given, by the API's own clock, where it tells."""

    entities: list[Entity]
    unreadable: list[str] = field(default_factory=list)
    total: int | None = None
    answered: datetime | None = None


ENTITY_ID = r"^[0-9A-Za-z-]{1,64}$"


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a payload asks for: copy `images`, in order, from the main entity to the child's.

    No images: the child's are to be cleared, as far as they are imgsync's. `name` and `code` are
    the main entity's, for messages; empty where they are not known. `child_images`: the child's
    list when both sides were surveyed; None where nobody looked, or where it may have changed
    since. `adopt`: what becomes of a child that has images and no record.

    None can be made that would lead elsewhere: PayloadError for an id that is no id (``../x``), an
    address that is not of http or https, a value of another type.
    """

    main_account_id: str
    child_account_id: str
    entity_type: str
    main_entity_id: str
    child_entity_id: str
    images: tuple[SourceImage, ...]
    name: str = field(default="", compare=False)
    child_images: tuple[RemoteImage, ...] | None = field(default=None, compare=False)
    adopt: Adopt = field(default=Adopt.SIZE, compare=False)
    code: str = field(default="", compare=False, kw_only=True)

    def __post_init__(self) -> None:
        for account in ("main_account_id", "child_account_id"):
            value = _checked_text(account, getattr(self, account))
            if not value.isprintable():
                raise PayloadError(account, "has characters that cannot be printed")
        _checked_text("entity_type", self.entity_type)
        for entity in ("main_entity_id", "child_entity_id"):
            value = _checked_text(entity, getattr(self, entity))
            if not re.fullmatch(ENTITY_ID, value):
                raise PayloadError(entity, "must be letters, digits and hyphens, at most 64")
        if not isinstance(self.images, tuple):
            raise PayloadError("images", "must be a tuple")
        for position, image in enumerate(self.images):
            _check_image(f"images.{position}", image)
        if not isinstance(self.name, str):
            raise PayloadError("name", "must be a text")
        if not isinstance(self.adopt, Adopt):
            raise PayloadError("adopt", "must be one of Adopt")

    @property
    def dedupe_key(self) -> str:
        """Same for every request that writes the same child entity."""
        return "/".join((self.child_account_id, self.entity_type, self.child_entity_id))


def _checked_text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise PayloadError(where, "must be a text that is not empty")
    return value


def _check_image(where: str, image: object) -> None:
    if not isinstance(image, SourceImage):
        raise PayloadError(where, "must be a SourceImage")
    _checked_text(f"{where}.filename", image.filename)
    address = _checked_text(f"{where}.download_href", image.download_href)
    if not is_http_address(address):
        raise PayloadError(f"{where}.download_href", "must be an absolute http or https address")
    if image.permanent_href is not None and not is_http_address(
        _checked_text(f"{where}.permanent_href", image.permanent_href)
    ):
        raise PayloadError(f"{where}.permanent_href", "must be an absolute http or https address")
    if image.given_id is not None:
        _checked_text(f"{where}.given_id", image.given_id)
    size = image.size
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise PayloadError(f"{where}.size", "must be a number of bytes")
    if image.updated is not None:
        _checked_text(f"{where}.updated", image.updated)
