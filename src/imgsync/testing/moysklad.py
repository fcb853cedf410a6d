"""An account of MoySklad in memory, with switches for what the API's documents leave open."""

import asyncio
import hashlib
import json
import random
import struct
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ForbiddenUrlError,
    ImageError,
    ImageRejectedError,
    ImageTooLargeError,
    ImgsyncError,
    LargeImageError,
    LeaseLostError,
    NoImageError,
    NotFoundError,
    NoWebhookRightError,
    NoWebhooksError,
    RequestTooLargeError,
    UnavailableError,
    WebhookExistsError,
    WebhookLimitError,
)
from imgsync.domain.formats import is_sendable
from imgsync.domain.model import (
    Abilities,
    Account,
    Element,
    Entity,
    EntityPage,
    EntityType,
    Identity,
    Keep,
    MatchField,
    RemoteImage,
    last_segment,
)
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.moysklad import (
    ApiLimits,
    BulkRoom,
    ImageSet,
    RateInUse,
    ReadContent,
    WritePermit,
)
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.webhooks import Webhook

_T = TypeVar("_T")
HOST = "https://memory.example"
_CHUNK_BYTES = 64 * 1024


_MOSCOW = timezone(timedelta(hours=3))


def moscow(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.astimezone(_MOSCOW).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


class Unlimited:
    """Implements `WritePermit`: the right to write never ends."""

    async def confirm(self) -> float:
        return 60.0


UNLIMITED = Unlimited()


def _size_of(elements: Sequence[Element]) -> int:
    """Bytes of the JSON that the API would be sent, with images in base64."""
    written = [
        {"meta": {"href": element.href, "type": "image", "mediaType": "application/json"}}
        if isinstance(element, Keep)
        else {"filename": element.filename, "content": ""}
        for element in elements
    ]
    contents = [0 if isinstance(e, Keep) else 4 * ((e.size + 2) // 3) for e in elements]
    return len(json.dumps(written, separators=(",", ":"))) + sum(contents)


_ENTITY_BYTES = 300
"""Of the JSON that names an entity beside its images; more than it ever has."""


def _size_of_sets(sets: Sequence[ImageSet]) -> int:
    return 2 + sum(_ENTITY_BYTES + _size_of(one.elements) for one in sets)


MEMORY_LIMITS = ApiLimits(
    RequestRoom(20_000_000, _size_of),
    10 * 1024 * 1024,
    5,
    BulkRoom(20_000_000, 100, _size_of_sets),
)


@dataclass
class _Permits:
    """Implements `WritePermit` for those of many sets together; `lost` are those without one."""

    permits: Sequence[WritePermit]
    lost: dict[int, LeaseLostError] = field(default_factory=dict)

    async def confirm(self) -> float:
        """The shortest of those that are confirmed."""
        answers = await asyncio.gather(*map(self._ask, self.permits), return_exceptions=True)
        shortest = []
        for number, answer in enumerate(answers):
            if isinstance(answer, LeaseLostError):
                self.lost[number] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                shortest.append(answer)
        return min(shortest, default=60.0)

    async def _ask(self, permit: WritePermit) -> float:
        if (seconds := await permit.confirm()) <= 0:
            raise LeaseLostError("the permit is over")
        return seconds


@dataclass
class MemoryMoySklad:
    """Implements `MoySkladPort` over lists in memory; `add` fills them, `images` shows them.

    `calls` notes every call, such as ``download URL``; `request_sizes` the bytes of each list that
    was set. `fail` is asked before each call is done, and what it returns is raised.

    `shown` is what its answers have shown.

    What the documents leave open, each as it is hoped for: `knows_lengths`, whether HEAD tells the
    size of a file; `refusal_keeps_list`, whether a list that was refused leaves the one there is,
    or none; `keeps_updated`, whether a kept image keeps its `updated`; `takes_image_bytes`, the
    largest file it takes, whatever `limits` say; `seconds_per_write`, how long one takes; `bulk`,
    what it does with the lists of many entities; `bulk_keeps`, what with an image that one of these
    keeps. `cdn`: host of its permanent links, '' where it gives none; `trusted`: hosts that may be
    asked beside its own.
    """

    entities: dict[str, dict[str, Entity]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    request_sizes: list[int] = field(default_factory=list)
    fail: Callable[[str], Exception | None] = lambda _: None
    knows_lengths: bool = True
    refusal_keeps_list: bool = True
    keeps_updated: bool = True
    takes_image_bytes: int = 10 * 1024 * 1024
    seconds_per_write: float = 0.0
    bulk: Literal["set", "ignored", "refused"] = "set"
    bulk_keeps: Literal["taken", "dropped", "refused"] = "taken"
    cdn: str = ""
    trusted: set[str] = field(default_factory=set)
    shown: Abilities = field(default_factory=Abilities)
    unreadable_rows: list[str] = field(default_factory=list)
    limits: ApiLimits = MEMORY_LIMITS
    page_sizes: Mapping[bool, int] = field(default_factory=lambda: {True: 100, False: 1000})
    """Entities of a page, with images and without."""
    clock: Callable[[], datetime] | None = None
    """The API's own; without it, no answer tells the time and nothing has a new `updated`."""
    images_move_updated: bool = True
    """Whether a change of images alone moves `updated`."""
    hooks: dict[str, Webhook] = field(default_factory=dict)
    """Its webhooks by id; nothing is sent to them."""
    webhook_plan: Literal["webhooks", "none", "no right"] = "webhooks"
    """Whether its tariff has webhooks, and its credentials may manage them."""
    most_webhooks: int = 5
    """On one type and action; of a solution it is one."""
    _updates: int = 0

    def add(
        self,
        entity_type: str,
        name: str,
        images: Sequence[tuple[str, bytes]] = (),
        *,
        external_code: str | None = None,
        code: str | None = None,
        article: str | None = None,
    ) -> str:
        """The id of a new entity with these images, each a file name and its bytes."""
        entity_id = str(uuid.uuid4())
        self.entities.setdefault(entity_type, {})[entity_id] = Entity(
            entity_id,
            name,
            external_code,
            code,
            article,
            tuple(self._store(entity_type, entity_id, n, c) for n, c in images),
            updated=self._now() if self.clock else "",
        )
        return entity_id

    def change_images(
        self, entity_type: str, entity_id: str, images: Sequence[tuple[str, bytes]]
    ) -> None:
        """The list is another one, as when somebody has changed it in the program's window."""
        stored = [self._store(entity_type, entity_id, n, c) for n, c in images]
        self._put(entity_type, self._entity(entity_type, entity_id), stored)

    def images(self, entity_type: str, entity_id: str) -> list[tuple[str, bytes]]:
        """File names and bytes of the entity's images, in order."""
        entity = self._entity(entity_type, entity_id)
        return [(image.filename, self.blobs[image.id]) for image in entity.images]

    def count(self, call: str) -> int:
        """How many calls began with that text."""
        return sum(noted.startswith(call) for noted in self.calls)

    async def list_entities(
        self,
        entity_type: EntityType,
        *,
        with_images: bool,
        permanent_links: bool = False,
        updated_since: datetime | None = None,
        having: tuple[MatchField, Sequence[str]] | None = None,
        ids: Collection[str] | None = None,
    ) -> AsyncIterator[EntityPage]:
        size = self.page_sizes[with_images]
        entities = list(self.entities.get(entity_type.name, {}).values())
        if updated_since is not None:
            if entity_type.name == "contentcard":
                raise ApiError("it has no updated")
            since = moscow(updated_since)
            entities = [entity for entity in entities if entity.updated >= since]
        if having is not None:
            field, values = having
            entities = [entity for entity in entities if entity.key(field) in values]
        if ids is not None:
            entities = [entity for entity in entities if entity.id in ids]
            if ids and not entities:
                await self._begin("list_entities")
        for start in range(0, len(entities), size):
            await self._begin("list_entities")
            page = entities[start : start + size]
            if not with_images:
                page = [replace(entity, images=()) for entity in page]
            elif permanent_links and self.cdn:
                page = [self._with_links(entity) for entity in page]
            unreadable = [] if start else self.unreadable_rows
            yield EntityPage(page, unreadable, len(entities), self.clock() if self.clock else None)

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        await self._begin("list_images")
        return list(self._entity(entity_type.name, entity_id).images)

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        async def write() -> list[RemoteImage]:
            await self._begin("set_images")
            self.request_sizes.append(self.limits.request.size_of(elements))
            if not self.limits.request.holds(elements):
                raise ApiError("1044: the request is too large")
            entity = self._entity(entity_type.name, entity_id)
            try:
                images = await self._written(entity_type, entity, elements, read)
            except ImageRejectedError:
                if not self.refusal_keeps_list:
                    self._replace(entity_type, entity, [])
                raise
            self._replace(entity_type, entity, images)
            return images

        return await self._permitted(permit, write)

    async def set_many(
        self, entity_type: EntityType, sets: Sequence[ImageSet]
    ) -> list[list[RemoteImage] | ImgsyncError]:
        if not self.limits.bulk.holds(sets):
            raise RequestTooLargeError("more than one request holds")
        permits = _Permits([one.permit for one in sets])

        async def write() -> list[list[RemoteImage] | ImgsyncError]:
            sent = [one for number, one in enumerate(sets) if number not in permits.lost]
            found = iter(await self._written_many(entity_type, sent) if sent else [])
            return [
                permits.lost[number] if number in permits.lost else next(found)
                for number in range(len(sets))
            ]

        return await self._permitted(permits, write)

    async def _written_many(
        self, entity_type: EntityType, sets: Sequence[ImageSet]
    ) -> list[list[RemoteImage] | ImgsyncError]:
        await self._begin("set_many")
        self.request_sizes.append(self.limits.bulk.size_of(sets))
        if self.bulk == "refused":
            raise ApiError("1007: the field 'images' is not known")
        found: list[tuple[ImageSet, list[RemoteImage] | ImgsyncError]] = []
        for one in sets:
            try:
                entity = self._entity(entity_type.name, one.entity_id)
                if self.bulk == "ignored":
                    found.append((one, list(entity.images)))
                    continue
                elements = self._bulk_elements(one.elements)
                found.append((one, await self._written(entity_type, entity, elements, one.read)))
            except (ImageRejectedError, NotFoundError) as error:
                found.append((one, error))
        # Nothing is done before the whole request has come.
        for one, images in found if self.bulk == "set" else []:
            entity_id = one.entity_id
            if isinstance(images, list):
                self._replace(entity_type, self._entity(entity_type.name, entity_id), images)
            elif isinstance(images, ImageRejectedError) and not self.refusal_keeps_list:
                self._replace(entity_type, self._entity(entity_type.name, entity_id), [])
        return [images for _, images in found]

    def _bulk_elements(self, elements: Sequence[Element]) -> Sequence[Element]:
        if self.bulk_keeps == "taken":
            return elements
        uploads = [element for element in elements if not isinstance(element, Keep)]
        if self.bulk_keeps == "refused" and len(uploads) != len(elements):
            raise ImageRejectedError("51001")
        return uploads

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        async def write() -> None:
            await self._begin("delete_images")
            entity = self._entity(entity_type.name, entity_id)
            left = list(entity.images)
            for href in hrefs:
                first = next((image for image in left if image.href == href), None)
                if first is not None:
                    left.remove(first)
            self._replace(entity_type, entity, left)

        await self._permitted(permit, write)

    async def create_entity(self, entity_type: EntityType, name: str, external_code: str) -> str:
        await self._begin("create_entity")
        return self.add(entity_type.name, name, external_code=external_code)

    async def delete_entity(self, entity_type: EntityType, entity_id: str) -> None:
        await self._begin("delete_entity")
        self.entities.get(entity_type.name, {}).pop(entity_id, None)

    async def webhooks(self) -> list[Webhook]:
        await self._begin("webhooks")
        self._check_webhooks(changes=False)
        return list(self.hooks.values())

    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        await self._begin("save_webhooks")
        self._check_webhooks(changes=True)
        return [self._save_webhook(webhook) for webhook in webhooks]

    async def delete_webhooks(self, webhook_ids: Sequence[str]) -> None:
        await self._begin("delete_webhooks")
        self._check_webhooks(changes=False)
        for webhook_id in webhook_ids:
            self.hooks.pop(webhook_id, None)

    def _check_webhooks(self, *, changes: bool) -> None:
        if self.webhook_plan == "no right":
            raise NoWebhookRightError("30004: the rights of an administrator are needed")
        if changes and self.webhook_plan == "none":
            raise NoWebhooksError("30006: the tariff does not allow it")

    def _save_webhook(self, webhook: Webhook) -> ImgsyncError | None:
        if webhook.id:
            known = self.hooks.get(webhook.id)
            if known is None:
                return NotFoundError("1021")
            webhook = replace(webhook, entity_type=known.entity_type, action=known.action)
        else:
            webhook = replace(webhook, id=str(uuid.uuid4()), enabled=True)
        alike = [h for h in self.hooks.values() if h.subject == webhook.subject]
        others = [hook for hook in alike if hook.id != webhook.id]
        if any(other.url == webhook.url for other in others):
            return WebhookExistsError("30003: there is one with these parameters")
        if len(others) >= self.most_webhooks:
            return WebhookLimitError(f"30007: not more than {self.most_webhooks}")
        self.hooks[webhook.id] = webhook
        return None

    def trust(self, hosts: Collection[str]) -> None:
        self.trusted.update(hosts)

    async def content_length(self, url: str) -> int | None:
        await self._begin(f"content_length {url}")
        content = self._blob(url)
        if content is None:
            return None
        self._show(Abilities(head=self.knows_lengths))
        return len(content) if self.knows_lengths else None

    async def storage_of(self, url: str) -> str:
        await self._begin(f"storage_of {url}")
        if self._blob(url) is None:
            raise ImageError("404")
        return urlsplit(url).netloc

    async def download(
        self,
        url: str,
        create: Callable[[], Awaitable[TempFile]],
        max_bytes: int,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        await self._begin(f"download {url}")
        content = self._blob(url)
        if content is None:
            raise ImageError("404")
        if len(content) > max_bytes:
            raise ImageTooLargeError(len(content), max_bytes)
        file = await create()
        try:
            for start in range(0, len(content), _CHUNK_BYTES):
                await file.write(content[start : start + _CHUNK_BYTES])
            if size and len(content) != size:
                raise UnavailableError(f"{len(content)} bytes came in place of its {size}")
            await file.close()
        except BaseException:
            await file.discard()
            raise
        return file

    async def _permitted(self, permit: WritePermit, write: Callable[[], Awaitable[_T]]) -> _T:
        seconds = await permit.confirm()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(self.seconds_per_write)
                return await write()
        except TimeoutError:
            raise LeaseLostError("the write outlasted its permit and was broken off") from None

    async def _written(
        self,
        entity_type: EntityType,
        entity: Entity,
        elements: Sequence[Element],
        read: ReadContent,
    ) -> list[RemoteImage]:
        current = {image.href: image for image in entity.images}
        if len(elements) > entity_type.max_images:
            raise ImageRejectedError("51006")
        images = []
        for element in elements:
            if isinstance(element, Keep):
                if element.href not in current:
                    raise NotFoundError("1021")
                images.append(self._kept(current[element.href]))
                continue
            content = b"".join([chunk async for chunk in read(element.key)])
            if not is_sendable(content):
                raise NoImageError("51002")
            if len(content) > self.takes_image_bytes:
                self._show(Abilities(refused_image_bytes=len(content)))
                raise LargeImageError("51004")
            images.append(self._store(entity_type.name, entity.id, element.filename, content))
        uploaded = [e.size for e in elements if not isinstance(e, Keep)]
        self._show(Abilities(accepted_image_bytes=max(uploaded, default=None)))
        return images

    def _show(self, shown: Abilities) -> None:
        self.shown = self.shown.with_shown(shown)

    async def _begin(self, call: str) -> None:
        await asyncio.sleep(0)
        self.calls.append(call)
        if error := self.fail(call):
            raise error

    def _entity(self, entity_type: str, entity_id: str) -> Entity:
        try:
            return self.entities[entity_type][entity_id]
        except KeyError:
            raise NotFoundError("1021") from None

    def _replace(
        self, entity_type: EntityType, entity: Entity, images: Sequence[RemoteImage]
    ) -> None:
        self._put(entity_type.name, entity, images)

    def _put(self, entity_type: str, entity: Entity, images: Sequence[RemoteImage]) -> None:
        moves = self.clock is not None and self.images_move_updated
        updated = self._now() if moves else entity.updated
        changed = replace(entity, images=tuple(images), updated=updated)
        self.entities[entity_type][entity.id] = changed

    def _now(self) -> str:
        return moscow(self.clock()) if self.clock else "2026-01-01 00:00:00.000"

    def _kept(self, image: RemoteImage) -> RemoteImage:
        if self.keeps_updated:
            return image
        self._updates += 1
        return replace(image, updated=f"2026-01-02 00:00:00.{self._updates:03d}")

    def _store(
        self, entity_type: str, entity_id: str, filename: str, content: bytes
    ) -> RemoteImage:
        # Equal names and contents of one account are one image.
        name = f"{hashlib.sha256(content).hexdigest()}/{filename}"
        image_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        self.blobs[image_id] = content
        return RemoteImage(
            f"{HOST}/entity/{entity_type}/{entity_id}/images/{image_id}",
            filename,
            len(content),
            self._now(),
            f"{HOST}/download/{image_id}",
        )

    def _with_links(self, entity: Entity) -> Entity:
        """The entity as an answer tells it that gives permanent links, and so names their host."""
        images = tuple(
            replace(image, permanent_href=f"https://{self.cdn}/{image.id}")
            for image in entity.images
        )
        if images:
            self._show(Abilities(permanent_links=True, permanent_hosts=frozenset({self.cdn})))
            self.trust({self.cdn})
        return replace(entity, images=images)

    def _blob(self, url: str) -> bytes | None:
        hosts = (HOST, *(f"https://{host}" for host in self.trusted))
        if not url.startswith(tuple(f"{host}/" for host in hosts)):
            raise ForbiddenUrlError("it is on another host")
        return self.blobs.get(last_segment(url))


@dataclass
class MemoryMoySkladFactory:
    """Implements `MoySkladFactory` over accounts in memory, by account id; `identities` tells whose
    a token or password is. An account that is not there is made, empty."""

    accounts: dict[str, MemoryMoySklad] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)

    def for_account(self, account: Account) -> MemoryMoySklad:
        return self.accounts.setdefault(account.id, MemoryMoySklad())

    async def identify(self, secret: str, login: str | None = None) -> Identity:
        await asyncio.sleep(0)
        try:
            return self.identities[secret]
        except KeyError:
            raise AuthorisationError("1056: the credentials are refused") from None

    @property
    def has_spare(self) -> bool:
        return True

    async def weight(self, account: Account) -> int | None:
        return None

    async def rate(self, account: Account) -> RateInUse | None:
        return None

    async def close(self) -> None:
        return


def picture(number: int, size: int = 100) -> bytes:
    """A whole PNG of one pixel and `size` bytes, at least 87; another for each number below 2**48.

    The padding does not compress.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    pixel = b"\x00" + number.to_bytes(6, "big")  # no filter; one pixel of 3 × 16 bits
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(pixel, 0)) + chunk(b"IEND", b"")
    padding = size - len(start) - len(end) - len(chunk(b"paDd", b""))
    if padding < 0:
        raise ValueError(f"the smallest picture has {size - padding} bytes")
    noise = random.Random(f"{number}/{size}").randbytes(padding)  # noqa: S311 (no secret)
    return start + chunk(b"paDd", noise) + end
