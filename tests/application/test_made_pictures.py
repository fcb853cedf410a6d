"""What a child receives of a picture: as it came, or made anew once for all who want the same."""

import asyncio
import io
import threading
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from PIL import Image

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application.fetch import ImageFetcher
from imgsync.application.make import MakePicture, Source, Wanted
from imgsync.domain.diff import ImageOutcome
from imgsync.domain.errors import FailureCause
from imgsync.domain.model import SourceImage, SyncRequest, Upload
from imgsync.domain.pictures import PictureFacts, PictureSettings, Transformed, fitted
from imgsync.domain.ports.storage import ContentKey, SharedFile, Turn
from imgsync.domain.tasks import SyncOutcome
from imgsync.plugins.transforming import TransformChain
from imgsync.testing import MemoryContentStore, MemoryMoySklad, MemoryWorkspace, memory
from tests.application.world import World, png
from tests.support.chain import Plugin, chain_of
from tests.support.editor import SmallEditor, made_format, opened, picture

pytestmark = pytest.mark.anyio
REQUEST = SyncRequest("main", "child", "product", "p1", "c1", ())
OFF = PictureSettings(fit=False, convert=False)
LARGE = picture("JPEG", 400, quality=95)
SMALLER = 20_000
"""A limit that LARGE is over."""


class Main:
    """A main account with one picture, and children that want it."""

    def __init__(self, content: bytes, name: str = "a.jpg", **store: Any) -> None:
        self.account = MemoryMoySklad()
        self.store = MemoryContentStore(**store)
        self.editor = SmallEditor()
        self.chain = chain_of(self.editor)
        self.content = content
        self.account.add("product", "Lamp", [(name, content)])
        (product,) = self.account.entities["product"].values()
        (self.image,) = SourceImage.all_listed(product.images)

    async def fetch(
        self, settings: PictureSettings | None = None, max_bytes: int | None = None
    ) -> tuple[ImageOutcome, bytes]:
        async with self.store.workspace() as workspace:
            fetcher = ImageFetcher(
                self.account,
                "main",
                workspace,
                PillowCheck(),
                self.chain,
                settings or PictureSettings(),
                max_bytes,
                REQUEST,
            )
            (got,) = await fetcher.fetch([ImageOutcome(self.image)])
            content = b""
            if isinstance(got.element, Upload):
                content = b"".join([c async for c in workspace.read(got.element.key)])
                assert got.element.size == len(content)
                assert got.content is not None
                assert got.content.uploaded == sha256(content).hexdigest()
                assert got.content.source == sha256(self.content).hexdigest()
            return got, content


def name_of(got: ImageOutcome) -> str:
    assert isinstance(got.element, Upload)
    return got.element.filename


def plan_of(got: ImageOutcome) -> str:
    assert got.content is not None
    return got.content.plan


async def test_a_picture_that_needs_nothing_goes_as_it_came_and_is_read_once() -> None:
    main = Main(LARGE)
    for _ in range(3):
        got, content = await main.fetch()
        assert (content, name_of(got), plan_of(got), got.note) == (LARGE, "a.jpg", "", "")
        assert got.content is not None
        assert got.content.facts.format == "jpg"
        assert got.content.facts.size == len(LARGE)
    assert main.account.count("download ") == 1
    assert not main.editor.calls


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "sent"),
    [("a.gif", "a.jpg"), ("a.jpg", "a.jpg"), ("a", "a.jpg"), ("a.b.GIF", "a.b.jpg")],
)
async def test_a_gif_becomes_jpeg_whatever_its_name_says(name: str, sent: str) -> None:
    main = Main(picture("GIF"), name)
    got, content = await main.fetch()
    assert (made_format(content), name_of(got)) == ("JPEG", sent)
    assert (got.note, plan_of(got)) == ("converted from GIF to JPEG", "convert")


async def test_a_jpeg_named_gif_is_sent_as_it_is_named() -> None:
    main = Main(LARGE, "a.gif")
    got, content = await main.fetch()
    assert (content, name_of(got), got.note) == (LARGE, "a.gif", "")


@pytest.mark.process
@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "TIFF"])
async def test_where_conversion_is_off_it_is_a_warning_that_says_what_to_do(kind: str) -> None:
    main = Main(picture(kind), f"a.{kind.lower()}")
    got, _ = await main.fetch(replace(PictureSettings(), convert=False))
    assert got.problem
    assert got.problem.startswith(f"{kind}: MoySklad takes JPEG and PNG only")
    assert "settings set --convert" in got.problem
    assert (got.cause, got.settled, got.retryable) == (FailureCause.NO_PICTURE, True, False)
    assert not main.editor.calls
    got, _ = await main.fetch()  # switched on, it is the same download
    assert got.note == f"converted from {kind} to JPEG"
    assert main.account.count("download ") == 1


async def test_a_picture_over_the_limit_is_made_to_fit() -> None:
    main = Main(LARGE)
    got, content = await main.fetch(max_bytes=SMALLER)
    assert len(content) <= SMALLER < len(LARGE)
    assert opened(content).size[0] <= 400
    assert got.note == f"scaled from {len(LARGE) / 1e3:.0f} to {len(content) / 1e3:.0f} kB"
    assert plan_of(got) == fitted("", PictureSettings())


async def test_a_jpeg_with_something_after_its_end_is_made_smaller_too() -> None:
    main = Main(LARGE + b"MotionPhoto")
    for settings in (OFF, replace(OFF, max_side=100)):
        got, sent = await main.fetch(settings)
        side = settings.max_side or 400
        assert opened(sent).size == (side, side // 2)
        assert got.content is not None
        assert got.content.facts.width == 400
    assert plan_of(got) == "side=100"


class Gauge:
    """Implements `ImageTransform`: notes the memory that was in use when it is called."""

    versions = ""
    own_version = "1"
    most = 0

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        yield

    async def __call__(
        self,
        content: bytes,
        filename: str,
        facts: PictureFacts,
        settings: PictureSettings,
        max_bytes: int,
        request: SyncRequest,
    ) -> Transformed:
        self.most = tracemalloc.get_traced_memory()[1]
        return Transformed(picture("JPEG"))


class Rows(MemoryWorkspace):
    """Reads the same piece again and again for a large file."""

    async def read(self, key: str) -> AsyncIterator[bytes]:
        for _ in range(320):
            yield bytes(100_000)


async def test_a_large_picture_is_in_memory_once() -> None:
    gauge, facts = Gauge(), PictureFacts("bmp", 10, 10, 32_000_000)
    wanted = Wanted(10**7, 10**8, 10**7, transform=gauge, request=REQUEST)
    source = Source(Upload("a", "a.bmp", facts.size), "0" * 64, facts)
    tracemalloc.start()
    try:
        await MakePicture("main", Rows(), wanted)(source)
    finally:
        tracemalloc.stop()
    # With what a growing buffer keeps ahead.
    assert 32_000_000 <= gauge.most < 45_000_000


@pytest.mark.process
async def test_both_steps_are_told_together() -> None:
    main = Main(picture("BMP", 400), "a.bmp")
    got, content = await main.fetch(max_bytes=8_000)
    assert len(content) <= 8_000
    assert got.note.startswith("converted from BMP to JPEG, scaled from ")
    assert got.note.endswith(f" to {len(content) / 1e3:.0f} kB")
    assert plan_of(got) == fitted("convert", PictureSettings())


async def test_a_file_of_over_10_mb_is_downloaded_where_it_can_be_made_to_fit() -> None:
    main = Main(png(1, 12 * 1024 * 1024), "a.png")
    got, content = await main.fetch()
    assert 0 < len(content) <= 10 * 1024 * 1024
    assert got.note.startswith("scaled from 12.6 MB to ")
    assert name_of(got) == "a.jpg"


@pytest.mark.parametrize(
    ("settings", "name"),
    [(OFF, "a.png"), (OFF, "a.bmp"), (replace(OFF, convert=True), "a.png")],
)
async def test_it_is_not_downloaded_where_nothing_can_help(
    settings: PictureSettings, name: str
) -> None:
    main = Main(png(1, 12 * 1024 * 1024), name)
    got, _ = await main.fetch(settings)
    assert got.problem == "12.6 MB is over the limit of 10.5 MB"
    assert (got.cause, got.settled) == (FailureCause.TOO_LARGE, True)
    assert main.account.count("download ") == 0


@pytest.mark.process
async def test_a_large_bmp_that_becomes_a_small_jpeg_is_downloaded_without_fit() -> None:
    content = picture("BMP", 3000)
    assert len(content) > 10 * 1024 * 1024
    main = Main(content, "a.bmp")
    got, made = await main.fetch(replace(OFF, convert=True))
    assert (made_format(made), name_of(got)) == ("JPEG", "a.jpg")


async def test_a_claim_of_60_mb_for_a_small_picture_downloads_what_is_there_and_no_more() -> None:
    main = Main(picture("PNG", 300), "a.png")
    main.image = replace(main.image, size=60_000_000)
    got, _ = await main.fetch()
    assert got.problem
    assert "in place of its 60000000" in got.problem
    assert got.cause is FailureCause.NOT_DOWNLOADED


async def test_beyond_64_mb_nothing_is_downloaded() -> None:
    main = Main(picture("PNG", 300), "a.png")
    main.image = replace(main.image, size=70_000_000)
    got, _ = await main.fetch()
    assert got.problem == "70.0 MB is over the limit of 67.1 MB"
    assert main.account.count("download ") == 0


@pytest.mark.process
@pytest.mark.parametrize(
    ("content", "limit", "step"),
    [(picture("GIF"), None, "convert"), (LARGE, SMALLER, "fit")],
    ids=["convert", "fit"],
)
async def test_thirty_children_with_equal_settings_get_one_transformed_file(
    content: bytes, limit: int | None, step: str
) -> None:
    main = Main(content)
    got = await asyncio.gather(*(main.fetch(max_bytes=limit) for _ in range(30)))
    assert len({made for _, made in got}) == 1
    assert len({(one.note, one.content, name_of(one)) for one, _ in got}) == 1
    assert got[0][0].note
    assert main.editor.calls == {step: 1}
    assert main.account.count("download ") == 1


async def test_a_picture_that_gains_nothing_is_looked_at_once_for_all_too() -> None:
    main = Main(picture("JPEG", 40, quality=20))
    settings = replace(PictureSettings(), quality=95)
    got = [await main.fetch(settings) for _ in range(3)]
    assert {made for _, made in got} == {main.content}
    assert {plan_of(one) for one, _ in got} == {"quality=95"}
    assert main.editor.calls == {"optimise": 1}


async def test_other_settings_another_limit_or_version_make_it_anew() -> None:
    main = Main(LARGE)
    small = replace(PictureSettings(), max_side=100)
    made = [
        (await main.fetch(small))[1],
        (await main.fetch(replace(small, max_side=80)))[1],
        (await main.fetch(max_bytes=SMALLER))[1],
        (await main.fetch(max_bytes=SMALLER // 2))[1],
    ]
    assert opened(made[0]).size == (100, 50)
    assert opened(made[1]).size == (80, 40)
    assert len(set(made)) == 4
    assert main.editor.calls == {"optimise": 2, "fit": 2}
    main.editor.version = "2"
    await main.fetch(small)
    await main.fetch(small)
    assert main.editor.calls == {"optimise": 3, "fit": 2}


async def test_two_sources_with_equal_bytes_are_transformed_once() -> None:
    main = Main(LARGE)
    small = replace(PictureSettings(), max_side=100)
    await main.fetch(small)
    main.image = replace(main.image, updated="2030-01-01 00:00:00.000")
    _, content = await main.fetch(small)
    assert opened(content).size == (100, 50)
    assert main.editor.calls == {"optimise": 1}
    assert main.account.count("download ") == 2


async def test_main_s_original_is_what_is_shared_as_main_s() -> None:
    main = Main(LARGE)
    await main.fetch(replace(PictureSettings(), max_side=100))
    _, content = await main.fetch()
    assert content == LARGE
    assert main.account.count("download ") == 1


async def test_what_a_plugin_makes_is_one_task_s_own() -> None:
    """It is given the request, and may make another picture for each child."""
    main = Main(png(1, 500), "a.png")
    made = iter([png(7, 500), png(8, 500)])
    main.chain = chain_of(main.editor, shop=Plugin(lambda *_: next(made)))
    assert [(await main.fetch())[1] for _ in range(2)] == [png(7, 500), png(8, 500)]
    assert main.account.count("download ") == 1


@pytest.mark.process
async def test_what_is_told_of_a_shared_file_and_cannot_be_read_is_made_anew() -> None:
    main = Main(picture("GIF"))
    await main.fetch()
    for key in main.store.notes:
        main.store.notes[key] = "what?"
    got, content = await main.fetch()
    assert (made_format(content), got.note) == ("JPEG", "converted from GIF to JPEG")
    assert main.account.count("download ") == 1


class Forgetful(MemoryWorkspace):
    """Of a store that knows nothing of its files but their bytes."""

    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        found = await super().acquire(source)
        return replace(found, note="", digest="") if isinstance(found, SharedFile) else found


async def test_a_store_that_tells_nothing_of_its_files_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MemoryWorkspace", Forgetful)
    main = Main(LARGE)
    for _ in range(2):
        got, content = await main.fetch()
        assert (content, plan_of(got)) == (LARGE, "")
        assert got.content is not None
        assert (got.content.facts.width, got.content.facts.height) == (400, 200)
    got, content = await main.fetch(max_bytes=SMALLER)
    assert got.note.startswith(f"scaled from {len(LARGE) / 1e3:.0f} to ")
    assert (await main.fetch(max_bytes=SMALLER))[1] == content
    assert main.account.count("download ") == 1


async def test_one_that_is_cancelled_while_it_transforms_leaves_its_turn_to_the_next() -> None:
    main = Main(LARGE)
    fit, begun, release = main.editor.fit, threading.Event(), threading.Event()

    def waits(content: bytes, *, max_bytes: int, drop_metadata: bool) -> bytes:
        begun.set()
        assert release.wait(10)
        return fit(content, max_bytes=max_bytes, drop_metadata=drop_metadata)

    main.editor.fit = waits  # type: ignore[method-assign]
    first = asyncio.create_task(main.fetch(max_bytes=SMALLER))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(main.fetch(max_bytes=SMALLER))
    await asyncio.sleep(0.05)
    first.cancel()
    release.set()
    _, content = await asyncio.wait_for(second, 10)
    assert 0 < len(content) <= SMALLER
    assert main.store.turns == {}


@pytest.mark.process
async def test_where_one_fails_to_make_it_the_next_tries() -> None:
    main = Main(picture("GIF"))
    convert, broken = main.editor.convert, iter([RuntimeError("oops")])

    def fails_once(content: bytes, *, drop_metadata: bool) -> bytes:
        for error in broken:
            raise error
        return convert(content, drop_metadata=drop_metadata)

    main.editor.convert = fails_once  # type: ignore[method-assign]
    got, _ = await main.fetch()
    assert got.problem == "plugin 'convert' failed in imgsync_transform_image: RuntimeError: oops"
    assert main.store.turns == {}
    got, _ = await main.fetch()
    assert got.note == "converted from GIF to JPEG"


async def test_an_editor_that_cannot_is_a_warning_in_its_own_words() -> None:
    main = Main(LARGE)
    got, _ = await main.fetch(max_bytes=10)
    assert (got.problem, got.cause) == ("it cannot be made so small", FailureCause.NOT_MADE)


@pytest.mark.process
async def test_a_child_s_settings_decide_what_it_receives() -> None:
    world = World()
    editor = SmallEditor()
    world.sync_entity = replace(world.sync_entity, transform=chain_of(editor))
    world.store.settings["child"] = replace(
        world.store.settings["child"], pictures=PictureSettings(max_side=64)
    )
    _, child_id = world.pair([("a.gif", picture("GIF", 128)), ("b.png", png(1))])
    result = await world.sync(await world.request())
    assert result.outcome is SyncOutcome.COMPLETED
    (name, content), (other, unchanged) = world.child.images("product", child_id)
    with Image.open(io.BytesIO(content)) as made:
        assert (name, made.format, made.size) == ("a.jpg", "JPEG", (64, 32))
    assert (other, unchanged) == ("b.png", png(1))


async def test_pictures_in_work_are_bounded_in_number_and_bytes() -> None:
    chain = TransformChain((), PillowCheck, at_once=2, most_bytes=100)
    under_way: list[int] = []
    most: list[tuple[int, int]] = []

    async def work(size: int) -> None:
        async with chain.room(size):
            under_way.append(size)
            most.append((len(under_way), sum(under_way)))
            try:
                await asyncio.sleep(0.01)
            finally:
                under_way.remove(size)

    tasks = [asyncio.create_task(work(size)) for size in (10, 20, 30, 90, 20, 1000, 5, 5)]
    await asyncio.sleep(0)
    tasks[2].cancel()  # which waits
    tasks[0].cancel()  # which is at it
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [isinstance(one, asyncio.CancelledError) for one in ended] == [
        *(True, False, True),
        *[False] * 5,
    ]
    assert max(count for count, _ in most) == 2
    assert all(size <= 100 or count == 1 for count, size in most)
