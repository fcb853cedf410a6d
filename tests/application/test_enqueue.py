"""What comes into the queue, and what is told of it where that ends early."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from imgsync.application.accounts import ChangeSettings, FindLinks
from imgsync.application.enqueue import Enqueue, EnqueueOutcome, EnqueuePayloads
from imgsync.application.payloads import BATCH, PayloadFormats, batch_payload
from imgsync.domain.errors import (
    StoreError,
    SyncIsOffError,
    UnavailableError,
    UnknownAccountError,
    WrongAccountError,
    WrongRoleError,
)
from imgsync.domain.model import AccountRole, Link, LinkSettings
from imgsync.domain.ports.queue import Enqueued, NewTask
from tests.application.world import TYPES, World, png

pytestmark = pytest.mark.anyio


def shop(world: World, entities: int) -> None:
    for n in range(entities):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=str(n))
        world.child.add("product", f"P{n}", external_code=str(n))


def batches_of(world: World) -> list[int]:
    """Tasks of each call to the queue, which are noted from now on."""
    sizes: list[int] = []
    enqueue = world.queue.enqueue

    async def noted(tasks: Sequence[NewTask]) -> list[Enqueued]:
        sizes.append(len(tasks))
        return await enqueue(tasks)

    world.queue.enqueue = noted  # type: ignore[method-assign]
    return sizes


async def test_many_tasks_are_queued_by_the_hundred_in_the_order_of_the_list(world: World) -> None:
    shop(world, 250)
    sizes = batches_of(world)
    outcome = await Enqueue(world.survey, world.queue)([world.link])
    assert sizes == [100, 100, 50]
    queued = [(await world.task(task_id)).payload["name"] for task_id in outcome.task_ids]
    assert queued == [f"P{n}" for n in range(250)]
    assert (outcome.entities, outcome.created, outcome.updated) == (250, 250, 0)


async def test_nothing_to_queue_asks_nothing_of_the_queue(world: World) -> None:
    sizes = batches_of(world)
    await Enqueue(world.survey, world.queue)([world.link])
    assert sizes == []


async def test_tasks_under_way_to_the_queue_when_told_to_stop_are_told(world: World) -> None:
    shop(world, 250)
    enqueue, writing, go_on, calls = world.queue.enqueue, asyncio.Event(), asyncio.Event(), [0]

    async def slow(tasks: Sequence[NewTask]) -> list[Enqueued]:
        calls[0] += 1
        if calls[0] == 2:
            writing.set()
            await go_on.wait()
        return await enqueue(tasks)

    world.queue.enqueue = slow  # type: ignore[method-assign]
    outcome = EnqueueOutcome()
    running = asyncio.create_task(Enqueue(world.survey, world.queue)([world.link], outcome=outcome))
    await writing.wait()
    running.cancel()
    await asyncio.sleep(0.01)
    assert not running.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(outcome.task_ids) == len(world.store.tasks) == 200


async def test_an_api_gone_half_way_leaves_no_planned_task_unqueued(world: World) -> None:
    shop(world, 130)
    world.main.add("bundle", "B", [("b.png", png(1))], external_code="b")
    pages = [0]

    def fail(call: str) -> Exception | None:
        pages[0] += call == "list_entities"
        return UnavailableError("503") if pages[0] == 3 else None

    world.main.fail = fail
    outcome = EnqueueOutcome()
    with pytest.raises(UnavailableError):
        await Enqueue(world.survey, world.queue)([world.link], outcome=outcome)
    assert len(outcome.task_ids) == outcome.entities == 130


async def test_a_queue_that_fails_is_asked_no_more(world: World) -> None:
    shop(world, 250)
    enqueue, sizes = world.queue.enqueue, list[int]()

    async def fails(tasks: Sequence[NewTask]) -> list[Enqueued]:
        sizes.append(len(tasks))
        if len(sizes) == 2:
            raise StoreError("the database is away")
        return await enqueue(tasks)

    world.queue.enqueue = fails  # type: ignore[method-assign]
    outcome = EnqueueOutcome()
    with pytest.raises(StoreError):
        await Enqueue(world.survey, world.queue)([world.link], outcome=outcome)
    assert sizes == [100, 100]
    assert len(outcome.task_ids) == 100


async def test_payloads_are_queued_by_the_hundred_too_and_told_where_that_ends(
    world: World,
) -> None:
    shop(world, 150)
    planned = [p.request async for p in world.plan("main", "child")]
    payloads = [batch_payload(request) for request in planned if request]
    put = EnqueuePayloads(
        world.accounts, world.settings, world.queue, PayloadFormats([BATCH]), TYPES
    )
    choice = await put.choose(payloads)
    assert (len(choice.wanted), choice.off) == (150, [])
    enqueue, sizes = world.queue.enqueue, list[int]()

    async def fails(tasks: Sequence[NewTask]) -> list[Enqueued]:
        sizes.append(len(tasks))
        if len(sizes) == 2:
            raise StoreError("the database is away")
        return await enqueue(tasks)

    world.queue.enqueue = fails  # type: ignore[method-assign]
    queued: list[Enqueued] = []
    with pytest.raises(StoreError):
        await put.put(choice.wanted, queued)
    assert (sizes, len(queued)) == ([100, 50], 100)
    first = world.store.tasks[queued[0].task_id]
    assert planned[0] is not None
    assert (first.account_id, first.entity_id) == ("child", planned[0].main_entity_id)
    await world.settings.put("child", LinkSettings())
    choice = await put.choose(payloads)
    assert (choice.wanted, [a.id for a in choice.off]) == ([], ["child"])


async def test_a_link_is_found_by_ids_or_names_where_the_child_receives_images(
    world: World,
) -> None:
    find_links = FindLinks(world.accounts, world.settings)

    async def find(main: str, child: str) -> Link:
        (link,) = await find_links(main, [child])
        return link

    link = await find("MAIN", "child")
    assert (link.main.id, link.child.id) == ("main", "child")
    assert link.settings.sync_images_all
    await world.settings.put("child", LinkSettings())
    with pytest.raises(SyncIsOffError, match=r"off for child 'child' \(child\); nothing was done"):
        await find("main", "child")
    with pytest.raises(UnknownAccountError):
        await find("main", "nobody")
    with pytest.raises(WrongAccountError, match="the same"):
        await find("main", "main")


async def test_settings_make_a_child_of_an_account_and_never_of_a_main_one(world: World) -> None:
    change = ChangeSettings(world.accounts, world.settings)
    account, settings = await change("child", first_only=True)
    assert (account.id, settings) == ("child", LinkSettings(sync_images=True))
    assert await world.settings.get("child") == settings
    assert (await world.accounts.get("child")).role is AccountRole.CHILD
    await world.accounts.set_role("main", AccountRole.MAIN)
    with pytest.raises(WrongRoleError, match=r"'main' \(main\) is a main account"):
        await change("main", all_images=True)
    assert not (await world.settings.get("main")).enabled
    assert (await change("main", all_images=False))[1] == LinkSettings()


async def test_what_is_told_does_not_grow_with_the_catalogue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many entities is unmatched, differs or is to be cleared; the counts tell all."""
    monkeypatch.setattr("imgsync.application.survey.MOST_SAMPLED", 10)
    monkeypatch.setattr("imgsync.application.enqueue.MOST_SAMPLED", 10)
    monkeypatch.setattr("imgsync.application.enqueue.MOST_UNASKED_CLEARS", 30)
    shop(world, 60)
    await Enqueue(world.survey, world.queue)([world.link])
    await world.worker().run(drain=True)
    for entity in list(world.main.entities["product"].values())[:40]:
        world.main.entities["product"][entity.id] = replace(entity, images=())
    for n in range(25):
        world.main.add("product", f"L{n}", [("x.png", png(n))], external_code=f"lonely {n}")
    outcome = await Enqueue(world.survey, world.queue)([world.link], dry_run=True)
    assert (outcome.unchanged, outcome.clears, outcome.clears_refused) == (20, 0, 40)
    assert outcome.clears_examples == [f"child: product 'P{n}'" for n in range(3)]
    assert (outcome.skipped.count, len(outcome.skipped.items), outcome.skipped.left_out) == (
        25, 10, 15,
    )  # fmt: skip
    assert (outcome.differences.count, len(outcome.differences.items)) == (65, 10)
    told = outcome.as_dict()
    assert (len(told["skipped"]), told["left_out"]) == (10, {"skipped": 15})
    # Who asked for that many has them all.
    outcome = await Enqueue(world.survey, world.queue)([world.link], max_clear=40)
    assert (outcome.clears, len(outcome.task_ids), outcome.clears_refused) == (40, 40, 0)
    told = outcome.as_dict()
    assert (len(told["task_ids"]), told["left_out"]) == (10, {"task_ids": 30, "skipped": 15})


async def test_what_waits_is_queued_anew_though_main_is_as_it_was(world: World) -> None:
    """Main had another image for a moment, whose task waits among thousands of others."""
    main_id, child_id = world.pair([("a.png", png(1))])
    empty_id = world.main.add("product", "Vase", external_code="v")
    vase = world.child.add("product", "Vase", external_code="v")
    enqueue = Enqueue(world.survey, world.queue)
    await enqueue([world.link])
    await world.worker().run(drain=True)
    await world.queue.enqueue([NewTask({}, f"other/product/{n}", "other") for n in range(1200)])
    changes = ((main_id, [("b.png", png(2))]), (empty_id, [("v.png", png(3))]))
    for waiting, (entity_id, images) in enumerate(changes, 1):
        before = world.main.entities["product"][entity_id]
        changed = world.main.add("product", before.name, images, external_code=before.external_code)
        of_type = world.main.entities["product"]
        of_type[entity_id] = replace(of_type.pop(changed), id=entity_id)
        assert (await enqueue([world.link])).entities == waiting
        of_type[entity_id] = before

    async def never(*_: object, **__: object) -> object:
        raise AssertionError("the whole queue is read")

    world.queue.find = never  # type: ignore[method-assign,assignment]
    outcome = await enqueue([world.link])
    assert (outcome.created, outcome.updated) == (0, 2)
    ids = list(outcome.task_ids)
    await world.worker().run(drain=True, only=ids)
    assert world.child.images("product", child_id) == [("a.png", png(1))]
    assert world.child.images("product", vase) == []
