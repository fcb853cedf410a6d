"""Parts of plugins behind a guard: whatever they do, the error names the plugin and the part."""

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import click

from imgsync.domain.errors import ImgsyncError, PluginError
from imgsync.domain.model import Element, Keep, Upload
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.queue import Enqueued, TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import (
    ContentStore,
    SharedFile,
    StaleFile,
    TempFile,
    Turn,
    Workspace,
)
from imgsync.domain.replace import DeleteImages, Replacement, ReplaceStrategy, SetImages, Steps
from imgsync.domain.tasks import SyncResult, Task, TaskStatus
from imgsync.plugins.guard import PluginGuard, check_name, kind_of, told, values_of
from imgsync.plugins.parts import (
    MakeHandler,
    OpenQueue,
    OpenStore,
    QueueSetup,
    Services,
    StoreSetup,
)

_T = TypeVar("_T")
_MOST_ACTIONS = 1000
MAX_KIND_LENGTH = 50
"""Characters of `entity_type` in the table `sync_queue`."""
_STORE_SECONDS = 60.0
"""A database in another country may take longer than a plugin's own code may."""


def guarded_mapping(
    guard: PluginGuard, hook_name: str, hook: Callable[[], Any], most: int = 64
) -> dict[str, Any]:
    """What a hook gives that names its parts, each of them something that can be called."""

    def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for values in hook():
            if not isinstance(values, Mapping):
                raise PluginError(f"{kind_of(values)} is not a mapping of names to functions")
            for name, part in values.items():
                check_name(name, most)
                if not callable(part):
                    raise PluginError(f"'{name}' is {kind_of(part)}, which cannot be called")
                found[name] = part
        return found

    return guard.call(hook_name, read)


# --- objects with methods: queues and stores


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a method or property gives: one of `types`. `items`: types of what is in it; `fits`:
    whether it is what was asked for, by it and the arguments; `nested`: what it is guarded as in
    turn."""

    types: tuple[type, ...]
    items: tuple[type, ...] = ()
    fits: Callable[..., bool] = lambda *_, **__: True
    nested: "_Port | None" = None

    def problem(self, value: Any, *args: Any, **kwargs: Any) -> str | None:
        """What is wrong with such a value, given for these arguments."""
        if not isinstance(value, self.types):
            return f"gave {kind_of(value)} in place of {_kinds(self.types)}"
        for item in cast("Iterable[Any]", value) if self.items else ():
            if not isinstance(item, self.items):
                return f"gave {kind_of(item)} within, in place of {_kinds(self.items)}"
            if wrong := _wrong_field(item):
                return wrong
        if wrong := _wrong_field(value):
            return wrong
        return None if self.fits(value, *args, **kwargs) else "gave more or less than was asked for"


def _types(hint: Any) -> tuple[type, ...]:
    """What `isinstance` takes for the type of a field."""
    if hint is Any:
        return (object,)
    return get_args(hint) if isinstance(hint, UnionType) else (get_origin(hint) or hint,)


@dataclass(frozen=True, slots=True)
class _Port:
    """A port, and what its methods and properties give. Those of `protocol` that are async there
    have to be."""

    protocol: type
    answers: Mapping[str, _Answer]

    def problem(self, part: Any) -> str | None:
        """Why the object cannot stand behind the port."""
        methods = {
            name: value
            for name, value in vars(self.protocol).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }
        what = f"{kind_of(part)} is no {self.protocol.__name__}"
        missing = [name for name in methods if not callable(getattr(part, name, None))]
        if missing:
            return f"{what}: it lacks {', '.join(missing)}"
        for name, method in methods.items():
            if inspect.iscoroutinefunction(method) and not _is_async(getattr(part, name)):
                return f"{what}: {name} is not async"
        return None


_FIELDS = {
    kind: {name: _types(hint) for name, hint in get_type_hints(kind).items()}
    for kind in (Task, Enqueued, StaleFile)
}
"""Types of the fields of what is given: Python does not look at them."""


def _wrong_field(value: Any) -> str | None:
    """Why one of these cannot be used: a field of another type, a time without its zone."""
    kind = next((kind for kind in _FIELDS if isinstance(value, kind)), None)
    if kind is None:
        return None
    for name, types in _FIELDS[kind].items():
        found = getattr(value, name)
        if not isinstance(found, types):
            return f"gave {kind.__name__} whose {name} is {kind_of(found)}"
        if isinstance(found, datetime) and found.tzinfo is None:
            return f"gave {kind.__name__} whose {name} has no time zone"
    return None


def _kinds(types: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__.replace("NoneType", "None") for kind in types)


def _is_async(method: Any) -> bool:
    called = getattr(method, "__call__", None)  # noqa: B004 (of an object that can be called)
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(called)


_ID = (int, str)
_TEMP_FILE = _Port(
    TempFile, {"key": _Answer((str,)), "size": _Answer((int,)), "digest": _Answer((str,))}
)
_WORKSPACE = _Port(
    Workspace,
    {
        "create": _Answer((object,), nested=_TEMP_FILE),
        "read": _Answer((AsyncIterator,), (bytes,)),
        "acquire": _Answer((SharedFile, Turn)),
    },
)
_STORE = _Port(
    ContentStore,
    {
        "workspace": _Answer((AbstractAsyncContextManager,), nested=_WORKSPACE),
        "stale": _Answer((list,), (StaleFile,)),
        "live": _Answer((int,)),
        "delete": _Answer((int,)),
    },
)
_QUEUE = _Port(
    TaskQueue,
    {
        "enqueue": _Answer((list,), (Enqueued,), lambda given, tasks: len(given) == len(tasks)),
        "claim": _Answer((list,), (Task,), lambda given, limit=1, **_: len(given) <= limit),
        "get": _Answer((Task, type(None))),
        "park": _Answer((int,)),
        "unpark": _Answer((int,)),
        "parked": _Answer((int,)),
        "free": _Answer((list,), _ID),
        "retry": _Answer((list,), _ID),
        "prune": _Answer((int,)),
        "find": _Answer((list,), (Task,)),
        "waiting": _Answer((set,), (str,), lambda given, keys: given.issubset(keys)),
        "counts": _Answer((dict,), (TaskStatus,)),
    },
)


@dataclass(slots=True)
class GuardedObject:
    """An object that stands behind a port. Errors of imgsync pass, others become PluginError.

    Its coroutines run on the event loop, within the guard's time. Whatever blocks the loop itself
    cannot be given up; but a process that it keeps from ending is ended all the same.
    """

    guard: PluginGuard
    what: str
    inner: Any
    port: _Port

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        part = self._within(name, lambda: getattr(self.inner, name))
        if not callable(part):
            return self._checked(name, part)
        return self._later(name, part) if _is_async(part) else self._now(name, part)

    def _later(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            given = await self._awaited(name, lambda: method(*args, **kwargs))
            return self._nested(name, self._checked(name, given, *args, **kwargs))

        return call

    def _now(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = self._checked(name, self._within(name, lambda: method(*args, **kwargs)))
            if isinstance(given, AbstractAsyncContextManager):
                return self._entered(name, given)
            return self._each(name, given) if isinstance(given, AsyncIterator) else given

        return call

    def _checked(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        answer = self.port.answers.get(name)
        # Of what comes one by one, each is looked at as it comes.
        if isinstance(value, AsyncIterator) and answer is not None:
            answer = replace(answer, items=())
        if answer is not None and (problem := answer.problem(value, *args, **kwargs)):
            raise self._error(name, problem)
        return value

    def _nested(self, name: str, value: Any) -> Any:
        answer = self.port.answers.get(name)
        if answer is None or answer.nested is None:
            return value
        if problem := answer.nested.problem(value):
            raise self._error(name, problem)
        return GuardedObject(self.guard, self.what, value, answer.nested)

    @asynccontextmanager
    async def _entered(
        self, name: str, manager: AbstractAsyncContextManager[Any]
    ) -> AsyncIterator[Any]:
        inner = await self._awaited(name, lambda: manager.__aenter__())
        try:
            yield self._nested(name, inner)
        except BaseException as error:
            leave = partial(manager.__aexit__, type(error), error, error.__traceback__)
            await self._awaited(name, leave)
            raise
        await self._awaited(name, lambda: manager.__aexit__(None, None, None))

    async def _each(self, name: str, values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        end, items = object(), self.port.answers[name].items
        try:
            while (value := await self._awaited(name, lambda: anext(values, end))) is not end:
                if not isinstance(value, items):
                    problem = f"gave {kind_of(value)} in place of {_kinds(items)}"
                    raise self._error(name, problem)
                yield value
        finally:
            if isinstance(values, AsyncGenerator):
                await self._awaited(name, lambda: values.aclose())

    def _within(self, name: str, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except ImgsyncError:
            raise
        except BaseException as error:
            raise self._error(name, told(error)) from None

    async def _awaited(self, name: str, begin: Callable[[], Awaitable[_T]]) -> _T:
        limit, cancels = asyncio.timeout(self.guard.seconds), _cancels()
        try:
            async with limit:
                return await begin()
        except BaseException as error:
            if _is_cancelled(error):
                raise
            if _cancels() > cancels:  # some clients tell of it by an error of their own
                raise asyncio.CancelledError from error
            if isinstance(error, ImgsyncError):
                raise
            late = f"no answer within {self.guard.seconds:g} seconds"
            raise self._error(name, late if limit.expired() else told(error)) from None

    def _error(self, name: str, problem: str) -> PluginError:
        # Such a fault is the store's, and passes with it.
        return self.guard.error(f"{name} of {self.what}", problem, retryable=True)


def _is_cancelled(error: BaseException) -> bool:
    """Whether it is the program that cancels, not the plugin that raises."""
    cancelled = isinstance(error, asyncio.CancelledError) and _cancels() > 0
    return cancelled or isinstance(error, GeneratorExit)


def _cancels() -> int:
    """How often the running task was told to stop."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def guarded_queue(guard: PluginGuard, scheme: str, opener: OpenQueue) -> OpenQueue:
    guard = PluginGuard(guard.plugin, _STORE_SECONDS)
    what = f"task queue '{scheme}'"

    def open_queue(setup: QueueSetup) -> TaskQueue:
        return cast("TaskQueue", _opened(guard, what, lambda: opener(setup), _QUEUE))

    return open_queue


def guarded_store(guard: PluginGuard, scheme: str, opener: OpenStore) -> OpenStore:
    guard = PluginGuard(guard.plugin, _STORE_SECONDS)
    what = f"content store '{scheme}'"

    def open_store(setup: StoreSetup) -> ContentStore:
        return cast("ContentStore", _opened(guard, what, lambda: opener(setup), _STORE))

    return open_store


def _opened(guard: PluginGuard, what: str, opener: Callable[[], Any], port: _Port) -> GuardedObject:
    where = f"opening {what}"
    inner = guard.call(where, opener, (ImgsyncError,))
    # Asked of the plugin too, as its attributes may be code.
    if problem := guard.call(where, lambda: port.problem(inner), (ImgsyncError,)):
        raise guard.error(where, problem)
    return GuardedObject(guard, what, inner, port)


# --- strategies


def guarded_strategy(guard: PluginGuard, name: str, inner: ReplaceStrategy) -> ReplaceStrategy:
    guard = guard.part()
    where = f"replace strategy '{name}'"

    def strategy(wanted: Sequence[Element], *rest: Any) -> Steps:
        steps = guard.call(where, lambda: inner(wanted, *rest), (ImgsyncError,))
        outcome = None
        for _ in range(_MOST_ACTIONS):
            action, ended = guard.call(where, partial(_step, steps, outcome), (ImgsyncError,))
            if ended is not None:
                if not isinstance(ended.value, Replacement):
                    problem = f"returned {kind_of(ended.value)} in place of a Replacement"
                    raise guard.error(where, problem)
                return ended.value
            _check_action(guard, where, action, wanted)
            outcome = yield action
        raise guard.error(where, f"it has not ended after {_MOST_ACTIONS} actions")

    return cast("ReplaceStrategy", strategy)


def _step(steps: Any, outcome: Any) -> tuple[Any, StopIteration | None]:
    try:
        return (next(steps) if outcome is None else steps.send(outcome)), None
    except StopIteration as ended:
        return None, ended


def _check_action(guard: PluginGuard, where: str, action: Any, wanted: Sequence[Element]) -> None:
    if isinstance(action, DeleteImages):
        return
    if not isinstance(action, SetImages):
        raise guard.error(where, f"gave {kind_of(action)} in place of SetImages or DeleteImages")
    files = {element.key for element in wanted if isinstance(element, Upload)}
    for element in action.elements:
        known = isinstance(element, Keep) or (isinstance(element, Upload) and element.key in files)
        if not known:
            raise guard.error(where, "sets an image that is neither kept nor fetched")


# --- handlers


def guarded_handler(guard: PluginGuard, kind: str, make: MakeHandler) -> MakeHandler:
    guard = guard.part()
    where = f"task handler '{kind}'"

    def made(services: Services) -> TaskHandler:
        inner = guard.call(f"making {where}", lambda: make(services), (ImgsyncError,))
        if not callable(inner):
            raise guard.error(f"making {where}", f"gave {kind_of(inner)}, which cannot be called")

        async def handle(task: Task, permit: WritePermit) -> SyncResult:
            try:
                # No limit of time: a task may well be long, and its lease is kept meanwhile.
                result: Any = await inner(task, permit)
            except ImgsyncError:
                raise
            except BaseException as error:
                if _is_cancelled(error):
                    raise
                raise guard.error(where, told(error), retryable=True) from None
            if not isinstance(result, SyncResult):
                problem = f"gave {kind_of(result)} in place of a SyncResult"
                raise guard.error(where, problem)
            if not _is_sound(result):
                raise guard.error(where, f"gave a wrong SyncResult: {result!r:.200}")
            return result

        return handle

    return made


def _is_sound(result: SyncResult) -> bool:
    texts = (result.outcome, *result.warnings)
    numbers = (result.uploaded, result.kept, result.downloaded_bytes)
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(number, int) for number in numbers
    )


# --- commands


class GuardedCommand(click.Command):
    """A plugin's command. What is not an error of click or imgsync names the plugin.

    It runs in the main thread for as long as it wants: it is the user who waits for it. One that
    is async gives a coroutine, which the group runs.
    """

    def __init__(self, guard: PluginGuard, inner: click.Command) -> None:
        super().__init__(inner.name, hidden=inner.hidden, deprecated=inner.deprecated)
        self._guard = guard
        self._inner = inner

    def get_short_help_str(self, limit: int = 45) -> str:
        return self._inner.get_short_help_str(limit)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        context = self._within(lambda: self._inner.make_context(info_name, args, parent, **extra))
        context.command = self
        return context

    def invoke(self, ctx: click.Context) -> Any:
        ctx.command = self._inner
        ended = self._within(lambda: self._inner.invoke(ctx))
        return self._awaited(ended) if inspect.isawaitable(ended) else ended

    async def _awaited(self, ended: Awaitable[Any]) -> Any:
        try:
            return await ended
        except BaseException as error:
            if _is_cancelled(error):
                raise
            return self._within(partial(_raise, error))

    def _within(self, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except (click.exceptions.Exit, click.Abort, click.ClickException, ImgsyncError):
            raise
        except (KeyboardInterrupt, OSError):
            raise  # the user's, or of a closed pipe: told as for any other command
        except BaseException as error:
            raise self._guard.error(f"command '{self.name}'", told(error)) from None


def _raise(error: BaseException) -> NoReturn:
    raise error


def guarded_commands(guard: PluginGuard, hook: Callable[[], Any]) -> list[GuardedCommand]:
    """What a plugin's hook `imgsync_commands` gives."""

    def read() -> Iterable[GuardedCommand]:
        found = []
        for value in values_of(hook):
            if not isinstance(value, click.Command):
                raise PluginError(f"{kind_of(value)} is no command of click")
            check_name(value.name)
            found.append(GuardedCommand(guard, value))
        return found

    return list(guard.call("imgsync_commands", read))
