"""Copies that compare by content: kept, adopted, made to fit, and the first that can be copied."""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.payloads import stored_request
from imgsync.application.prove import Proof, Prove
from imgsync.application.survey import NotSurveyed, Surveyed
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import (
    LargeImageError,
    NoImageError,
    NoImageUploadedError,
    PayloadError,
    UnavailableError,
)
from imgsync.domain.model import Adopt, LinkSettings, SyncRequest, Upload
from imgsync.domain.pictures import PictureFacts, PictureSettings, Transformed
from imgsync.domain.tasks import SyncOutcome
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
MB = 1_000_000
THREE = [(f"{n}.png", png(n)) for n in range(3)]
FIRST = LinkSettings(sync_images=True)


class Padded:
    """Implements `ImageTransform`: what is too large becomes another picture, of the most bytes
    that are allowed."""

    versions = ""
    own_version = "1"

    def __init__(self) -> None:
        self.made: list[int] = []

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
        if not settings.fit or len(content) <= max_bytes:
            return Transformed(content)
        self.made.append(max_bytes)
        return Transformed(png(zlib.crc32(content), max_bytes), ("scaled",), is_fitted=True)


def fitting(world: World, takes: int, *, keeps_list: bool = True) -> Padded:
    """The child takes no larger files, and imgsync makes them smaller."""
    transform = Padded()
    world.child.takes_image_bytes = takes
    world.child.refusal_keeps_list = keeps_list
    world.sync_entity = replace(world.sync_entity, transform=transform)
    return transform


def again(world: World, main_id: str, *, reverse: bool = False) -> None:
    """Main has the same pictures as new images, of other names."""
    images = [(f"new-{name}", content) for name, content in world.main.images("product", main_id)]
    world.main.change_images("product", main_id, images[::-1] if reverse else images)


async def surveyed(world: World, **options: Any) -> EnqueueOutcome:
    enqueue = Enqueue(world.survey, world.queue)
    return await enqueue([world.link], **options)


def record(world: World, child_id: str) -> SyncRecord:
    return world.store.records[EntityKey("child", "product", child_id)]


# Kept


async def test_the_same_pictures_as_new_images_are_kept() -> None:
    world = World()
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    before = world.child.entities["product"][child_id].images
    again(world, main_id)
    world.child.calls.clear()
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded, result.kept) == (SyncOutcome.COMPLETED, 0, 3)
    assert world.child.count("set") == 0
    assert world.child.entities["product"][child_id].images == before
    assert not (await surveyed(world)).task_ids


async def test_the_order_follows_main() -> None:
    world = World()
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    again(world, main_id, reverse=True)
    result = await world.sync(await world.request())
    assert (result.uploaded, result.kept) == (0, 3)
    assert world.child.images("product", child_id) == THREE[::-1]
    assert not (await surveyed(world)).task_ids


async def test_a_list_that_is_as_it_should_be_is_confirmed() -> None:
    """Somebody may have changed it since the survey, and no answer to a set would tell."""
    world = World()
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    again(world, main_id)
    request = await world.request()
    world.child.change_images("product", child_id, [("foreign.png", png(77))])
    result = await world.sync(request)
    assert result.uploaded == 3
    assert [content for _, content in world.child.images("product", child_id)] == [
        content for _, content in THREE
    ]


async def test_other_settings_send_only_what_they_change() -> None:
    world = World()
    big = [("big.png", png(9, 2 * MB)), ("small.png", png(8))]
    _, child_id = world.pair(big)
    fitting(world, 1_600_000)
    assert (await world.sync(await world.request())).notes == ("big.png: scaled",)
    assert [len(c) for _, c in world.child.images("product", child_id)] == [1_500_000, 100]
    world.store.settings["child"] = LinkSettings(
        sync_images_all=True, pictures=PictureSettings(fit=False)
    )
    assert len((await surveyed(world)).task_ids) == 1
    result = await world.sync(replace(await world.request(), child_images=None))
    # Refused as it came: the earlier one stays, and that is told once.
    assert (result.kept, len(result.warnings)) == (1, 1)
    assert [len(c) for _, c in world.child.images("product", child_id)] == [1_500_000, 100]


# Adopted


async def test_a_lost_database_costs_a_survey() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    await world.sync(await world.request())
    world.store.records.clear()
    world.main.calls.clear()
    world.child.calls.clear()
    dry = await surveyed(world, dry_run=True)
    assert (dry.unchanged, dry.adopted, world.store.records) == (1, 1, {})
    found = await surveyed(world)
    assert (found.unchanged, found.adopted, list(found.task_ids)) == (1, 1, [])
    assert all(call.startswith("list") for call in world.main.calls + world.child.calls)
    assert len(record(world, child_id).copied) == 3
    assert (await surveyed(world)).adopted == 0


async def test_a_record_that_another_has_written_meanwhile_stays() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    await world.sync(await world.request())
    theirs = record(world, child_id)
    world.store.records.clear()
    found = [one async for one in world.survey([world.link])]
    world.store.records[EntityKey("child", "product", child_id)] = theirs
    await world.survey.adopt([one for one in found if isinstance(one, Surveyed)])
    assert record(world, child_id) is theirs


async def test_a_task_without_a_record_adopts_too() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    request = await world.request()
    world.child.change_images("product", child_id, THREE)
    world.main.calls.clear()
    result = await world.sync(replace(request, child_images=None))
    assert (result.outcome, result.kept) == (SyncOutcome.UNCHANGED, 3)
    assert world.main.count("download") == world.child.count("set") == 0
    assert len(record(world, child_id).copied) == 3


@pytest.mark.parametrize("other", [[], [1]])
async def test_by_hash_what_is_equal_is_kept(other: list[int]) -> None:
    """`other`: images of the child with another content of the same size."""
    world = World()
    _, child_id = world.pair(THREE)
    there = [(name, png(50) if n in other else c) for n, (name, c) in enumerate(THREE)]
    world.child.change_images("product", child_id, there)
    assert (await surveyed(world, dry_run=True)).adopted == 1
    assert len((await surveyed(world, adopt=Adopt.HASH)).task_ids) == 1
    task = await world.queue.get(1)
    assert task is not None
    request = stored_request(task.payload)
    assert request is not None
    assert request.adopt is Adopt.HASH
    result = await world.sync(request)
    assert (result.uploaded, result.kept) == (len(other), 3 - len(other))
    assert world.child.images("product", child_id) == THREE
    assert not (await surveyed(world, adopt=Adopt.HASH, dry_run=True)).entities


async def test_by_none_all_is_sent() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    world.child.change_images("product", child_id, THREE)
    result = await world.sync(replace(await world.request(), adopt=Adopt.NONE))
    assert result.uploaded == 3


async def test_by_hash_what_was_adopted_by_its_size_is_looked_at() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    world.child.change_images("product", child_id, [*THREE[:2], ("2.png", png(50))])
    assert (await surveyed(world)).adopted == 1
    assert not (await surveyed(world)).task_ids
    assert len((await surveyed(world, adopt=Adopt.HASH)).task_ids) == 1
    result = await world.sync(replace(await world.request(), adopt=Adopt.HASH))
    assert (result.uploaded, result.kept) == (1, 2)
    assert world.child.images("product", child_id) == THREE
    assert not (await surveyed(world, adopt=Adopt.HASH, dry_run=True)).entities


async def test_an_image_of_the_child_that_cannot_be_downloaded_is_sent() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    world.child.change_images("product", child_id, THREE)
    request = replace(await world.request(), adopt=Adopt.HASH)
    world.child.fail = lambda call: UnavailableError("503") if "download" in call else None
    assert (await world.sync(request)).uploaded == 3
    assert world.child.images("product", child_id) == THREE


def test_a_request_names_a_way_to_adopt() -> None:
    with pytest.raises(PayloadError, match="adopt"):
        SyncRequest("m", "c", "product", "1", "2", (), adopt="size")  # type: ignore[arg-type]


# The first


async def test_the_first_that_can_be_copied_is() -> None:
    world = World()
    world.store.settings["child"] = FIRST
    images = [("0.png", b"no picture"), ("1.png", b"none"), *THREE]
    _, child_id = world.pair(images)
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded) == (SyncOutcome.COMPLETED_WITH_WARNINGS, 1)
    assert len(result.warnings) == 2
    assert world.child.images("product", child_id) == THREE[:1]
    assert world.main.count("download") == 3
    found = await surveyed(world)
    assert (found.unchanged, found.warnings.count, list(found.task_ids)) == (1, 2, [])


async def test_the_first_takes_its_place_once_it_can_be_copied() -> None:
    world = World()
    world.store.settings["child"] = FIRST
    main_id, child_id = world.pair(THREE)
    first = world.main.entities["product"][main_id].images[0].download_href
    world.main.fail = lambda call: UnavailableError("503") if first in call else None
    result = await world.sync(await world.request())
    assert (result.uploaded, len(result.warnings)) == (1, 1)
    assert world.child.images("product", child_id) == THREE[1:2]
    world.main.fail = lambda _: None
    assert (await world.sync(await world.request())).uploaded == 1
    assert world.child.images("product", child_id) == THREE[:1]
    assert not (await surveyed(world)).task_ids


@pytest.mark.parametrize("keeps_list", [True, False])
async def test_one_that_the_child_refuses_gives_way_to_the_next(keeps_list: bool) -> None:
    world = World()
    world.store.settings["child"] = FIRST
    _, child_id = world.pair(THREE)
    refusing(world, THREE[0][1], keeps_list=keeps_list)
    result = await world.sync(await world.request())
    assert (result.uploaded, result.warnings) == (1, ("0.png: 51002",))
    assert world.child.images("product", child_id) == THREE[1:2]
    assert not (await surveyed(world)).task_ids


def refusing(world: World, content: bytes, *, keeps_list: bool = True) -> None:
    """The child takes that picture for none."""
    set_images = world.child.set_images

    async def checked(*args: Any, **kwargs: Any) -> Any:
        _, entity_id, elements, read = args[:4]
        for element in elements:
            if isinstance(element, Upload):
                file = b"".join([chunk async for chunk in read(element.key)])
                if file == content:
                    if not keeps_list:
                        world.child.change_images("product", entity_id, [])
                    raise NoImageError("51002")
        return await set_images(*args, **kwargs)

    world.child.set_images = checked  # type: ignore[method-assign]


async def test_where_none_of_all_can_be_copied_the_task_fails() -> None:
    world = World()
    world.store.settings["child"] = FIRST
    world.pair([(f"{n}.gif", b"none") for n in range(3)])
    with pytest.raises(NoImageUploadedError) as failed:
        await world.sync(await world.request())
    assert len(failed.value.reasons) == 3


# The limit


@pytest.mark.slow
@pytest.mark.parametrize("keeps_list", [True, False], ids=["keeps", "drops"])
@pytest.mark.parametrize(("megabytes", "limit"), [(3, 3_000_000), (5, 5_000_000), (10, 10_000_000)])
async def test_a_file_is_made_as_small_as_the_account_takes_it(
    megabytes: int, limit: int, keeps_list: bool
) -> None:
    world = World()
    images = [
        ("small.png", png(1)),
        ("huge.png", png(2, 10 * 1024 * 1024)),
        ("big.png", png(3, 6 * MB)),
    ]
    main_id, child_id = world.pair(images, old=1)
    takes = megabytes * MB
    transform = fitting(world, takes, keeps_list=keeps_list)
    result = await world.sync(await world.request())
    assert (result.outcome, result.uploaded, result.warnings) == ("completed", 3, ())
    sizes = [len(content) for _, content in world.child.images("product", child_id)]
    assert sizes == [100, min(limit, 10 * 1024 * 1024), min(limit, 6 * MB)]
    assert len(result.notes) == (1 if megabytes == 10 else 2)
    assert set(transform.made) <= {10_000_000, 5_000_000, 3_000_000}
    assert not (await surveyed(world)).task_ids
    # What was learnt holds for the next ones.
    refusals = world.child.count("set")
    world.main.change_images("product", main_id, [*images, ("next.png", png(4, 7 * MB))])
    assert (await world.sync(await world.request())).uploaded == 1
    assert world.child.count("set") == refusals + 1


@pytest.mark.slow
async def test_what_even_the_smallest_limit_refuses_is_a_warning() -> None:
    world = World()
    _, child_id = world.pair([("small.png", png(1)), ("big.png", png(2, 6 * MB))])
    transform = fitting(world, 100_000)
    result = await world.sync(await world.request())
    assert (result.uploaded, result.warnings) == (1, ("big.png: 51004",))
    assert transform.made == [5 * MB, 3 * MB, 1_500_000, 750_000, 375_000]
    assert world.child.images("product", child_id) == [("small.png", png(1))]
    assert not (await surveyed(world)).task_ids


@pytest.mark.parametrize("keeps_list", [True, False])
async def test_a_file_below_every_limit_that_is_refused_costs_itself_alone(
    keeps_list: bool,
) -> None:
    world = World()
    _, child_id = world.pair([("small.png", png(1)), ("big.png", png(2, 360_000))], old=2)
    transform = fitting(world, 200_000, keeps_list=keeps_list)
    result = await world.sync(await world.request())
    assert (result.uploaded, result.warnings) == (1, ("big.png: 51004",))
    assert not transform.made
    assert world.child.images("product", child_id) == [("small.png", png(1))]
    assert not (await surveyed(world)).task_ids


async def test_without_fit_a_refused_file_is_a_warning() -> None:
    world = World()
    world.store.settings["child"] = LinkSettings(
        sync_images_all=True, pictures=PictureSettings(fit=False)
    )
    world.pair([("small.png", png(1)), ("big.png", png(2, 6 * MB))])
    transform = fitting(world, 5 * MB)
    result = await world.sync(await world.request())
    assert (result.uploaded, result.warnings) == (1, ("big.png: 51004",))
    assert not transform.made


async def test_an_account_that_calls_every_file_too_large_ends_it() -> None:
    world = World()
    world.pair(THREE)
    fitting(world, 5 * MB)

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(e, Upload) for e in args[2]):
            world.child.calls.append("set refused")
            raise LargeImageError("51004")

    world.child.set_images = refuse  # type: ignore[method-assign]
    with pytest.raises(NoImageUploadedError):
        await world.sync(await world.request())
    assert world.child.count("set refused") < 12


# Proof


async def proofs(world: World) -> list[Proof]:
    prove = Prove(
        world.records, world.factory, world.storage, PillowCheck(), abilities=world.abilities
    )
    found = [one async for one in world.survey([world.link], extras=True)]
    return [await prove(one) for one in found if not isinstance(one, NotSurveyed)]


async def test_equality_is_proved_by_content() -> None:
    world = World()
    _, child_id = world.pair(THREE)
    world.child.change_images("product", child_id, [*THREE[:2], ("2.png", png(50))])
    (proof,) = await proofs(world)
    assert (proof.equal, proof.unlike, proof.unproved) == (2, ("2.png",), ())
    writes = [c for c in world.child.calls if c.startswith(("set", "delete"))]
    assert (writes, world.store.records) == ([], {})


async def test_what_was_made_to_fit_another_limit_is_proved() -> None:
    world = World()
    world.pair([("big.png", png(2, 6 * MB))])
    transform = fitting(world, 3 * MB)
    await world.sync(await world.request())
    prove = Prove(world.records, world.factory, world.storage, PillowCheck(), transform)
    world.child.shown = type(world.child.shown)()
    (found,) = [one async for one in world.survey([world.link])]
    assert isinstance(found, Surveyed)
    proof = await prove(found)
    assert (proof.equal, proof.unlike, proof.unproved) == (1, (), ())


@pytest.mark.parametrize("side", ["main", "child"])
async def test_what_cannot_be_downloaded_is_not_proved(side: str) -> None:
    world = World()
    world.pair(THREE)
    await world.sync(await world.request())
    world.storage = type(world.storage)()
    account = world.main if side == "main" else world.child
    account.fail = lambda call: UnavailableError("503") if "download" in call else None
    (proof,) = await proofs(world)
    assert (proof.equal, proof.unlike, len(proof.unproved)) == (0, (), 3)


# Nothing that can be copied

BROKEN = [("broken.png", png(1)[:-20])]


async def test_an_entity_of_which_nothing_can_be_copied_is_no_task_again() -> None:
    world = World()
    main_id, child_id = world.pair(BROKEN, old=2)
    own = world.child.images("product", child_id)
    request = await world.request()
    with pytest.raises(NoImageUploadedError):
        await world.sync(request)
    found = await surveyed(world)
    assert (list(found.task_ids), found.unchanged) == ([], 1)
    assert ["broken.png" in text for text in found.warnings.items] == [True]
    # One that another program queues says so at once, and nothing is downloaded again.
    world.main.calls.clear()
    with pytest.raises(NoImageUploadedError, match=r"broken\.png"):
        await world.sync(replace(request, child_images=None))
    assert world.main.count("download") == 0
    # What the child has is its own, and stays where main's list is emptied.
    world.main.change_images("product", main_id, [])
    assert not (await surveyed(world)).task_ids
    assert world.child.images("product", child_id) == own


@pytest.mark.parametrize("what", ["main", "settings"])
async def test_it_is_one_once_something_has_changed(what: str) -> None:
    world = World()
    main_id, _ = world.pair(BROKEN, old=1)
    with pytest.raises(NoImageUploadedError):
        await world.sync(await world.request())
    if what == "main":
        world.main.change_images("product", main_id, THREE)
    else:
        world.store.settings["child"] = LinkSettings(
            sync_images_all=True, pictures=PictureSettings(convert=False)
        )
    assert len((await surveyed(world)).task_ids) == 1


async def test_where_all_are_refused_it_is_no_task_again_either() -> None:
    world = World()
    _, child_id = world.pair([("big.png", png(9, 5000))], old=1)
    world.child.takes_image_bytes = 1000
    with pytest.raises(NoImageUploadedError):
        await world.sync(await world.request())
    assert not (await surveyed(world)).task_ids
    assert len(world.child.images("product", child_id)) == 1
