"""Surveys in the background: one run of many children, never two of one child at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.differences import SqlDifferences
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.application import compare, survey
from imgsync.application.accounts import FindLinks
from imgsync.application.check import Check, CheckReport
from imgsync.application.compare import Compare
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.runs import NoteRuns
from imgsync.application.syncing import Look, OtherRunError, Started, Syncing
from imgsync.domain.errors import ImgsyncError, UnavailableError
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.domain.runs import Run, RunKind
from imgsync.domain.surveys import Since
from imgsync.testing import MemoryFailedImages, MemoryMoySklad, MemoryStoreClock
from tests.application.world import World, png

pytestmark = [pytest.mark.anyio, pytest.mark.database]
PATIENCE = 30


class Desk:
    """A `Syncing` over a main account and children, whose surveys wait for `gate`."""

    def __init__(self, world: World, database: Database) -> None:
        self.world = world
        self.gate = asyncio.Event()
        self.gate.set()
        self.check_gate = asyncio.Event()
        self.check_gate.set()
        self.history = SqlRunHistory(database, world.clock)
        self.differences = SqlDifferences(database, world.clock)
        self.ids = 0
        enqueue = Enqueue(world.survey, world.queue)

        async def gated(links: Sequence[Link], **options: Any) -> EnqueueOutcome:
            await self.gate.wait()
            return await enqueue(links, **options)

        check = Check(world.survey)

        async def gated_check(links: Sequence[Link], **options: Any) -> CheckReport:
            await self.check_gate.wait()
            return await check(links, **options)

        note = NoteRuns(
            self.history,
            SqlProofs(database),
            world.queue,
            MemoryFailedImages(world.store),
            MemoryStoreClock(world.store),
            self._new_id,
        )
        self.syncing = Syncing(
            FindLinks(world.accounts, world.settings),
            lambda: gated,  # type: ignore[arg-type, return-value]
            lambda: note,
            world.clock,
            lambda: Compare(gated_check, self.differences),  # type: ignore[arg-type]
        )

    def _new_id(self) -> str:
        self.ids += 1
        return f"run {self.ids}"

    async def link(self, *children: str, on: bool = True) -> None:
        for child in children:
            if child not in self.world.store.accounts:
                account = Account(child, child, TokenKind.SOLUTION, "token")
                self.world.store.accounts[child] = account
                shop = self.world.factory.accounts[child] = MemoryMoySklad()
                shop.add("product", "Lamp", [], external_code="x")
            await self.world.settings.link("main", child, LinkSettings(sync_images_all=on))

    async def ended(self, run_id: str) -> Run:
        async with asyncio.timeout(PATIENCE):
            while True:
                run = await self.history.get(run_id)
                if run is not None and run.ended is not None:
                    return run
                await asyncio.sleep(0.01)


@pytest.fixture
async def desk(world: World, sqlite_database: Database) -> Desk:
    world.pair([("a.png", png(1))])
    made = Desk(world, sqlite_database)
    await made.link("child", "other")
    return made


async def test_children_are_one_run_that_reads_main_once_and_tells_of_each(desk: Desk) -> None:
    (started,) = await desk.syncing.start(["child", "other", "child"], Look.SYNC)
    assert started == Started("run 1", ("child", "other"), is_new=True)
    run = await desk.ended("run 1")
    assert (run.kind, run.cause.value, run.error) == (RunKind.ENQUEUE, "api", None)
    assert {child: dict(n) for child, n in run.by_child.items()} == {
        name: {"missing": 1, "images": 1} for name in ("child", "other")
    }
    listed = [call for call in desk.world.main.calls if call.startswith("list")]
    assert listed
    assert len(listed) == len(set(listed))
    for child in ("child", "other"):
        state = desk.syncing.state(child)
        assert state is not None
        assert (state.surveyed, state.outcome.entities, state.error) == (1, 1, None)


async def test_who_asks_for_the_same_at_once_gets_the_run_under_way(desk: Desk) -> None:
    desk.gate.clear()
    assert desk.syncing.begin("child")
    assert not desk.syncing.begin("child")
    both = await desk.syncing.start(["other", "child"], Look.SYNC)
    assert both == [
        Started("run 2", ("other",), is_new=True),
        Started("run 1", ("child",), is_new=False),
    ]
    again = await desk.syncing.start(["child", "other"], Look.SYNC)
    assert [(one.run_id, one.is_new) for one in again] == [("run 1", False), ("run 2", False)]
    desk.gate.set()
    assert (await desk.ended("run 1")).cause.value == "page"
    await desk.ended("run 2")
    assert await desk.history.get("run 3") is None


async def test_what_is_asked_for_beside_something_else_begins_nothing(desk: Desk) -> None:
    desk.gate.clear()
    await desk.syncing.start(["child"], Look.PREVIEW)
    for look, since in ((Look.SYNC, None), (Look.CHECK, None), (Look.PREVIEW, Since())):
        with pytest.raises(OtherRunError, match="run 1"):
            await desk.syncing.start(["other", "child"], look, since=since)
    assert not desk.syncing.is_busy("other")
    await desk.syncing.stop()
    run = await desk.ended("run 1")
    assert run.error == "told to stop before the end"
    state = desk.syncing.state("child", Look.PREVIEW)
    assert state is not None
    assert state.error == "told to stop before the end"
    assert not desk.syncing.is_busy("child")


async def test_what_cannot_begin_is_told_and_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(ImgsyncError, match="not linked"):
        await desk.syncing.start(["main"], Look.SYNC)
    await desk.link("other", on=False)
    with pytest.raises(ImgsyncError, match="Image sync is off"):
        await desk.syncing.start(["other"], Look.CHECK)
    assert not desk.syncing.is_busy("main")
    assert not desk.syncing.is_busy("other")
    assert await desk.history.find() == []


async def test_a_server_that_stops_before_a_run_is_noted_says_so(desk: Desk) -> None:
    begun = asyncio.ensure_future(desk.syncing.start(["child"], Look.SYNC))
    await asyncio.sleep(0)
    assert desk.syncing.is_busy("child")
    await asyncio.sleep(0)
    await desk.syncing.stop()
    with pytest.raises(UnavailableError, match="stopping"):
        await begun


async def test_a_check_keeps_what_differs_of_each_child_and_queues_nothing(desk: Desk) -> None:
    desk.world.factory.accounts["child"] = MemoryMoySklad()  # which has no counterpart
    await desk.syncing.start(["child", "other"], Look.CHECK)
    run = await desk.ended("run 1")
    assert run.kind is RunKind.CHECK
    assert [one.difference for one in await desk.differences.find("other")] == ["missing"]
    assert [one.difference for one in await desk.differences.find("child")] == ["unmatched"]
    compared = await desk.differences.get("other")
    assert compared is not None
    assert (compared.counts["missing"], compared.ended is not None) == (1, True)
    assert not desk.world.store.tasks


async def test_what_another_host_compares_is_left_to_it(desk: Desk) -> None:
    began = await desk.differences.begin("main", "child")
    assert began is not None
    assert await desk.syncing.start(["child", "other"], Look.CHECK) == [
        Started("run 1", ("other",), is_new=True, elsewhere=("child",))
    ]
    run = await desk.ended("run 1")
    assert run.child_ids == ("other",)
    with pytest.raises(OtherRunError, match="Another server compares account 'child'"):
        await desk.syncing.start(["child"], Look.CHECK)
    assert not desk.syncing.is_busy("child")
    assert desk.syncing.state("child", Look.CHECK) is None
    assert await desk.history.get("run 2") is None
    compared = await desk.differences.get("child")
    assert compared is not None
    assert (compared.ended, compared.error) == (None, None)  # as the other host has it
    assert await desk.differences.end("child", began, [], {}, 0)


async def test_a_comparison_under_way_is_joined_and_is_said_to_be_alive(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_ALIVE_SECONDS", 0.01)
    told, gate = set[str](), asyncio.Event()
    alive = SqlDifferences.alive

    async def noting(self: SqlDifferences, child_id: str, began: str) -> None:
        await alive(self, child_id, began)
        told.add(child_id)
        if told == {"child", "other"}:
            gate.set()

    monkeypatch.setattr(SqlDifferences, "alive", noting)
    desk.check_gate = gate
    assert desk.syncing.begin("child", Look.CHECK)
    joined = await desk.syncing.start(["child", "other"], Look.CHECK)
    assert joined == [
        Started("run 2", ("other",), is_new=True),
        Started("run 1", ("child",), is_new=False),
    ]
    assert (await desk.ended("run 1")).cause.value == "page"
    await desk.ended("run 2")
    state = desk.syncing.state("child", Look.CHECK)
    assert state is not None
    assert (state.surveyed, state.error) == (1, None)


async def test_a_comparison_that_is_stopped_or_fails_says_so_and_another_can_begin(
    desk: Desk,
) -> None:
    desk.check_gate.clear()
    await desk.syncing.start(["child"], Look.CHECK)
    await desk.syncing.stop()
    broken = await desk.differences.get("child")
    assert broken is not None
    assert (broken.ended is not None, broken.error) == (True, "")
    desk.check_gate.set()
    desk.world.factory.accounts["child"].fail = lambda _: UnavailableError("no answer")
    await desk.syncing.start(["child", "other"], Look.CHECK)
    run = await desk.ended("run 2")
    assert "no answer" in (run.error or "")
    (failed, done) = [await desk.differences.get(name) for name in ("child", "other")]
    assert failed is not None
    assert done is not None
    assert "no answer" in (failed.error or "")
    assert (done.error, done.counts["missing"]) == (None, 1)


async def test_what_has_no_counterpart_takes_no_room_of_what_can_be_mended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "MOST_SAMPLED", 1)
    for number in range(3):
        key = f"none {number}"
        desk.world.main.add("product", key, [("a.png", png(1))], external_code=key)
    await desk.syncing.start(["child"], Look.CHECK)
    await desk.ended("run 1")
    found = [one.difference for one in await desk.differences.find("child")]
    assert sorted(found) == ["missing", "unmatched"]
    compared = await desk.differences.get("child")
    assert compared is not None
    assert compared.left_out == 2
