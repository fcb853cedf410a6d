"""The chain of transformations: its order, its guards, and what a plugin may do to it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.domain.errors import PluginError
from imgsync.domain.model import LinkSettings, SyncRequest
from imgsync.domain.pictures import PictureFacts, PictureSettings, Transformed
from imgsync.plugins import hookimpl, manager
from imgsync.plugins.manager import PluginRegistry, load_plugins
from imgsync.plugins.transforming import MOST_LEFT, TransformChain, TransformGuard, TransformStep
from tests.application.world import World, png
from tests.support.chain import Plugin, chain_of
from tests.support.editor import SmallEditor, made_format, opened, picture

pytestmark = pytest.mark.anyio
REQUEST = SyncRequest("m", "c", "product", "p1", "c1", ())
FAILURES = [ValueError("oops"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


@pytest.fixture
def world() -> World:
    return World()


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def facts_of(content: bytes) -> PictureFacts:
    made = opened(content)
    name = {"JPEG": "jpg"}.get(made_format(content), made_format(content).lower())
    return PictureFacts(name, *made.size, len(content))


async def transformed(
    chain: TransformChain, content: bytes, max_bytes: int = 10_000_000, **settings: Any
) -> Transformed:
    return await chain(
        content, "a.png", facts_of(content), PictureSettings(**settings), max_bytes, REQUEST
    )


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        *((raising(error), type(error).__name__) for error in FAILURES),
        (lambda *_: "picture", "a value of type str in place of bytes or None"),
        (lambda *_: b"GIF89a", "gave a file that is neither JPEG nor PNG"),
        (lambda *_: png(1)[:-20], "gave no whole picture: it does not"),
        (lambda *_: png(1)[:20], "gave no whole picture: it does not decode"),
        (lambda *_: b"", "gave a file that is neither JPEG nor PNG"),
    ],
)
async def test_an_image_that_a_plugin_spoils_is_a_warning_and_the_other_is_copied(
    world: World, inner: Any, problem: str
) -> None:
    def spoil(content: bytes, filename: str) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return inner(content) if filename == "b.png" else None

    _, child_id = world.pair([("a.png", png(1)), ("b.png", png(2))])
    chain = chain_of(SmallEditor(), shop=Plugin(spoil))
    world.sync_entity = replace(world.sync_entity, transform=chain)
    result = await world.sync(await world.request())
    assert [name for name, _ in world.child.images("product", child_id)] == ["a.png"]
    (warning,) = result.warnings
    assert "b.png: plugin 'shop' failed in imgsync_transform_image: " in warning
    assert problem in warning


async def test_what_a_plugin_makes_too_large_names_it_where_nothing_fits_it(world: World) -> None:
    chain = chain_of(SmallEditor(), shop=Plugin(lambda *_: png(1, 11_000_000)))
    world.sync_entity = replace(world.sync_entity, transform=chain)
    world.store.settings["child"] = LinkSettings(
        sync_images_all=True, pictures=PictureSettings(fit=False)
    )
    world.pair([("a.png", png(1))], old=1)
    with pytest.raises(Exception, match=r"plugin 'shop' .*: gave 11.0 MB, over the limit of 10.5"):
        await world.sync(await world.request())


async def test_what_a_plugin_makes_too_large_is_made_to_fit() -> None:
    chain = chain_of(SmallEditor(), shop=Plugin(lambda *_: picture("PNG", 200)))
    made = await transformed(chain, png(1), max_bytes=9_000)
    assert len(made.content) <= 9_000
    assert made.is_fitted
    assert made.steps[0].startswith("scaled from ")


class Noted:
    """A plugin that notes when it is called and what it is told."""

    def __init__(self, name: str, notes: list[Any], made: bytes | None = None) -> None:
        self._name, self._notes, self._made = name, notes, made

    @hookimpl
    def imgsync_transform_image(
        self, content: bytes, filename: str, facts: PictureFacts
    ) -> bytes | None:
        self._notes.append((self._name, made_format(content), filename, facts))
        return self._made


class First(Noted):
    @hookimpl(tryfirst=True)
    def imgsync_transform_image(
        self, content: bytes, filename: str, facts: PictureFacts
    ) -> bytes | None:
        return super().imgsync_transform_image(content, filename, facts)


class Last(Noted):
    @hookimpl(trylast=True)
    def imgsync_transform_image(
        self, content: bytes, filename: str, facts: PictureFacts
    ) -> bytes | None:
        return super().imgsync_transform_image(content, filename, facts)


async def test_the_order_is_convert_the_plugins_by_name_optimise_fit() -> None:
    notes: list[Any] = []
    large = picture("PNG", 300)
    plugins: dict[str, Any] = {
        "c": First("c", notes),
        "b": Noted("b", notes, large),
        "a": Last("a", notes),
        "d": Noted("d", notes),
    }
    editor = SmallEditor()
    content = picture("BMP")
    chain = chain_of(editor, **plugins)
    made = await transformed(chain, content, max_bytes=3_000, max_side=150)
    assert [(name, kind, file) for name, kind, file, _ in notes] == [
        ("c", "JPEG", "a.jpg"),
        ("b", "JPEG", "a.jpg"),
        ("d", "PNG", "a.png"),
        ("a", "PNG", "a.png"),
    ]
    assert notes[0][3].format == "jpg"
    assert notes[2][3] == facts_of(large)
    assert list(editor.calls) == ["convert", "optimise", "fit"]
    assert len(made.content) <= 3_000
    assert made.steps[0] == "converted from BMP to JPEG"
    assert made.steps[1].startswith("scaled from ")
    assert chain.versions == "c, b, d, a"


async def test_nothing_is_done_to_what_needs_nothing() -> None:
    editor = SmallEditor()
    content = picture("JPEG")
    made = await transformed(chain_of(editor), content, max_side=64)
    assert made.content is content
    assert (made.steps, made.is_fitted) == ((), False)
    assert not editor.calls
    assert chain_of(editor).versions == ""


async def test_a_gif_stays_one_where_nobody_converts_it_and_is_not_optimised() -> None:
    editor = SmallEditor()
    content = picture("GIF")
    made = await transformed(chain_of(editor), content, 10, convert=False, max_side=64, quality=50)
    assert made.content is content
    assert not editor.calls


async def test_a_plugin_may_convert_where_imgsync_is_told_not_to(world: World) -> None:
    chain = chain_of(SmallEditor(), shop=Plugin(lambda *_: png(7)))
    content = picture("GIF")
    assert (await transformed(chain, content, convert=False)).content == png(7)


def hanging(release: threading.Event) -> TransformChain:
    """One plugin that hangs until it is released; its limit is short."""
    guard = TransformGuard("slow", 0.05)
    step = TransformStep(guard, lambda **_: [release.wait(30)][:0], lambda: "")
    return TransformChain((step,), PillowCheck)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_a_plugin_that_does_not_end_is_left_behind_and_then_asked_no_more(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    chain = hanging(release)
    before = threading.active_count()
    with caplog.at_level(logging.ERROR):
        for _ in range(MOST_LEFT):
            with pytest.raises(PluginError) as late:
                await transformed(chain, png(1))
            assert str(late.value) == (
                "its transformation by plugin 'slow' did not end within 0.05 s"
            )
            assert late.value.retryable
        for _ in range(3):
            with pytest.raises(PluginError, match="'slow' is switched off in this process"):
                await transformed(chain, png(1))
    assert threading.active_count() <= before + MOST_LEFT + 1
    assert len([r for r in caplog.records if "switched off" in r.message]) == 1


async def test_calls_that_end_late_do_not_switch_it_off() -> None:
    guard = TransformGuard("slow", 0.02)

    def late(**_: Any) -> list[bytes]:
        time.sleep(0.06)
        return []

    step = TransformStep(guard, late, lambda: "")
    chain = TransformChain((step,), PillowCheck)
    for _ in range(MOST_LEFT + 2):
        with pytest.raises(PluginError, match="did not end within"):
            await transformed(chain, png(1))
        await asyncio.sleep(0.08)


async def test_a_slow_plugin_does_not_hold_the_event_loop_up(release: threading.Event) -> None:
    chain = hanging(release)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(PluginError):
        await transformed(chain, png(1))
    ticking.cancel()
    assert ticks >= 3


def loaded(monkeypatch: pytest.MonkeyPatch, **plugins: Any) -> PluginRegistry:
    points = [
        SimpleNamespace(name=name, dist=None, load=lambda plugin=plugin: plugin)
        for name, plugin in plugins.items()
    ]
    monkeypatch.setattr(manager, "entry_points", lambda **_: points)
    return load_plugins(editor=SmallEditor)


class Versioned(Plugin):
    def __init__(self, version: Any) -> None:
        super().__init__(lambda *_: None)
        self._version = version

    @hookimpl
    def imgsync_transform_version(self) -> Any:
        return self._version


def test_versions_of_plugins_are_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = loaded(monkeypatch, shop=Versioned("2"), grey=Plugin(lambda *_: None))
    assert registry.transform.versions == "grey, shop 2"
    assert registry.transform.own_version == "1"


@pytest.mark.parametrize("version", [7, "x" * 65, "two\nlines", b"1"])
def test_a_version_that_is_none_names_the_plugin(
    monkeypatch: pytest.MonkeyPatch, version: Any
) -> None:
    with pytest.raises(PluginError, match="plugin 'shop' failed in imgsync_transform_version: "):
        loaded(monkeypatch, shop=Versioned(version))


def test_each_hears_once_of_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many plugins come after it by name."""
    heard: list[str] = []

    def listener(name: str) -> Any:
        class Listens:
            @hookimpl
            def imgsync_run_ended(self) -> None:
                heard.append(name)

        return Listens()

    registry = loaded(monkeypatch, a=listener("a"), b=listener("b"), c=listener("c"))
    asyncio.run(registry.listeners.run_ended({}))
    assert heard == ["a", "b", "c"]


def test_imgsync_s_own_are_plugins_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = loaded(monkeypatch, shop=Plugin(lambda *_: None))
    shown = {p.name: (p.distribution, p.transformations) for p in registry.plugins}
    assert shown["builtin"] == ("imgsync", ())
    for name in ("convert", "optimise", "fit"):
        assert shown[name] == ("imgsync", (name,))
    assert shown["shop"][1] == ("shop",)


def test_a_plugin_by_the_name_of_one_of_imgsync_s_own_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(PluginError, match="plugin 'fit' cannot be loaded"):
        loaded(monkeypatch, fit=Plugin(lambda *_: None))
