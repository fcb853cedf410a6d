"""Parts of the runner that plugins bring: whatever they do, the error names plugin and part."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from imgsync.adapters.files.local import LocalFileStorage
from imgsync.adapters.moysklad.encoding import array_size
from imgsync.application.fetch import ImageFetcher
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import LeaseLostError, PluginError
from imgsync.domain.model import SyncRequest, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.replace import SetImages, atomic
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncResult
from imgsync.plugins import hookimpl, manager
from imgsync.plugins.guard import PluginGuard
from imgsync.plugins.guarded import (
    GuardedTransformation,
    TransformChain,
    guarded_handler,
    guarded_queue,
    guarded_store,
    guarded_strategy,
)
from imgsync.plugins.listening import Listener, PluginListeners
from imgsync.plugins.manager import load_plugins
from imgsync.plugins.parts import QueueSetup
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
REQUEST = SyncRequest("m", "c", "product", "p1", "c1", ())
FAILURES = [ValueError("oops"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
failures = pytest.mark.parametrize("error", FAILURES, ids=lambda e: type(e).__name__)


@pytest.fixture
def world(sqlite_engine: Engine) -> World:
    return World(sqlite_engine)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def setup(world: World) -> QueueSetup:
    return QueueSetup("odd:", (TASK_ENTITY_TYPE,), lambda _: world.queue, str)


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


@failures
def test_whatever_a_queue_raises_names_the_plugin(world: World, error: BaseException) -> None:
    queue = odd_queue(world, claim=raising(error))
    with pytest.raises(PluginError, match="'shop' failed in claim of task queue 'odd': ") as caught:
        queue.claim(lease=LEASE)
    assert caught.value.retryable


def test_the_errors_that_a_queue_may_raise_pass_as_they_are(world: World) -> None:
    error = LeaseLostError("gone")
    with pytest.raises(LeaseLostError) as caught:
        odd_queue(world, renew=raising(error)).renew(None, lease=LEASE)
    assert caught.value is error


@pytest.mark.parametrize("method", ["claim", "enqueue", "counts", "find"])
def test_what_a_queue_gives_is_looked_at(world: World, method: str) -> None:
    with pytest.raises(PluginError, match=rf"'shop' failed in {method} of .* in place of "):
        getattr(odd_queue(world, **{method: lambda *_, **__: "task"}), method)()


def test_what_is_no_queue_is_refused_with_what_it_lacks(world: World) -> None:
    opener = guarded_queue(PluginGuard("shop"), "odd", lambda _: object())  # type: ignore[arg-type,return-value]
    with pytest.raises(PluginError, match=r"'shop' .*opening task queue 'odd': .* lacks enqueue,"):
        opener(setup(world))


async def test_a_queue_of_coroutines_is_guarded_too(world: World) -> None:
    async def counts() -> Any:
        raise SystemExit(3)

    async def unpark(_: str) -> Any:
        return "many"

    queue = odd_queue(world, counts=counts, unpark=unpark)
    with pytest.raises(PluginError, match=r"'shop' failed in counts of .*SystemExit: 3"):
        await queue.counts()
    with pytest.raises(PluginError, match="in place of int"):
        await queue.unpark("main")


async def test_a_worker_runs_on_a_guarded_queue(world: World) -> None:
    world.pair([("a.png", png(1))])
    task_id = await world.enqueue()
    queue = odd_queue(world)
    await Worker(queue, replace(world.run_task(), queue=queue), LEASE, 1, 0.01).run(drain=True)
    assert world.task(task_id).result == "completed"


def test_a_store_that_fails_is_named_wherever_it_does(tmp_path: Any) -> None:
    class Broken(LocalFileStorage):
        def workspace(self) -> Any:
            inner = super().workspace()

            class Space:
                def __enter__(self) -> Any:
                    return SimpleNamespace(create=inner.__enter__().create, read=raising(OSError()))

                def __exit__(self, *error: Any) -> None:
                    inner.__exit__(*error)

            return Space()

    opener = guarded_store(PluginGuard("shop"), "odd", lambda _: Broken(tmp_path))
    with opener("odd:").workspace() as space:
        file = space.create("a.png")
        file.write(b"x")
        file.close()
        assert file.size == 1
        with pytest.raises(PluginError, match="'shop' failed in read of content store 'odd'"):
            space.read(file.key)
        with pytest.raises(PluginError, match="'shop' failed in write of content store 'odd'"):
            file.write(b"after its end")


ROOM = RequestRoom(1000, array_size)


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


def transformation(inner: Any, seconds: float = 5.0) -> GuardedTransformation:
    return GuardedTransformation(PluginGuard("shop", seconds), "odd", inner)


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        *((raising(error), type(error).__name__) for error in FAILURES),
        (lambda *_: "picture", "in place of bytes or None"),
        (lambda *_: b"GIF89a", "neither JPEG nor PNG"),
        (lambda *_: png(1) + bytes(11_000_000), "over the limit"),
        (lambda *_: time.sleep(2), "no answer within 0.1 seconds"),
    ],
)
async def test_an_image_that_a_plugin_spoils_is_a_warning_and_the_other_is_copied(
    world: World, inner: Any, problem: str
) -> None:
    def spoil(content: bytes, filename: str, request: SyncRequest) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return inner(content) if filename == "b.png" else None

    _, child_id = world.pair([("a.png", png(1)), ("b.png", png(2))])
    chain = TransformChain((transformation(spoil, seconds=0.1 if "within" in problem else 5.0),))
    world.sync_entity = replace(world.sync_entity, transform=chain)
    result = await world.sync(await world.request())
    assert [name for name, _ in world.child.images("product", child_id)] == ["a.png"]
    (warning,) = result.warnings
    assert "b.png: plugin 'shop' failed in image transformation 'odd': " in warning
    assert problem in warning


async def test_transformations_follow_one_another_and_a_changed_format_changes_the_suffix(
    world: World,
) -> None:
    seen = []

    def first(content: bytes, *_: Any) -> bytes:
        return png(7, 300)

    def second(content: bytes, *_: Any) -> None:
        seen.append(content)

    _, child_id = world.pair([("a.jpg", png(1))])
    chain = TransformChain((transformation(first), transformation(second)))
    world.sync_entity = replace(world.sync_entity, transform=chain)
    await world.sync(await world.request())
    assert seen == [png(7, 300)]
    assert world.child.images("product", child_id) == [("a.png", png(7, 300))]


async def test_a_transformation_that_gives_half_a_picture_is_not_copied(world: World) -> None:
    world.pair([("a.png", png(1)), ("b.png", png(2))])

    def half(content: bytes, filename: str, _: SyncRequest) -> bytes:
        return content[:-20] if filename == "b.png" else content

    chain = TransformChain((transformation(half),))
    world.sync_entity = replace(world.sync_entity, transform=chain)
    result = await world.sync(await world.request())
    assert "its transformation is no whole picture" in result.warnings[0]


async def test_without_a_transformation_nothing_is_read_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFetcher, "_changed", raising(AssertionError("read again")))
    world.pair([("a.png", png(1))])
    assert (await world.sync(await world.request())).uploaded == 1


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
    queue = type(world.queue)(world.engine, world.clock, ("odd", TASK_ENTITY_TYPE))
    world.pair([("a.png", png(1))])
    odd, copy = queue.enqueue({}, kind="odd", max_attempts=1).task_id, await world.enqueue()
    run_task = replace(world.run_task(), queue=queue)
    run_task.handlers = {**run_task.handlers, "odd": made}
    ended: list[TaskReport] = []
    await Worker(queue, run_task, LEASE, 1, 0.01).run(drain=True, report=ended.append)
    assert {r.task.id: r.end for r in ended} == {odd: TaskEnd.FAILED, copy: TaskEnd.COMPLETED}
    (error,) = [r.error for r in ended if r.error]
    assert "plugin 'shop' failed in task handler 'odd': " in error
    assert problem in error


def test_the_most_urgent_task_of_any_kind_is_next(world: World) -> None:
    queue = type(world.queue)(world.engine, world.clock, (TASK_ENTITY_TYPE, "odd"))
    late = queue.enqueue({}, priority=10).task_id
    urgent = queue.enqueue({}, priority=90, kind="odd").task_id
    queue.enqueue({}, priority=50)
    claimed = [task for _ in range(3) if (task := queue.claim(lease=timedelta(minutes=1)))]
    assert (claimed[0].id, claimed[0].kind, claimed[2].id) == (urgent, "odd", late)


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
    assert world.task(task_id).result == "completed"
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
    assert world.task(task_id).result == "completed"


async def test_a_listener_that_hangs_holds_tasks_up_once(world: World) -> None:
    free = threading.Event()
    guard = PluginGuard("shop", seconds=0.2)
    listener = Listener(guard, {"imgsync_before_task": lambda **_: free.wait(30)})
    run_task = replace(world.run_task(), listeners=PluginListeners((listener,)))
    for number in range(5):
        world.put({"images": number})
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
        ("imgsync_image_transformations", {"\x1b[31m": print}, "is no name"),
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
