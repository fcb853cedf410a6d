"""Accounts, users and entities of the emulator, and changes of image lists.

Every change of a list is atomic: it is checked as a whole before anything is stored.
"""

import re
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from moysklad_emulator.abuse import AbuseMonitor
from moysklad_emulator.content import ContentStore
from moysklad_emulator.dialect import DialectSwitch
from moysklad_emulator.entity_rules import RULES
from moysklad_emulator.errors import api_error, not_found
from moysklad_emulator.events import Action, Event, Events
from moysklad_emulator.images import (
    ImageElement,
    KeptImage,
    NewImage,
    StoredImage,
    image_type,
    now_text,
)
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.rate import RateBucket, Slots
from moysklad_emulator.webhooks import Caller, Webhook, WebhookRight, Webhooks

SeedImage = tuple[str, bytes]
"""(filename, content)"""

UserKind = Literal["user", "solution", "draft"]
"""Whose credentials they are: a user's, a published solution's, one's in draft or moderation."""

_WEIGHTS: Mapping[UserKind, int] = {"user": 3, "solution": 1, "draft": 4}
"""Units of one request (section Restrictions, until 2026-12-01)."""

NULLABLE = frozenset(
    {"name", "images", "images.rows", "miniature.downloadHref", "code", "article", "description"}
)
"""Paths that the vendor's schema lets be null in an entity's document."""


class EmulatedUser:
    """A user or solution: credentials, rate bucket and parallel slots.

    `uid`: ``login@account`` of a user, ``alias.vendor@account`` of a solution. `api_access` may
    be set; giving it back clears the counts that took it away. `webhooks`: which it may manage.
    """

    def __init__(
        self,
        account: "EmulatedAccount",
        weight: int,
        limits: EmulatorLimits,
        *,
        kind: UserKind,
        login: str,
        webhooks: WebhookRight,
    ) -> None:
        if not 1 <= weight <= limits.rate_units:
            raise ValueError(f"weight {weight} is not between 1 and {limits.rate_units}")
        self.id = str(uuid.uuid4())
        self.account = account
        self.kind: UserKind = kind
        self.uid = login if "@" in login else f"{login}@{account.login}"
        self.weight = weight
        self.webhooks: WebhookRight = webhooks
        self.bucket = RateBucket(limits.rate_units, limits.rate_interval)
        self.slots = Slots(limits.max_parallel_per_user)
        self._monitor = AbuseMonitor(limits)
        self._api_access = True

    @property
    def api_access(self) -> bool:
        """Whether the user may call the API; without it every answer is 403 with code 1061."""
        return self._api_access

    @api_access.setter
    def api_access(self, on: bool) -> None:
        self._api_access = on
        if on:
            self._monitor.clear()

    def as_caller(self) -> Caller:
        """Who it is where webhooks are managed."""
        if self.kind == "user":
            return Caller(self.webhooks, None, None)
        return Caller(self.webhooks, self.uid, self.id)

    def record(self, status: int, request: Hashable, put_to: Hashable | None = None) -> None:
        """Takes note of an answer; may switch access off. `put_to`: the entity of a PUT."""
        if self._monitor.record(status, request, put_to):
            self._api_access = False


@dataclass(eq=False, slots=True)
class EmulatedEntity:
    """A product, bundle, variant or content card. `images` is in order and may repeat one.

    A content card has no `external_code`, `code`, `article`. `objects`: fields that are objects
    or arrays, as they were sent; an entity among them stands for its meta, None for some meta.
    `nulls`: paths of `NULLABLE` that its document gives as null. `folder`: path of its product
    folder, such as ``Light/Lamps``, '' for none.
    """

    id: str
    type: str
    name: str | None
    external_code: str | None = None
    code: str | None = None
    article: str | None = None
    description: str | None = None
    card_content_name: str | None = None
    archived: bool = False
    ui_uuid: str | None = None
    objects: dict[str, Any] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    updated: str = field(default_factory=now_text)
    images: tuple[StoredImage, ...] = ()
    folder: str = ""

    def values(self) -> dict[str, str | bool | None]:
        """The stored values by their names in the API."""
        values = {name: getattr(self, attribute) for name, attribute in _ATTRIBUTES.items()}
        return {name: values[name] for name in RULES[self.type].values}

    def assign(self, values: Mapping[str, Any]) -> None:
        """Sets stored values, by their names in the API, and objects."""
        for name, value in values.items():
            if name in _ATTRIBUTES:
                setattr(self, _ATTRIBUTES[name], value)
            else:
                self.objects = {**self.objects, name: value}


_ATTRIBUTES = {
    "name": "name",
    "externalCode": "external_code",
    "code": "code",
    "article": "article",
    "description": "description",
    "cardContentName": "card_content_name",
    "archived": "archived",
}


class Credentials:
    """Users by credentials: ``("bearer", token)`` or ``("basic", "login:password")``."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, str], EmulatedUser] = {}

    def add(self, scheme: str, secret: str, user: EmulatedUser) -> None:
        if (scheme, secret) in self._users:
            raise ValueError("another user has these credentials")
        self._users[scheme, secret] = user

    def remove(self, user: EmulatedUser) -> None:
        self._users = {key: known for key, known in self._users.items() if known is not user}

    def find(self, scheme: str, secret: str) -> EmulatedUser | None:
        return self._users.get((scheme, secret))


class EmulatedAccount:
    """An account. `storage_quota` is in bytes (None: unlimited) and may be changed.

    `permanent_links`: whether its plan gives downloadPermanentHref, where the dialect has it.
    `login`: its name in `uid` and `appUid`, made of `name` by default.
    """

    def __init__(
        self,
        account_id: str,
        name: str,
        *,
        limits: EmulatorLimits,
        content: ContentStore,
        credentials: Credentials,
        lock: threading.RLock,
        storage_quota: int | None,
        permanent_links: bool,
        webhooks: bool,
        events: Events,
        switch: DialectSwitch,
        login: str | None = None,
    ) -> None:
        self.id = str(uuid.UUID(account_id))
        self.name = name
        self.login = login or _login(name) or f"a{self.id[:8]}"
        self.storage_quota = storage_quota
        self.permanent_links = permanent_links
        self.slots = Slots(limits.max_parallel_per_account)
        self._limits = limits
        self._switch = switch
        self._content = content
        self._credentials = credentials
        self._lock = lock
        self._events = events
        self._webhooks = Webhooks(limits.max_images, plan=webhooks)
        self._entities: dict[str, dict[str, EmulatedEntity]] = {}
        self._by_ui_uuid: dict[tuple[str, str], EmulatedEntity] = {}
        self._images: dict[str, StoredImage] = {}
        self._uses: Counter[str] = Counter()

    def add_user(
        self,
        *,
        token: str | None = None,
        login: str | None = None,
        password: str | None = None,
        kind: UserKind | None = None,
        weight: int | None = None,
        webhooks: WebhookRight | None = None,
    ) -> EmulatedUser:
        """Adds a user or solution with a Bearer token, or a user with a login and password.

        `kind`: by default a published solution's token. `login`: also the login of the user whose
        token it is, or the solution's ``alias.vendor``. `weight`: rate units of one request, by
        default those of the kind. `webhooks`: its right to manage them, by default a user's all
        and a solution's own. ValueError on wrong or repeated credentials.
        """
        if (token is None) == (password is None) or (token is None and login is None):
            raise ValueError("give a token, or a login and a password")
        kind = kind or ("user" if token is None else "solution")
        if token is None and kind != "user":
            raise ValueError("a solution has a token")
        user = EmulatedUser(
            self,
            _WEIGHTS[kind] if weight is None else weight,
            self._limits,
            kind=kind,
            login=login or ("admin" if kind == "user" else "emulated.vendor"),
            webhooks=webhooks or ("all" if kind == "user" else "own"),
        )
        if token is not None:
            self._credentials.add("bearer", token, user)
        else:
            self._credentials.add("basic", f"{login}:{password}", user)
        return user

    def remove_user(self, user: EmulatedUser) -> None:
        """Ends a token or password, as a newer token or a suspended solution does (1056)."""
        self._credentials.remove(user)

    def add_entity(
        self,
        type_name: str,
        *,
        name: str | None,
        external_code: str | None = None,
        code: str | None = None,
        article: str | None = None,
        description: str | None = None,
        archived: bool = False,
        ui_uuid: str | None = None,
        images: Iterable[SeedImage] = (),
        objects: Mapping[str, Any] | None = None,
        nulls: Iterable[str] = (),
        folder: str = "",
        id: str | None = None,  # noqa: A002 (the field's name in the API)
    ) -> EmulatedEntity:
        """Adds an entity with images, to which no limit applies. `name` None is a null name.

        A content card gets what it must have: its name as that of its content, and the ids of an
        assortment and a sale platform, unless `objects` has them. `folder`: path of its product
        folder, which is there by being named. ValueError on a bad type, id, field or path.
        """
        self._check_new(type_name, external_code, code, article, archived, folder)
        null_paths = frozenset(nulls) | ({"name"} if name is None else set())
        if unknown := null_paths - NULLABLE:
            raise ValueError(f"'{min(unknown)}' is never null")
        entity = EmulatedEntity(
            id=str(uuid.uuid4() if id is None else uuid.UUID(id)),
            type=type_name,
            name=name,
            external_code=external_code,
            code=code,
            article=article,
            description=description,
            archived=archived,
            ui_uuid=ui_uuid,
            objects=dict(objects or {}),
            nulls=null_paths,
            folder=folder,
        )
        new = [NewImage.create(filename, content) for filename, content in images]
        self._fill(entity)
        with self._lock:
            self._insert(entity)
            self._replace(entity, [self._image(element) for element in new], new)
            self._note(entity, "CREATE")
        return entity

    def create_entity(
        self, type_name: str, fields: Mapping[str, Any], elements: Sequence[ImageElement]
    ) -> EmulatedEntity:
        """Creates an entity as the API does. ApiError 51003 or 51006 creates nothing."""
        entity = EmulatedEntity(id=str(uuid.uuid4()), type=type_name, name=None)
        entity.assign(fields)
        self._fill(entity)
        with self._lock:
            images = self._checked(entity, elements)
            self._insert(entity)
            self._replace(entity, images, [e for e in elements if isinstance(e, NewImage)])
            self._note(entity, "CREATE")
            return replace(entity)

    def update_entity(
        self,
        entity: EmulatedEntity,
        fields: Mapping[str, Any],
        elements: Sequence[ImageElement] | None,
    ) -> EmulatedEntity:
        """Sets fields, and the image list unless it is None; a copy as this change leaves it.

        ApiError as `set_images`, which changes nothing.
        """
        with self._lock:
            before = replace(entity)
            if elements is not None:
                self._set_images(entity, elements)
            entity.assign(fields)
            if fields:
                entity.updated = now_text()
            self._note_update(before, entity)
            return replace(entity)

    def delete_entity(self, entity: EmulatedEntity) -> None:
        """Deletes an entity with its images. ApiError 1021 where it is gone."""
        with self._lock:
            if self._entities.get(entity.type, {}).pop(entity.id, None) is None:
                raise not_found(entity.type, entity.id)
            if entity.ui_uuid is not None:
                self._by_ui_uuid.pop((entity.type, entity.ui_uuid), None)
            self._replace(entity, [], [])
            self._note(entity, "DELETE")

    def entities(self, type_name: str) -> list[EmulatedEntity]:
        """Entities of a type in the order in which they were added."""
        with self._lock:
            return list(self._entities.get(type_name, {}).values())

    def entity(self, type_name: str, entity_id: str) -> EmulatedEntity | None:
        return self._entities.get(type_name, {}).get(entity_id)

    def entity_by_ui_uuid(self, type_name: str, ui_uuid: str) -> EmulatedEntity | None:
        return self._by_ui_uuid.get((type_name, ui_uuid))

    def image(self, image_id: str) -> StoredImage | None:
        """An image that stands on some entity of this account."""
        return self._images.get(image_id)

    def add_image(self, entity: EmulatedEntity, image: NewImage) -> EmulatedEntity:
        """Appends an image; the entity as it then is. ApiError 51003 or 51006 changes nothing."""
        with self._lock:
            before = replace(entity)
            kept = [KeptImage(present.id) for present in entity.images]
            self._replace(entity, self._checked(entity, [*kept, image]), [image])
            self._note_update(before, entity)
            return replace(entity)

    def set_images(
        self, entity: EmulatedEntity, elements: Sequence[ImageElement]
    ) -> EmulatedEntity:
        """Makes the list exactly `elements`; a copy of the entity as this change leaves it.

        ApiError 1021, 51003 or 51006 changes nothing.
        """
        with self._lock:
            before = replace(entity)
            self._set_images(entity, elements)
            self._note_update(before, entity)
            return replace(entity)

    def drop_images(self, entity: EmulatedEntity) -> None:
        """Empties the list, as one dialect does where it refuses an array."""
        with self._lock:
            before = replace(entity)
            self._replace(entity, [], [])
            self._note_update(before, entity)

    def delete_images(self, entity: EmulatedEntity, image_ids: Iterable[str]) -> None:
        """Deletes the first image of each id. ApiError 1021 changes nothing."""
        with self._lock:
            left = list(entity.images)
            for image_id in image_ids:
                found = next((image for image in left if image.id == image_id), None)
                if found is None:
                    raise not_found("image", image_id)
                left.remove(found)
            before = replace(entity)
            self._replace(entity, left, [])
            self._note_update(before, entity)

    def seen_webhooks(self, user: EmulatedUser) -> list[Webhook]:
        """The webhooks that a user or solution sees. ApiError 30004."""
        with self._lock:
            return self._webhooks.seen_by(user.as_caller(), others=self._others_seen)

    def webhook(self, user: EmulatedUser, webhook_id: str) -> Webhook:
        """ApiError 1021 or 30004."""
        with self._lock:
            return self._webhooks.find(user.as_caller(), webhook_id, others=self._others_seen)

    def create_webhook(self, user: EmulatedUser, item: Mapping[str, Any]) -> Webhook:
        """Creates a webhook of the API's fields. ApiError creates none."""
        with self._lock:
            return self._webhooks.create(user.as_caller(), item)

    def update_webhook(
        self, user: EmulatedUser, webhook_id: str, item: Mapping[str, Any]
    ) -> Webhook:
        """Changes the fields that `item` has. ApiError changes nothing."""
        with self._lock:
            return self._webhooks.update(user.as_caller(), webhook_id, item)

    def delete_webhook(self, user: EmulatedUser, webhook_id: str) -> None:
        """ApiError 1021 or 30004."""
        with self._lock:
            self._webhooks.delete(user.as_caller(), webhook_id)

    def live_webhooks(self) -> list[Webhook]:
        """Those that fire: none where the tariff has none."""
        with self._lock:
            return [hook for hook in self._webhooks if hook.enabled and self._webhooks.plan]

    def note_delivery(self, webhook_id: str, day: int, *, delivered: bool) -> None:
        """Takes note of what became of a notification on a day; may switch its webhook off."""
        with self._lock:
            self._webhooks.note_delivery(webhook_id, day, delivered=delivered)

    def set_webhooks(self, on: bool) -> None:
        """Gives or takes the webhooks of the tariff."""
        with self._lock:
            self._webhooks.plan = on

    @property
    def _others_seen(self) -> bool:
        return self._switch.dialect.solution_sees == "all"

    def _note(self, entity: EmulatedEntity, action: Action, fields: Iterable[str] = ()) -> None:
        self._events.note(self, Event(entity.type, entity.id, action, tuple(fields)))

    def _note_update(self, before: EmulatedEntity, after: EmulatedEntity) -> None:
        """Nothing where nothing is another."""
        old, new = _all_values(before), _all_values(after)
        fields = [name for name in new if new[name] != old.get(name)]
        moved = [image.id for image in before.images] != [image.id for image in after.images]
        told = self._switch.dialect.image_events
        if moved and told == "named":
            fields.append("images")
        if fields or (moved and told == "unnamed"):
            self._note(after, "UPDATE", fields)

    def _set_images(self, entity: EmulatedEntity, elements: Sequence[ImageElement]) -> None:
        images = self._checked(entity, elements)
        if self._switch.dialect.keeping_moves_updated:
            self._renew({e.id for e in elements if isinstance(e, KeptImage)})
        self._replace(entity, images, [e for e in elements if isinstance(e, NewImage)])

    def _check_new(
        self,
        type_name: str,
        external_code: str | None,
        code: str | None,
        article: str | None,
        archived: bool,
        folder: str,
    ) -> None:
        if type_name not in self._limits.max_images or type_name not in RULES:
            raise ValueError(f"unknown entity type '{type_name}'")
        given = {
            "externalCode": external_code,
            "code": code,
            "article": article,
            "archived": archived or None,
        }
        for name, value in given.items():
            if value is not None and name not in RULES[type_name].values:
                raise ValueError(f"a {type_name} has no {name}")
        if folder and not RULES[type_name].has_folder:
            raise ValueError(f"a {type_name} has no folder")
        if folder and not all(part.strip() for part in folder.split("/")):
            raise ValueError(f"folder '{folder}' is no path such as 'Light/Lamps'")

    def _fill(self, entity: EmulatedEntity) -> None:
        """Gives an entity what the API would give it."""
        rules = RULES[entity.type]
        if "externalCode" in rules.values and entity.external_code is None:
            entity.external_code = uuid.uuid4().hex
        if entity.type == "contentcard":
            entity.description = entity.description or ""
            entity.card_content_name = entity.card_content_name or entity.name
            unset: dict[str, Any] = {"assortment": None, "salePlatform": None, "salesChannels": []}
            entity.objects = unset | entity.objects

    def _insert(self, entity: EmulatedEntity) -> None:
        entities = self._entities.setdefault(entity.type, {})
        if entity.id in entities:
            raise ValueError(f"entity {entity.id} exists already")
        entities[entity.id] = entity
        if entity.ui_uuid is not None:
            self._by_ui_uuid[entity.type, entity.ui_uuid] = entity

    def _checked(
        self, entity: EmulatedEntity, elements: Sequence[ImageElement]
    ) -> list[StoredImage]:
        """The images of a new list. ApiError 1021, 51003 or 51006."""
        maximum = self._limits.max_images[entity.type]
        if len(elements) > maximum:
            raise api_error(51006, maximum=maximum)
        present = {image.id: image for image in entity.images}
        images = [
            self._kept(element, present) if isinstance(element, KeptImage) else self._image(element)
            for element in elements
        ]
        self._check_quota(entity, images)
        return images

    def _image(self, element: NewImage) -> StoredImage:
        """Equal filename and content in the account give the same id (section Images)."""
        name = f"{element.digest}/{element.filename}"
        image_id = str(uuid.uuid5(uuid.UUID(self.id), name))
        return self._images.get(image_id) or StoredImage(
            image_id,
            element.filename,
            element.digest,
            len(element.content),
            image_type(element.content, more_formats=True) or "application/octet-stream",
            now_text(),
        )

    @staticmethod
    def _kept(element: KeptImage, present: dict[str, StoredImage]) -> StoredImage:
        if element.id not in present:
            raise not_found("image", element.id)
        return present[element.id]

    def _check_quota(self, entity: EmulatedEntity, images: Collection[StoredImage]) -> None:
        if self.storage_quota is None:
            return
        uses = self._uses.copy()
        uses.subtract(image.id for image in entity.images)
        used = {i.id: i.size for i in self._images.values() if uses[i.id] > 0}
        used |= {image.id: image.size for image in images}
        if sum(used.values()) > self.storage_quota:
            raise api_error(51003)

    def _renew(self, image_ids: Iterable[str]) -> None:
        for image_id in image_ids:
            self._images[image_id] = replace(self._images[image_id], updated=now_text())

    def _replace(
        self,
        entity: EmulatedEntity,
        images: Collection[StoredImage],
        uploads: Collection[NewImage],
    ) -> None:
        contents = {upload.digest: upload.content for upload in uploads}
        for image in images:
            if image.id not in self._images:
                self._content.add(image.digest, contents[image.digest])
                self._images[image.id] = image
            self._uses[image.id] += 1
        for image in entity.images:
            self._uses[image.id] -= 1
            if not self._uses[image.id]:
                del self._uses[image.id]
                del self._images[image.id]
                self._content.release(image.digest)
        # Equal uploads of one request are one image.
        entity.images = tuple(self._images[image.id] for image in images)
        if self._switch.dialect.images_move_updated:
            entity.updated = now_text()


def _all_values(entity: EmulatedEntity) -> dict[str, Any]:
    return {**entity.values(), **entity.objects}


def _login(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
