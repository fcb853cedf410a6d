"""The hooks a plugin may implement (pluggy project and entry-point group ``imgsync``)."""

from collections.abc import Iterable

import pluggy

from imgsync.domain.entity_types import EntityType
from imgsync.domain.payloads import PayloadFormat

PROJECT = "imgsync"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """Hook specifications."""

    @hookspec
    def imgsync_entity_types(self) -> Iterable[EntityType]:
        """Entity types to copy images of. Names are unique across all plugins."""
        raise NotImplementedError

    @hookspec
    def imgsync_payload_formats(self) -> Iterable[PayloadFormat]:
        """Payload formats to read tasks in. A plugin's formats are asked before the built-in."""
        raise NotImplementedError
