"""One download for all who want a picture, and never another picture than the one they want."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application import fetch
from imgsync.application.fetch import ImageFetcher
from imgsync.domain.diff import ImageOutcome
from imgsync.domain.errors import UnavailableError
from imgsync.domain.formats import PictureReport
from imgsync.domain.model import SourceImage, Upload
from imgsync.domain.ports.storage import ContentKey, Turn
from imgsync.testing import MemoryContentStore, MemoryMoySklad, MemoryWorkspace
from tests.application.world import png

pytestmark = pytest.mark.anyio


class CountedCheck(PillowCheck):
    looks = 0

    async def check(self, read: Callable[[], AsyncIterator[bytes]]) -> PictureReport:
        self.looks += 1
        return await super().check(read)


class Main:
    """A main account with one picture, and tasks that want it."""

    def __init__(self, content: bytes, **store: Any) -> None:
        self.account = MemoryMoySklad()
        self.store = MemoryContentStore(**store)
        self.pictures = CountedCheck()
        self.account.add("product", "Lamp", [("a.png", content)])
        (product,) = self.account.entities["product"].values()
        (self.image,) = SourceImage.all_listed(product.images)

    @property
    def downloads(self) -> int:
        return self.account.count("download ")

    def replace(self, content: bytes) -> None:
        """The bytes behind the address are others from now on."""
        (image_id,) = self.account.blobs
        self.account.blobs[image_id] = content

    def fetcher(self, workspace: MemoryWorkspace, **options: Any) -> ImageFetcher:
        return ImageFetcher(self.account, "main", workspace, self.pictures, **options)

    async def fetch(self, *images: SourceImage, **options: Any) -> list[bytes | str]:
        """What a task gets: the bytes of each image, or why there are none."""
        async with self.store.workspace() as workspace:
            outcomes = [ImageOutcome(image) for image in images or (self.image,)]
            got = await self.fetcher(workspace, **options).fetch(outcomes)
            return [await content_of(workspace, outcome) for outcome in got]

    def version(self, **changes: Any) -> SourceImage:
        known = self.image
        fields = {name: getattr(known, name) for name in known.__dataclass_fields__}
        return SourceImage(**(fields | changes))


async def content_of(workspace: MemoryWorkspace, outcome: ImageOutcome) -> bytes | str:
    if not isinstance(outcome.element, Upload):
        return outcome.problem or ""
    return b"".join([chunk async for chunk in workspace.read(outcome.element.key)])


async def test_many_tasks_at_once_download_a_picture_once_and_look_at_it_once() -> None:
    main = Main(png(1, 200_000))
    got = await asyncio.gather(*(main.fetch() for _ in range(10)))
    assert got == [[png(1, 200_000)]] * 10
    assert (main.downloads, main.pictures.looks) == (1, 1)


async def test_a_picture_that_stands_twice_is_downloaded_once() -> None:
    main = Main(png(1))
    async with main.store.workspace() as workspace:
        got = await main.fetcher(workspace).fetch([ImageOutcome(main.image)] * 2)
        keys = {o.element.key for o in got if isinstance(o.element, Upload)}
        assert len(keys) == 2
        assert [await content_of(workspace, outcome) for outcome in got] == [png(1)] * 2
    assert main.downloads == 1


async def test_where_one_fails_another_goes_on() -> None:
    main = Main(png(1))
    errors = iter([UnavailableError("the storage is gone")])
    main.account.fail = lambda call: next(errors, None) if call.startswith("download") else None
    got = await asyncio.gather(*(main.fetch() for _ in range(4)))
    assert sorted(map(str, got)) == sorted(map(str, [["the storage is gone"], *[[png(1)]] * 3]))
    assert main.downloads == 2


async def test_where_one_is_cancelled_another_goes_on() -> None:
    main, begun = Main(png(1)), asyncio.Event()
    download = main.account.download

    async def hangs(*args: Any, **kwargs: Any) -> Any:
        main.account.download = download  # type: ignore[method-assign]
        begun.set()
        await asyncio.sleep(60)

    main.account.download = hangs  # type: ignore[method-assign]
    first = asyncio.create_task(main.fetch())
    await begun.wait()
    second = asyncio.create_task(main.fetch())
    await asyncio.sleep(0.05)
    assert main.downloads == 0
    first.cancel()
    assert await asyncio.wait_for(second, 10) == [png(1)]
    assert main.downloads == 1
    assert main.store.turns == {}


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_a_store_that_names_another_for_ever_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """However long it takes to say so."""
    asked = 0

    class Theirs(MemoryWorkspace):
        async def acquire(self, source: ContentKey) -> Any:
            nonlocal asked
            asked += 1
            await asyncio.sleep(seconds)
            return Turn.THEIRS

    monkeypatch.setattr(fetch, "_PATIENCE_SECONDS", 0.2)
    main = Main(png(1))
    workspace = Theirs(main.store)
    (got,) = await main.fetcher(workspace).fetch([ImageOutcome(main.image)])
    assert await content_of(workspace, got) == png(1)
    assert asked <= (0.2 / seconds + 1 if seconds else 20)


@pytest.mark.parametrize("unknown", [{"size": None}, {"updated": None}, {"size": 0}])
async def test_what_is_not_known_whole_is_not_shared(unknown: dict[str, Any]) -> None:
    main = Main(png(1))
    image = main.version(**unknown)
    assert [await main.fetch(image) for _ in range(2)] == [[png(1)]] * 2
    assert (main.downloads, main.store.contents) == (2, {})


async def test_another_updated_of_the_same_id_is_another_picture() -> None:
    main = Main(png(1))
    assert await main.fetch() == [png(1)]
    main.replace(png(2))
    # Who surveyed before still means the earlier one, and gets that.
    assert await main.fetch() == [png(1)]
    assert await main.fetch(main.version(updated="2026-02-02 00:00:00.000")) == [png(2)]
    assert await main.fetch() == [png(1)]
    assert main.downloads == 2


async def test_a_picture_that_changed_before_its_download_is_put_right_by_the_next_survey() -> None:
    """Of the same size, it cannot be told from the one that was surveyed."""
    main = Main(png(1))
    main.replace(png(2))
    assert await main.fetch() == [png(2)]
    main.replace(png(3))
    assert await main.fetch(main.version(updated="later")) == [png(3)]


@pytest.mark.parametrize("size", [99, 101])
async def test_a_size_that_lies_is_never_shared(size: int) -> None:
    main = Main(png(1))
    for _ in range(2):
        (problem,) = await main.fetch(main.version(size=size))
        assert "bytes came in place of its" in str(problem)
    assert (main.downloads, main.store.contents, main.store.turns) == (2, {}, {})
    assert await main.fetch() == [png(1)]


async def test_a_payload_s_own_address_brings_no_picture_in_for_the_others() -> None:
    main = Main(png(1))
    other = main.version(download_href=main.image.download_href.replace("/download", "/x/download"))
    assert other.fingerprint == main.image.fingerprint
    main.account.blobs[main.account.blobs.copy().popitem()[0]] = png(2)
    assert await main.fetch(other) == [png(2)]
    main.replace(png(1))
    assert await main.fetch() == [png(1)]


async def test_what_is_no_picture_is_downloaded_once_and_refused_each_time() -> None:
    main = Main(b"<html>" * 50)
    for _ in range(3):
        assert await main.fetch() == ["it is neither a JPEG nor a PNG file"]
    assert main.downloads == 1


async def test_damage_is_downloaded_anew() -> None:
    main = Main(png(1))
    await main.fetch()
    for content in main.store.contents.values():
        content.data[50] ^= 1
    assert await main.fetch() == [png(1)]
    assert main.downloads == 2


async def test_a_store_without_room_for_others_serves_the_task() -> None:
    main = Main(png(1), max_bytes=0)
    assert [await main.fetch() for _ in range(2)] == [[png(1)]] * 2
