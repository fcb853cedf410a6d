"""Lists of many entities of a child in one request, whatever the API does with them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from imgsync.application.bulk import _Entry
from imgsync.application.payloads import stored_payload
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImgsyncError,
    LeaseLostError,
    RequestTooLargeError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.model import Abilities, Adopt, RemoteImage
from imgsync.domain.ports.moysklad import ImageSet, WritePermit
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.tasks import SyncResult, Task, TaskStatus
from imgsync.testing import MemoryTaskQueue
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
Images = list[tuple[str, bytes]]
Answers = list[list[RemoteImage] | ImgsyncError]


class Chain:
    """Products of a world, each with two images and its counterpart."""

    def __init__(self, world: World) -> None:
        self.world = world
        # Requests are counted: on a busy machine, too, all that can go in one does.
        world.bulk.patience_seconds = 30
        self.pairs: list[tuple[str, str]] = []

    def add(
        self, count: int, *, old: int = 0, kind: str = "product", images: Images | None = None
    ) -> None:
        """`old`: images that the child has already."""
        for n in range(len(self.pairs), len(self.pairs) + count):
            new = images or [(f"{n}-{i}.png", png(10 * n + i, 200)) for i in range(2)]
            main = self.world.main.add(kind, f"P{n}", new, external_code=f"x{n}")
            own = [(f"old{n}-{i}.png", png(5000 + 10 * n + i)) for i in range(old)]
            self.pairs.append(
                (main, self.world.child.add(kind, f"P{n}", own, external_code=f"x{n}"))
            )

    async def enqueue(self, adopt: Adopt = Adopt.SIZE) -> None:
        async for planned in self.world.plan("main", "child", adopt=adopt):
            if planned.request is not None:
                await self.world.queue.enqueue(
                    [NewTask(stored_payload(planned.request), planned.request.dedupe_key, "child")]
                )

    async def drain(self, concurrency: int = 4) -> list[TaskReport]:
        reports: list[TaskReport] = []
        async with asyncio.timeout(20):
            await self.world.worker(concurrency).run(drain=True, report=reports.append)
        return reports

    async def sync(self, adopt: Adopt = Adopt.SIZE) -> list[TaskReport]:
        """What the drain reports; the calls of the child count from here."""
        await self.enqueue(adopt)
        self.world.child.calls.clear()
        return await self.drain()

    def change(self, number: int, images: Images) -> None:
        """Another list of main."""
        main, products = self.pairs[number][0], self.world.main.entities["product"]
        new = self.world.main.add("variant", "-", images)
        stored = self.world.main.entities["variant"].pop(new).images
        products[main] = replace(products[main], images=stored)

    def images(self, number: int) -> Images:
        return self.world.child.images("product", self.pairs[number][1])

    def source(self, number: int) -> Images:
        return self.world.main.images("product", self.pairs[number][0])

    @property
    def writes(self) -> tuple[int, int]:
        """Requests of many lists, and of one."""
        child = self.world.child
        return child.count("set_many"), child.count("set_images")

    async def abilities(self) -> Abilities:
        return await self.world.abilities.get("child")

    async def show(self, *, bulk: bool) -> None:
        await self.world.bulk.learn("child", Abilities(bulk=bulk))

    def judge(self) -> None:
        for number in range(len(self.pairs)):
            assert self.images(number) == self.source(number)


@pytest.fixture
def chain(world: World) -> Chain:
    return Chain(world)


def all_completed(reports: Sequence[TaskReport]) -> bool:
    return {report.end for report in reports} == {TaskEnd.COMPLETED}


SetMany = Callable[[Any, Sequence[ImageSet]], Any]


def answering(world: World, answer: Callable[[SetMany, Any, Sequence[ImageSet]], Any]) -> list[int]:
    """Has `answer` done in place of each request of many lists, which it is given; sizes of all."""
    inner, sizes = world.child.set_many, list[int]()

    async def set_many(entity_type: Any, sets: Sequence[ImageSet]) -> Answers:
        sizes.append(len(sets))
        answers: Answers = await answer(inner, entity_type, sets)
        return answers

    world.child.set_many = set_many  # type: ignore[method-assign]
    return sizes


# --- what the account can do


async def test_the_lists_of_many_entities_are_one_request(chain: Chain) -> None:
    chain.add(30)
    reports = await chain.sync()
    assert (len(reports), all_completed(reports)) == (30, True)
    assert chain.writes == (1, 0)
    assert (await chain.abilities()).bulk is True
    chain.judge()
    assert await chain.sync() == []


async def test_a_single_entity_is_set_by_itself_and_shows_nothing(chain: Chain) -> None:
    chain.add(1)
    await chain.sync()
    assert chain.writes == (0, 1)
    assert (await chain.abilities()).bulk is None
    chain.judge()


@pytest.mark.parametrize("way", ["ignored", "refused"])
@pytest.mark.parametrize("old", [0, 2])
async def test_an_account_that_takes_no_such_list_costs_one_request_once(
    chain: Chain, way: Any, old: int
) -> None:
    chain.world.child.bulk = way
    chain.add(12, old=old)
    assert all_completed(await chain.sync())
    assert chain.writes == (1, 12)
    assert (await chain.abilities()).bulk is False
    chain.judge()
    chain.add(5)
    assert all_completed(await chain.sync())
    assert chain.writes == (0, 5)
    chain.judge()


async def test_of_entities_with_images_two_are_tried_first(chain: Chain) -> None:
    chain.add(12, old=1)
    sizes = answering(chain.world, lambda inner, kind, sets: inner(kind, sets))
    assert all_completed(await chain.sync())
    assert sizes == [2, 10]
    chain.judge()


@pytest.mark.parametrize("way", ["ignored", "refused"])
async def test_several_workers_of_a_process_try_once(chain: Chain, way: Any) -> None:
    world = chain.world
    world.child.bulk = way
    world.child.seconds_per_write = 0.05
    chain.add(40, old=1)
    await chain.enqueue()
    claim = world.queue.claim

    async def ten(*, limit: int = 1, **kwargs: Any) -> list[Task]:
        return await claim(limit=min(limit, 10), **kwargs)

    world.queue.claim = ten  # type: ignore[method-assign]
    assert all_completed(await chain.drain(4))
    assert chain.writes == (1, 40)
    chain.judge()


async def test_an_ignored_list_that_looks_like_the_one_that_was_sent_is_not_taken_for_set(
    chain: Chain,
) -> None:
    """The child's old images have the names and the sizes of main's."""
    world = chain.world
    world.child.bulk = "ignored"
    for n in range(4):
        main = world.main.add("product", f"P{n}", [("a.png", png(n))], external_code=f"x{n}")
        old = [("a.png", png(900 + n))]
        chain.pairs.append((main, world.child.add("product", f"P{n}", old, external_code=f"x{n}")))
    assert all_completed(await chain.sync(Adopt.NONE))
    chain.judge()
    assert (await chain.abilities()).bulk is not True


async def test_an_account_that_takes_lists_no_more_is_believed(chain: Chain) -> None:
    await chain.show(bulk=True)
    chain.world.child.bulk = "ignored"
    chain.add(10, old=1)
    assert all_completed(await chain.sync())
    assert chain.writes == (1, 10)
    assert (await chain.abilities()).bulk is False
    chain.judge()


async def test_an_account_that_takes_lists_no_more_keeps_no_old_image_that_looks_like_the_new(
    chain: Chain,
) -> None:
    """The child's old images have the names and the sizes of main's."""
    world = chain.world
    await chain.show(bulk=True)
    world.child.bulk = "ignored"
    for n in range(4):
        main = world.main.add("product", f"P{n}", [("a.png", png(n))], external_code=f"x{n}")
        old = [("a.png", png(900 + n))]
        chain.pairs.append((main, world.child.add("product", f"P{n}", old, external_code=f"x{n}")))
    assert all_completed(await chain.sync(Adopt.NONE))
    chain.judge()


@pytest.mark.parametrize("known", [True, None])
async def test_what_a_deletion_has_left_is_not_taken_for_a_list_that_was_set(known: Any) -> None:
    world = World(strategy="delete-then-upload")
    chain = Chain(world)
    if known:
        await chain.show(bulk=True)
    world.child.bulk = "ignored"
    for n in range(4):
        main = world.main.add("product", f"P{n}", [("a.png", png(n))], external_code=f"x{n}")
        old = [("a.png", png(900 + n)), ("b.png", png(800 + n))]
        chain.pairs.append((main, world.child.add("product", f"P{n}", old, external_code=f"x{n}")))
    assert all_completed(await chain.sync())
    chain.judge()
    assert known or (await chain.abilities()).bulk is not True


async def test_a_store_that_does_not_tell_what_an_account_can_do_assumes_nothing(
    chain: Chain,
) -> None:
    async def away(account_id: str) -> Abilities:
        raise StoreError("the database is away")

    chain.world.abilities.get = away  # type: ignore[method-assign]
    chain.add(6)
    assert all_completed(await chain.sync())
    assert chain.writes == (0, 6)
    chain.judge()


# --- keeping images


async def grown(chain: Chain, count: int = 6) -> None:
    """Main entities of which all were copied, each with an image more."""
    chain.add(count)
    await chain.sync()
    chain.judge()
    for n in range(count):
        chain.change(n, [*chain.source(n), (f"new{n}.png", png(7000 + n))])


async def test_lists_that_keep_images_are_tried_with_one_entity(chain: Chain) -> None:
    await grown(chain)
    sizes = answering(chain.world, lambda inner, kind, sets: inner(kind, sets))
    assert all_completed(await chain.sync())
    assert (sizes, chain.writes) == ([1, 5], (2, 0))
    assert (await chain.abilities()).bulk_keeps is True
    chain.judge()
    assert chain.world.main.count("download") == 3 * 6


async def test_images_that_are_not_kept_are_restored_in_the_same_run(chain: Chain) -> None:
    await grown(chain)
    chain.world.child.bulk_keeps = "dropped"
    reports = await chain.sync()
    assert (len(reports), all_completed(reports)) == (6, True)
    assert chain.writes == (1, 6)
    assert (await chain.abilities()).bulk_keeps is False
    chain.judge()
    assert await chain.sync() == []


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_refusal_to_keep_costs_one_request_whatever_it_leaves(
    chain: Chain, keeps: bool
) -> None:
    await grown(chain)
    chain.world.child.bulk_keeps = "refused"
    chain.world.child.refusal_keeps_list = keeps
    reports = await chain.sync()
    assert (len(reports), all_completed(reports)) == (6, True)
    assert chain.writes[0] == 1
    assert (await chain.abilities()).bulk_keeps is False
    chain.judge()


async def test_an_image_that_is_nowhere_else_is_never_tried_with(chain: Chain) -> None:
    """An earlier copy stands in for a version that is no picture."""
    chain.add(3)
    await chain.sync()
    chain.judge()
    world, before = chain.world, [chain.images(n) for n in range(3)]
    world.child.bulk_keeps = "dropped"
    for n in range(3):
        chain.change(n, [*chain.source(n), (f"new{n}.png", png(7000 + n))])
        main = world.main.entities["product"][chain.pairs[n][0]]
        changed = replace(main.images[0], updated="2026-02-02 00:00:00.000")
        world.main.blobs[changed.id] = bytes(changed.size)
        images = (changed, *main.images[1:])
        world.main.entities["product"][main.id] = replace(main, images=images)
    await chain.sync()
    assert (await chain.abilities()).bulk_keeps is None
    assert chain.writes == (0, 3)
    assert [chain.images(n)[:2] for n in range(3)] == before


async def test_an_account_that_keeps_images_no_more_is_believed(chain: Chain) -> None:
    await grown(chain)
    await chain.world.bulk.learn("child", Abilities(bulk=True, bulk_keeps=True))
    chain.world.child.bulk_keeps = "dropped"
    reports = await chain.sync()
    assert (len(reports), all_completed(reports)) == (6, True)
    assert chain.writes == (1, 6)
    assert (await chain.abilities()).bulk_keeps is False
    chain.judge()


async def test_an_account_that_ignores_lists_is_found_out_by_one_that_keeps_images(
    chain: Chain,
) -> None:
    await grown(chain)
    await chain.world.bulk.abilities.forget("child")
    chain.world.child.bulk = "ignored"
    assert all_completed(await chain.sync())
    assert chain.writes == (1, 6)
    assert (await chain.abilities()).bulk is False
    chain.judge()


# --- one of many is refused, or all


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_refused_image_costs_its_entity_alone(
    chain: Chain, known: bool, keeps: bool
) -> None:
    if known:
        await chain.show(bulk=True)
    chain.world.child.takes_image_bytes = 500
    chain.world.child.refusal_keeps_list = keeps
    chain.add(4)
    bad = [("good.png", png(800)), ("large.png", png(801, 600)), ("fine.png", png(802))]
    chain.add(1, images=bad)
    chain.add(15)
    reports = await chain.sync()
    assert all_completed(reports)
    assert chain.images(4) == [bad[0], bad[2]]
    for n in (*range(4), *range(5, 20)):
        assert chain.images(n) == chain.source(n)
    many, alone = chain.writes
    assert many == 1
    assert alone <= 6  # the list of three, and what finds the bad one
    warned = [report for report in reports if report.result and report.result.warnings]
    assert [r.result.warnings for r in warned if r.result] == [("large.png: 51004",)]


async def test_a_request_that_is_too_large_is_halved(chain: Chain) -> None:
    async def at_most_three(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        if len(sets) > 3:
            raise RequestTooLargeError("1088: timed out")
        return await inner(kind, sets)

    await chain.show(bulk=True)
    sizes = answering(chain.world, at_most_three)
    chain.add(12)
    assert all_completed(await chain.sync())
    assert sizes == [12, 6, 3, 3, 6, 3, 3]
    chain.judge()


@pytest.mark.parametrize(
    "error", [RequestTooLargeError("1044: the body is too large"), LeaseLostError("outlasted")]
)
async def test_after_a_request_that_was_too_large_others_are_smaller(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: ImgsyncError
) -> None:
    """Each costs its whole body, and one that takes the API too long costs five minutes."""
    monkeypatch.setattr("imgsync.application.bulk._LEAST_BYTES", 1)
    world = chain.world

    async def at_most_ten(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        if len(sets) > 10:
            raise error
        return await inner(kind, sets)

    await chain.show(bulk=True)
    sizes = answering(world, at_most_ten)
    chain.add(12)
    await chain.sync()
    sizes.clear()
    chain.add(36)
    await chain.enqueue()
    await chain.drain()
    assert max(sizes) in (5, 6)  # by their bytes, which differ a little
    world.clock.moment += 2 * LEASE
    await chain.drain()
    chain.judge()


async def test_an_entity_with_which_every_request_fails_goes_alone(chain: Chain) -> None:
    chain.add(16)
    poison = chain.pairs[5][1]

    async def not_with(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        if poison in [one.entity_id for one in sets]:
            raise ApiError("something is wrong with the request")
        return await inner(kind, sets)

    await chain.show(bulk=True)
    sizes = answering(chain.world, not_with)
    assert all_completed(await chain.sync())
    assert sizes == [16, 8, 4, 4, 2, 2, 8]
    assert chain.world.child.count("set_images") == 2
    chain.judge()


async def test_requests_that_all_fail_whole_are_few(chain: Chain) -> None:
    async def refuse(*_: object) -> Any:
        raise ApiError("something is wrong with the request")

    await chain.show(bulk=True)
    sizes = answering(chain.world, refuse)
    chain.add(90)
    assert all_completed(await chain.sync())
    assert len(sizes) == 16
    assert chain.world.child.count("set_images") == 90
    chain.judge()


async def test_an_api_that_is_down_is_asked_once_and_each_entity_alone_the_next_time(
    chain: Chain,
) -> None:
    await chain.show(bulk=True)
    chain.add(20)
    chain.world.child.fail = lambda call: (
        UnavailableError("503") if call.startswith("set_") else None
    )
    reports = await chain.sync()
    assert {report.end for report in reports} == {TaskEnd.RETRYING}
    assert chain.writes == (1, 0)
    chain.world.child.fail = lambda _: None
    chain.world.clock.moment += 2 * LEASE
    assert all_completed(await chain.drain())
    assert chain.writes == (1, 20)
    chain.judge()


async def test_refused_credentials_are_asked_once_and_park_all(chain: Chain) -> None:
    await chain.show(bulk=True)
    chain.add(50)
    chain.world.child.fail = lambda call: (
        AuthorisationError("401", "child") if call.startswith("set_") else None
    )
    reports = await chain.sync()
    assert {report.end for report in reports} == {TaskEnd.PARKED}
    assert chain.writes == (1, 0)
    assert await chain.world.queue.parked() == 50
    assert {task.attempts for task in await chain.world.queue.find()} == {0}


@pytest.mark.parametrize("found", [0, 1])
async def test_an_answer_with_more_or_less_than_was_sent_is_no_answer(
    chain: Chain, found: int
) -> None:
    async def odd(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        return (await inner(kind, sets))[:found]

    await chain.show(bulk=True)
    answering(chain.world, odd)
    chain.add(4)
    assert all_completed(await chain.sync())
    chain.judge()


async def test_answers_about_other_entities_say_nothing(chain: Chain) -> None:
    async def exchanged(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        answers = await inner(kind, sets)
        return [*answers[1:], answers[0]]

    await chain.show(bulk=True)
    answering(chain.world, exchanged)
    chain.add(4, images=[("same.png", png(1))])
    assert all_completed(await chain.sync())
    assert chain.world.child.count("set_images") == 4
    chain.judge()


# --- what is ready together


async def test_types_are_not_mixed(chain: Chain) -> None:
    chain.add(3)
    chain.add(3, kind="bundle")
    kinds = list[str]()

    async def noted(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        kinds.append(kind.name)
        return await inner(kind, sets)

    answering(chain.world, noted)
    assert all_completed(await chain.sync())
    assert sorted(kinds) == ["bundle", "product"]


async def test_one_slow_download_does_not_hold_the_others(chain: Chain) -> None:
    chain.world.bulk.patience_seconds = 0.3
    chain.add(8)
    await chain.enqueue()
    world, go_on = chain.world, asyncio.Event()
    slow, download = (
        world.main.entities["product"][chain.pairs[3][0]].images[0],
        world.main.download,
    )

    async def hangs(url: str, *args: Any, **kwargs: Any) -> TempFile:
        if url == slow.download_href:
            await go_on.wait()
        return await download(url, *args, **kwargs)

    world.main.download = hangs  # type: ignore[method-assign]
    running = asyncio.create_task(chain.drain())
    async with asyncio.timeout(10):
        while (await world.queue.counts())[TaskStatus.COMPLETED] < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert chain.writes == (1, 0)
    go_on.set()
    assert all_completed(await running)
    chain.judge()


async def test_a_request_holds_no_more_bytes_than_it_may(chain: Chain) -> None:
    world = chain.world
    limits = world.child.limits
    world.child.limits = replace(limits, bulk=replace(limits.bulk, max_bytes=5_000))
    await chain.show(bulk=True)
    chain.add(20)
    sizes = answering(world, lambda inner, kind, sets: inner(kind, sets))
    world.child.request_sizes.clear()
    assert all_completed(await chain.sync())
    assert max(world.child.request_sizes) <= 5_000
    assert len(sizes) <= 7
    chain.judge()


async def test_the_images_under_way_have_no_more_than_some_bytes(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgsync.application.bulk._MOST_BYTES", 1300)  # of three entities
    world, under_way, most = chain.world, set[int](), list[int]()
    chain.add(12)
    inner = world.storage.workspace

    @asynccontextmanager
    async def counted() -> AsyncIterator[Any]:
        mark = len(most)
        async with inner() as workspace:
            under_way.add(mark)
            most.append(len(under_way))
            yield workspace
            under_way.discard(mark)

    world.storage.workspace = counted  # type: ignore[method-assign]
    assert all_completed(await chain.sync())
    assert max(most[4:]) == 3  # at first, four begin unless their bytes are too many
    chain.judge()


# --- leases


async def test_a_lost_lease_costs_its_own_task_alone(chain: Chain) -> None:
    world = chain.world
    await chain.show(bulk=True)
    chain.add(6)
    await chain.enqueue()

    async def taken_before(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        # By another worker; at once, as this one would claim it were it free for a moment.
        tasks = world.store.tasks
        tasks[3] = replace(tasks[3], lease_token="another's")
        return await inner(kind, sets)

    answering(world, taken_before)
    reports = await chain.drain()
    ends = {report.task.id: report.end for report in reports}
    assert ends.pop(3) is TaskEnd.LEASE_LOST
    assert set(ends.values()) == {TaskEnd.COMPLETED}
    assert [n for n in range(6) if chain.images(n) == chain.source(n)] == [0, 1, 3, 4, 5]
    assert chain.images(2) == []


async def test_who_leaves_in_the_midst_of_a_request_has_it_sent_again_without_it(
    chain: Chain,
) -> None:
    world = chain.world
    await chain.show(bulk=True)
    chain.add(6)
    await chain.enqueue()
    tasks = await world.queue.claim(lease=LEASE, limit=10)
    run = world.run_task()
    sending = asyncio.Event()

    async def hangs_first(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        if not sending.is_set():
            for one in sets:
                await one.permit.confirm()
            sending.set()
            await asyncio.Event().wait()
        return await inner(kind, sets)

    sizes = answering(world, hangs_first)
    together = run.handlers["image_sync"].together(tasks, 10)  # type: ignore[attr-defined]

    async def one(task: Task) -> SyncResult:
        await together.begin(task)
        try:
            result: SyncResult = await together(task, Forever())
        finally:
            together.ended(task)
        return result

    running = [asyncio.create_task(one(task)) for task in tasks]
    async with asyncio.timeout(10):
        await sending.wait()
        running[1].cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    assert sizes == [6, 5]
    assert [type(r) for r in results].count(SyncResult) == 5
    assert isinstance(results[1], asyncio.CancelledError)
    assert [n for n in range(6) if chain.images(n) != chain.source(n)] == [1]


async def test_who_leaves_as_it_is_to_go_alone_keeps_nobody_waiting(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for what the account can do no longer than to try it takes."""
    world = chain.world
    world.child.bulk = "refused"
    chain.add(6, old=1)
    await chain.enqueue()
    tasks = await world.queue.claim(lease=LEASE, limit=10)
    together: Any = world.run_task().handlers["image_sync"]
    together = together.together(tasks, 10)
    running: dict[object, asyncio.Task[SyncResult]] = {}
    left = list[object]()
    answer = _Entry.answer

    def leaves(entry: _Entry, outcome: Any) -> None:
        answer(entry, outcome)
        if not left:
            left.append(entry.task_id)
            running[entry.task_id].cancel()

    monkeypatch.setattr(_Entry, "answer", leaves)

    async def one(task: Task) -> SyncResult:
        await together.begin(task)
        try:
            result: SyncResult = await together(task, Forever())
        finally:
            together.ended(task)
        return result

    running |= {task.id: asyncio.create_task(one(task)) for task in tasks}
    async with asyncio.timeout(10):
        results = await asyncio.gather(*running.values(), return_exceptions=True)
        async with world.bulk.trial("child"):  # the next batch
            pass
    assert [type(r) for r in results].count(SyncResult) == 5


class Forever:
    async def confirm(self) -> float:
        return 60.0


async def test_a_write_that_outlasts_its_permits_is_tried_and_checked_again(chain: Chain) -> None:
    await chain.show(bulk=True)
    chain.add(4)
    await chain.enqueue()
    world = chain.world
    renew = world.queue.renew

    async def slow(*args: Any, **kwargs: Any) -> None:
        await renew(*args, **kwargs)

    world.queue.renew = slow  # type: ignore[method-assign]
    world.child.seconds_per_write = 30.0
    run = world.run_task(LEASE / 120)
    worker = Worker(world.queue, run, LEASE / 120, 4, 0.01)
    reports = list[TaskReport]()
    async with asyncio.timeout(10):
        await worker.run(drain=True, report=reports.append)
    assert {r.end for r in reports} == {TaskEnd.RETRYING}
    assert all(task.check_again for task in await world.queue.find())


# --- the worker


async def test_one_claim_takes_up_to_a_hundred_tasks_of_a_child(chain: Chain) -> None:
    chain.add(130)
    world, limits, claim = chain.world, list[int](), chain.world.queue.claim

    async def noted(**kwargs: Any) -> list[Task]:
        tasks = await claim(**kwargs)
        limits.append(len(tasks))
        return tasks

    world.queue.claim = noted  # type: ignore[method-assign]
    assert all_completed(await chain.sync())
    assert limits[:2] == [100, 30]
    assert chain.writes == (2, 0)
    chain.judge()


async def test_a_worker_told_to_stop_gives_back_what_has_not_begun(chain: Chain) -> None:
    chain.add(20)
    await chain.enqueue()
    world, download, worker = chain.world, chain.world.main.download, chain.world.worker(3)
    begun = asyncio.Event()

    async def stops(*args: Any, **kwargs: Any) -> TempFile:
        begun.set()
        worker.stop()
        await asyncio.sleep(0.05)
        return await download(*args, **kwargs)

    world.main.download = stops  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await worker.run()
    counts = await world.queue.counts()
    assert (counts[TaskStatus.COMPLETED], counts[TaskStatus.PENDING]) == (3, 17)
    waiting = await world.queue.find(TaskStatus.PENDING)
    assert {(t.attempts, t.check_again, t.crashes) for t in waiting} == {(0, False, 0)}
    assert {t.attempts for t in await world.queue.find(TaskStatus.COMPLETED)} == {1}


async def test_an_abort_gives_all_back_and_breaks_the_request_off(chain: Chain) -> None:
    await chain.show(bulk=True)
    chain.add(20)
    await chain.enqueue()
    world, worker, sending = chain.world, chain.world.worker(3), asyncio.Event()

    async def hangs(_: SetMany, __: Any, sets: Sequence[ImageSet]) -> Any:
        for one in sets:
            await one.permit.confirm()
        sending.set()
        await asyncio.Event().wait()

    sizes = answering(world, hangs)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(10):
        await sending.wait()
        worker.abort()
        await running
    assert sizes == [20]
    tasks = await world.queue.find()
    # What was sent may still arrive.
    assert {(t.status, t.attempts, t.check_again) for t in tasks} == {(TaskStatus.PENDING, 0, True)}


async def test_after_a_lost_worker_few_tasks_are_suspected_of_the_next_loss(chain: Chain) -> None:
    """Twice a worker is lost with its tasks: those that were not begun the second time are not
    held by then."""
    chain.add(60)
    await chain.enqueue()
    world = chain.world
    assert len(await world.queue.claim(lease=LEASE, limit=100)) == 60
    world.clock.moment += 2 * LEASE
    begun, hang = list[int](), asyncio.Event()
    run = world.run_task()

    class Killed:
        """A handler that never ends."""

        def together(self, tasks: Sequence[Task], at_first: int) -> "Killed":
            return self

        async def begin(self, task: Task) -> None:
            return

        def ended(self, task: Task) -> None:
            return

        def close(self) -> None:
            return

        async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
            begun.append(1)
            await hang.wait()
            raise AssertionError

    run.handlers = {"image_sync": Killed()}
    worker = Worker(world.queue, run, LEASE, 4, 0.01)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(10):
        while len(begun) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    counts = await world.queue.counts()
    assert (len(begun), counts[TaskStatus.PROCESSING], counts[TaskStatus.PENDING]) == (4, 4, 56)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all_completed(await chain.drain())
    chain.judge()


async def test_children_are_served_side_by_side(chain: Chain) -> None:
    """A child whose requests hang holds up its own tasks alone."""
    world = chain.world
    await chain.show(bulk=True)
    chain.add(30)
    await chain.enqueue()
    other = await world.queue.enqueue(
        [NewTask({"images": []}, f"other/{n}", "other") for n in range(30)]
    )
    hang = asyncio.Event()

    async def hangs(inner: SetMany, kind: Any, sets: Sequence[ImageSet]) -> Any:
        await hang.wait()
        return await inner(kind, sets)

    answering(world, hangs)
    running = asyncio.create_task(chain.drain(2))
    async with asyncio.timeout(10):
        while (await world.queue.counts())[TaskStatus.FAILED] < len(other):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    hang.set()
    reports = await running
    assert [r.end for r in reports].count(TaskEnd.COMPLETED) == 30
    chain.judge()


async def test_tasks_of_another_kind_among_them_run_as_many_as_there_are_places_for(
    chain: Chain,
) -> None:
    world = chain.world
    world.queue = MemoryTaskQueue(world.store, ["image_sync", "other"])
    chain.add(5)
    await chain.enqueue()
    await world.queue.enqueue(
        [NewTask({}, None, "child", kind="other", priority=50 - n % 2) for n in range(20)]
    )
    under_way, most = set[object](), list[int]()

    async def other(task: Task, permit: WritePermit) -> SyncResult:
        under_way.add(task.id)
        most.append(len(under_way))
        await asyncio.sleep(0.02)
        under_way.discard(task.id)
        return SyncResult("done")

    run = world.run_task()
    run.handlers = {**run.handlers, "other": other}
    async with asyncio.timeout(10):
        await Worker(world.queue, run, LEASE, 3, 0.01).run(drain=True)
    counts = await world.queue.counts()
    assert counts[TaskStatus.COMPLETED] == 25
    assert max(most) <= 3
    assert {task.attempts for task in await world.queue.find()} == {1}
    chain.judge()
