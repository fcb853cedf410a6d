"""Loads plugins and gathers what they bring."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points, version
from itertools import chain
from typing import Any

import click
import pluggy

from imgsync.application.payloads import PayloadFormat, PayloadFormats
from imgsync.domain.model import EntityType, EntityTypes
from imgsync.domain.ports.pictures import PictureCheck, PictureEditor
from imgsync.domain.ports.runner import ImageTransform, Listeners, NoListeners
from imgsync.domain.replace import ReplaceStrategy
from imgsync.plugins import builtin, convert, fit, hookspecs, optimise
from imgsync.plugins import notify as notifying
from imgsync.plugins.guard import PluginGuard, guarded_formats, guarded_types
from imgsync.plugins.guarded import (
    MAX_KIND_LENGTH,
    guarded_commands,
    guarded_handler,
    guarded_mapping,
    guarded_queue,
    guarded_store,
    guarded_strategy,
)
from imgsync.plugins.hookspecs import PROJECT
from imgsync.plugins.listening import LISTENER_HOOKS, Listener, PluginListeners
from imgsync.plugins.parts import MakeHandler, OpenQueue, OpenStore, Parts
from imgsync.plugins.transforming import (
    HOOK,
    VERSION_HOOK,
    Tells,
    TransformChain,
    TransformStep,
    own_step,
    step_of,
)

BUILTIN = "builtin"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A loaded plugin: its name, distribution and version, and what it brings, by name.

    `listeners`: the events that it hears of, such as ``before_task``.
    """

    name: str
    distribution: str
    version: str
    entity_types: tuple[str, ...] = ()
    payload_formats: tuple[str, ...] = ()
    task_handlers: tuple[str, ...] = ()
    task_queues: tuple[str, ...] = ()
    content_stores: tuple[str, ...] = ()
    replace_strategies: tuple[str, ...] = ()
    transformations: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginRegistry:
    """Everything the loaded plugins bring."""

    plugins: tuple[PluginInfo, ...]
    entity_types: EntityTypes
    payload_formats: PayloadFormats
    task_handlers: Parts[MakeHandler]
    task_queues: Parts[OpenQueue]
    content_stores: Parts[OpenStore]
    replace_strategies: Parts[ReplaceStrategy]
    transform: ImageTransform
    listeners: Listeners
    commands: Parts[click.Command]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tasks that have a handler."""
        return tuple(self.task_handlers)


@dataclass(frozen=True, slots=True)
class _Contribution:
    """What one plugin brings. `rank`: -1 where its transformation is to come before the others', 1
    where after."""

    name: str
    distribution: str
    version: str
    entity_types: tuple[EntityType, ...]
    payload_formats: tuple[PayloadFormat, ...]
    task_handlers: Mapping[str, MakeHandler] = field(default_factory=dict)
    task_queues: Mapping[str, OpenQueue] = field(default_factory=dict)
    content_stores: Mapping[str, OpenStore] = field(default_factory=dict)
    replace_strategies: Mapping[str, ReplaceStrategy] = field(default_factory=dict)
    transformation: TransformStep | None = None
    rank: int = 0
    listener: Listener | None = None
    commands: tuple[click.Command, ...] = ()

    @property
    def info(self) -> PluginInfo:
        heard = self.listener.hooks if self.listener else {}
        return PluginInfo(
            self.name,
            self.distribution,
            self.version,
            tuple(t.name for t in self.entity_types),
            tuple(f.name for f in self.payload_formats),
            tuple(self.task_handlers),
            tuple(self.task_queues),
            tuple(self.content_stores),
            tuple(self.replace_strategies),
            () if self.transformation is None else (self.transformation.name,),
            tuple(name.removeprefix("imgsync_") for name in heard),
            tuple(c.name or "" for c in self.commands),
        )


def load_plugins(
    commands: object | None = None,
    *,
    editor: Callable[[], PictureEditor] = builtin.picture_editor,
    pictures: Callable[[], PictureCheck] = builtin.picture_check,
    notify: notifying.Notify | None = None,
) -> PluginRegistry:
    """Loads the built-in plugins and every installed one of the entry-point group ``imgsync``.

    `commands`: the built-in plugin that brings the commands; `editor` and `pictures`: what imgsync
    transforms pictures with, and looks at what was made, each asked for once it is needed;
    `notify`: its own listener, where notifications are configured.
    PluginError, naming the plugin, where one cannot be loaded or brings something invalid.
    """
    editor, pictures = cache(editor), cache(pictures)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(builtin, name=BUILTIN)
    manager.register(convert.Convert(editor), name=convert.NAME)
    manager.register(optimise.Optimise(editor), name=optimise.NAME)
    manager.register(fit.Fit(editor), name=fit.NAME)
    if notify is not None:
        manager.register(notify, name=notifying.NAME)
    found = sorted(entry_points(group=PROJECT), key=lambda e: e.name)
    guards = [PluginGuard(entry_point.name) for entry_point in found]
    # All before any is asked: the hook of one is that of all but those that are there by then.
    for entry_point, guard in zip(found, guards, strict=True):
        guard.load(partial(_register, manager, entry_point))
    brought = [
        _builtin(commands),
        _own(manager, convert.NAME, convert.tells),
        _own(manager, optimise.NAME, optimise.tells),
        _own(manager, fit.NAME, fit.tells, fits=True),
    ]
    if notify is not None:
        brought.append(_notifications(manager))
    for entry_point, guard in zip(found, guards, strict=True):
        brought.append(_contribution(manager, guard, entry_point))
    return _gathered(brought, pictures)


def _register(manager: pluggy.PluginManager, entry_point: EntryPoint) -> None:
    plugin = entry_point.load()
    hash(plugin)  # pluggy needs it later, where no guard stands around it
    manager.register(plugin, name=entry_point.name)
    manager.check_pending()


def _builtin(commands: Any) -> _Contribution:
    """What imgsync itself brings, which needs no guard."""
    return _Contribution(
        BUILTIN,
        "imgsync",
        version("imgsync"),
        tuple(builtin.imgsync_entity_types()),
        tuple(builtin.imgsync_payload_formats()),
        builtin.imgsync_task_handlers(),
        builtin.imgsync_task_queues(),
        builtin.imgsync_content_stores(),
        builtin.imgsync_replace_strategies(),
        commands=() if commands is None else tuple(commands.imgsync_commands()),
    )


def _own(
    manager: pluggy.PluginManager, name: str, tells: Tells, *, fits: bool = False
) -> _Contribution:
    """One of imgsync's own transformations."""
    hook, versions = _hook_of(manager, name, HOOK), _hook_of(manager, name, VERSION_HOOK)
    step = own_step(name, hook, lambda: str(versions()[0]), tells, fits=fits)
    return _Contribution(
        name, "imgsync", version("imgsync"), (), (), transformation=step, rank=_rank(hook)
    )


def _notifications(manager: pluggy.PluginManager) -> _Contribution:
    """Behind a guard, as it may meet what nobody foresaw."""
    listener = Listener(PluginGuard(notifying.NAME), _heard(manager, notifying.NAME))
    return _Contribution(notifying.NAME, "imgsync", version("imgsync"), (), (), listener=listener)


def _heard(manager: pluggy.PluginManager, plugin: str) -> dict[str, pluggy.HookCaller]:
    hooks = {name: _hook_of(manager, plugin, name) for name in LISTENER_HOOKS}
    return {name: hook for name, hook in hooks.items() if hook.get_hookimpls()}


def _hook_of(manager: pluggy.PluginManager, name: str, hook: str) -> pluggy.HookCaller:
    """The hook as that plugin alone implements it."""
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name]
    return manager.subset_hook_caller(hook, others)


def _rank(hook: pluggy.HookCaller) -> int:
    (found,) = hook.get_hookimpls()
    return -1 if found.tryfirst else int(found.trylast)


def _contribution(
    manager: pluggy.PluginManager, guard: PluginGuard, entry_point: EntryPoint
) -> _Contribution:
    distribution = entry_point.dist

    def hook(name: str) -> pluggy.HookCaller:
        return _hook_of(manager, guard.plugin, name)

    def mapping(name: str, most: int = 64) -> dict[str, Any]:
        return guarded_mapping(guard, name, hook(name), most)

    handlers = mapping("imgsync_task_handlers", MAX_KIND_LENGTH)
    queues, stores = mapping("imgsync_task_queues"), mapping("imgsync_content_stores")
    strategies = mapping("imgsync_replace_strategies")
    transform = hook(HOOK)
    transforms = bool(transform.get_hookimpls())
    heard = _heard(manager, guard.plugin)
    return _Contribution(
        guard.plugin,
        distribution.name if distribution else "?",
        distribution.version if distribution else "?",
        guarded_types(guard, hook("imgsync_entity_types")),
        guarded_formats(guard, hook("imgsync_payload_formats")),
        {kind: guarded_handler(guard, kind, make) for kind, make in handlers.items()},
        {name.lower(): guarded_queue(guard, name, part) for name, part in queues.items()},
        {name.lower(): guarded_store(guard, name, part) for name, part in stores.items()},
        {name: guarded_strategy(guard, name, part) for name, part in strategies.items()},
        step_of(guard, transform, hook(VERSION_HOOK)) if transforms else None,
        _rank(transform) if transforms else 0,
        Listener(guard.part(), heard) if heard else None,
        tuple(guarded_commands(guard, hook("imgsync_commands"))),
    )


def _in_turn(found: list[_Contribution]) -> Iterator[TransformStep]:
    """imgsync's own come before and after those of all others, whatever these ask for."""

    def place(one: _Contribution) -> tuple[int, bool]:
        is_other = one.transformation is not None and not one.transformation.is_own
        return one.rank, is_other if one.rank < 0 else not is_other

    for one in sorted(found, key=place):
        if one.transformation is not None:
            yield one.transformation


def _gathered(found: list[_Contribution], pictures: Callable[[], PictureCheck]) -> PluginRegistry:
    listeners = tuple(c.listener for c in found if c.listener is not None)
    return PluginRegistry(
        plugins=tuple(c.info for c in found),
        entity_types=EntityTypes(chain.from_iterable(c.entity_types for c in found)),
        payload_formats=PayloadFormats(
            chain.from_iterable(c.payload_formats for c in reversed(found))
        ),
        task_handlers=_parts("task handler", ((c.name, c.task_handlers) for c in found)),
        task_queues=_parts("task queue", ((c.name, c.task_queues) for c in found)),
        content_stores=_parts("content store", ((c.name, c.content_stores) for c in found)),
        replace_strategies=_parts(
            "replace strategy", ((c.name, c.replace_strategies) for c in found)
        ),
        transform=TransformChain(tuple(_in_turn(found)), pictures),
        listeners=PluginListeners(listeners) if listeners else NoListeners(),
        commands=_parts(
            "command", ((c.name, {x.name or "": x for x in c.commands}) for c in found)
        ),
    )


def _parts(what: str, brought: Iterable[tuple[str, Mapping[str, Any]]]) -> Parts[Any]:
    parts: Parts[Any] = Parts(what)
    for plugin, named in brought:
        for name, part in named.items():
            parts.add(plugin, name, part)
    return parts
