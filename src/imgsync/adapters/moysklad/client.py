"""The API of one account."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from urllib.parse import quote

from imgsync.adapters.moysklad.body import image_array
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.schemas import EntityListPage, ImageList, ImagePage, parse
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.encoding import Element, keep_meta
from imgsync.domain.entity_types import EntityType
from imgsync.domain.errors import ApiError, NotFoundError
from imgsync.domain.images import RemoteImage
from imgsync.domain.limits import EXPANDED_PAGE_SIZE, PLAIN_PAGE_SIZE
from imgsync.domain.matching import EntityPage
from imgsync.domain.ports.moysklad import ReadContent, WritePermit


class MoySkladClient:
    """Implements the port `MoySkladPort` over HTTP."""

    def __init__(self, transport: ApiTransport, downloader: Downloader) -> None:
        self._transport = transport
        self._downloader = downloader

    async def list_entities(
        self, entity_type: EntityType, *, with_images: bool
    ) -> AsyncIterator[EntityPage]:
        limit = EXPANDED_PAGE_SIZE if with_images else PLAIN_PAGE_SIZE
        params: dict[str, str | int] = {"limit": limit, "offset": 0}
        if with_images:
            params["expand"] = "images"
        offset = 0
        while True:
            params["offset"] = offset
            answer = await self._transport.json("GET", f"entity/{entity_type.name}", params=params)
            page = parse(EntityListPage, answer)
            entities = []
            for row, fields in zip(page.rows, answer["rows"], strict=True):
                images = [image.image() for image in row.images.rows]
                if with_images and row.images.meta.size > len(images):
                    images = await self.list_images(entity_type, row.id)
                entity = row.entity(images)
                if entity_type.matcher is not None:
                    entity = replace(entity, fields=fields)
                entities.append(entity)
            if entities:
                yield EntityPage(entities)
            offset += len(page.rows)
            if not page.rows or offset >= page.meta.size:
                return

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        answer = await self._transport.json("GET", _images_path(entity_type, entity_id))
        return [image.image() for image in parse(ImagePage, answer).rows]

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        await permit.confirm()
        answer = await self._transport.json(
            "POST", _images_path(entity_type, entity_id), body=image_array(elements, read)
        )
        images = [image.image() for image in parse(ImageList, {"images": answer}).images]
        if len(images) != len(elements):
            raise ApiError(
                f"unexpected answer of the API: {len(elements)} images were set, "
                f"{len(images)} came back"
            )
        return images

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        await permit.confirm()
        path = f"{_images_path(entity_type, entity_id)}/delete"
        try:
            await self._transport.json("POST", path, json=[keep_meta(href) for href in hrefs])
        except NotFoundError:
            # An earlier try whose answer was lost, or someone else, has deleted some of them.
            present = {image.href for image in await self.list_images(entity_type, entity_id)}
            left = [keep_meta(href) for href in hrefs if href in present]
            if left:
                await self._transport.json("POST", path, json=left)

    async def content_length(self, url: str) -> int | None:
        return await self._downloader.content_length(url)

    async def download(
        self,
        url: str,
        write: Callable[[bytes], None],
        restart: Callable[[], None],
        max_bytes: int,
    ) -> None:
        await self._downloader.download(url, write, restart, max_bytes)


def _images_path(entity_type: EntityType, entity_id: str) -> str:
    return f"entity/{entity_type.name}/{quote(entity_id, safe='')}/images"
