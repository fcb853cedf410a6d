"""Sample plugin: the entity type contentcard (up to 15 images) and a compact payload format.

The format ``{"acme": "main child type main_entity child_entity", "urls": ["https://…/a.png"]}``
shows how a payload of one's own becomes a `SyncRequest`.
"""

from collections.abc import Iterable

from imgsync.plugins import (
    EntityType,
    PayloadError,
    PayloadFormat,
    RawPayload,
    SourceImage,
    SyncRequest,
    hookimpl,
)


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
    return [EntityType("contentcard", max_images=15)]


@hookimpl
def imgsync_payload_formats() -> Iterable[PayloadFormat]:
    return [AcmeFormat()]
