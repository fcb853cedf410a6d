"""Parts of plugins behind a guard: whatever they do, the error names the plugin and the part."""

import asyncio
import inspect
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import click

from imgsync.adapters.moysklad.limits import MAX_IMAGE_BYTES
from imgsync.domain.errors import ImgsyncError, PluginError
from imgsync.domain.formats import SIGNATURE_BYTES, image_format
from imgsync.domain.model import Element, Keep, SyncRequest, Upload
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.queue import Enqueued, TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import FileStorage
from imgsync.domain.replace import DeleteImages, Replacement, ReplaceStrategy, SetImages, Steps
from imgsync.domain.tasks import SyncResult, Task
from imgsync.plugins.guard import PluginGuard, check_name, kind_of, told, values_of
from imgsync.plugins.parts import (
    MakeHandler,
    OpenQueue,
    OpenStore,
    QueueSetup,
    Services,
    Transformation,
)

_T = TypeVar("_T")
_MOST_ACTIONS = 1000
MAX_KIND_LENGTH = 50
"""Characters of `entity_type` in the table `sync_queue`."""
_STORE_SECONDS = 60.0
"""A database in another country may take longer than a plugin's own code may."""

_QUEUE_ANSWERS: Mapping[str, tuple[type, ...]] = {
    "enqueue": (Enqueued,),
    "claim": (Task, type(None)),
    "get": (Task, type(None)),
    "park": (int,),
    "unpark": (int,),
    "parked": (int,),
    "free": (list,),
    "retry": (list,),
    "find": (list,),
    "counts": (dict,),
}


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


@dataclass(slots=True)
class GuardedObject:
    """An object that stands behind a port. Errors of imgsync pass, others become PluginError.

    `timed`: its plain methods run in a thread of their own, within the guard's time; coroutines
    run on the event loop, within it too. `answers`: types of what methods give. `nested`: methods
    whose result is such an object itself.
    """

    guard: PluginGuard
    what: str
    inner: Any
    timed: bool = True
    answers: Mapping[str, tuple[type, ...]] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        part = self._within(name, lambda: getattr(self.inner, name))
        return self._method(name, part) if callable(part) else part

    def __enter__(self) -> Any:
        return self._nest(self._within("__enter__", lambda: self.inner.__enter__()))

    def __exit__(self, *error: Any) -> None:
        self._within("__exit__", lambda: self.inner.__exit__(*error))

    async def __aenter__(self) -> Any:
        return self._nest(await self._awaited("__aenter__", lambda: self.inner.__aenter__()))

    async def __aexit__(self, *error: Any) -> None:
        await self._awaited("__aexit__", lambda: self.inner.__aexit__(*error))

    def _method(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            async def later(*args: Any, **kwargs: Any) -> Any:
                return self._checked(
                    name, await self._awaited(name, lambda: method(*args, **kwargs))
                )

            return later

        def now(*args: Any, **kwargs: Any) -> Any:
            def call() -> Any:
                return method(*args, **kwargs)

            result = self._timed(name, call) if self.timed else self._within(name, call)
            if inspect.isawaitable(result):
                return self._finish(name, result)
            return self._checked(name, result)

        return now

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return self.guard.call(self._where(name), call, (ImgsyncError,))
        except PluginError as error:
            error.retryable = True  # as in `_error`
            raise

    async def _finish(self, name: str, result: Awaitable[Any]) -> Any:
        return self._checked(name, await self._awaited(name, lambda: result))

    def _checked(self, name: str, result: Any) -> Any:
        wanted = self.answers.get(name)
        if wanted and not isinstance(result, wanted):
            kinds = " or ".join(kind.__name__.replace("NoneType", "None") for kind in wanted)
            raise self._error(name, f"gave {kind_of(result)} in place of {kinds}")
        if name in self.nested:
            return self._nest(result)
        if isinstance(result, AsyncIterator):
            return self._each_later(name, result)
        return self._each(name, result) if isinstance(result, Iterator) else result

    def _nest(self, result: Any) -> Any:
        return GuardedObject(self.guard, self.what, result, self.timed, self.answers, self.nested)

    def _each(self, name: str, values: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (value := self._within(name, lambda: next(values, end))) is not end:
            yield value

    async def _each_later(self, name: str, values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        end = object()
        while (value := await self._awaited(name, lambda: anext(values, end))) is not end:
            yield value

    def _within(self, name: str, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except ImgsyncError:
            raise
        except BaseException as error:
            raise self._error(name, told(error)) from None

    async def _awaited(self, name: str, begin: Callable[[], Awaitable[_T]]) -> _T:
        try:
            async with asyncio.timeout(self.guard.seconds):
                return await begin()
        except ImgsyncError:
            raise
        except BaseException as error:
            if _is_cancelled(error):
                raise
            raise self._error(name, told(error)) from None

    def _where(self, name: str) -> str:
        return f"{name} of {self.what}"

    def _error(self, name: str, problem: str) -> PluginError:
        # Such a fault is the store's, and passes with it.
        return self.guard.error(self._where(name), problem, retryable=True)


def _is_cancelled(error: BaseException) -> bool:
    """Whether it is the program that cancels, not the plugin that raises."""
    task = asyncio.current_task()
    return (
        isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    ) or isinstance(error, GeneratorExit)


def guarded_queue(guard: PluginGuard, scheme: str, opener: OpenQueue) -> OpenQueue:
    guard = PluginGuard(guard.plugin, _STORE_SECONDS)
    what = f"task queue '{scheme}'"

    def open_queue(setup: QueueSetup) -> TaskQueue:
        inner = guard.call(f"opening {what}", lambda: opener(setup), (ImgsyncError,))
        _check_port(guard, f"opening {what}", inner, TaskQueue)
        return cast("TaskQueue", GuardedObject(guard, what, inner, answers=_QUEUE_ANSWERS))

    return open_queue


def guarded_store(guard: PluginGuard, scheme: str, opener: OpenStore) -> OpenStore:
    guard = PluginGuard(guard.plugin, _STORE_SECONDS)
    what = f"content store '{scheme}'"

    def open_store(url: str) -> FileStorage:
        inner = guard.call(f"opening {what}", lambda: opener(url), (ImgsyncError,))
        _check_port(guard, f"opening {what}", inner, FileStorage)
        # A thread for each chunk of each file would take longer than to write it.
        nested = frozenset({"workspace", "create"})
        store = GuardedObject(guard, what, inner, timed=False, nested=nested)
        return cast("FileStorage", store)

    return open_store


def _check_port(guard: PluginGuard, where: str, part: Any, port: type) -> None:
    wanted = [name for name, value in vars(port).items() if inspect.isfunction(value)]
    methods = [name for name in wanted if not name.startswith("_")]
    missing = [name for name in methods if not callable(getattr(part, name, None))]
    if missing:
        lacks = ", ".join(missing)
        raise guard.error(where, f"{kind_of(part)} is no {port.__name__}: it lacks {lacks}")


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


# --- transformations


@dataclass(frozen=True, slots=True)
class GuardedTransformation:
    """One transformation of a plugin."""

    guard: PluginGuard
    name: str
    inner: Transformation

    def __call__(self, content: bytes, filename: str, request: SyncRequest) -> bytes:
        """The changed file, or `content` itself. PluginError for what no account accepts."""
        where = f"image transformation '{self.name}'"
        made: Any = self.guard.call(where, lambda: self.inner(content, filename, request), ())
        if made is None:
            return content
        if not isinstance(made, bytes):
            raise self.guard.error(where, f"gave {kind_of(made)} in place of bytes or None")
        if image_format(made[:SIGNATURE_BYTES]) is None:
            raise self.guard.error(where, "gave a file that is neither JPEG nor PNG")
        if len(made) > MAX_IMAGE_BYTES:
            problem = f"gave {len(made)} bytes, over the limit of {MAX_IMAGE_BYTES}"
            raise self.guard.error(where, problem)
        return made


@dataclass(frozen=True, slots=True)
class TransformChain:
    """Every transformation in turn; implements `ImageTransform`."""

    steps: tuple[GuardedTransformation, ...]

    def __call__(self, content: bytes, filename: str, request: SyncRequest) -> bytes:
        for step in self.steps:
            content = step(content, filename, request)
        return content


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

    It runs in the main thread for as long as it wants: it is the user who waits for it.
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
        return self._within(lambda: self._inner.invoke(ctx))

    def _within(self, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except (click.exceptions.Exit, click.Abort, click.ClickException, ImgsyncError):
            raise
        except (KeyboardInterrupt, OSError):
            raise  # the user's, or of a closed pipe: told as for any other command
        except BaseException as error:
            raise self._guard.error(f"command '{self.name}'", told(error)) from None


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
