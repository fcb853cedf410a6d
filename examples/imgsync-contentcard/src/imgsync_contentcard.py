"""Sample plugin: the entity type contentcard (up to 15 images) and a compact payload format.

A content card has none of the fields by which counterparts are found elsewhere: no `externalCode`,
`code` or `article` (API documentation, section Content cards). Its `assortment` leads to a product
that has an external code, but by an id of that account, and its sales channels are the account's
own too. What can be equal in two accounts is what people see, `cardContentName` and `name`, and the
sale platform: a dictionary of MoySklad itself, whose entries belong to no account.

The format ``{"acme": "main child type main_entity child_entity", "urls": ["https://…/a.png"]}``
shows how a payload of one's own becomes a `SyncRequest`.
"""

import json
from collections.abc import Iterable, Mapping

from imgsync.plugins import (
    Entity,
    EntityType,
    PayloadError,
    PayloadFormat,
    RawPayload,
    SourceImage,
    SyncRequest,
    hookimpl,
)


class CardMatcher:
    """Cards are counterparts where both names and the sale platform are equal."""

    name = "cardContentName, name and salePlatform"

    def key(self, entity: Entity) -> str | None:
        parts = [entity.fields.get("cardContentName"), entity.name, _platform_id(entity.fields)]
        if not all(isinstance(part, str) and part.strip() for part in parts):
            return None
        return json.dumps(parts, ensure_ascii=False)


def _platform_id(fields: Mapping[str, object]) -> str | None:
    platform = fields.get("salePlatform")
    meta = platform.get("meta") if isinstance(platform, Mapping) else None
    href = meta.get("href") if isinstance(meta, Mapping) else None
    return href.rstrip("/").rsplit("/", 1)[-1].lower() if isinstance(href, str) else None


class AcmeFormat:
    name = "acme"

    def matches(self, payload: RawPayload) -> bool:
        return "acme" in payload

    def parse(self, payload: RawPayload) -> SyncRequest:
        parts = str(payload["acme"]).split()
        if len(parts) != 5:
            raise PayloadError("acme", "must be five words")
        urls = payload.get("urls")
        if not isinstance(urls, list) or not urls:
            raise PayloadError("urls", "must be a list of addresses")
        images = tuple(SourceImage(str(url), str(url).rsplit("/", 1)[-1]) for url in urls)
        main, child, kind, main_entity, child_entity = parts
        return SyncRequest(main, child, kind, main_entity, child_entity, images)


@hookimpl
def imgsync_entity_types() -> Iterable[EntityType]:
    return [EntityType("contentcard", max_images=15, matcher=CardMatcher())]


@hookimpl
def imgsync_payload_formats() -> Iterable[PayloadFormat]:
    return [AcmeFormat()]
