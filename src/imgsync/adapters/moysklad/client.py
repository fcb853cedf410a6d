"""The API of one account."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from imgsync.adapters.moysklad.body import StreamedBody, image_array, small_body
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.encoding import API_LIMITS, keep_meta
from imgsync.adapters.moysklad.errors import AnswerTooLongError
from imgsync.adapters.moysklad.limits import EXPANDED_PAGE_SIZE, PLAIN_PAGE_SIZE
from imgsync.adapters.moysklad.listing import rows_of
from imgsync.adapters.moysklad.owner import OwnerCheck
from imgsync.adapters.moysklad.schemas import EntityModel, Images, Page, name_of, parse
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.errors import ApiError, NotFoundError, PermissionDeniedError
from imgsync.domain.model import Element, Entity, EntityPage, EntityType, RemoteImage
from imgsync.domain.ports.moysklad import ApiLimits, ReadContent, WritePermit

_log = logging.getLogger(__name__)


class MoySkladClient:
    """Implements the port `MoySkladPort` over HTTP."""

    def __init__(self, transport: ApiTransport, downloader: Downloader, owner: OwnerCheck) -> None:
        self._transport = transport
        self._downloader = downloader
        self._owner = owner

    @property
    def limits(self) -> ApiLimits:
        return API_LIMITS

    async def list_entities(
        self, entity_type: EntityType, *, with_images: bool
    ) -> AsyncIterator[EntityPage]:
        limit = EXPANDED_PAGE_SIZE if with_images else PLAIN_PAGE_SIZE
        params: dict[str, str | int] = {"expand": "images"} if with_images else {}
        path = f"entity/{entity_type.name}"

        async def page(offset: int) -> Any:
            nonlocal limit
            shown = params | {"limit": limit, "offset": offset}
            try:
                return await self._transport.json("GET", path, params=shown, is_page=True)
            except AnswerTooLongError:
                if limit <= EXPANDED_PAGE_SIZE:
                    raise
            limit = EXPANDED_PAGE_SIZE  # entities with very long texts
            return await page(offset)

        before = 0
        async for rows in rows_of(f"entities '{entity_type.name}'", limit, page):
            found = EntityPage([])
            for number, row in enumerate(rows, before + 1):
                name = name_of(entity_type.name, row, number)
                try:
                    entity = await self._entity(entity_type, row, with_images)
                    if entity_type.matcher is not None:
                        entity = replace(entity, fields=row)
                    found.entities.append(entity)
                except (ApiError, NotFoundError, PermissionDeniedError) as error:
                    found.unreadable.append(f"{name}: {error}")
            before += len(rows)
            yield found

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        try:
            images = await self._images(entity_type, entity_id)
        except NotFoundError:
            await self._owner.suspect(self._get)
            raise
        what = f"{entity_type.name} {entity_id}"
        if images.unreadable and not images.images:
            raise ApiError(f"no image of {what} can be read: {images.unreadable[0]}")
        for text in images.unreadable:
            _log.warning("%s: %s; it is left out", what, text)
        return images.images

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        path = _images_path(entity_type, entity_id)
        body = image_array(elements, read)
        answer = await self._write(entity_type, entity_id, path, body, permit)
        rows = answer if isinstance(answer, list) else []
        images = Images.of(rows)
        if images.unreadable or len(rows) != len(elements):
            raise ApiError(
                f"unexpected answer of the API: {len(elements)} images were set, "
                f"{len(images.images)} came back"
            )
        return images.images

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        path = f"{_images_path(entity_type, entity_id)}/delete"
        try:
            body = small_body([keep_meta(href) for href in hrefs])
            await self._write(entity_type, entity_id, path, body, permit)
        except NotFoundError:
            # An earlier try whose answer was lost, or someone else, has deleted some of them.
            present = {image.href for image in await self.list_images(entity_type, entity_id)}
            left = [keep_meta(href) for href in hrefs if href in present]
            if left:
                await self._write(entity_type, entity_id, path, small_body(left), permit)

    async def content_length(self, url: str) -> int | None:
        self._owner.check()
        return await self._downloader.content_length(url)

    async def download(
        self,
        url: str,
        write: Callable[[bytes], None],
        restart: Callable[[], None],
        max_bytes: int,
        size: int | None = None,
    ) -> None:
        self._owner.check()
        await self._downloader.download(url, write, restart, max_bytes, size)

    async def _get(self, path: str) -> Any:
        self._owner.check()
        return await self._transport.json("GET", path)

    async def _write(
        self,
        entity_type: EntityType,
        entity_id: str,
        path: str,
        body: StreamedBody,
        permit: WritePermit,
    ) -> Any:
        """A request that changes an entity; only with credentials that are the account's own."""
        entity = _entity_path(entity_type, entity_id)
        await self._owner.confirm(self._get, entity)
        answer = await self._transport.json(
            "POST", path, body=body, permit=permit, may_be_empty=path.endswith("/delete")
        )
        self._transport.forget_failures(entity)
        return answer

    async def _entity(self, entity_type: EntityType, row: Any, with_images: bool) -> Entity:
        model = parse(EntityModel, row)
        self._owner.saw(model.accountId)
        if not with_images:
            return model.entity(Images([], []))
        images = model.images
        if images is None or (images.rows is None and images.size is None):
            return model.entity(Images([], [], known=False))
        rows = images.rows or []
        if (images.size or 0) > len(rows):
            return model.entity(await self._images(entity_type, model.id))
        return model.entity(Images.of(rows))

    async def _images(self, entity_type: EntityType, entity_id: str) -> Images:
        page = parse(Page, await self._get(_images_path(entity_type, entity_id)))
        if page.rows is None and page.size != 0:
            raise ApiError("unexpected answer of the API: the list of images has no rows")
        rows = page.rows or []
        if page.size is not None and len(rows) < page.size:
            # An empty one would have the child's images cleared.
            raise ApiError(
                f"the list of images has {len(rows)} rows although it says to have {page.size}; "
                "it is not trusted"
            )
        return Images.of(rows)


def _entity_path(entity_type: EntityType, entity_id: str) -> str:
    return f"entity/{entity_type.name}/{quote(entity_id, safe='')}"


def _images_path(entity_type: EntityType, entity_id: str) -> str:
    return f"{_entity_path(entity_type, entity_id)}/images"
