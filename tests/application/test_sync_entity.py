"""Copying one entity: limits, reuse, failures, strategies."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from imgsync.domain.diff import NOTHING_LEFT, EntityKey
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ChildChangedError,
    ForbiddenUrlError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NoImageUploadedError,
    NotFoundError,
    ParkingError,
    PayloadError,
    StorageFullError,
    UnavailableError,
    UnknownAccountError,
    WrongAccountError,
)
from imgsync.domain.model import (
    AccountRole,
    EntityType,
    EntityTypes,
    LinkSettings,
    RemoteImage,
    SourceImage,
    SyncRequest,
    Upload,
)
from imgsync.domain.tasks import SyncOutcome
from imgsync.testing import MemoryMoySklad
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
THREE = [(f"{n}.png", png(n)) for n in range(3)]


def failing(pattern: str, error: Exception, times: int = 1000) -> Callable[[str], Exception | None]:
    left = [times]

    def fail(call: str) -> Exception | None:
        if pattern not in call or not left[0]:
            return None
        left[0] -= 1
        return error

    return fail


def second_upload_fails(world: World, error: Exception) -> Callable[[str], Exception | None]:
    return lambda call: error if call == "set_images" and world.child.count(call) == 2 else None


async def test_all_images_are_copied_in_order_in_one_upload(world: World) -> None:
    _, child_id = world.pair(THREE, old=2)
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded) == (SyncOutcome.COMPLETED, 3)
    assert result.downloaded_bytes == 300
    assert world.child.images("product", child_id) == THREE
    assert world.child.count("set_images") == 1
    assert world.child.count("delete_images") == 0


@pytest.mark.parametrize(
    ("settings", "copied"),
    [
        (LinkSettings(sync_images=True), 1),
        (LinkSettings(sync_images_all=True), 10),
    ],
)
async def test_the_limit_of_the_child(world: World, settings: LinkSettings, copied: int) -> None:
    images = [(f"{n}.png", png(n)) for n in range(12)]
    _, child_id = world.pair(images)
    await world.settings.put("child", settings)
    result = await world.sync(await world.request())
    assert result.uploaded == copied
    assert world.child.images("product", child_id) == images[:copied]
    assert world.main.count("download") == copied


async def test_a_disabled_child_is_left_alone(world: World) -> None:
    world.pair(THREE)
    request = await world.request()
    await world.settings.put("child", LinkSettings())
    world.main.calls.clear()
    world.child.calls.clear()
    result = await world.sync(request)
    assert result.outcome == "Image sync is disabled"
    assert world.main.calls == world.child.calls == []


async def test_an_unchanged_entity_costs_no_download_and_no_upload(world: World) -> None:
    world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    world.main.calls.clear()
    world.child.calls.clear()
    assert (await world.sync(request)).outcome is SyncOutcome.UNCHANGED
    assert world.main.calls == []
    assert world.child.calls == ["list_images"]


async def test_a_bare_payload_of_an_unchanged_entity_costs_one_list(world: World) -> None:
    world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    world.main.calls.clear()
    bare = replace(
        request, images=tuple(SourceImage(i.download_href, i.filename) for i in request.images)
    )
    assert (await world.sync(bare)).outcome is SyncOutcome.UNCHANGED
    assert world.main.calls == ["list_images"]


async def test_only_a_new_image_is_downloaded_and_uploaded(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    entity = world.main.entities["product"].pop(main_id)
    world.main.add("product", "Lamp", [("new.png", png(7)), *THREE[:2]], external_code="x")
    assert entity.images
    request = await world.request()
    world.main.calls.clear()
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (1, 2)
    assert world.main.count("download") == 1
    assert world.child.images("product", child_id) == [("new.png", png(7)), *THREE[:2]]


async def test_an_image_that_the_child_lost_is_uploaded_again(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    entity = world.child.entities["product"][child_id]
    world.child.entities["product"][child_id] = replace(entity, images=entity.images[1:])
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (1, 2)
    assert world.child.images("product", child_id) == THREE


async def test_lowering_the_limit_needs_no_download(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    await world.settings.put("child", LinkSettings(sync_images=True))
    world.main.calls.clear()
    assert (await world.sync(request)).kept == 1
    assert world.main.count("download") == 0
    assert world.child.images("product", child_id) == THREE[:1]


async def test_a_large_image_is_skipped_by_its_size_undownloaded(world: World) -> None:
    big = png(1, 10 * 1024 * 1024 + 1)
    _, child_id = world.pair([("a.png", png(0)), ("big.png", big)])
    result = await world.sync(await world.request())
    assert result.outcome is SyncOutcome.COMPLETED_WITH_WARNINGS
    assert result.warnings == ("big.png: 10.485761 MB is over the limit of 10.485760 MB",)
    assert world.main.count("download") == 1
    assert world.child.images("product", child_id) == [("a.png", png(0))]


async def test_an_image_of_exactly_ten_megabytes_is_copied(world: World) -> None:
    world.pair([("a.png", png(0, 10 * 1024 * 1024))])
    assert (await world.sync(await world.request())).uploaded == 1


def foreign(request: SyncRequest, world: World, content: bytes) -> SyncRequest:
    """The request with one image whose address is not an image of the entity."""
    world.main.blobs["foreign"] = content
    return replace(request, images=(SourceImage("https://memory.example/x/foreign", "f.png"),))


async def test_without_a_size_head_is_asked(world: World) -> None:
    world.pair(THREE)
    request = foreign(await world.request(), world, png(1, 10 * 1024 * 1024 + 1))
    with pytest.raises(NoImageUploadedError, match="over the limit") as caught:
        await world.sync(request)
    assert not caught.value.retryable
    assert world.main.count("content_length") == 1
    assert world.main.count("download") == 0


async def test_without_a_length_the_size_is_checked_while_downloading(world: World) -> None:
    world.pair(THREE)
    world.main.knows_lengths = False
    request = foreign(await world.request(), world, png(1, 10 * 1024 * 1024 + 1))
    with pytest.raises(NoImageUploadedError, match="over the limit"):
        await world.sync(request)
    assert world.main.count("download") == 1


async def test_a_foreign_image_is_copied(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = foreign(await world.request(), world, png(5))
    assert (await world.sync(request)).uploaded == 1
    assert world.child.images("product", child_id) == [("f.png", png(5))]


async def test_a_file_that_is_no_image_is_a_warning(world: World) -> None:
    _, child_id = world.pair(
        [("a.png", png(0)), ("b.png", b"<html>no image</html>"), ("c.png", b"")]
    )
    result = await world.sync(await world.request())
    assert len(result.warnings) == 2
    assert "b.png: it is neither a JPEG nor a PNG" in result.warnings[0]
    assert world.child.images("product", child_id) == [("a.png", png(0))]


async def test_a_failed_download_is_a_warning_and_is_made_good_next_time(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    broken = world.main.entities["product"][request.main_entity_id].images[1].id
    world.main.fail = failing(
        f"download https://memory.example/download/{broken}", UnavailableError("503")
    )
    result = await world.sync(request)
    assert result.outcome is SyncOutcome.COMPLETED_WITH_WARNINGS
    assert result.warnings == ("1.png: 503",)
    assert world.child.images("product", child_id) == [THREE[0], THREE[2]]
    world.main.fail = lambda _: None
    again = await world.sync(request)
    assert (again.outcome, again.uploaded, again.kept) == (SyncOutcome.COMPLETED, 1, 2)
    assert world.child.images("product", child_id) == THREE


async def test_a_permanent_warning_does_not_repeat_the_work(world: World) -> None:
    world.pair([("a.png", png(0)), ("big.png", png(1, 10 * 1024 * 1024 + 1))])
    request = await world.request()
    first = await world.sync(request)
    world.main.calls.clear()
    again = await world.sync(request)
    assert (again.outcome, again.warnings) == (SyncOutcome.UNCHANGED, first.warnings)
    assert world.main.calls == []


@pytest.mark.parametrize("strategy", ["atomic", "delete-then-upload"])
async def test_the_child_keeps_its_images_when_no_download_succeeds(strategy: str) -> None:
    world = World(strategy)
    _, child_id = world.pair(THREE, old=2)
    before = world.child.images("product", child_id)
    world.main.fail = failing("download", UnavailableError("timed out"))
    with pytest.raises(NoImageUploadedError, match="timed out") as caught:
        await world.sync(await world.request())
    assert caught.value.retryable
    assert world.child.images("product", child_id) == before
    assert world.child.count("set_images") == world.child.count("delete_images") == 0
    assert world.storage.workspaces == {}


async def test_the_child_keeps_its_images_when_the_upload_fails(world: World) -> None:
    _, child_id = world.pair(THREE, old=2)
    before = world.child.images("product", child_id)
    world.child.fail = failing("set_images", UnavailableError("503"))
    with pytest.raises(UnavailableError):
        await world.sync(await world.request())
    assert world.child.images("product", child_id) == before


async def test_many_large_images_take_several_requests_that_repeat_the_metas() -> None:
    world = World(max_request_bytes=3200)
    images = [(f"{n}.png", png(n, 1000)) for n in range(5)]
    _, child_id = world.pair(images, old=1)
    result = await world.sync(await world.request())
    assert result.uploaded == 5
    assert world.child.images("product", child_id) == images
    assert world.child.count("set_images") == 3
    assert max(world.child.request_sizes) <= 3200


async def test_a_later_request_that_fails_leaves_the_earlier_images_and_warns() -> None:
    world = World(max_request_bytes=3000)
    images = [(f"{n}.png", png(n, 1000)) for n in range(4)]
    _, child_id = world.pair(images)
    request = await world.request()
    world.child.fail = second_upload_fails(world, UnavailableError("503"))
    result = await world.sync(request)
    assert (result.uploaded, result.warnings) == (2, ("2.png: 503", "3.png: 503"))
    assert world.child.images("product", child_id) == images[:2]
    world.child.fail = lambda _: None
    assert (await world.sync(request)).kept == 2
    assert world.child.images("product", child_id) == images


@pytest.mark.parametrize("error", [StorageFullError("51003"), AuthorisationError("401")])
async def test_what_is_placed_before_an_account_is_parked_is_not_uploaded_again(
    error: ParkingError,
) -> None:
    world = World(max_request_bytes=3000)
    images = [(f"{n}.png", png(n, 1000)) for n in range(4)]
    _, child_id = world.pair(images)
    request = await world.request()
    world.child.fail = second_upload_fails(world, error)
    with pytest.raises(type(error)) as caught:
        await world.sync(request)
    assert caught.value is error
    assert world.child.images("product", child_id) == images[:2]
    world.child.fail = lambda _: None
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (2, 2)
    assert world.child.images("product", child_id) == images


async def test_full_storage_at_once_fails_clearly(world: World) -> None:
    world.pair(THREE)
    world.child.fail = failing("set_images", StorageFullError("51003 storage is full"))
    with pytest.raises(StorageFullError, match="51003"):
        await world.sync(await world.request())


@pytest.mark.parametrize("where", ["list_images", "set_images"])
async def test_refused_credentials_of_the_child_fail_the_task(world: World, where: str) -> None:
    world.pair(THREE)
    # Of another program, as the child's list is not known then.
    request = replace(await world.request(), child_images=None)
    world.child.fail = failing(where, AuthorisationError("401 child"))
    with pytest.raises(AuthorisationError, match="401 child"):
        await world.sync(request)


async def test_refused_credentials_of_the_main_account_fail_the_task(world: World) -> None:
    world.pair(THREE)
    request = await world.request()
    world.main.fail = failing("download", AuthorisationError("403 main"))
    with pytest.raises(AuthorisationError, match="403 main"):
        await world.sync(request)
    assert world.child.count("set_images") == 0


async def test_an_update_that_cannot_be_downloaded_leaves_the_earlier_copy(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    entity = world.main.entities["product"][main_id]
    touched = (replace(entity.images[0], updated="2026-02-02 00:00:00.000"), *entity.images[1:])
    world.main.entities["product"][main_id] = replace(entity, images=touched)
    world.main.fail = failing("download", UnavailableError("503"))
    result = await world.sync(await world.request())
    assert result.warnings == ("0.png: 503; its earlier copy stays",)
    assert world.child.images("product", child_id) == THREE


async def test_delete_then_upload_deletes_once_and_uploads() -> None:
    world = World("delete-then-upload")
    _, child_id = world.pair(THREE, old=2)
    await world.sync(await world.request())
    assert world.child.calls[-2:] == ["delete_images", "set_images"]
    assert world.child.images("product", child_id) == THREE


async def test_a_child_entity_that_is_gone_fails(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    del world.child.entities["product"][child_id]
    with pytest.raises(NotFoundError):
        await world.sync(request)


async def test_a_main_entity_that_is_gone_still_copies_what_the_payload_names(
    world: World,
) -> None:
    main_id, child_id = world.pair(THREE)
    request = await world.request()
    bare = replace(
        request, images=tuple(SourceImage(i.download_href, i.filename) for i in request.images)
    )
    del world.main.entities["product"][main_id]
    assert (await world.sync(bare)).uploaded == 3
    assert world.child.images("product", child_id) == THREE


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"entity_type": "service"}, PayloadError, "parent_entity_type.*'service'"),
        ({"main_account_id": "nobody"}, UnknownAccountError, "'nobody' is not stored"),
        ({"child_account_id": "nobody"}, UnknownAccountError, "'nobody' is not stored"),
        ({"child_account_id": "main"}, WrongAccountError, "the main and the child account"),
        ({"child_account_id": "child", "main_account_id": "child"}, WrongAccountError, "the same"),
    ],
)
async def test_requests_that_cannot_be_run(
    world: World, change: dict[str, str], error: type[ImgsyncError], text: str
) -> None:
    world.pair(THREE)
    request = await world.request()
    with pytest.raises(error, match=text):
        await world.sync(replace(request, **change))  # type: ignore[arg-type]


async def reversed_request(world: World) -> SyncRequest:
    """Copies THREE and gives the request that turns their order."""
    main_id, _ = world.pair(THREE)
    await world.sync(await world.request())
    entity = world.main.entities["product"][main_id]
    world.main.entities["product"][main_id] = replace(entity, images=entity.images[::-1])
    return await world.request()


async def test_a_child_that_someone_changes_meanwhile_is_begun_anew_at_once(world: World) -> None:
    request = await reversed_request(world)
    world.child.fail = failing("set_images", NotFoundError("1021"), times=1)
    assert (await world.sync(request)).kept == 3
    assert world.child.images("product", request.child_entity_id) == THREE[::-1]


async def test_a_child_that_changes_all_the_time_is_left_to_a_later_attempt(world: World) -> None:
    request = await reversed_request(world)
    world.child.fail = failing("set_images", NotFoundError("1021"), times=2)
    with pytest.raises(ChildChangedError, match="an image to keep is gone: 1021") as caught:
        await world.sync(request)
    assert caught.value.retryable
    await world.sync(request)
    assert world.child.images("product", request.child_entity_id) == THREE[::-1]


async def test_an_entity_that_is_gone_before_the_upload_is_not(world: World) -> None:
    world.pair(THREE)
    request = await world.request()
    world.child.fail = failing("set_images", NotFoundError("1021"))
    with pytest.raises(NotFoundError):
        await world.sync(request)


async def test_hostile_file_names_are_uploaded_without_their_path(world: World) -> None:
    _, child_id = world.pair([("../../etc/x.png", png(1))])
    await world.sync(await world.request())
    assert world.child.images("product", child_id) == [("x.png", png(1))]


def touch(world: World, main_id: str, *positions: int) -> None:
    """Gives images of a main entity a new updated time. What their content was at the last sync is
    forgotten, so that they are sent again as others are."""
    for key, record in world.store.records.items():
        copied = tuple(replace(one, content=None) for one in record.copied)
        world.store.records[key] = replace(record, copied=copied)
    entity = world.main.entities["product"][main_id]
    images = [
        replace(image, updated="2026-02-02 00:00:00.000") if n in positions else image
        for n, image in enumerate(entity.images)
    ]
    world.main.entities["product"][main_id] = replace(entity, images=tuple(images))


async def test_after_a_failed_update_the_next_sync_downloads_it(world: World) -> None:
    main_id, _ = world.pair(THREE)
    await world.sync(await world.request())
    touch(world, main_id, 0)
    world.main.fail = failing("download", UnavailableError("503"))
    assert (await world.sync(await world.request())).warnings
    world.main.fail = lambda _: None
    world.main.calls.clear()
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded, result.kept) == (SyncOutcome.COMPLETED, 1, 2)
    assert world.main.count("download") == 1


async def test_updates_that_all_fail_fail_the_task(world: World) -> None:
    main_id, child_id = world.pair(THREE[:1])
    await world.sync(await world.request())
    touch(world, main_id, 0)
    world.main.fail = failing("download", UnavailableError("503"))
    with pytest.raises(NoImageUploadedError) as caught:
        await world.sync(await world.request())
    assert caught.value.retryable
    assert world.child.images("product", child_id) == THREE[:1]


async def test_an_update_that_the_child_refuses_leaves_the_earlier_copy(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    touch(world, main_id, 0)
    set_images = world.child.set_images

    async def refuse(*args: Any, **kwargs: Any) -> list[RemoteImage]:
        if any(isinstance(e, Upload) for e in args[2]):
            raise ImageRejectedError("51004")
        return await set_images(*args, **kwargs)

    world.child.set_images = refuse  # type: ignore[method-assign]
    request = await world.request()
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (0, 2)
    assert result.warnings == ("0.png: 51004; its earlier copy stays",)
    assert world.child.images("product", child_id) == THREE
    assert (await world.sync(request)).outcome is SyncOutcome.UNCHANGED


async def test_an_update_in_a_later_request_that_fails_leaves_the_earlier_copy() -> None:
    world = World(max_request_bytes=3000)
    images = [(f"{n}.png", png(n, 1000)) for n in range(3)]
    main_id, child_id = world.pair(images)
    await world.sync(await world.request())
    touch(world, main_id, 0, 1, 2)
    world.child.calls.clear()
    world.child.fail = second_upload_fails(world, UnavailableError("503"))
    result = await world.sync(await world.request())
    assert result.warnings == ("2.png: 503; its earlier copy stays",)
    assert world.child.images("product", child_id) == images


async def test_an_image_that_configuration_forbade_is_copied_once_allowed(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    forbidden = request.images[1].download_href
    world.main.fail = failing(f"download {forbidden}", ForbiddenUrlError("not on the list"))
    assert (await world.sync(request)).warnings == ("1.png: not on the list",)
    world.main.fail = lambda _: None
    assert (await world.sync(request)).uploaded == 1
    assert world.child.images("product", child_id) == THREE


async def test_an_error_page_in_place_of_an_image_is_asked_again_next_time(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    image_id = request.images[1].id or ""
    good, world.main.blobs[image_id] = world.main.blobs[image_id], b"<html>busy</html>"
    result = await world.sync(request)
    assert result.warnings == ("1.png: 17 bytes came in place of its 100",)
    world.main.blobs[image_id] = good
    await world.sync(request)
    assert world.child.images("product", child_id) == THREE


async def test_images_are_downloaded_in_parallel_and_at_most_five_at_once(world: World) -> None:
    world.pair([(f"{n}.png", png(n)) for n in range(10)])
    request = await world.request()
    gauge = world.gauge_downloads(seconds=0.02)
    await world.sync(request)
    assert gauge.most == 5


async def test_refused_credentials_in_a_later_request_fail_the_task() -> None:
    world = World(max_request_bytes=3000)
    world.pair([(f"{n}.png", png(n, 1000)) for n in range(4)])
    request = await world.request()
    world.child.fail = second_upload_fails(world, AuthorisationError("401"))
    with pytest.raises(AuthorisationError):
        await world.sync(request)


@pytest.mark.parametrize("error", [UnavailableError("503"), ImageRejectedError("51006")])
async def test_a_change_without_uploads_that_fails_is_raised(
    world: World, error: ImgsyncError
) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    entity = world.main.entities["product"][main_id]
    world.main.entities["product"][main_id] = replace(entity, images=entity.images[:2])
    world.child.fail = failing("set_images", error)
    with pytest.raises(type(error)):
        await world.sync(await world.request())
    assert world.child.images("product", child_id) == THREE


async def test_the_limit_of_the_entity_type(world: World) -> None:
    _, child_id = world.pair(THREE)
    world.sync_entity = replace(
        world.sync_entity, entity_types=EntityTypes([EntityType("product", 2)])
    )
    assert (await world.sync(await world.request())).uploaded == 2
    assert world.child.images("product", child_id) == THREE[:2]


async def test_a_child_list_in_another_order_is_put_right_without_an_upload(
    world: World,
) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    entity = world.child.entities["product"][child_id]
    world.child.entities["product"][child_id] = replace(entity, images=entity.images[::-1])
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (0, 3)
    assert world.child.images("product", child_id) == THREE


async def test_kept_images_are_kept_again_after_a_further_change(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    for position in (0, 2):
        touch(world, main_id, position)
        world.main.calls.clear()
        result = await world.sync(await world.request())
        assert result.uploaded + result.kept == 3
    assert world.main.count("download") == 1
    assert world.child.images("product", child_id) == THREE


async def test_a_foreign_image_that_is_no_longer_asked_for_is_removed(world: World) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()
    extra = foreign(request, world, png(5)).images
    await world.sync(replace(request, images=(*request.images, *extra)))
    assert len(world.child.images("product", child_id)) == 4
    await world.sync(request)
    assert world.child.images("product", child_id) == THREE


async def test_a_foreign_image_is_never_taken_for_unchanged(world: World) -> None:
    world.pair(THREE)
    request = foreign(await world.request(), world, png(5))
    for _ in range(2):
        assert (await world.sync(request)).uploaded == 1


async def test_what_a_payload_tells_is_not_asked_for_again(world: World) -> None:
    main_id, _ = world.pair(THREE)
    request = await world.request()
    bare = SourceImage(request.images[1].download_href, "1.png")
    touch(world, main_id, 0)
    mixed = replace(request, images=(request.images[0], bare))
    await world.sync(mixed)
    assert (await world.sync(mixed)).outcome is SyncOutcome.UNCHANGED
    world.main.calls.clear()
    await world.sync(await world.request())
    assert world.main.count("download") == 2


@pytest.mark.parametrize(
    ("account_id", "role", "text"),
    [
        ("main", AccountRole.CHILD, r"'main' \(main\) is a child account.*'child' \(child\)"),
        ("child", AccountRole.MAIN, r"'child' \(child\) is a main account.*'main' \(main\)"),
    ],
)
async def test_accounts_on_the_wrong_sides_are_refused_before_any_request(
    world: World, account_id: str, role: AccountRole, text: str
) -> None:
    world.pair(THREE)
    request = await world.request()
    await world.accounts.set_role(account_id, role)
    world.main.calls.clear()
    world.child.calls.clear()
    with pytest.raises(WrongAccountError, match=text):
        await world.sync(request)
    assert world.main.calls == world.child.calls == []


async def test_an_unknown_child_is_told_though_it_has_no_settings(world: World) -> None:
    world.pair(THREE)
    request = replace(await world.request(), child_account_id="nobody")
    with pytest.raises(UnknownAccountError, match="'nobody'"):
        await world.sync(request)


def with_type(world: World, entity_type: EntityType) -> None:
    types = EntityTypes([entity_type])
    world.sync_entity = replace(world.sync_entity, entity_types=types)


async def test_all_images_of_a_type_that_may_have_fifteen_are_copied(world: World) -> None:
    images = [(f"{n}.png", png(n)) for n in range(15)]
    _, child_id = world.pair(images)
    with_type(world, EntityType("product", 15))
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded) == (SyncOutcome.COMPLETED, 15)
    assert world.child.images("product", child_id) == images


async def test_a_list_that_is_cut_is_a_warning_each_time(world: World) -> None:
    world.pair([(f"{n}.png", png(n)) for n in range(12)])
    request = await world.request()
    first = await world.sync(request)
    assert first.outcome is SyncOutcome.COMPLETED_WITH_WARNINGS
    assert first.warnings == ("only the first 10 of 12 images are copied, the most of a product",)
    second = await world.sync(request)
    assert (second.outcome, second.warnings) == (SyncOutcome.UNCHANGED, first.warnings)


async def test_the_first_image_alone_is_no_list_that_is_cut(world: World) -> None:
    world.pair(THREE)
    await world.settings.put("child", LinkSettings(sync_images=True))
    result = await world.sync(await world.request())
    assert (result.outcome, result.warnings) == (SyncOutcome.COMPLETED, ())


def empty(account: MemoryMoySklad, entity_id: str) -> None:
    entity = account.entities["product"][entity_id]
    account.entities["product"][entity_id] = replace(entity, images=())


async def copied_and_emptied(world: World) -> tuple[str, SyncRequest]:
    """(child entity, request) after THREE were copied and the main account has removed them."""
    main_id, child_id = world.pair(THREE)
    request = await world.request()
    await world.sync(request)
    empty(world.main, main_id)
    world.main.calls.clear()
    world.child.calls.clear()
    return child_id, replace(request, images=())


@pytest.mark.parametrize(
    "settings", [LinkSettings(sync_images=True), LinkSettings(sync_images_all=True)]
)
async def test_an_emptied_list_reaches_the_child(world: World, settings: LinkSettings) -> None:
    child_id, request = await copied_and_emptied(world)
    await world.settings.put("child", settings)
    result = await world.sync(request)
    assert (result.outcome, result.warnings) == (SyncOutcome.CLEARED, ())
    assert world.child.images("product", child_id) == []
    assert world.main.calls == ["list_images"]
    assert await world.records.copied("child", "product") == set()


async def test_a_list_that_was_cleared_is_not_asked_for_again(world: World) -> None:
    _, request = await copied_and_emptied(world)
    await world.sync(request)
    world.main.calls.clear()
    world.child.calls.clear()
    assert (await world.sync(request)).outcome is SyncOutcome.UNCHANGED
    assert world.main.calls == world.child.calls == []


async def test_images_of_the_child_itself_are_left_alone(world: World) -> None:
    _, child_id = world.pair(THREE, old=2)
    request = replace(await world.request(), images=())
    before = world.child.images("product", child_id)
    world.child.calls.clear()
    assert (await world.sync(request)).outcome is SyncOutcome.UNCHANGED
    assert world.child.images("product", child_id) == before
    assert world.child.calls == []


async def test_images_that_the_child_put_in_place_of_the_copies_are_left_alone(
    world: World,
) -> None:
    child_id, request = await copied_and_emptied(world)
    own = world.child.add("product", "own", [("own.png", png(77))])
    images = world.child.entities["product"].pop(own).images
    entity = world.child.entities["product"][child_id]
    world.child.entities["product"][child_id] = replace(entity, images=images)
    assert (await world.sync(request)).outcome is SyncOutcome.UNCHANGED
    assert world.child.images("product", child_id) == [("own.png", png(77))]
    assert await world.records.copied("child", "product") == set()


async def test_images_that_the_main_account_has_got_meanwhile_are_copied(world: World) -> None:
    child_id, request = await copied_and_emptied(world)
    added = world.main.add("product", "new", [("new.png", png(50))])
    images = world.main.entities["product"].pop(added).images
    entity = world.main.entities["product"][request.main_entity_id]
    world.main.entities["product"][request.main_entity_id] = replace(entity, images=images)
    result = await world.sync(request)
    assert (result.outcome, result.uploaded) == (SyncOutcome.COMPLETED, 1)
    assert world.child.images("product", child_id) == [("new.png", png(50))]
    assert world.child.count("delete_images") == 0


@pytest.mark.parametrize(
    "error", [NotFoundError("1021"), UnavailableError("503"), ApiError("no rows")]
)
async def test_nothing_is_cleared_where_the_main_list_cannot_be_read(
    world: World, error: ImgsyncError
) -> None:
    child_id, request = await copied_and_emptied(world)
    world.main.fail = failing("list_images", error)
    with pytest.raises(type(error)):
        await world.sync(request)
    assert world.child.images("product", child_id) == THREE


async def test_a_deletion_that_leaves_images_is_repeated_and_then_told(world: World) -> None:
    child_id, request = await copied_and_emptied(world)

    async def delete_nothing(*_: Any, **__: Any) -> None:
        world.child.calls.append("delete_images")

    world.child.delete_images = delete_nothing  # type: ignore[method-assign]
    with pytest.raises(ChildChangedError, match="3 images are there"):
        await world.sync(request)
    assert world.child.count("delete_images") == 2
    assert await world.records.copied("child", "product") == {child_id}


async def test_a_foreign_image_is_cleared_too(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    request = foreign(await world.request(), world, png(5))
    await world.sync(request)
    empty(world.main, main_id)
    result = await world.sync(replace(request, images=()))
    assert result.outcome is SyncOutcome.CLEARED
    assert world.child.images("product", child_id) == []


class Withdrawn:
    """A permit that ends after some confirmations."""

    def __init__(self, confirmations: int) -> None:
        self.left = confirmations

    async def confirm(self) -> float:
        self.left -= 1
        if self.left < 0:
            raise LeaseLostError("another worker has the task")
        return 60.0


@pytest.mark.parametrize("confirmations", [0, 1])
@pytest.mark.parametrize("clears", [False, True])
async def test_no_record_is_written_without_the_right_to_write(
    world: World, clears: bool, confirmations: int
) -> None:
    if clears:
        child_id, request = await copied_and_emptied(world)
    else:
        _, child_id = world.pair(THREE)
        request = await world.request()
    key = EntityKey("child", "product", child_id)
    before = await world.records.get(key)
    # A copy confirms once more, for the note that it has begun.
    with pytest.raises(LeaseLostError):
        await world.sync_entity(request, Withdrawn(confirmations + (confirmations and not clears)))
    begun = confirmations and not clears
    assert await world.records.get(key) == (NOTHING_LEFT.begun([]) if begun else before)


@pytest.mark.parametrize("clears", [False, True])
async def test_nothing_is_written_without_the_right_to_write(world: World, clears: bool) -> None:
    if clears:
        child_id, request = await copied_and_emptied(world)
    else:
        _, child_id = world.pair(THREE, old=1)
        request = await world.request()
    before = world.child.images("product", child_id)
    with pytest.raises(LeaseLostError):
        await world.sync_entity(request, Withdrawn(0))
    assert world.child.images("product", child_id) == before


def dropping(world: World, bad: bytes) -> None:
    """The child refuses a picture, and every refused array empties its list."""
    set_images = world.child.set_images

    async def refuse(*args: Any, **kwargs: Any) -> list[RemoteImage]:
        keys = [e.key for e in args[2] if isinstance(e, Upload)]
        if bad in [b"".join([chunk async for chunk in args[3](key)]) for key in keys]:
            empty(world.child, args[1])
            raise ImageRejectedError("51002")
        return await set_images(*args, **kwargs)

    world.child.set_images = refuse  # type: ignore[method-assign]


@pytest.mark.parametrize("strategy", ["atomic", "delete-then-upload"])
async def test_kept_images_that_a_refusal_drops_are_placed_again_in_the_same_task(
    strategy: str,
) -> None:
    world = World(strategy)
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    bad = ("bad.png", png(66))
    added = world.main.add("product", "more", [bad])
    more = world.main.entities["product"].pop(added).images
    entity = world.main.entities["product"][main_id]
    world.main.entities["product"][main_id] = replace(entity, images=(*entity.images, *more))
    dropping(world, bad[1])
    result = await world.sync(await world.request())
    assert result.warnings == ("bad.png: 51002",)
    assert world.child.images("product", child_id) == THREE
    again = await world.sync(await world.request())
    assert (again.outcome, again.warnings) == (SyncOutcome.UNCHANGED, result.warnings)


def answering(
    world: World, answer: Callable[[list[RemoteImage]], list[RemoteImage]]
) -> Callable[[], None]:
    """Changes what the child answers to `set_images`, not what it does; gives the way back."""
    set_images = world.child.set_images

    async def answered(*args: Any, **kwargs: Any) -> list[RemoteImage]:
        return answer(await set_images(*args, **kwargs))

    world.child.set_images = answered  # type: ignore[method-assign]

    def restore() -> None:
        world.child.set_images = set_images  # type: ignore[method-assign]

    return restore


@pytest.mark.parametrize(
    "answer",
    [lambda images: images[::-1], lambda images: images[:1], lambda images: [*images, images[0]]],
    ids=["turned", "cut", "twice"],
)
async def test_an_answer_in_another_shape_than_the_list_mixes_no_images(
    world: World, answer: Callable[[list[RemoteImage]], list[RemoteImage]]
) -> None:
    main_id, child_id = world.pair(THREE)
    restore = answering(world, answer)
    assert (await world.sync(await world.request())).uploaded == 3
    restore()
    touch(world, main_id, 1)
    world.main.calls.clear()
    result = await world.sync(await world.request())
    assert (result.uploaded, result.kept) == (1, 2)
    assert world.child.images("product", child_id) == THREE


async def test_a_list_that_turns_out_another_is_told_and_remembered_as_nothing(
    world: World,
) -> None:
    _, child_id = world.pair(THREE)
    request = await world.request()

    def lose_one(images: list[RemoteImage]) -> list[RemoteImage]:
        entity = world.child.entities["product"][child_id]
        world.child.entities["product"][child_id] = replace(entity, images=entity.images[:2])
        return images[:2]

    restore = answering(world, lose_one)
    with pytest.raises(ChildChangedError, match="another than the one that was set"):
        await world.sync(request)
    restore()
    assert (await world.sync(request)).uploaded == 3
    assert world.child.images("product", child_id) == THREE


async def test_a_refusal_that_leaves_the_child_without_images_says_so(world: World) -> None:
    _, child_id = world.pair([("bad.png", png(66))], old=2)
    dropping(world, png(66))
    with pytest.raises(NoImageUploadedError) as caught:
        await world.sync(await world.request())
    assert caught.value.reasons == [
        "bad.png: 51002",
        "the API removed 2 images of the child when it refused them",
    ]
    assert world.child.images("product", child_id) == []


async def test_an_earlier_copy_that_a_refusal_drops_is_told(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    touch(world, main_id, 0, 1, 2)
    dropping(world, THREE[0][1])
    result = await world.sync(await world.request())
    assert result.warnings == ("0.png: 51002; its earlier copy is gone",)
    assert world.child.images("product", child_id) == THREE[1:]


def ends_after_the_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends once the child has the images, before it can say so."""
    set_images = world.child.set_images

    async def ended(*args: Any, **kwargs: Any) -> list[RemoteImage]:
        await set_images(*args, **kwargs)
        raise asyncio.CancelledError

    monkeypatch.setattr(world.child, "set_images", ended)


def emptied(world: World, main_id: str) -> None:
    entity = world.main.entities["product"][main_id]
    world.main.entities["product"][main_id] = replace(entity, images=())


@pytest.mark.parametrize("earlier", [False, True], ids=["first copy", "later copy"])
async def test_images_of_a_process_that_ended_are_cleared_with_main_s(
    world: World, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    main_id, child_id = world.pair(THREE, old=1)
    if earlier:
        await world.sync(await world.request())
        emptied(world, main_id)
        world.main.entities["product"][main_id] = replace(
            world.main.entities["product"][main_id],
            images=(world.main._store("product", main_id, "new.png", png(7)),),
        )
    with monkeypatch.context() as ending:
        ends_after_the_write(world, ending)
        with pytest.raises(asyncio.CancelledError):
            await world.sync(await world.request())
    assert world.child.images("product", child_id)
    emptied(world, main_id)
    assert (await world.sync(await world.request())).outcome is SyncOutcome.CLEARED
    assert world.child.images("product", child_id) == []
    assert [p async for p in world.plan("main", "child")] == []


@pytest.mark.parametrize(
    "error", [StorageFullError("51003"), UnavailableError("no answer")], ids=["refused", "unknown"]
)
async def test_a_write_that_never_arrived_makes_no_image_imgsync_s(
    world: World, error: ImgsyncError
) -> None:
    main_id, child_id = world.pair(THREE, old=2)
    request = await world.request()
    world.child.fail = failing("set_images", error)
    with pytest.raises(type(error)):
        await world.sync(request)
    own = world.child.images("product", child_id)
    emptied(world, main_id)
    await world.sync(replace(request, images=()))
    assert world.child.images("product", child_id) == own


async def test_after_a_refusal_the_child_s_later_images_are_its_own(world: World) -> None:
    main_id, child_id = world.pair(THREE)
    request = await world.request()
    world.child.fail = failing("set_images", StorageFullError("51003"))
    with pytest.raises(StorageFullError):
        await world.sync(request)
    world.child.entities["product"][child_id] = replace(
        world.child.entities["product"][child_id],
        images=(world.child._store("product", child_id, "own.png", png(8)),),
    )
    emptied(world, main_id)
    await world.sync(replace(request, images=()))
    assert [name for name, _ in world.child.images("product", child_id)] == ["own.png"]
    assert [p async for p in world.plan("main", "child")] == []


async def test_an_answer_about_another_entity_says_nothing_of_this_one(world: World) -> None:
    _, child_id = world.pair(THREE, old=1)
    request = await world.request()
    other_id = world.child.add("product", "Other", THREE, external_code="y")
    others = world.child.images("product", other_id)
    set_images = world.child.set_images

    async def swapped(*args: Any, **_: Any) -> list[RemoteImage]:
        return await world.child.list_images(args[0], other_id)

    world.child.set_images = swapped  # type: ignore[method-assign]
    with pytest.raises(ChildChangedError):
        await world.sync(request)
    world.child.set_images = set_images  # type: ignore[method-assign]
    assert (await world.sync(request)).uploaded == 3
    assert world.child.images("product", child_id) == others == THREE
