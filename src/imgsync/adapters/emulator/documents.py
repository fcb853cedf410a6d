"""JSON documents of entities, images and their lists (sections Product, Images, Metadata)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from imgsync.adapters.emulator.accounts import EmulatedAccount, EmulatedEntity
from imgsync.adapters.emulator.images import StoredImage
from imgsync.adapters.emulator.links import Links
from imgsync.adapters.emulator.queries import Page, View

_JSON = "application/json"
_IMAGES_LIMIT = 1000

Json = dict[str, Any]


class Documents:
    """Documents as one account sees them."""

    def __init__(self, links: Links, account: EmulatedAccount, view: View) -> None:
        self._links = links
        self._account = account
        self._view = view

    def entity(self, entity: EmulatedEntity) -> Json:
        """meta, id, accountId, name, externalCode, updated, images, and code and article if set."""
        document: Json = {
            "meta": {
                "href": self._links.entity(entity),
                "metadataHref": f"{self._links.listing(entity.type)}/metadata",
                "type": entity.type,
                "mediaType": _JSON,
            },
            "id": entity.id,
            "accountId": self._account.id,
            "updated": entity.updated,
            "name": entity.name,
            "externalCode": entity.external_code,
            "images": self._images_field(entity),
        }
        if entity.code is not None:
            document["code"] = entity.code
        if entity.article is not None:
            document["article"] = entity.article
        return document

    def image(self, entity: EmulatedEntity, image: StoredImage) -> Json:
        """meta with downloadHref, filename, title, size, updated, miniature, tiny."""
        meta = {
            "href": self._links.image(entity, image.id),
            "type": "image",
            "mediaType": _JSON,
            "downloadHref": self._links.download(image.id),
        }
        if self._view.permanent and self._account.permanent_links:
            meta["downloadPermanentHref"] = self._links.permanent(self._account, image.id)
        preview = {"type": "image", "mediaType": "image/png"}
        small = self._links.miniature(self._account, image.id)
        return {
            "meta": meta,
            "title": image.title,
            "filename": image.filename,
            "size": image.size,
            "updated": image.updated,
            "miniature": {
                "href": f"{self._links.download(image.id)}?miniature=true",
                **preview,
                "downloadHref": small,
            },
            "tiny": {"href": small, **preview},
        }

    def images(self, entity: EmulatedEntity) -> list[Json]:
        """Every image of the entity, in order."""
        return [self.image(entity, image) for image in entity.images]

    def image_page(self, entity: EmulatedEntity, page: Page, query: Json) -> Json:
        """``{"context","meta","rows"}`` of an entity's images; `query`: as of `entity_page`."""
        href = self._links.images(entity)
        return self._page(href, "image", self.images(entity), page, urlencode(query))

    def entity_page(
        self, type_name: str, entities: Sequence[EmulatedEntity], page: Page, query: Json
    ) -> Json:
        """``{"context","meta","rows"}``; `query`: parameters that nextHref repeats."""
        rows = entities[page.offset : page.offset + page.limit]
        document = self._page(
            self._links.listing(type_name), type_name, entities, page, urlencode(query)
        )
        return {**document, "rows": [self.entity(entity) for entity in rows]}

    def _images_field(self, entity: EmulatedEntity) -> Json:
        meta = {
            "href": self._links.images(entity),
            "type": "image",
            "mediaType": _JSON,
            "size": len(entity.images),
            "limit": _IMAGES_LIMIT,
            "offset": 0,
        }
        if not self._view.expanded:
            return {"meta": meta}
        return {"meta": meta, "rows": self.images(entity)}

    def _page(self, href: str, kind: str, items: Sequence[Any], page: Page, query: str) -> Json:
        meta: Json = {
            "href": f"{href}?{query}" if query else href,
            "type": kind,
            "mediaType": _JSON,
            "size": len(items),
            "limit": page.limit,
            "offset": page.offset,
        }
        extra = f"&{query}" if query else ""
        if page.offset + page.limit < len(items):
            following = page.offset + page.limit
            meta["nextHref"] = f"{href}?limit={page.limit}&offset={following}{extra}"
        if page.offset:
            preceding = max(0, page.offset - page.limit)
            meta["previousHref"] = f"{href}?limit={page.limit}&offset={preceding}{extra}"
        employee = f"{self._links.api_url}/context/employee"
        context = {"meta": {"href": employee, "type": "employee", "mediaType": _JSON}}
        return {
            "context": {"employee": context},
            "meta": meta,
            "rows": items[page.offset : page.offset + page.limit],
        }
