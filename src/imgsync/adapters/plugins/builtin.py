"""The built-in plugin: product, bundle and variant; batch and legacy payloads."""

from collections.abc import Iterable

from imgsync.adapters.plugins.hookspecs import hookimpl
from imgsync.domain.entity_types import EntityType
from imgsync.domain.payloads import BATCH, LEGACY, PayloadFormat


@hookimpl
def imgsync_entity_types() -> Iterable[EntityType]:
    return [EntityType("product"), EntityType("bundle"), EntityType("variant")]


@hookimpl
def imgsync_payload_formats() -> Iterable[PayloadFormat]:
    return [BATCH, LEGACY]
