"""Parts of the runner that plugins bring: whatever they do, the error names plugin and part."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner

from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import LeaseLostError, PluginError, StoreError
from imgsync.domain.model import ImageFingerprint, SyncRequest, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.ports.storage import ContentKey
from imgsync.domain.replace import SetImages, atomic
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncResult, Task, TaskId, TaskStatus
from imgsync.plugins import guarded, hookimpl, manager
from imgsync.plugins.guard import PluginGuard
from imgsync.plugins.guarded import (
    guarded_handler,
    guarded_queue,
    guarded_store,
    guarded_strategy,
)
from imgsync.plugins.listening import Listener, PluginListeners
from imgsync.plugins.manager import load_plugins
from imgsync.plugins.parts import QueueSetup, StoreSetup
from imgsync.testing import MEMORY_LIMITS, MemoryContentStore, MemoryTaskQueue
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
REQUEST = SyncRequest("m", "c", "product", "p1", "c1", ())
FAILURES = [ValueError("oops"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
failures = pytest.mark.parametrize("error", FAILURES, ids=lambda e: type(e).__name__)


@pytest.fixture
def world() -> World:
    return World()


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def setup(world: World) -> QueueSetup:
    return QueueSetup("odd:", (TASK_ENTITY_TYPE,), lambda _: world.queue, str)


MOMENT = datetime(2026, 11, 24, tzinfo=UTC)
TASK = Task(1, {}, TaskStatus.PENDING, 50, 1, 3, MOMENT, MOMENT, MOMENT)


def task_with(**values: Any) -> Task:
    return replace(TASK, **values)


class Odd:
    """A queue that does one thing in its own way."""

    def __init__(self, inner: Any, **own: Any) -> None:
        self._inner = inner
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def odd_queue(world: World, **own: Any) -> Any:
    opener = guarded_queue(PluginGuard("shop"), "odd", lambda _: Odd(world.queue, **own))
    return opener(setup(world))


def giving(value: Any) -> Callable[..., Any]:
    async def give(*_: Any, **__: Any) -> Any:
        return value

    return give


def failing(error: BaseException) -> Callable[..., Any]:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@failures
async def test_whatever_a_queue_raises_names_the_plugin(world: World, error: BaseException) -> None:
    queue = odd_queue(world, claim=failing(error))
    with pytest.raises(PluginError, match="'shop' failed in claim of task queue 'odd': ") as caught:
        await queue.claim(lease=LEASE)
    assert caught.value.retryable


async def test_the_errors_that_a_queue_may_raise_pass_as_they_are(world: World) -> None:
    error = LeaseLostError("gone")
    with pytest.raises(LeaseLostError) as caught:
        await odd_queue(world, renew=failing(error)).renew(None, lease=LEASE)
    assert caught.value is error


@pytest.mark.parametrize(
    ("method", "given", "problem"),
    [
        ("claim", "task", "gave a value of type str in place of list"),
        ("claim", None, "gave None in place of list"),
        ("claim", ["task"], "gave a value of type str within, in place of Task"),
        ("claim", [TASK, TASK], "gave more or less than was asked for"),
        ("claim", [task_with(attempts="1")], "gave Task whose attempts is a value of type str"),
        ("claim", [task_with(id=uuid4())], "gave Task whose id is a value of type UUID"),
        ("find", [task_with(updated_at=None)], "gave Task whose updated_at is None"),
        ("find", [task_with(status="failed")], "gave Task whose status is a value of type str"),
        ("get", task_with(warnings=None), "gave Task whose warnings is None"),
        ("get", task_with(created_at=MOMENT.replace(tzinfo=None)), "created_at has no time zone"),
        ("enqueue", [Enqueued(cast("TaskId", None), True)], "gave Enqueued whose task_id is None"),
        ("enqueue", [7], "gave a value of type int within, in place of Enqueued"),
        ("enqueue", [], "gave more or less than was asked for"),
        ("counts", {"waiting": 7}, "gave a value of type str within, in place of TaskStatus"),
        ("waiting", ["key"], "gave a value of type list in place of set"),
        ("waiting", {7}, "gave a value of type int within, in place of str"),
        ("waiting", {"other"}, "gave more or less than was asked for"),
        ("find", [None], "gave None within, in place of Task"),
        ("get", "task", "gave a value of type str in place of Task or None"),
        ("unpark", "many", "gave a value of type str in place of int"),
        ("free", [1.5], "gave a value of type float within, in place of int or str"),
    ],
)
async def test_what_a_queue_gives_is_looked_at(
    world: World, method: str, given: Any, problem: str
) -> None:
    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "claim": ((), {"lease": LEASE}),
        "enqueue": (([NewTask({})],), {}),
        "get": ((1,), {}),
        "unpark": (("main",), {}),
        "free": ((None,), {}),
        "waiting": ((["key"],), {}),
    }
    args, kwargs = arguments.get(method, ((), {}))
    queue = odd_queue(world, **{method: giving(given)})
    with pytest.raises(PluginError, match=rf"'shop' failed in {method} of .*: .*{problem}$"):
        await getattr(queue, method)(*args, **kwargs)


def test_what_is_no_queue_is_refused_with_what_it_lacks(world: World) -> None:
    opener = guarded_queue(PluginGuard("shop"), "odd", lambda _: object())  # type: ignore[arg-type,return-value]
    with pytest.raises(PluginError, match=r"'shop' .*opening task queue 'odd': .* lacks enqueue,"):
        opener(setup(world))


def test_a_queue_of_plain_functions_is_refused_at_opening(world: World) -> None:
    with pytest.raises(PluginError, match=r"type Odd is no TaskQueue: claim is not async$"):
        odd_queue(world, claim=lambda **_: [])


async def test_a_call_that_does_not_end_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(**_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(guarded, "_STORE_SECONDS", 0.05)
    queue = odd_queue(world, counts=hangs)
    with pytest.raises(PluginError, match=r"counts of .*: no answer within 0.05 seconds"):
        await queue.counts()
    assert await queue.parked() == 0


async def test_a_cancelled_call_is_cancelled_and_no_fault_of_the_plugin(world: World) -> None:
    begun = asyncio.Event()

    async def hangs(**_: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(odd_queue(world, counts=hangs).counts())
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("error", [RuntimeError("connection closed"), StoreError("closed")])
async def test_a_task_told_to_stop_is_given_back_whatever_the_queue_makes_of_it(
    world: World, error: Exception
) -> None:
    """Some clients tell of a cancellation by an error of their own."""
    world.pair([("a.png", png(1))])
    task_id = await world.enqueue()
    settling = asyncio.Event()

    async def complete(*_: Any, **__: Any) -> None:
        settling.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    queue = odd_queue(world, complete=complete)
    (task,) = await queue.claim(lease=LEASE)
    running = asyncio.create_task(replace(world.run_task(), queue=queue)(task))
    await settling.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await world.task(task_id)).status is TaskStatus.PENDING


async def test_a_worker_runs_on_a_guarded_queue(world: World) -> None:
    world.pair([("a.png", png(1))])
    task_id = await world.enqueue()
    queue = odd_queue(world)
    await Worker(queue, replace(world.run_task(), queue=queue), LEASE, 1, 0.01).run(drain=True)
    assert (await world.task(task_id)).result == "completed"


SOURCE = ContentKey("main", "https://api.example/1", ImageFingerprint("1", 1, "now"))


class OddSpace:
    """A workspace that does one thing in its own way."""

    def __init__(self, inner: Any, own: dict[str, Any]) -> None:
        self._inner = inner
        vars(self).update(own)

    async def create(self, filename: str) -> Any:
        return await self._inner.create(filename)

    async def read(self, key: str) -> AsyncIterator[Any]:
        async for chunk in self._inner.read(key):
            yield chunk

    async def acquire(self, source: Any) -> Any:
        return await self._inner.acquire(source)

    async def share(self, source: Any, key: str, *, is_picture: bool, note: str = "") -> None:
        await self._inner.share(source, key, is_picture=is_picture, note=note)

    async def pass_turn(self, source: Any) -> None:
        await self._inner.pass_turn(source)


def odd_store(**own: Any) -> Any:
    class OddStore(MemoryContentStore):
        @asynccontextmanager
        async def workspace(self) -> AsyncIterator[Any]:
            async with super().workspace() as inner:
                yield OddSpace(inner, own)

    return guarded_store(PluginGuard("shop"), "odd", lambda _: OddStore())(StoreSetup("odd:", 0))


async def test_a_store_that_fails_is_named_wherever_it_does() -> None:
    async def broken(_: str) -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("gone")

    async with odd_store(read=broken).workspace() as space:
        file = await space.create("a.png")
        await file.write(b"x")
        await file.close()
        assert file.size == 1
        with pytest.raises(PluginError, match=r"'shop' failed in read of .* 'odd': OSError: gone"):
            _ = [chunk async for chunk in space.read(file.key)]
        with pytest.raises(PluginError, match="'shop' failed in write of content store 'odd'"):
            await file.write(b"after its end")


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"read": lambda key: "text"}, "read of .*: gave a value of type str in place of Async"),
        ({"read": lambda key: chunks("text")}, "read of .*: gave a value of type str in place of"),
        ({"create": giving(SimpleNamespace())}, "create of .* is no TempFile: it lacks write, "),
        (
            {"acquire": giving(None)},
            "acquire of .*: gave None in place of SharedFile or Turn",
        ),
        ({"create": lambda _: None}, "workspace of .* is no Workspace: create is not async"),
    ],
)
async def test_what_a_store_gives_is_looked_at(own: dict[str, Any], problem: str) -> None:
    async def use() -> None:
        async with odd_store(**own).workspace() as space:
            file = await space.create("a.png")
            await file.close()
            _ = [chunk async for chunk in space.read(file.key)]
            await space.acquire(SOURCE)

    with pytest.raises(PluginError, match=f"'shop' failed in {problem}"):
        await use()


async def chunks(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def test_a_store_hears_of_the_error_that_ends_its_workspace() -> None:
    heard: list[BaseException] = []

    class Hearing(MemoryContentStore):
        @asynccontextmanager
        async def workspace(self) -> AsyncIterator[Any]:
            try:
                async with super().workspace() as inner:
                    yield inner
            except ValueError as error:
                heard.append(error)
                raise

    store = guarded_store(PluginGuard("shop"), "odd", lambda _: Hearing())(StoreSetup("odd:", 0))
    with pytest.raises(ValueError, match="the task's own"):
        async with store.workspace():
            raise ValueError("the task's own")
    assert [str(error) for error in heard] == ["the task's own"]


ROOM = RequestRoom(1000, MEMORY_LIMITS.request.size_of)


def steps_of(strategy: Any) -> list[Any]:
    guarded = guarded_strategy(PluginGuard("shop"), "odd", strategy)
    return list(guarded([Upload("k", "a.png", 1)], [], ROOM))


def stray(*_: Any) -> Any:
    yield SetImages((Upload("another", "a.png", 1),))


def endless(*_: Any) -> Any:
    while True:
        yield SetImages(())


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        (raising(SystemExit(3)), "SystemExit: 3"),
        (lambda *_: None, "TypeError"),
        (lambda *_: iter([7]), "in place of SetImages or DeleteImages"),
        (lambda *_: iter([]), "returned None in place of a Replacement"),
        (stray, "neither kept nor fetched"),
        (endless, "has not ended after 1000 actions"),
    ],
)
def test_whatever_a_strategy_does_names_the_plugin(strategy: Any, problem: str) -> None:
    with pytest.raises(PluginError, match=f"'shop' .*replace strategy 'odd': .*{problem}"):
        steps_of(strategy)


def test_a_sound_strategy_sets_what_it_is_given() -> None:
    guarded = guarded_strategy(PluginGuard("shop"), "odd", atomic)
    assert next(guarded([Upload("k", "a.png", 1)], [], ROOM)) == SetImages(
        (Upload("k", "a.png", 1),)
    )


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        *((raising(error), type(error).__name__) for error in FAILURES),
        (lambda: "done", "in place of a SyncResult"),
        (lambda: SyncResult(7), "gave a wrong SyncResult"),  # type: ignore[arg-type]
    ],
)
async def test_whatever_a_handler_does_fails_its_own_task_only(
    world: World, inner: Callable[[], Any], problem: str
) -> None:
    async def handle(task: Any, permit: Any) -> Any:
        return inner()

    made = guarded_handler(PluginGuard("shop"), "odd", lambda _: handle)(SimpleNamespace())  # type: ignore[arg-type]
    queue = MemoryTaskQueue(world.store, ("odd", TASK_ENTITY_TYPE))
    world.pair([("a.png", png(1))])
    (odd,) = await queue.enqueue([NewTask({}, kind="odd", max_attempts=1)])
    copy = await world.enqueue()
    run_task = replace(world.run_task(), queue=queue)
    run_task.handlers = {**run_task.handlers, "odd": made}
    ended: list[TaskReport] = []
    await Worker(queue, run_task, LEASE, 1, 0.01).run(drain=True, report=ended.append)
    assert {r.task.id: r.end for r in ended} == {
        odd.task_id: TaskEnd.FAILED,
        copy: TaskEnd.COMPLETED,
    }
    (error,) = [r.error for r in ended if r.error]
    assert "plugin 'shop' failed in task handler 'odd': " in error
    assert problem in error


async def test_the_most_urgent_task_of_any_kind_is_next(world: World) -> None:
    queue = MemoryTaskQueue(world.store, (TASK_ENTITY_TYPE, "odd"))
    tasks = [NewTask({}, priority=10), NewTask({}, priority=90, kind="odd"), NewTask({})]
    late, urgent, _ = await queue.enqueue(tasks)
    first, _, last = await queue.claim(lease=LEASE, limit=3)
    assert (first.id, first.kind, last.id) == (urgent.task_id, "odd", late.task_id)


@failures
async def test_a_listener_that_fails_is_logged_once_and_changes_nothing(
    world: World, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = dict.fromkeys(
        ("imgsync_before_task", "imgsync_after_task", "imgsync_image_copied", "imgsync_run_ended"),
        raising(error),
    )
    listeners = PluginListeners((Listener(PluginGuard("shop"), hooks),))
    world.pair([("a.png", png(1))])
    task_id = await world.enqueue()
    world.sync_entity = replace(world.sync_entity, listeners=listeners)
    run_task = replace(world.run_task(), listeners=listeners)
    with caplog.at_level(logging.WARNING):
        await Worker(world.queue, run_task, LEASE, 1, 0.01, listeners=listeners).run(drain=True)
    assert (await world.task(task_id)).result == "completed"
    (record,) = [r for r in caplog.records if "'shop'" in r.getMessage()]
    assert "plugin 'shop' failed in imgsync_before_task" in record.getMessage()


async def test_what_a_listener_does_to_a_task_changes_nothing(world: World) -> None:
    def spoil(task: Any) -> None:
        task.payload.clear()

    listener = Listener(PluginGuard("shop"), {"imgsync_before_task": spoil})
    world.pair([("a.png", png(1))])
    task_id = await world.enqueue()
    run_task = replace(world.run_task(), listeners=PluginListeners((listener,)))
    await Worker(world.queue, run_task, LEASE, 1, 0.01).run(drain=True)
    assert (await world.task(task_id)).result == "completed"


async def test_a_listener_that_hangs_holds_tasks_up_once(world: World) -> None:
    free = threading.Event()
    guard = PluginGuard("shop", seconds=0.2)
    listener = Listener(guard, {"imgsync_before_task": lambda **_: free.wait(30)})
    run_task = replace(world.run_task(), listeners=PluginListeners((listener,)))
    for number in range(5):
        await world.put({"images": number})
    began = time.monotonic()
    await Worker(world.queue, run_task, LEASE, 1, 0.01).run(drain=True)
    assert time.monotonic() - began < 10
    free.set()


def plugin(monkeypatch: pytest.MonkeyPatch, **hooks: Callable[..., Any]) -> None:
    module = ModuleType("odd")
    for name, function in hooks.items():
        function.__name__ = name
        setattr(module, name, hookimpl(function))
    point = SimpleNamespace(name="shop", dist=None, load=lambda: module)
    monkeypatch.setattr(manager, "entry_points", lambda **_: [point])


@pytest.mark.parametrize(
    ("hook", "gives", "problem"),
    [
        ("imgsync_task_queues", {"sqlite": print}, "task queue 'sqlite' is registered twice, by"),
        ("imgsync_task_handlers", {"image_sync": print}, "'image_sync' is registered twice, by"),
        ("imgsync_replace_strategies", {"atomic": print}, "by plugin 'builtin' and by plugin"),
        ("imgsync_content_stores", ["file"], "is not a mapping of names to functions"),
        ("imgsync_task_queues", {"a": 7}, "'a' is a value of type int, which cannot be called"),
        ("imgsync_task_handlers", {"x" * 51: print}, "is no name"),
        ("imgsync_replace_strategies", {"\x1b[31m": print}, "is no name"),
        ("imgsync_commands", [print], "is no command of click"),
    ],
)
def test_what_a_hook_may_not_give(
    monkeypatch: pytest.MonkeyPatch, hook: str, gives: Any, problem: str
) -> None:
    plugin(monkeypatch, **{hook: lambda: gives})
    with pytest.raises(PluginError, match=problem) as caught:
        load_plugins()
    assert "plugin 'shop'" in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3)], ids=str)
def test_a_command_that_fails_names_its_plugin(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    plugin(monkeypatch, imgsync_commands=lambda: [click.Command("odd", callback=raising(error))])
    result = CliRunner().invoke(load_plugins().commands.get("odd"))
    assert isinstance(result.exception, PluginError)
    assert "plugin 'shop' failed in command 'odd'" in str(result.exception)
