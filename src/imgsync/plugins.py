"""What a plugin imports. Register a module or object under the entry-point group ``imgsync``.

from imgsync.plugins import EntityType, hookimpl

@hookimpl
def imgsync_entity_types():
    return [EntityType("service", max_images=10)]

A type without `externalCode`, `code`, `article` and telling names brings an `EntityMatcher` along.
Each call into a plugin has 10 seconds; whatever it raises is an error that names the plugin.
"""

from imgsync.adapters.plugins.hookspecs import Hooks, hookimpl
from imgsync.domain.entity_types import EntityMatcher, EntityType
from imgsync.domain.errors import PayloadError
from imgsync.domain.images import SourceImage
from imgsync.domain.matching import Entity
from imgsync.domain.payloads import PayloadFormat, RawPayload, SyncRequest

__all__ = [
    "Entity",
    "EntityMatcher",
    "EntityType",
    "Hooks",
    "PayloadError",
    "PayloadFormat",
    "RawPayload",
    "SourceImage",
    "SyncRequest",
    "hookimpl",
]
