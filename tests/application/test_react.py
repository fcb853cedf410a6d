"""Events of webhooks become tasks: of all children, once, whatever is parked, stopped or wrong."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.events import SqlEndedEntities, SqlEventStore
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.turns import SqlSurveyTurns
from imgsync.application.accounts import FindLinks
from imgsync.application.enqueue import Enqueue
from imgsync.application.react import React
from imgsync.application.runs import NoteRuns
from imgsync.application.survey import SurveyMemory
from imgsync.application.turns import Turns
from imgsync.domain.errors import (
    AuthorisationError,
    LeaseLostError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.model import Account, LinkSettings, Parking, TokenKind
from imgsync.domain.ports.turns import TakenTurn
from imgsync.domain.runs import ChildProof, Run, RunCause, RunKind
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.webhooks import Event, EventAction
from imgsync.testing import (
    MemoryAbilities,
    MemoryFailedImages,
    MemoryMoySklad,
    MemoryStoreClock,
    MemorySurveys,
)
from tests.application.world import World, png

pytestmark = [pytest.mark.anyio, pytest.mark.database]
UPDATE, DELETE = EventAction.UPDATE, EventAction.DELETE
SECOND = timedelta(seconds=1)


class Reacting:
    """A world with two children, whose events are kept in a database."""

    def __init__(self, world: World, database: Database) -> None:
        self.world = world
        self.other = MemoryMoySklad()
        world.factory.accounts["other"] = self.other
        world.store.accounts["other"] = Account("other", "other", TokenKind.SOLUTION, "token")
        self.surveys = MemorySurveys(world.store)
        self.abilities = MemoryAbilities(world.store)
        clock = MemoryStoreClock(world.store)
        memory = SurveyMemory(self.surveys, self.abilities, clock)
        self.survey = replace(world.survey, memory=memory)
        self.events = SqlEventStore(database, world.clock)
        self.history = SqlRunHistory(database, world.clock)
        self.proofs = SqlProofs(database)
        self.database = database
        self.ids = 0

    def host(self, **changes: Any) -> React:
        world, clock = self.world, MemoryStoreClock(self.world.store)
        enqueue = Enqueue(self.survey, world.queue)
        failed = MemoryFailedImages(world.store)
        note = NoteRuns(self.history, self.proofs, world.queue, failed, clock, self._new_id)
        made = React(
            self.events,
            world.accounts,
            world.settings,
            FindLinks(world.accounts, world.settings),
            lambda: enqueue,
            note,
            self.history,
            self.proofs,
            SqlEndedEntities(self.database),
            clock,
            elapsed=lambda: world.clock.moment.timestamp(),
        )
        return replace(made, **changes)

    async def link(self, *children: str, **settings: Any) -> None:
        for child in children or ("child", "other"):
            wanted = LinkSettings(sync_images_all=True, **settings)
            await self.world.settings.link("main", child, wanted)

    def lamp(self, number: int, *children: MemoryMoySklad) -> tuple[str, list[str]]:
        """A product of main with one picture, and its counterparts."""
        code = f"x{number}"
        images = [(f"{number}.png", png(number))]
        main_id = self.world.main.add("product", f"Lamp {number}", images, external_code=code)
        given = children or (self.world.child, self.other)
        return main_id, [c.add("product", "Lamp", external_code=code) for c in given]

    async def comes(
        self, ids: Sequence[str], action: EventAction = UPDATE, account: str = "main"
    ) -> None:
        self.ids += 1
        events = [Event(account, "product", one, action) for one in ids]
        assert await self.events.receive(f"request {self.ids}", events)

    async def turn(self, host: React, after: timedelta = 3 * SECOND) -> None:
        self.world.clock.advance(after)
        await host.turn()
        await host.idle()

    async def waiting(self) -> int:
        return (await self.events.backlog()).events

    async def tasks(self) -> set[tuple[str | None, str | None]]:
        return {(task.account_id, task.entity_id) for task in await self.world.queue.find()}

    async def runs(self) -> list[Run]:
        return (await self.history.find())[::-1]

    def calls(self, of: MemoryMoySklad) -> int:
        count = len(of.calls)
        of.calls.clear()
        return count

    def _new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:04}"


@pytest.fixture
def reacting(world: World, database: Database) -> Reacting:
    return Reacting(world, database)


async def test_one_change_is_looked_up_and_queued_for_every_child(reacting: Reacting) -> None:
    world = reacting.world
    await reacting.link()
    lamps = [reacting.lamp(number) for number in range(250)]
    main_id = lamps[7][0]
    await reacting.comes([main_id, main_id])
    await reacting.comes([main_id])
    host = reacting.host()
    await reacting.turn(host, SECOND)
    assert await reacting.tasks() == set()
    await reacting.turn(host)
    assert await reacting.tasks() == {("child", main_id), ("other", main_id)}
    assert await reacting.waiting() == 0
    calls = [reacting.calls(of) for of in (world.main, world.child, reacting.other)]
    assert calls == [2, 1, 1]
    (run,) = await reacting.runs()
    assert (run.kind, run.cause, run.child_ids) == (
        RunKind.WEBHOOK,
        RunCause.WEBHOOK,
        ("child", "other"),
    )
    assert (run.numbers, run.error) == ({"missing": 2, "images": 2}, None)
    await world.worker().run(drain=True)
    for child, entity_id in zip((world.child, reacting.other), lamps[7][1], strict=True):
        assert child.images("product", entity_id) == [("7.png", png(7))]
    await reacting.comes([main_id])
    await reacting.turn(host)
    assert len(await world.queue.find()) == 2
    assert (await reacting.runs())[1].numbers == {"equal": 2}


async def test_nothing_is_left_for_a_later_survey_to_go_on_from(reacting: Reacting) -> None:
    reacting.world.main.clock = lambda: reacting.world.clock.moment
    await reacting.link()
    main_id, _ = reacting.lamp(1)
    await reacting.comes([main_id])
    await reacting.turn(reacting.host())
    assert len(await reacting.tasks()) == 2
    assert reacting.world.store.surveys == {}
    assert (await reacting.abilities.get("main")).images_move_updated is None
    assert await reacting.proofs.all() == []


async def test_of_very_many_entities_none_is_asked_for_by_its_id(reacting: Reacting) -> None:
    await reacting.link("child")
    lamps = [reacting.lamp(number, reacting.world.child) for number in range(501)]
    await reacting.comes([main_id for main_id, _ in lamps])
    await reacting.turn(reacting.host())
    assert len(await reacting.world.queue.find(limit=600)) == 501
    # Six pages of products, and what a survey of all asks of the two other types.
    assert reacting.calls(reacting.world.main) <= 9


class LostTurns:
    """Another survey of these children begins whenever this one has read something."""

    async def take(self, _child_ids: Collection[str], _lease: timedelta) -> TakenTurn:
        return TakenTurn("token")

    async def renew(self, _token: str, _lease: timedelta) -> None:
        raise LeaseLostError("another survey of these children has begun meanwhile")

    async def end(self, _token: str) -> None:
        pass


async def test_events_whose_survey_has_lost_its_turn_are_looked_at_again(
    reacting: Reacting,
) -> None:
    await reacting.link("child")
    lamps = [reacting.lamp(number, reacting.world.child) for number in range(501)]
    await reacting.comes([main_id for main_id, _ in lamps])
    minutes = count(step=60.0)
    turns = Turns(LostTurns(), elapsed=lambda: next(minutes))
    enqueue = Enqueue(reacting.survey, reacting.world.queue, turns=turns)
    await reacting.turn(reacting.host(enqueue=lambda: enqueue))
    assert (await reacting.tasks(), await reacting.waiting()) == (set(), 501)
    await reacting.turn(reacting.host(), timedelta(seconds=10))
    assert await reacting.waiting() == 0
    assert len(await reacting.world.queue.find(limit=600)) == 501


async def test_a_child_that_is_being_surveyed_keeps_no_other_waiting_and_catches_up(
    reacting: Reacting,
) -> None:
    """Of so many entities that all which has changed is surveyed."""
    await reacting.link()
    lamps = [reacting.lamp(number) for number in range(501)]
    await reacting.comes([main_id for main_id, _ in lamps])
    turns = SqlSurveyTurns(reacting.database, reacting.world.clock)
    enqueue = Enqueue(reacting.survey, reacting.world.queue, turns=Turns(turns))
    host = reacting.host(enqueue=lambda: enqueue)
    hours = timedelta(hours=9)
    for busy, queued in ((["child", "other"], set[str]()), (["other"], {"child"})):
        taken = await turns.take(busy, 2 * hours)
        async with asyncio.timeout(60):
            await reacting.turn(host, hours)
        found = await reacting.world.queue.find(limit=2000)
        assert {task.account_id for task in found} == queued
        assert await reacting.waiting() == 501
        await turns.end(taken.token)
    await reacting.turn(host, hours)
    assert await reacting.waiting() == 0
    assert len(await reacting.world.queue.find(limit=2000)) == 1002


async def test_a_key_that_another_entity_has_too_is_left_to_a_whole_survey(
    reacting: Reacting,
) -> None:
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, reacting.world.child)
    reacting.world.main.add("product", "Twin", [("t.png", png(5))], external_code="x1")
    await reacting.comes([main_id])
    await reacting.turn(reacting.host())
    assert await reacting.tasks() == set()
    assert (await reacting.runs())[0].numbers == {"unsure": 1}


async def test_folders_of_a_link_are_heeded_of_variants_too(reacting: Reacting) -> None:
    world = reacting.world
    await reacting.link("child", folders=("Lamps",))
    ids = {}
    for folder in ("Lamps/Floor", "Chairs"):
        product_id = world.main.add("product", folder, external_code=folder)
        world.main.entities["product"][product_id] = replace(
            world.main.entities["product"][product_id], folder=folder
        )
        images = [("v.png", png(3))]
        variant_id = world.main.add("variant", folder, images, external_code=f"v {folder}")
        world.main.entities["variant"][variant_id] = replace(
            world.main.entities["variant"][variant_id], parent=("product", product_id)
        )
        world.child.add("variant", folder, external_code=f"v {folder}")
        ids[folder] = variant_id
    events = [Event("main", "variant", one, UPDATE) for one in ids.values()]
    await reacting.events.receive("r", events)
    await reacting.turn(reacting.host())
    assert await reacting.tasks() == {("child", ids["Lamps/Floor"])}


async def test_a_deleted_entity_ends_its_record_and_one_that_is_not_there_costs_nothing(
    reacting: Reacting,
) -> None:
    world = reacting.world
    ended: list[tuple[str, str, Any]] = []

    class Ended(SqlEndedEntities):
        async def of_main(self, account_id: str, entity_type: str, ids: Any) -> int:
            ended.append((account_id, entity_type, ids))
            return await super().of_main(account_id, entity_type, ids)

        async def of_child(self, account_id: str, entity_type: str, ids: Any) -> int:
            ended.append((account_id, entity_type, ids))
            return await super().of_child(account_id, entity_type, ids)

    await reacting.link()
    main_id, _ = reacting.lamp(1)
    del world.main.entities["product"][main_id]
    await reacting.comes([main_id], DELETE)
    await reacting.comes(["gone"], DELETE, "child")
    host = reacting.host(ended=Ended(reacting.database))
    await reacting.turn(host)
    assert sorted(ended) == [("child", "product", ["gone"]), ("main", "product", [main_id])]
    assert reacting.calls(world.main) == 0
    await reacting.comes([main_id])  # what was sent before, and came later
    await reacting.turn(host)
    assert (await reacting.tasks(), await reacting.waiting()) == (set(), 0)


@pytest.mark.parametrize("account", ["main", "child", "stranger"])
async def test_events_that_concern_nobody_go(reacting: Reacting, account: str) -> None:
    await reacting.world.settings.link("main", "child", LinkSettings(sync_images_all=False))
    await reacting.link("other", schedule=LinkSchedule(copies=False))
    main_id, _ = reacting.lamp(1)
    await reacting.comes([main_id], account=account)
    await reacting.turn(reacting.host())
    assert (await reacting.waiting(), await reacting.runs()) == (0, [])
    assert reacting.calls(reacting.world.main) == 0


async def test_a_parked_main_account_is_not_asked_until_it_is_over(reacting: Reacting) -> None:
    await reacting.link()
    main_id, _ = reacting.lamp(1)
    until = reacting.world.clock.moment + timedelta(minutes=5)
    await reacting.world.accounts.park("main", Parking("refused", until))
    await reacting.comes([main_id])
    host = reacting.host()
    for _ in range(4):
        await reacting.turn(host, timedelta(minutes=1))
    assert (reacting.calls(reacting.world.main), await reacting.waiting()) == (0, 1)
    await reacting.turn(host, timedelta(minutes=2))
    assert len(await reacting.tasks()) == 2


async def test_a_parked_child_keeps_no_other_waiting_and_catches_up(reacting: Reacting) -> None:
    await reacting.link()
    lamps = [reacting.lamp(number)[0] for number in range(2)]
    until = reacting.world.clock.moment + timedelta(minutes=5)
    await reacting.world.accounts.park("other", Parking("full", until))
    host = reacting.host()
    for main_id in lamps:
        await reacting.comes([main_id])
        await reacting.turn(host)
    assert await reacting.tasks() == {("child", main_id) for main_id in lamps}
    assert reacting.calls(reacting.other) == 0
    await reacting.turn(host, timedelta(minutes=6))
    for _ in range(2):
        await reacting.turn(host)
    assert ("other", lamps[0]) in await reacting.tasks()
    assert ("other", lamps[1]) in await reacting.tasks()
    assert await reacting.waiting() == 0


async def test_what_is_logged_of_events_names_the_account(
    reacting: Reacting, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = reacting.world.store.accounts
    accounts["main"] = replace(accounts["main"], name="Main shop")
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, reacting.world.child)
    await reacting.comes([main_id])
    reacting.world.main.fail = lambda _: UnavailableError("it does not answer")
    await reacting.turn(reacting.host())
    told = [record.getMessage() for record in caplog.records]
    assert "events of account 'Main shop': it does not answer" in told


async def test_refused_credentials_park_the_account_after_one_request(reacting: Reacting) -> None:
    world = reacting.world
    await reacting.link()
    main_id, _ = reacting.lamp(1)
    await reacting.comes([main_id])
    world.main.fail = lambda _: AuthorisationError("1056: refused", "main")
    host = reacting.host()
    for _ in range(5):
        await reacting.turn(host, timedelta(seconds=30))
    assert reacting.calls(world.main) == 1
    assert await world.accounts.parking("main") is not None
    world.main.fail = lambda _: None
    await reacting.turn(host, timedelta(hours=1))
    assert len(await reacting.tasks()) == 2


async def test_a_main_account_that_does_not_answer_is_asked_ever_more_seldom(
    reacting: Reacting,
) -> None:
    world = reacting.world
    await reacting.link()
    main_id, _ = reacting.lamp(1)
    await reacting.comes([main_id])
    world.main.fail = lambda _: UnavailableError("502")
    host = reacting.host()
    for _ in range(360):
        await reacting.turn(host, timedelta(seconds=10))
    assert 10 < reacting.calls(world.main) < 30
    world.main.fail = lambda _: None
    await reacting.turn(host, timedelta(minutes=5))
    assert (len(await reacting.tasks()), await reacting.waiting()) == (2, 0)


async def test_one_child_that_does_not_answer_is_asked_again_alone(reacting: Reacting) -> None:
    await reacting.link()
    main_id, _ = reacting.lamp(1)
    await reacting.comes([main_id])
    reacting.other.fail = lambda _: UnavailableError("502")
    host = reacting.host()
    await reacting.turn(host)
    assert await reacting.tasks() == {("child", main_id)}
    reacting.other.fail = lambda _: None
    reacting.calls(reacting.world.child)
    await reacting.turn(host, timedelta(minutes=5))
    assert await reacting.tasks() == {("child", main_id), ("other", main_id)}
    assert reacting.calls(reacting.world.child) == 0


async def test_what_is_cleared_one_by_one_is_bounded_like_what_is_cleared_at_once(
    reacting: Reacting,
) -> None:
    world = reacting.world
    await reacting.link("child")
    lamps = [reacting.lamp(number, world.child)[0] for number in range(60)]
    host = reacting.host()
    await reacting.comes(lamps)
    await reacting.turn(host)
    await world.worker().run(drain=True)
    for start in range(0, 60, 5):
        for main_id in lamps[start : start + 5]:
            world.main.change_images("product", main_id, [])
        await reacting.comes(lamps[start : start + 5])
        await reacting.turn(host)
    await world.worker().run(drain=True)
    left = [entity for entity in world.child.entities["product"].values() if entity.images]
    assert len(left) == 40
    runs = await reacting.runs()
    assert sum(run.numbers.get("clears", 0) for run in runs) == 20
    world.clock.advance(timedelta(hours=1))
    await reacting.comes(lamps[20:25])
    await reacting.turn(host)
    await world.worker().run(drain=True)
    left = [entity for entity in world.child.entities["product"].values() if entity.images]
    assert len(left) == 35


async def test_each_child_has_its_own_bound_of_what_is_cleared(reacting: Reacting) -> None:
    """Others, that had nothing to lose, give it no more."""
    world = reacting.world
    for number in range(9):
        name = f"idle {number}"
        world.factory.accounts[name] = MemoryMoySklad()
        world.store.accounts[name] = Account(name, name, TokenKind.SOLUTION, "token")
        await reacting.link(name)
    await reacting.link("child")
    lamps = [reacting.lamp(number, world.child)[0] for number in range(30)]
    host = reacting.host()
    await reacting.comes(lamps)
    await reacting.turn(host)
    await world.worker().run(drain=True)
    for start in range(0, 30, 10):
        for main_id in lamps[start : start + 10]:
            world.main.change_images("product", main_id, [])
        await reacting.comes(lamps[start : start + 10])
        await reacting.turn(host)
    await world.worker().run(drain=True)
    left = [entity for entity in world.child.entities["product"].values() if entity.images]
    assert len(left) == 10


@pytest.mark.parametrize("guard", [True, False])
async def test_what_is_changed_in_a_guarded_child_is_set_back(
    reacting: Reacting, guard: bool
) -> None:
    world = reacting.world
    await reacting.link("child", guard=guard)
    main_id, (child_id,) = reacting.lamp(1, world.child)
    reacting.lamp(2, world.child)
    host = reacting.host()
    await reacting.comes([main_id])
    await reacting.turn(host)
    await world.worker().run(drain=True)
    world.child.change_images("product", child_id, [("own.png", png(77))])
    for of in (world.main, world.child):
        of.calls.clear()
    await reacting.comes([child_id, "not-there"], account="child")
    await reacting.turn(host)
    calls = [reacting.calls(of) for of in (world.main, world.child)]
    assert calls == ([1, 2] if guard else [0, 0])
    await world.worker().run(drain=True)
    expected = [("1.png", png(1))] if guard else [("own.png", png(77))]
    assert world.child.images("product", child_id) == expected
    await reacting.comes([child_id], account="child")  # our own write
    before = len(await world.queue.find())
    await reacting.turn(host)
    assert (len(await world.queue.find()), await reacting.waiting()) == (before, 0)


async def test_the_child_is_equal_again_once_all_is_copied(reacting: Reacting) -> None:
    world = reacting.world
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, world.child)
    proved = world.clock.moment
    await reacting.proofs.put(ChildProof("child", "main", proved, proved, {"equal": 5}))
    host = reacting.host()
    await reacting.comes([main_id])
    await reacting.turn(host)
    await reacting.turn(host)
    proof = await reacting.proofs.get("child")
    assert proof is not None
    assert (proof.is_equal, proof.unequal) == (False, 1)
    await world.worker().run(drain=True)
    await reacting.turn(host)
    proof = await reacting.proofs.get("child")
    assert proof is not None
    assert (proof.is_equal, proof.numbers) == (True, {"equal": 5})
    assert proof.equal_at == proved  # nobody has looked at the others


async def test_a_host_that_was_stopped_has_its_events_looked_at_once_more(
    reacting: Reacting,
) -> None:
    """What it had read before it was stopped may undo what its heir queued."""
    world = reacting.world
    await reacting.link("child")
    main_id, (child_id,) = reacting.lamp(1, world.child)
    await reacting.comes([main_id])
    gone_on, read = asyncio.Event(), asyncio.Event()
    find = world.queue.waiting

    async def stopped(keys: Any) -> Any:
        read.set()
        await gone_on.wait()
        return await find(keys)

    host, heir = reacting.host(), reacting.host()
    world.queue.waiting = stopped  # type: ignore[method-assign]
    world.clock.advance(3 * SECOND)
    await host.turn()
    await asyncio.wait_for(read.wait(), 30)
    world.queue.waiting = find  # type: ignore[method-assign]
    world.main.change_images("product", main_id, [("new.png", png(50))])
    await reacting.turn(heir, timedelta(minutes=10))
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("new.png", png(50))]
    assert await reacting.waiting() == 0
    gone_on.set()
    await host.idle()
    assert await reacting.waiting() == 1
    await world.worker().run(drain=True)
    await reacting.turn(heir)
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("new.png", png(50))]
    assert await reacting.waiting() == 0


async def test_a_sweep_of_hours_is_waited_for_too(reacting: Reacting) -> None:
    world, clock = reacting.world, reacting.world.clock
    await reacting.link("child")
    main_id, (child_id,) = reacting.lamp(1, world.child)
    old = await world.request()
    sweep = Run("sweep", RunKind.SWEEP, RunCause.SCHEDULE, ("child",), clock.moment)
    await reacting.history.begin(sweep)
    host = reacting.host()
    for hours in range(3):
        clock.advance(timedelta(hours=1))
        await reacting.history.note("sweep", {})
        if not hours:
            world.main.change_images("product", main_id, [("new.png", png(50))])
            await reacting.comes([main_id])
        await reacting.turn(host, timedelta(seconds=10))
        await world.worker().run(drain=True)
    assert len(await reacting.runs()) == 2
    seen = world.child.entities["product"][child_id].images
    await world.sync(replace(old, child_images=seen))  # as the sweep queued it
    assert world.child.images("product", child_id) == [("1.png", png(1))]
    await reacting.history.end("sweep", {})
    for _ in range(2):
        await reacting.turn(host, timedelta(seconds=10))
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("new.png", png(50))]


@pytest.mark.parametrize("ends", ["ended", "lost", "stopped here"])
async def test_what_came_beside_a_sweep_is_looked_at_once_more_after_it(
    reacting: Reacting, ends: str
) -> None:
    """The sweep may have read an entity before it changed."""
    world, clock = reacting.world, reacting.world.clock
    await reacting.link("child")
    main_id, (child_id,) = reacting.lamp(1, world.child)
    old = await world.request()
    sweep = Run("sweep", RunKind.SWEEP, RunCause.SCHEDULE, ("child",), clock.moment)
    await reacting.history.begin(sweep)
    world.main.change_images("product", main_id, [("new.png", png(50))])
    await reacting.comes([main_id])
    host = reacting.host()
    await reacting.turn(host)
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("new.png", png(50))]
    seen = world.child.entities["product"][child_id].images
    await world.sync(replace(old, child_images=seen))  # it read main before, and the child after
    await reacting.turn(host, timedelta(seconds=10))
    assert world.child.images("product", child_id) == [("1.png", png(1))]
    stop = asyncio.Event()
    stop.set()
    if ends == "ended":
        await reacting.history.end("sweep", {})
    elif ends == "lost":
        clock.advance(timedelta(hours=2))
    else:
        await host.run(stop)
        host = reacting.host()
    for _ in range(2):
        await reacting.turn(host, timedelta(seconds=10))
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("new.png", png(50))]


async def test_a_process_that_ends_gives_its_events_back(reacting: Reacting) -> None:
    world = reacting.world
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, world.child)
    await reacting.comes([main_id])
    begun = asyncio.Event()
    never = asyncio.Event()

    async def hangs(*_: Any) -> Any:
        begun.set()
        await never.wait()

    find = world.queue.waiting
    world.queue.waiting = hangs  # type: ignore[assignment,method-assign]
    stop = asyncio.Event()
    world.clock.advance(3 * SECOND)
    running = asyncio.create_task(reacting.host(poll_seconds=0.01).run(stop))
    await asyncio.wait_for(begun.wait(), 30)
    stop.set()
    await asyncio.wait_for(running, 30)
    world.queue.waiting = find  # type: ignore[method-assign]
    await reacting.turn(reacting.host(), SECOND)
    assert await reacting.tasks() == {("child", main_id)}


@pytest.mark.parametrize(
    "fault",
    [
        StoreError("it is down"),
        LeaseLostError("another survey of these children has begun meanwhile"),
        RuntimeError("a fault of our own"),
    ],
)
async def test_a_fault_costs_time_and_no_event(reacting: Reacting, fault: Exception) -> None:
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, reacting.world.child)
    await reacting.comes([main_id])
    host = reacting.host()
    good = host.find_links

    class Broken(FindLinks):
        async def __call__(self, *_: Any) -> Any:
            raise fault

    host.find_links = Broken(reacting.world.accounts, reacting.world.settings)
    for _ in range(3):
        await reacting.turn(host, timedelta(minutes=2))
    assert (await reacting.tasks(), await reacting.waiting()) == (set(), 1)
    host.find_links = good
    await reacting.turn(host, timedelta(minutes=10))
    assert (await reacting.tasks(), await reacting.waiting()) == ({("child", main_id)}, 0)


async def test_a_store_that_is_down_is_told_once_and_asked_again(
    reacting: Reacting, caplog: pytest.LogCaptureFixture
) -> None:
    await reacting.link("child")
    main_id, _ = reacting.lamp(1, reacting.world.child)
    await reacting.comes([main_id])
    calls: asyncio.Queue[None] = asyncio.Queue()

    class Down(SqlEventStore):
        async def claim(self, **_: Any) -> Any:
            calls.put_nowait(None)
            raise StoreError("it is down")

    stop = asyncio.Event()
    events = Down(reacting.database, reacting.world.clock)
    host = reacting.host(events=events, poll_seconds=0.01, trouble_seconds=0.01)
    running = asyncio.create_task(host.run(stop))
    for _ in range(3):
        await asyncio.wait_for(calls.get(), 30)
    stop.set()
    await running
    assert [r.getMessage() for r in caplog.records].count(
        "events of webhooks wait: it is down"
    ) == 1
