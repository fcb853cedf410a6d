"""Contract of the port MoySkladPort: over HTTP, on the emulator; and what it leaves open."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from imgsync.domain.errors import ApiError, ImageRejectedError, ImgsyncError
from imgsync.domain.model import Element, EntityType, Keep, Upload
from imgsync.domain.ports.moysklad import ImageSet
from imgsync.testing import UNLIMITED, MemoryMoySklad, MoySkladContract, picture
from tests.contracts.moysklad_backends import HttpBackend, http_backend
from tests.testing.test_memory import MemoryBackend

AnyBackend = HttpBackend | MemoryBackend


@pytest.mark.slow
class TestHttpMoySklad(MoySkladContract):
    @pytest.fixture
    def backend(self) -> Iterator[HttpBackend]:
        with http_backend() as backend:
            yield backend


@dataclass(frozen=True)
class Dialect:
    """One way in which an API deals with lists of many entities: of the emulator's switches, and
    of those of an account in memory."""

    emulator: dict[str, Any]
    memory: dict[str, Any]
    sets: bool = True
    keeps: Literal["taken", "refused", "dropped"] = "taken"
    refusal_keeps: bool = True


DIALECTS = {
    "as hoped for": Dialect({}, {}),
    "errors come with 200": Dialect({"bulk_error_status": 200}, {}),
    "images are null": Dialect({"nulls": True}, {}),
    "image errors come with 413": Dialect({"image_error_status": 413}, {}),
    "passed over": Dialect({"bulk_images": "ignored"}, {"bulk": "ignored"}, sets=False),
    "a refusal drops": Dialect(
        {"refused_array": "drops"}, {"refusal_keeps_list": False}, refusal_keeps=False
    ),
    "none is kept": Dialect(
        {"keep_in_entities": False}, {"bulk_keeps": "refused"}, keeps="refused"
    ),
    "kept ones move": Dialect({"keeping_moves_updated": True}, {"keeps_updated": False}),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


@pytest.fixture(params=["http", "memory"])
def backend(request: pytest.FixtureRequest, dialect: Dialect) -> Iterator[AnyBackend]:
    if request.param == "http":
        with http_backend(**dialect.emulator) as http:
            yield http
    else:
        shop = MemoryMoySklad()
        for name, value in dialect.memory.items():
            setattr(shop, name, value)
        yield MemoryBackend(shop)


OLD = [(f"old{n}.png", picture(n, 1000 + n)) for n in range(2)]
FILES = {"new": picture(7, 900), "bad": b"no image"}


async def read(key: str) -> AsyncIterator[bytes]:
    yield FILES[key]


@pytest.mark.slow
@pytest.mark.anyio
async def test_many_lists_in_each_dialect(backend: AnyBackend, dialect: Dialect) -> None:
    """Whatever the API does with what it is sent, the results tell what is there."""
    product = EntityType("product")
    port = backend.factory.for_account(backend.account)
    ids = [backend.add("product", str(n), OLD) for n in range(4)]
    hrefs = [[image.href for image in await port.list_images(product, i)] for i in ids]
    new = Upload("new", "new.png", len(FILES["new"]))
    bad = Upload("bad", "bad.png", len(FILES["bad"]))
    lists: list[list[Element]] = [[new], [], [Keep(hrefs[2][1]), new], [new, bad]]
    sets = [ImageSet(i, e, read, UNLIMITED) for i, e in zip(ids, lists, strict=True)]
    found = await port.set_many(product, sets)
    for entity_id, result in zip(ids, found, strict=True):
        assert isinstance(result, ImgsyncError) or result == await port.list_images(
            product, entity_id
        )
    left = [backend.images("product", entity_id) for entity_id in ids]
    await backend.factory.close()
    if not dialect.sets:
        assert all(isinstance(result, list) for result in found)
        assert left == [OLD] * 4
        return
    file = ("new.png", FILES["new"])
    refused = OLD if dialect.refusal_keeps else []
    assert left[:2] == [[file], []]
    assert left[2] == ([OLD[1], file] if dialect.keeps == "taken" else OLD)
    assert left[3] == refused
    assert isinstance(found[2], ImageRejectedError) == (dialect.keeps == "refused")
    assert isinstance(found[3], ImageRejectedError)


@pytest.mark.slow
@pytest.mark.anyio
async def test_many_lists_where_the_api_takes_none() -> None:
    """It refuses each, or the whole request: either way nothing changes."""
    product = EntityType("product")
    shop = MemoryMoySklad(bulk="refused")
    with http_backend(bulk_images="refused") as http:
        backends: list[AnyBackend] = [http, MemoryBackend(shop)]
        for backend in backends:
            port = backend.factory.for_account(backend.account)
            entity_id = backend.add("product", "Lamp", OLD)
            try:
                (found,) = await port.set_many(product, [ImageSet(entity_id, [], read, UNLIMITED)])
            except ApiError:
                found = ApiError("the whole")
            assert type(found) is ApiError
            assert backend.images("product", entity_id) == OLD
            await backend.factory.close()


@pytest.mark.anyio
async def test_a_kept_image_may_be_dropped_in_silence() -> None:
    shop = MemoryMoySklad(bulk_keeps="dropped")
    lamp = shop.add("product", "Lamp", OLD)
    (first, _) = await shop.list_images(EntityType("product"), lamp)
    sets = [ImageSet(lamp, [Keep(first.href)], read, UNLIMITED)]
    assert await shop.set_many(EntityType("product"), sets) == [[]]
    assert shop.images("product", lamp) == []
