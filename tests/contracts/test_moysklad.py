"""Contract of the port MoySkladPort: over HTTP on the emulator, and in memory."""

from collections.abc import AsyncIterator, Iterator

import pytest

from imgsync.domain.errors import (
    ForbiddenUrlError,
    ImageError,
    ImageRejectedError,
    ImageTooLargeError,
    NotFoundError,
    UnavailableError,
)
from imgsync.domain.model import Element, EntityType, Keep, Upload
from imgsync.domain.ports.moysklad import MoySkladPort, ReadContent
from tests.application.world import png
from tests.contracts.moysklad_backends import ACCOUNT, Backend, FakeBackend, http_backend
from tests.fakes.permit import UNLIMITED

pytestmark = pytest.mark.anyio
PRODUCT = EntityType("product")
UNKNOWN = "f2728180-6afd-4d37-8a13-f3b48069bbb6"
THREE = [(f"{n}.png", png(n, 1000 + n)) for n in range(3)]


@pytest.fixture(params=["http", "memory"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield FakeBackend()
        return
    with http_backend() as http:
        yield http


@pytest.fixture
async def port(backend: Backend) -> AsyncIterator[MoySkladPort]:
    yield backend.factory.for_account(ACCOUNT)
    await backend.factory.close()


def reader(files: dict[str, bytes]) -> ReadContent:
    """Content in chunks that do not end on a multiple of three bytes."""

    def read(key: str) -> Iterator[bytes]:
        data = files[key]
        return iter([data[i : i + 700] for i in range(0, len(data), 700)])

    return read


async def fetch(
    port: MoySkladPort, url: str, max_bytes: int = 10_000, size: int | None = None
) -> bytes:
    received = bytearray()

    def restart() -> None:
        received.clear()

    def write(chunk: bytes) -> None:
        received.extend(chunk)

    await port.download(url, write, restart, max_bytes, size)
    return bytes(received)


async def test_an_account_has_one_port(backend: Backend, port: MoySkladPort) -> None:
    assert backend.factory.for_account(ACCOUNT) is port


async def test_images_are_listed_in_order(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    images = await port.list_images(PRODUCT, entity_id)
    assert [(i.filename, i.size) for i in images] == [(n, len(c)) for n, c in THREE]
    assert len({i.id for i in images}) == 3
    assert all(i.href.endswith(i.id) and i.updated and i.download_href for i in images)


async def test_entities_come_with_their_fields_and_images(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE, external_code="x", code="c", article="a")
    backend.add("bundle", "Set")
    pages = [page async for page in port.list_entities(PRODUCT, with_images=True)]
    (entity,) = (entity for page in pages for entity in page.entities)
    assert (entity.id, entity.name) == (entity_id, "Lamp")
    assert (entity.external_code, entity.code, entity.article) == ("x", "c", "a")
    assert list(entity.images) == await port.list_images(PRODUCT, entity_id)


@pytest.mark.parametrize(("with_images", "pages"), [(True, [100, 100, 5]), (False, [205])])
async def test_every_entity_comes_once_in_pages(
    backend: Backend, port: MoySkladPort, with_images: bool, pages: list[int]
) -> None:
    ids = [backend.add("product", str(n)) for n in range(205)]
    found = [page async for page in port.list_entities(PRODUCT, with_images=with_images)]
    assert [len(page.entities) for page in found] == pages
    assert [entity.id for page in found for entity in page.entities] == ids


async def test_an_account_without_entities_has_no_pages(port: MoySkladPort) -> None:
    assert [page async for page in port.list_entities(PRODUCT, with_images=True)] == []


async def test_set_images_sets_the_whole_list_in_order(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    old = await port.list_images(PRODUCT, entity_id)
    new = png(9, 2000)
    elements: list[Element] = [
        Keep(old[2].href),
        Upload("k", "новое.png", len(new)),
        Keep(old[0].href),
    ]
    images = await port.set_images(PRODUCT, entity_id, elements, reader({"k": new}), UNLIMITED)
    assert backend.images("product", entity_id) == [THREE[2], ("новое.png", new), THREE[0]]
    assert images == await port.list_images(PRODUCT, entity_id)
    assert (images[0].id, images[2].id) == (old[2].id, old[0].id)


async def test_an_empty_list_removes_all(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    assert await port.set_images(PRODUCT, entity_id, [], reader({}), UNLIMITED) == []
    assert backend.images("product", entity_id) == []


async def test_a_refused_image_leaves_the_list_as_it_was(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    files = {"good": png(7), "bad": b"this is no image"}
    elements: list[Element] = [
        Upload("good", "g.png", len(files["good"])),
        Upload("bad", "b.png", len(files["bad"])),
    ]
    with pytest.raises(ImageRejectedError):
        await port.set_images(PRODUCT, entity_id, elements, reader(files), UNLIMITED)
    assert backend.images("product", entity_id) == THREE


async def test_more_images_than_allowed_are_refused(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp")
    files = {str(n): png(n) for n in range(11)}
    elements: list[Element] = [Upload(k, f"{k}.png", len(c)) for k, c in files.items()]
    with pytest.raises(ImageRejectedError):
        await port.set_images(PRODUCT, entity_id, elements, reader(files), UNLIMITED)
    assert backend.images("product", entity_id) == []


async def test_keeping_an_image_that_is_not_there_changes_nothing(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    gone = Keep(backend.unknown_image_href("product", entity_id))
    with pytest.raises(NotFoundError):
        await port.set_images(PRODUCT, entity_id, [gone], reader({}), UNLIMITED)
    assert backend.images("product", entity_id) == THREE


async def test_delete_images_deletes_only_these(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    images = await port.list_images(PRODUCT, entity_id)
    await port.delete_images(PRODUCT, entity_id, [images[0].href, images[2].href], UNLIMITED)
    assert backend.images("product", entity_id) == [THREE[1]]


async def test_an_unknown_entity_is_not_found(port: MoySkladPort) -> None:
    with pytest.raises(NotFoundError):
        await port.list_images(PRODUCT, UNKNOWN)
    with pytest.raises(NotFoundError):
        await port.set_images(PRODUCT, UNKNOWN, [], reader({}), UNLIMITED)


async def test_a_listed_image_can_be_downloaded(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    (first, *_) = await port.list_images(PRODUCT, entity_id)
    assert await port.content_length(first.download_href) == first.size
    assert await fetch(port, first.download_href) == THREE[0][1]
    assert await fetch(port, first.download_href, max_bytes=first.size) == THREE[0][1]


async def test_a_file_of_another_size_than_known_is_no_download(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    (first, *_) = await port.list_images(PRODUCT, entity_id)
    assert await fetch(port, first.download_href, size=first.size) == THREE[0][1]
    with pytest.raises(UnavailableError, match=f"{first.size} bytes came in place of its 7"):
        await fetch(port, first.download_href, size=7)


async def test_a_download_over_the_limit_is_refused(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    (first, *_) = await port.list_images(PRODUCT, entity_id)
    with pytest.raises(ImageTooLargeError):
        await fetch(port, first.download_href, max_bytes=first.size - 1)


async def test_an_image_that_is_gone_has_no_length_and_no_content(
    backend: Backend, port: MoySkladPort
) -> None:
    gone = backend.unknown_download_href()
    assert await port.content_length(gone) is None
    with pytest.raises(ImageError):
        await fetch(port, gone)


async def test_a_foreign_host_is_forbidden(port: MoySkladPort) -> None:
    with pytest.raises(ForbiddenUrlError):
        await fetch(port, "https://evil.example/x.png")
    with pytest.raises(ForbiddenUrlError):
        await port.content_length("https://evil.example/x.png")


async def test_of_an_image_that_stands_twice_the_first_is_deleted(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", [THREE[0], THREE[1], THREE[0]])
    images = await port.list_images(PRODUCT, entity_id)
    assert images[0].id == images[2].id
    await port.delete_images(PRODUCT, entity_id, [images[0].href], UNLIMITED)
    assert backend.images("product", entity_id) == [THREE[1], THREE[0]]


async def test_images_that_are_gone_already_do_not_keep_the_others(
    backend: Backend, port: MoySkladPort
) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    images = await port.list_images(PRODUCT, entity_id)
    gone = backend.unknown_image_href("product", entity_id)
    await port.delete_images(PRODUCT, entity_id, [gone, images[1].href], UNLIMITED)
    assert backend.images("product", entity_id) == [THREE[0], THREE[2]]
    await port.delete_images(PRODUCT, entity_id, [gone], UNLIMITED)
    assert len(backend.images("product", entity_id)) == 2


async def test_an_image_over_ten_megabytes_is_refused(backend: Backend, port: MoySkladPort) -> None:
    entity_id = backend.add("product", "Lamp", THREE)
    for size, refused in ((10 * 1024 * 1024, False), (10 * 1024 * 1024 + 1, True)):
        content = png(1, size)
        setting = port.set_images(
            PRODUCT, entity_id, [Upload("k", "a.png", size)], reader({"k": content}), UNLIMITED
        )
        if refused:
            with pytest.raises(ImageRejectedError):
                await setting
        else:
            await setting
    assert backend.images("product", entity_id) == [("a.png", png(1, 10 * 1024 * 1024))]


async def test_equal_name_and_content_are_one_image_and_others_are_not(
    backend: Backend, port: MoySkladPort
) -> None:
    like, unlike = png(1, 500), png(1, 499) + b"x"
    entity_id = backend.add(
        "product", "Lamp", [("a.png", like), ("a.png", like), ("b.png", like), ("a.png", unlike)]
    )
    ids = [image.id for image in await port.list_images(PRODUCT, entity_id)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
