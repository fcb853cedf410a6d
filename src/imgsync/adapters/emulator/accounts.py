"""Accounts, users and entities of the emulator, and changes of image lists.

Every change of a list is atomic: it is checked as a whole before anything is stored.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from imgsync.adapters.emulator.abuse import AbuseMonitor
from imgsync.adapters.emulator.content import ContentStore
from imgsync.adapters.emulator.errors import api_error, not_found
from imgsync.adapters.emulator.images import (
    ImageElement,
    KeptImage,
    NewImage,
    StoredImage,
    image_type,
    now_text,
)
from imgsync.adapters.emulator.limits import EmulatorLimits
from imgsync.adapters.emulator.rate import RateBucket, Slots

SeedImage = tuple[str, bytes]
"""(filename, content)"""


class EmulatedUser:
    """A user or solution: credentials, rate bucket and parallel slots.

    `api_access` may be set; giving it back clears the counts that took it away.
    """

    def __init__(self, account: "EmulatedAccount", weight: int, limits: EmulatorLimits) -> None:
        if not 1 <= weight <= limits.rate_units:
            raise ValueError(f"weight {weight} is not between 1 and {limits.rate_units}")
        self.id = str(uuid.uuid4())
        self.account = account
        self.weight = weight
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

    def record(self, status: int, request: Hashable) -> None:
        """Takes note of an answer; may switch access off."""
        if self._monitor.record(status, request):
            self._api_access = False


@dataclass(eq=False, slots=True)
class EmulatedEntity:
    """A product, bundle, variant or content card. `images` is in order and may repeat one."""

    id: str
    type: str
    name: str
    external_code: str
    code: str | None = None
    article: str | None = None
    ui_uuid: str | None = None
    updated: str = field(default_factory=now_text)
    images: tuple[StoredImage, ...] = ()

    def value_of(self, field_name: str) -> str:
        """Value of a filter field; empty where there is none."""
        values = {
            "id": self.id,
            "name": self.name,
            "externalCode": self.external_code,
            "code": self.code,
            "article": self.article,
            "updated": self.updated,
        }
        return values[field_name] or ""


class Credentials:
    """Users by credentials: ``("bearer", token)`` or ``("basic", "login:password")``."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, str], EmulatedUser] = {}

    def add(self, scheme: str, secret: str, user: EmulatedUser) -> None:
        if (scheme, secret) in self._users:
            raise ValueError("another user has these credentials")
        self._users[scheme, secret] = user

    def find(self, scheme: str, secret: str) -> EmulatedUser | None:
        return self._users.get((scheme, secret))


class EmulatedAccount:
    """An account. `storage_quota` is in bytes (None: unlimited) and may be changed.

    `permanent_links`: whether its plan gives downloadPermanentHref.
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
    ) -> None:
        self.id = str(uuid.UUID(account_id))
        self.name = name
        self.storage_quota = storage_quota
        self.permanent_links = permanent_links
        self.slots = Slots(limits.max_parallel_per_account)
        self._limits = limits
        self._content = content
        self._credentials = credentials
        self._lock = lock
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
        weight: int | None = None,
    ) -> EmulatedUser:
        """Adds a user with a Bearer token (weight 1 by default) or a login and password (3).

        `weight`: rate units of one request. ValueError on wrong or repeated credentials.
        """
        if (token is None) == (login is None) or (login is None) != (password is None):
            raise ValueError("give a token, or a login and a password")
        default_weight = 1 if token is not None else 3
        user = EmulatedUser(self, default_weight if weight is None else weight, self._limits)
        if token is not None:
            self._credentials.add("bearer", token, user)
        else:
            self._credentials.add("basic", f"{login}:{password}", user)
        return user

    def add_entity(
        self,
        type_name: str,
        *,
        name: str,
        external_code: str | None = None,
        code: str | None = None,
        article: str | None = None,
        ui_uuid: str | None = None,
        images: Iterable[SeedImage] = (),
        id: str | None = None,  # noqa: A002 (the field's name in the API)
    ) -> EmulatedEntity:
        """Adds an entity with images, to which no limit applies. ValueError on a bad type or id."""
        if type_name not in self._limits.max_images:
            raise ValueError(f"unknown entity type '{type_name}'")
        entity = EmulatedEntity(
            id=str(uuid.uuid4() if id is None else uuid.UUID(id)),
            type=type_name,
            name=name,
            external_code=uuid.uuid4().hex if external_code is None else external_code,
            code=code,
            article=article,
            ui_uuid=ui_uuid,
        )
        new = [NewImage.create(filename, content) for filename, content in images]
        with self._lock:
            if entity.id in self._entities.setdefault(type_name, {}):
                raise ValueError(f"entity {entity.id} exists already")
            self._entities[type_name][entity.id] = entity
            if ui_uuid is not None:
                self._by_ui_uuid[type_name, ui_uuid] = entity
            self._replace(entity, [self._image(element) for element in new], new)
        return entity

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
            kept = [KeptImage(present.id) for present in entity.images]
            return self.set_images(entity, [*kept, image])

    def set_images(
        self, entity: EmulatedEntity, elements: Sequence[ImageElement]
    ) -> EmulatedEntity:
        """Makes the list exactly `elements`; a copy of the entity as this change leaves it.

        ApiError 1021, 51003 or 51006 changes nothing.
        """
        with self._lock:
            maximum = self._limits.max_images[entity.type]
            if len(elements) > maximum:
                raise api_error(51006, maximum=maximum)
            present = {image.id: image for image in entity.images}
            images = [
                self._kept(element, present)
                if isinstance(element, KeptImage)
                else self._image(element)
                for element in elements
            ]
            self._check_quota(entity, images)
            self._replace(entity, images, [e for e in elements if isinstance(e, NewImage)])
            return replace(entity)

    def delete_images(self, entity: EmulatedEntity, image_ids: Iterable[str]) -> None:
        """Deletes the first image of each id. ApiError 1021 changes nothing."""
        with self._lock:
            left = list(entity.images)
            for image_id in image_ids:
                found = next((image for image in left if image.id == image_id), None)
                if found is None:
                    raise not_found("image", image_id)
                left.remove(found)
            self._replace(entity, left, [])

    def _image(self, element: NewImage) -> StoredImage:
        """Equal filename and content in the account give the same id (section Images)."""
        name = f"{element.digest}/{element.filename}"
        image_id = str(uuid.uuid5(uuid.UUID(self.id), name))
        return self._images.get(image_id) or StoredImage(
            image_id,
            element.filename,
            element.digest,
            len(element.content),
            image_type(element.content) or "application/octet-stream",
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
        entity.updated = now_text()
