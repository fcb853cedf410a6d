"""Loads plugins and gathers what they register."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, EntryPoint, entry_points, version
from itertools import chain

import pluggy

from imgsync.adapters.plugins import builtin
from imgsync.adapters.plugins.guard import PluginGuard, guarded_formats, guarded_types
from imgsync.adapters.plugins.hookspecs import PROJECT, Hooks
from imgsync.domain.entity_types import EntityType, EntityTypes
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
    found = [_builtin()]
    for entry_point in sorted(entry_points(group=PROJECT), key=lambda e: e.name):
        guard = PluginGuard(entry_point.name)
        guard.load(partial(_register, manager, entry_point))
        found.append(_contribution(manager, guard, entry_point.dist))
    return PluginRegistry(
        plugins=tuple(c.info for c in found),
        entity_types=EntityTypes(chain.from_iterable(c.entity_types for c in found)),
        payload_formats=PayloadFormats(
            chain.from_iterable(c.payload_formats for c in reversed(found))
        ),
    )


def _register(manager: pluggy.PluginManager, entry_point: EntryPoint) -> None:
    manager.register(entry_point.load(), name=entry_point.name)
    manager.check_pending()


def _builtin() -> _Contribution:
    """What imgsync itself registers, which needs no guard."""
    types = tuple(builtin.imgsync_entity_types())
    formats = tuple(builtin.imgsync_payload_formats())
    return _Contribution(
        _info("builtin", "imgsync", version("imgsync"), types, formats), types, formats
    )


def _contribution(
    manager: pluggy.PluginManager, guard: PluginGuard, distribution: Distribution | None
) -> _Contribution:
    others = [plugin for other, plugin in manager.list_name_plugin() if other != guard.plugin]
    types = guarded_types(guard, manager.subset_hook_caller("imgsync_entity_types", others))
    formats = guarded_formats(guard, manager.subset_hook_caller("imgsync_payload_formats", others))
    origin = (distribution.name, distribution.version) if distribution else ("?", "?")
    return _Contribution(_info(guard.plugin, *origin, types, formats), types, formats)


def _info(
    name: str,
    distribution: str,
    release: str,
    types: Iterable[EntityType],
    formats: Iterable[PayloadFormat],
) -> PluginInfo:
    return PluginInfo(
        name,
        distribution,
        release,
        tuple(t.name for t in types),
        tuple(f.name for f in formats),
    )
