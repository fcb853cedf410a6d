"""What the adapters in memory can be told to do beyond their ports."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from imgsync.domain.errors import (
    ApiError,
    ImageRejectedError,
    LeaseLostError,
    NoRoomError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.model import EntityType, Keep, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.storage import StaleFile
from imgsync.testing import (
    MEMORY_LIMITS,
    UNLIMITED,
    MemoryAccounts,
    MemoryContentStore,
    MemoryMoySklad,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemoryTaskQueue,
    SetClock,
    picture,
)

pytestmark = pytest.mark.anyio
PRODUCT = EntityType("product")
FILES = {"good": picture(1, 1000), "bad": b"no image"}


async def read(key: str) -> AsyncIterator[bytes]:
    yield FILES[key]


def upload(key: str) -> Upload:
    return Upload(key, f"{key}.png", len(FILES[key]))


@pytest.fixture
def account() -> MemoryMoySklad:
    return MemoryMoySklad()


async def test_a_refused_list_is_kept_or_lost(account: MemoryMoySklad) -> None:
    lamp = account.add("product", "Lamp", [("a.png", picture(2))])
    for keeps, left in ((True, [("a.png", picture(2))]), (False, [])):
        account.refusal_keeps_list = keeps
        with pytest.raises(ImageRejectedError):
            await account.set_images(
                PRODUCT, lamp, [upload("good"), upload("bad")], read, UNLIMITED
            )
        assert account.images("product", lamp) == left


async def test_a_kept_image_keeps_its_updated_or_not(account: MemoryMoySklad) -> None:
    lamp = account.add("product", "Lamp", [("a.png", picture(2))])
    (image,) = await account.list_images(PRODUCT, lamp)
    assert await account.set_images(PRODUCT, lamp, [Keep(image.href)], read, UNLIMITED) == [image]
    account.keeps_updated = False
    (moved,) = await account.set_images(PRODUCT, lamp, [Keep(image.href)], read, UNLIMITED)
    assert moved.updated != image.updated
    assert replace(moved, updated=image.updated) == image


async def test_lengths_are_told_or_not(account: MemoryMoySklad) -> None:
    lamp = account.add("product", "Lamp", [("a.png", picture(2, 500))])
    (image,) = await account.list_images(PRODUCT, lamp)
    assert await account.content_length(image.download_href) == 500
    account.knows_lengths = False
    assert await account.content_length(image.download_href) is None


async def test_the_largest_file_is_what_the_api_takes_whatever_the_limits(
    account: MemoryMoySklad,
) -> None:
    lamp = account.add("product", "Lamp")
    account.takes_image_bytes = 999
    with pytest.raises(ImageRejectedError, match="51004"):
        await account.set_images(PRODUCT, lamp, [upload("good")], read, UNLIMITED)


async def test_a_request_past_the_limits_is_refused(account: MemoryMoySklad) -> None:
    lamp = account.add("product", "Lamp")
    needed = MEMORY_LIMITS.request.size_of([upload("good")])
    for room in (needed - 1, needed):
        account.limits = replace(
            MEMORY_LIMITS, request=RequestRoom(room, MEMORY_LIMITS.request.size_of)
        )
        setting = account.set_images(PRODUCT, lamp, [upload("good")], read, UNLIMITED)
        if room < needed:
            with pytest.raises(ApiError):
                await setting
        else:
            await setting
    assert account.request_sizes == [needed, needed]


async def test_a_write_takes_its_time(account: MemoryMoySklad) -> None:
    class Short:
        async def confirm(self) -> float:
            return 0.02

    lamp = account.add("product", "Lamp", [("a.png", picture(2))])
    (image,) = await account.list_images(PRODUCT, lamp)
    account.seconds_per_write = 5.0
    with pytest.raises(LeaseLostError):
        await account.delete_images(PRODUCT, lamp, [image.href], Short())
    assert len(account.images("product", lamp)) == 1


async def test_calls_are_noted_and_fail_as_told(account: MemoryMoySklad) -> None:
    lamp = account.add("product", "Lamp")
    account.fail = lambda call: UnavailableError("503") if call == "set_images" else None
    with pytest.raises(UnavailableError):
        await account.set_images(PRODUCT, lamp, [], read, UNLIMITED)
    assert await account.list_images(PRODUCT, lamp) == []
    assert account.calls == ["set_images", "list_images"]
    assert (account.count("set"), account.count("list")) == (1, 1)


async def test_unreadable_rows_come_with_the_first_page(account: MemoryMoySklad) -> None:
    for number in range(101):
        account.add("product", str(number))
    account.unreadable_rows = ["product 'Bad': id: missing"]
    pages = [page async for page in account.list_entities(PRODUCT, with_images=True)]
    assert [page.unreadable for page in pages] == [["product 'Bad': id: missing"], []]


async def test_files_have_the_room_that_there_is() -> None:
    storage = MemoryContentStore(room=10)
    async with storage.workspace() as workspace:
        file = await workspace.create("a.png")
        await file.write(bytes(10))
        with pytest.raises(NoRoomError):
            await file.write(b"x")
        assert file.size == 10
        await file.discard()
        second = await workspace.create("b.png")
        await second.write(bytes(10))
    async with storage.workspace() as workspace:
        assert (await workspace.create("c.png")).size == 0


async def test_a_file_that_is_used_after_all_is_not_deleted() -> None:
    storage = MemoryContentStore()
    async with storage.workspace() as workspace:
        file = await workspace.create("a.png")
        await file.write(b"x")
        await file.close()
        (name,) = storage.workspaces
        stale = StaleFile(f"{name}/{file.key}", 1, storage.clock.now())
        assert await storage.delete(stale) == 0
        assert [chunk async for chunk in workspace.read(file.key)] == [b"x"]


async def test_a_file_is_not_misused() -> None:
    async with MemoryContentStore().workspace() as workspace:
        file = await workspace.create("a.png")
        with pytest.raises(ValueError, match="not closed"):
            [chunk async for chunk in workspace.read(file.key)]
        await file.close()
        with pytest.raises(ValueError, match="closed"):
            await file.write(b"x")


async def test_a_closed_queue_is_not_used_any_more() -> None:
    queue = MemoryTaskQueue()
    await queue.close()
    await queue.close()
    with pytest.raises(StoreError, match="closed"):
        await queue.counts()
    await MemoryTaskQueue(queue.store).enqueue([NewTask(1)])


async def test_a_payload_that_is_no_json_is_refused_with_its_whole_batch() -> None:
    queue = MemoryTaskQueue()
    with pytest.raises(TypeError):
        await queue.enqueue([NewTask(1), NewTask(object())])
    assert await queue.find() == []


async def test_a_fault_is_that_of_the_whole_store() -> None:
    store = MemoryStore(fault=NoRoomError("The disk is full"))
    for ask in (
        MemoryTaskQueue(store).counts,
        MemoryAccounts(store).all,
        lambda: MemorySettings(store).get("a"),
        lambda: MemoryRecords(store).copied("a", "product"),
        MemoryStoreClock(store).now,
    ):
        with pytest.raises(NoRoomError):
            await ask()


async def test_the_store_has_the_time_that_is_set() -> None:
    clock = SetClock()
    store = MemoryStore(clock)
    before = await MemoryStoreClock(store).now()
    clock.advance(timedelta(days=400, microseconds=1))
    assert await MemoryStoreClock(store).now() - before == timedelta(days=400, microseconds=1)
