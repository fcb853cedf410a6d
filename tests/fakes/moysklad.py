"""An account in memory. It passes the contract of the port, so tests of use cases may trust it."""

import base64
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from imgsync.adapters.moysklad.body import base64_chunks
from imgsync.adapters.moysklad.encoding import API_LIMITS, array_size
from imgsync.adapters.moysklad.limits import (
    EXPANDED_PAGE_SIZE,
    MAX_IMAGE_BYTES,
    MAX_REQUEST_BYTES,
    PLAIN_PAGE_SIZE,
)
from imgsync.domain.errors import (
    ForbiddenUrlError,
    ImageError,
    ImageRejectedError,
    ImageTooLargeError,
    NotFoundError,
    UnavailableError,
)
from imgsync.domain.formats import image_format
from imgsync.domain.model import (
    Account,
    Element,
    Entity,
    EntityPage,
    EntityType,
    Identity,
    Keep,
    RemoteImage,
    TokenKind,
    last_segment,
)
from imgsync.domain.ports.moysklad import ApiLimits, ReadContent, WritePermit

HOST = "https://fake.example"


@dataclass
class FakeMoySklad:
    """Implements `MoySkladPort`. `calls` notes every call; `fail` raises before one is done."""

    entities: dict[str, dict[str, Entity]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    request_sizes: list[int] = field(default_factory=list)
    fail: Callable[[str], Exception | None] = lambda _: None
    knows_lengths: bool = True
    unreadable_rows: list[str] = field(default_factory=list)
    limits: ApiLimits = API_LIMITS

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
        entity_id = str(uuid.uuid4())
        self.entities.setdefault(entity_type, {})[entity_id] = Entity(
            entity_id,
            name,
            external_code,
            code,
            article,
            tuple(self._store(entity_type, entity_id, n, c) for n, c in images),
        )
        return entity_id

    def images(self, entity_type: str, entity_id: str) -> list[tuple[str, bytes]]:
        entity = self._entity(entity_type, entity_id)
        return [(i.filename, self.blobs[i.id]) for i in entity.images]

    def count(self, call: str) -> int:
        return sum(noted.startswith(call) for noted in self.calls)

    async def list_entities(
        self, entity_type: EntityType, *, with_images: bool
    ) -> AsyncIterator[EntityPage]:
        size = EXPANDED_PAGE_SIZE if with_images else PLAIN_PAGE_SIZE
        entities = list(self.entities.get(entity_type.name, {}).values())
        for start in range(0, len(entities), size):
            self._note("list_entities")
            yield EntityPage(entities[start : start + size], self.unreadable_rows)

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        self._note("list_images")
        return list(self._entity(entity_type.name, entity_id).images)

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        await permit.confirm()
        self._note("set_images")
        self.request_sizes.append(array_size(elements))
        assert self.request_sizes[-1] <= MAX_REQUEST_BYTES
        entity = self._entity(entity_type.name, entity_id)
        current = {image.href: image for image in entity.images}
        if len(elements) > entity_type.max_images:
            raise ImageRejectedError("51006")
        images = []
        for element in elements:
            if isinstance(element, Keep):
                if element.href not in current:
                    raise NotFoundError("1021")
                images.append(current[element.href])
                continue
            content = base64.b64decode(b"".join(base64_chunks(read(element.key))))
            if image_format(content) is None:
                raise ImageRejectedError("51002")
            if len(content) > MAX_IMAGE_BYTES:
                raise ImageRejectedError("51004")
            images.append(self._store(entity_type.name, entity_id, element.filename, content))
        self._replace(entity_type, entity, images)
        return images

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        await permit.confirm()
        self._note("delete_images")
        entity = self._entity(entity_type.name, entity_id)
        left = list(entity.images)
        for href in hrefs:
            first = next((image for image in left if image.href == href), None)
            if first is not None:
                left.remove(first)
        self._replace(entity_type, entity, left)

    async def content_length(self, url: str) -> int | None:
        self._note(f"content_length {url}")
        content = self._blob(url)
        return len(content) if self.knows_lengths and content is not None else None

    async def download(
        self,
        url: str,
        write: Callable[[bytes], None],
        restart: Callable[[], None],
        max_bytes: int,
        size: int | None = None,
    ) -> None:
        self._note(f"download {url}")
        content = self._blob(url)
        if content is None:
            raise ImageError("404")
        if len(content) > max_bytes:
            raise ImageTooLargeError(len(content), max_bytes)
        if size and len(content) != size:
            raise UnavailableError(f"{len(content)} bytes came in place of its {size}")
        restart()
        for start in range(0, len(content), 1000):
            write(content[start : start + 1000])

    def _note(self, call: str) -> None:
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
        self.entities[entity_type.name][entity.id] = replace(entity, images=tuple(images))

    def _store(
        self, entity_type: str, entity_id: str, filename: str, content: bytes
    ) -> RemoteImage:
        name = f"{hashlib.sha256(content).hexdigest()}/{filename}"
        image_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        self.blobs[image_id] = content
        return RemoteImage(
            f"{HOST}/entity/{entity_type}/{entity_id}/images/{image_id}",
            filename,
            len(content),
            "2026-01-01 00:00:00.000",
            f"{HOST}/download/{image_id}",
        )

    def _blob(self, url: str) -> bytes | None:
        if not url.startswith(HOST):
            raise ForbiddenUrlError(url)
        return self.blobs.get(last_segment(url))


@dataclass
class FakeFactory:
    """Implements `MoySkladFactory` over accounts in memory."""

    accounts: dict[str, FakeMoySklad]

    def for_account(self, account: Account) -> FakeMoySklad:
        return self.accounts[account.id]

    async def identify(self, secret: str, login: str | None = None) -> Identity:
        kind = TokenKind.USER if login is None else TokenKind.PASSWORD
        return Identity(secret, f"name of {secret}", kind)

    async def close(self) -> None:
        return
