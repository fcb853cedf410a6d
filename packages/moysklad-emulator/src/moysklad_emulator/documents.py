"""JSON documents of entities, images and their lists (sections Product, Images, Metadata)."""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from moysklad_emulator.accounts import EmulatedAccount, EmulatedEntity, EmulatedUser
from moysklad_emulator.dialect import Dialect
from moysklad_emulator.entity_rules import RULES
from moysklad_emulator.images import StoredImage
from moysklad_emulator.links import Links
from moysklad_emulator.queries import Page, View
from moysklad_emulator.webhooks import Webhook

_JSON = "application/json"
_IMAGES_LIMIT = 1000
_TYPES_OF_OBJECTS = {"assortment": "product", "salePlatform": "saleplatform"}

Json = dict[str, Any]


class Documents:
    """Documents as one account sees them."""

    def __init__(
        self, links: Links, account: EmulatedAccount, view: View, dialect: Dialect
    ) -> None:
        self._links = links
        self._account = account
        self._view = view
        self._dialect = dialect

    def entity(self, entity: EmulatedEntity) -> Json:
        """The fields of its type, with images. Fields without a value are left out, or null."""
        document = self.fields(entity)
        document["images"] = self._images_field(entity)
        for name in entity.nulls - {"images.rows", "miniature.downloadHref"}:
            document[name] = None
        if not self._dialect.nulls:
            return document
        unset = {name: None for name, value in entity.values().items() if value is None}
        return document | (unset if entity.type != "contentcard" else {})

    def fields(self, entity: EmulatedEntity) -> Json:
        """The entity's document without its images."""
        document: Json = {
            "meta": {
                "href": self._links.entity(entity),
                "metadataHref": f"{self._links.listing(entity.type)}/metadata",
                "type": entity.type,
                "mediaType": _JSON,
            },
            "id": entity.id,
            "accountId": self._account.id,
        }
        if RULES[entity.type].has_updated:
            document["updated"] = entity.updated
        values = entity.values()
        document |= {name: value for name, value in values.items() if value is not None}
        if RULES[entity.type].has_folder:
            document["pathName"] = entity.folder
            if entity.folder:
                folder_id = str(uuid.uuid5(uuid.UUID(self._account.id), entity.folder))
                document["productFolder"] = {"meta": self._meta("productfolder", folder_id)}
        objects = entity.objects.items()
        return document | {name: self._object(entity, name, value) for name, value in objects}

    def image(self, entity: EmulatedEntity, image: StoredImage) -> Json:
        """meta with downloadHref, filename, title, size, updated, miniature, tiny."""
        meta = {
            "href": self._links.image(entity, image.id),
            "type": "image",
            "mediaType": _JSON,
            "downloadHref": self._links.download(image.id),
        }
        if self._view.permanent and self._account.permanent_links and self._dialect.permanent_links:
            meta["downloadPermanentHref"] = self._links.permanent(self._account, image.id)
        preview = {"type": "image", "mediaType": "image/png"}
        small = self._links.miniature(self._account, image.id)
        no_href = self._dialect.nulls or "miniature.downloadHref" in entity.nulls
        return {
            "meta": meta,
            "title": image.title,
            "filename": image.filename,
            "size": image.size,
            "updated": image.updated,
            "miniature": {
                "href": f"{self._links.download(image.id)}?miniature=true",
                **preview,
                "downloadHref": None if no_href else small,
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

    def employee(self, user: EmulatedUser) -> Json:
        """The answer of context/employee: who a user is."""
        return {
            "meta": self._meta("employee", user.id),
            "id": user.id,
            "accountId": self._account.id,
            "name": user.uid.partition("@")[0],
            "externalCode": user.id,
            "archived": False,
            "uid": user.uid,
            "lastName": user.uid.partition("@")[0],
            "permissions": {},
        }

    def application(self, user: EmulatedUser) -> Json:
        """The answer of context/application: who a solution is; its account's id is not told."""
        return {
            "meta": self._meta("application", user.id),
            "appUid": user.uid,
            "id": user.id,
        }

    def webhook(self, hook: Webhook) -> Json:
        """A webhook; `diffType` only of one on UPDATE, `authorApplication` of a solution's."""
        document: Json = {
            "meta": self._meta("webhook", hook.id),
            "id": hook.id,
            "accountId": self._account.id,
            "entityType": hook.entity_type,
            "url": hook.url,
            "method": "POST",
            "enabled": hook.enabled,
            "action": hook.action,
        }
        if hook.action == "UPDATE":
            document["diffType"] = hook.diff_type
        if hook.author_id is not None:
            document["authorApplication"] = {"meta": self._meta("application", hook.author_id)}
        return document

    def webhook_page(self, hooks: Sequence[Webhook], page: Page) -> Json:
        """``{"context","meta","rows"}`` of the account's webhooks."""
        rows = [self.webhook(hook) for hook in hooks]
        return self._page(self._links.listing("webhook"), "webhook", rows, page, "")

    def organization(self) -> Json:
        """The one organization that an account of the emulator has."""
        organization_id = str(uuid.uuid5(uuid.UUID(self._account.id), "organization"))
        return {
            "meta": self._meta("organization", organization_id),
            "id": organization_id,
            "accountId": self._account.id,
            "name": self._account.name,
            "externalCode": organization_id,
            "archived": False,
        }

    def organization_page(self, page: Page) -> Json:
        """``{"context","meta","rows"}`` of the account's organizations."""
        listing = self._links.listing("organization")
        return self._page(listing, "organization", [self.organization()], page, "")

    def _object(self, entity: EmulatedEntity, name: str, value: Any) -> Any:
        if isinstance(value, EmulatedEntity):
            return {"meta": self._meta(value.type, value.id)}
        if value is None:
            kind = _TYPES_OF_OBJECTS[name]
            return {"meta": self._meta(kind, str(uuid.uuid5(uuid.UUID(entity.id), name)))}
        return value

    def _meta(self, type_name: str, object_id: str) -> Json:
        listing = self._links.listing(type_name)
        return {
            "href": f"{listing}/{object_id}",
            "metadataHref": f"{listing}/metadata",
            "type": type_name,
            "mediaType": _JSON,
        }

    def _images_field(self, entity: EmulatedEntity) -> Json | None:
        expanded, null = self._view.expanded, self._dialect.nulls
        if null and not entity.images and not expanded:
            return None
        meta = {
            "href": self._links.images(entity),
            "type": "image",
            "mediaType": _JSON,
            "size": len(entity.images),
            "limit": _IMAGES_LIMIT,
            "offset": 0,
        }
        if "images.rows" in entity.nulls or (null and not (expanded and entity.images)):
            return {"meta": meta, "rows": None}
        return {"meta": meta, "rows": self.images(entity)} if expanded else {"meta": meta}

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
