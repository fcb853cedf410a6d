"""Loads plugins and gathers what they register."""

from dataclasses import dataclass
from importlib.metadata import entry_points, version
from itertools import chain

import pluggy

from imgsync.adapters.plugins import builtin
from imgsync.adapters.plugins.hookspecs import PROJECT, Hooks
from imgsync.domain.entity_types import EntityType, EntityTypes
from imgsync.domain.errors import ImgsyncError, PluginError
from imgsync.domain.payloads import PayloadFormat, PayloadFormats


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A loaded plugin: its name, distribution and version, and what it registers."""

    name: str
    distribution: str
    version: str
    entity_types: tuple[str, ...]
    payload_formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PluginRegistry:
    """Everything the loaded plugins register."""

    plugins: tuple[PluginInfo, ...]
    entity_types: EntityTypes
    payload_formats: PayloadFormats


@dataclass(frozen=True, slots=True)
class _Contribution:
    info: PluginInfo
    entity_types: tuple[EntityType, ...]
    payload_formats: tuple[PayloadFormat, ...]


def load_plugins() -> PluginRegistry:
    """Loads the built-in plugin and every installed one of the entry-point group ``imgsync``.

    PluginError, naming the plugin, where one cannot be loaded or registers something invalid.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(builtin, name="builtin")
    origins = {"builtin": ("imgsync", version("imgsync"))}
    for entry_point in sorted(entry_points(group=PROJECT), key=lambda e: e.name):
        try:
            manager.register(entry_point.load(), name=entry_point.name)
            manager.check_pending()
        except Exception as error:
            raise PluginError(f"plugin '{entry_point.name}' cannot be loaded: {error}") from error
        dist = entry_point.dist
        origins[entry_point.name] = (dist.name, dist.version) if dist else ("?", "?")
    found = [_contribution(manager, name, *origins[name]) for name in origins]
    return PluginRegistry(
        plugins=tuple(c.info for c in found),
        entity_types=EntityTypes(chain.from_iterable(c.entity_types for c in found)),
        payload_formats=PayloadFormats(
            chain.from_iterable(c.payload_formats for c in reversed(found))
        ),
    )


def _contribution(
    manager: pluggy.PluginManager, name: str, distribution: str, release: str
) -> _Contribution:
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name]
    types_hook = manager.subset_hook_caller("imgsync_entity_types", others)
    formats_hook = manager.subset_hook_caller("imgsync_payload_formats", others)
    try:
        types = tuple(chain.from_iterable(types_hook()))
        formats = tuple(chain.from_iterable(formats_hook()))
    except ImgsyncError:
        raise
    except Exception as error:
        raise PluginError(f"plugin '{name}' failed: {error}") from error
    for value in types:
        if not isinstance(value, EntityType):
            raise PluginError(f"plugin '{name}': {value!r} is not an EntityType")
    for value in formats:
        if not all(hasattr(value, part) for part in ("name", "matches", "parse")):
            raise PluginError(f"plugin '{name}': {value!r} is not a PayloadFormat")
    info = PluginInfo(
        name,
        distribution,
        release,
        tuple(t.name for t in types),
        tuple(f.name for f in formats),
    )
    return _Contribution(info, types, formats)
