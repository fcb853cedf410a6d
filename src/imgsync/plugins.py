"""What a plugin imports. Register a module or object under the entry-point group ``imgsync``.

from imgsync.plugins import EntityType, hookimpl

@hookimpl
def imgsync_entity_types():
    return [EntityType("contentcard", max_images=15)]
"""

from imgsync.adapters.plugins.hookspecs import Hooks, hookimpl
from imgsync.domain.entity_types import EntityType
from imgsync.domain.errors import PayloadError
from imgsync.domain.images import SourceImage
from imgsync.domain.payloads import PayloadFormat, RawPayload, SyncRequest

__all__ = [
    "EntityType",
    "Hooks",
    "PayloadError",
    "PayloadFormat",
    "RawPayload",
    "SourceImage",
    "SyncRequest",
    "hookimpl",
]
