"""A task carries the child's list as it was surveyed, and somebody changes the child before it
runs: the child must end with main's images all the same, whatever the program says of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from imgsync.application.payloads import BATCH, batch_payload
from imgsync.domain.errors import NoImageUploadedError, NotFoundError, UnavailableError
from imgsync.domain.model import RemoteImage
from imgsync.domain.tasks import SyncOutcome
from imgsync.testing import UNLIMITED, MemoryMoySklad
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
THREE = [(f"{n}.png", png(n)) for n in range(3)]
Images = tuple[RemoteImage, ...]
Edit = Callable[[Images, RemoteImage], Images]

MAIN: dict[str, Edit] = {
    "nothing": lambda images, new: images,
    "one added": lambda images, new: (*images, new),
    "first replaced": lambda images, new: (new, *images[1:]),
    "last removed": lambda images, new: images[:-1],
    "order turned": lambda images, new: images[::-1],
}
CHILD: dict[str, Edit] = {
    "one added": lambda images, new: (new, *images),
    "first removed": lambda images, new: images[1:],
    "emptied": lambda images, new: (),
    "all replaced": lambda images, new: (new,),
    "order turned": lambda images, new: images[::-1],
}


def edit(account: MemoryMoySklad, entity_id: str, change: Edit, number: int) -> None:
    other = account.add("bundle", "Other", [(f"new{number}.png", png(number))])
    entities = account.entities
    new = entities["bundle"].pop(other).images[0]
    new = replace(new, href=new.href.replace(f"bundle/{other}", f"product/{entity_id}"))
    entity = entities["product"][entity_id]
    entities["product"][entity_id] = replace(entity, images=change(entity.images, new))


@pytest.mark.parametrize("strategy", ["atomic", "delete-then-upload"])
@pytest.mark.parametrize("of_child", CHILD)
@pytest.mark.parametrize("of_main", MAIN)
@pytest.mark.parametrize("first", [True, False])
async def test_the_child_ends_with_mains_images(
    strategy: str, of_child: str, of_main: str, first: bool
) -> None:
    """`first`: no copy has been made before, and the child has images of its own."""
    world = World(strategy)
    main_id, child_id = world.pair(THREE, old=3)
    if not first:
        await world.sync(await world.request())
    edit(world.main, main_id, MAIN[of_main], 50)
    request = await world.request()
    edit(world.child, child_id, CHILD[of_child], 60)
    await world.sync(request)
    assert world.child.images("product", child_id) == world.main.images("product", main_id)
    assert (await world.sync(await world.request())).outcome is SyncOutcome.UNCHANGED


@pytest.mark.parametrize("of_child", CHILD)
async def test_where_nothing_can_be_fetched_the_list_is_read_before_it_is_called_equal(
    world: World, of_child: str
) -> None:
    """The only new image fails: what remains is to be kept, and there is nothing to send."""
    main_id, child_id = world.pair(THREE)
    await world.sync(await world.request())
    edit(world.main, main_id, MAIN["one added"], 50)
    request = await world.request()
    edit(world.child, child_id, CHILD[of_child], 60)
    world.main.fail = lambda call: UnavailableError("503") if "download" in call else None
    try:
        await world.sync(request)
    except NoImageUploadedError:
        assert of_child in ("emptied", "all replaced")
    world.main.fail = lambda _: None
    await world.sync(await world.request())
    assert world.child.images("product", child_id) == world.main.images("product", main_id)


async def test_the_last_image_of_a_list_that_only_shrinks_is_not_taken_for_there(
    world: World,
) -> None:
    """What the child refused goes from main: all the rest stands there, as was surveyed."""
    main_id, child_id = world.pair([THREE[0], ("b.png", b"no picture")])
    await world.sync(await world.request())
    assert world.child.images("product", child_id) == THREE[:1]
    edit(world.main, main_id, MAIN["last removed"], 50)
    request = await world.request()
    edit(world.child, child_id, CHILD["all replaced"], 60)
    assert (await world.sync(request)).outcome is SyncOutcome.COMPLETED
    assert world.child.images("product", child_id) == THREE[:1]


async def test_an_image_to_delete_that_is_gone_costs_a_reading() -> None:
    world = World("delete-then-upload")
    main_id, child_id = world.pair(THREE, old=3)
    request = await world.request()
    edit(world.child, child_id, CHILD["emptied"], 60)
    fails = [NotFoundError("404")]
    world.child.fail = lambda call: fails.pop() if fails and "delete_images" in call else None
    await world.sync(request)
    assert world.child.images("product", child_id) == world.main.images("product", main_id)
    assert world.child.count("list_images") == 1


async def test_a_first_copy_and_a_later_one_read_nothing_anew(world: World) -> None:
    main_id, child_id = world.pair(THREE, old=1)
    for change in ("nothing", "one added", "order turned", "first replaced"):
        edit(world.main, main_id, MAIN[change], 50 + len(change))
        request = await world.request()
        await world.sync(request)
        assert world.child.images("product", child_id) == world.main.images("product", main_id)
    assert world.child.count("list_images") == world.main.count("list_images") == 0


@pytest.mark.parametrize("how", ["attempts", "crashes", "check_again"])
async def test_after_a_crash_or_in_doubt_the_list_is_read_anew(world: World, how: str) -> None:
    main_id, child_id = world.pair(THREE, old=1)
    await world.enqueue()
    changes: dict[str, Any] = {how: 2 if how == "attempts" else True}
    task = replace(await world.claim(), **changes)
    handler = world.run_task().handlers[task.kind]
    edit(world.child, child_id, CHILD["one added"], 60)
    await handler(task, UNLIMITED)
    assert world.child.count("list_images") == 1
    assert world.child.images("product", child_id) == world.main.images("product", main_id)


async def test_a_payload_with_permanent_links_keeps_change_detection(world: World) -> None:
    """Of another program: its downloadHref tells no id of an image, its href does."""
    main_id, child_id = world.pair(THREE)
    payload = batch_payload(await world.request())
    images = world.main.entities["product"][main_id].images
    for image, listed in zip(payload["images"], images, strict=True):
        permanent = listed.download_href.replace("/download/", "/permanent/")
        image["meta"] = {"downloadHref": permanent, "href": listed.href}
        image["meta"]["downloadPermanentHref"] = permanent
    request = BATCH.parse(payload)
    assert [image.id for image in request.images] == [image.id for image in images]
    await world.sync(await world.request())
    world.main.calls.clear()
    result = await world.sync(request)
    assert (result.outcome, result.kept) == (SyncOutcome.UNCHANGED, 3)
    assert world.main.count("download") == 0
    assert world.child.images("product", child_id) == THREE


@pytest.mark.parametrize("of_main", [name for name in MAIN if name != "nothing"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_survey_that_was_held_up_brings_nothing_old_back(of_main: str, first: bool) -> None:
    """Its host stood still, and another has surveyed and copied what main has had since."""
    world = World()
    main_id, child_id = world.pair(THREE)
    if not first:
        await world.sync(await world.request())
        edit(world.main, main_id, lambda images, new: (new, *images), 40)
    old = await world.request()
    edit(world.main, main_id, MAIN[of_main], 50)
    await world.sync(await world.request())
    now = world.main.images("product", main_id)
    assert world.child.images("product", child_id) == now
    uploads = world.child.count("set_images")
    result = await world.sync(old)
    assert world.child.images("product", child_id) == now
    assert (result.outcome, world.child.count("set_images")) == (SyncOutcome.UNCHANGED, uploads)
