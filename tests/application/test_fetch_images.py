"""Images that are fetched: whole ones only."""

import io
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application.fetch import ImageFetcher
from imgsync.domain.diff import ImageOutcome
from imgsync.domain.errors import AccountParkedError
from imgsync.domain.model import SourceImage, Upload
from imgsync.domain.ports.storage import TempFile
from imgsync.testing import MEMORY_LIMITS, MemoryMoySklad, MemoryWorkspace
from tests.application.world import png

pytestmark = pytest.mark.anyio


def jpeg(size: int = 200) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((size, size), 90).save(out, "JPEG")
    return out.getvalue()


@dataclass
class Storage:
    """Gives what `comes`, one by one, in place of an image; the last for ever."""

    comes: list[bytes]
    main: MemoryMoySklad = field(default_factory=MemoryMoySklad)
    workspace: MemoryWorkspace = field(default_factory=MemoryWorkspace)
    downloads: int = 0

    async def fetch(self, size: int | None, head: int | None = None) -> ImageOutcome:
        self.main.add("product", "Lamp", [("a.jpg", self.comes[0])])
        (image_id,) = self.main.blobs
        self.main.knows_lengths = head is not None
        href = next(iter(self.main.entities["product"].values())).images[0].download_href
        original = self.main.download

        async def download(*args: Any, **kwargs: Any) -> TempFile:
            self.downloads += 1
            self.main.blobs[image_id] = self.comes[0]
            if len(self.comes) > 1:
                self.comes.pop(0)
            return await original(*args, **kwargs)

        self.main.download = download  # type: ignore[method-assign]
        fetcher = ImageFetcher(self.main, "main", self.workspace, PillowCheck())
        (got,) = await fetcher.fetch([ImageOutcome(SourceImage(href, "a.jpg", size, "u"))])
        return got


@pytest.mark.parametrize("size", [None, 0])
async def test_a_cut_file_without_a_known_size_is_fetched_again(size: int | None) -> None:
    whole = jpeg()
    storage = Storage([whole[:6000], whole])
    got = await storage.fetch(size)
    assert isinstance(got.element, Upload)
    assert got.element.size == len(whole)
    assert storage.downloads == 2
    chunks = [chunk async for chunk in storage.workspace.read(got.element.key)]
    assert b"".join(chunks) == whole


@pytest.mark.parametrize("cut", [1, 2, 50, 5000])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
async def test_a_file_that_stays_cut_is_retryable_and_never_uploaded(kind: str, cut: int) -> None:
    whole = jpeg() if kind == "jpeg" else png(1, 6000)
    storage = Storage([whole[:-cut]])
    got = await storage.fetch(None)
    assert got.problem
    assert got.problem.startswith("the file is cut: ")
    assert (got.retryable, got.settled, storage.downloads) == (True, False, 2)


async def test_a_file_of_another_size_than_listed_is_retryable() -> None:
    whole = jpeg()
    got = await Storage([whole[:6000]]).fetch(len(whole))
    assert got.problem
    assert got.retryable
    assert f"6000 bytes came in place of its {len(whole)}" in got.problem


async def test_a_placeholder_in_place_of_the_listed_image_is_retryable() -> None:
    got = await Storage([png(1, 100)]).fetch(20_000)
    assert got.problem
    assert got.retryable


async def test_the_size_by_head_counts_as_the_listed_one() -> None:
    whole = jpeg()
    storage = Storage([whole, whole[:-2], whole[:-2]])
    storage.comes[0] = whole
    got = await storage.fetch(None, head=len(whole))
    assert isinstance(got.element, Upload)
    storage = Storage([whole])
    storage.main.content_length = lambda url: _length(len(whole) + 5)  # type: ignore[method-assign]
    got = await storage.fetch(None)
    assert got.problem
    assert got.retryable


@pytest.mark.parametrize("cut", [2, 5000])
async def test_a_head_that_names_the_cut_size_does_not_make_the_file_whole(cut: int) -> None:
    part = jpeg()[:-cut]
    storage = Storage([part])
    got = await storage.fetch(None, head=len(part))
    assert got.problem
    assert (got.retryable, got.settled, storage.downloads) == (True, False, 2)
    assert "the file is cut" in got.problem


async def _length(size: int) -> int:
    return size


async def test_a_complete_file_that_does_not_decode_is_settled() -> None:
    broken = jpeg()[:6000]
    got = await Storage([broken]).fetch(len(broken))
    assert got.problem
    assert (got.retryable, got.settled) == (False, True)
    assert "does not decode" in got.problem


async def test_a_complete_jpeg_with_something_after_its_end_is_as_the_main_account_has_it() -> None:
    whole = jpeg() + b"MotionPhoto"
    got = await Storage([whole]).fetch(len(whole))
    assert isinstance(got.element, Upload)


async def test_a_complete_file_that_is_no_picture_is_settled() -> None:
    text = b"<html>" * 50
    got = await Storage([text]).fetch(len(text))
    assert got.problem
    assert (got.settled, got.problem) == (True, "it is neither a JPEG nor a PNG file")


async def test_a_giant_is_settled_with_a_clear_warning() -> None:
    from tests.pictures.test_pillow import giant

    data = giant(20_000, 6_000)
    got = await Storage([data]).fetch(len(data))
    assert got.problem
    assert (got.retryable, got.settled) == (False, True)
    assert "20000 × 6000 pixels" in got.problem


async def test_a_parked_account_concerns_every_image() -> None:
    storage = Storage([png(1)])
    storage.main.fail = lambda call: (
        AccountParkedError("parked", "main") if call.startswith("download") else None
    )
    with pytest.raises(AccountParkedError):
        await storage.fetch(100)


@pytest.mark.parametrize("page", [b"<html>moved</html>", bytes(MEMORY_LIMITS.image_bytes + 1)])
@pytest.mark.parametrize(("size", "asked"), [(None, ["api"]), (0, ["api"]), (200, ["cdn", "api"])])
async def test_a_permanent_link_that_gives_something_else_costs_no_image(
    size: int | None, asked: list[str], page: bytes
) -> None:
    """A page that says "moved", with status 200; where no size is known nothing tells it apart."""
    main, workspace, whole = MemoryMoySklad(), MemoryWorkspace(), png(1, 200)
    main.add("product", "Lamp", [("a.png", whole)])
    main.knows_lengths = False
    href = next(iter(main.entities["product"].values())).images[0].download_href
    image = SourceImage(href, "a.png", size, "u", permanent_href="https://cdn.example/1")
    original, called = main.download, list[str]()

    async def download(url: str, *args: Any, **kwargs: Any) -> TempFile:
        called.append("cdn" if url == image.permanent_href else "api")
        if called[-1] == "cdn":
            main.blobs["page"] = page
            url = href.rpartition("/")[0] + "/page"
        return await original(url, *args, **kwargs)

    main.download = download  # type: ignore[method-assign]
    (got,) = await ImageFetcher(main, "main", workspace, PillowCheck()).fetch([ImageOutcome(image)])
    assert isinstance(got.element, Upload)
    assert called == asked
    chunks = [chunk async for chunk in workspace.read(got.element.key)]
    assert b"".join(chunks) == whole
