"""Two processes survey one child: what main had before is not copied, and nothing twice."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.turns import SqlSurveyTurns
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.runs import NoteRuns
from imgsync.application.survey import Chosen, Survey, SurveyMemory
from imgsync.application.turns import Turns
from imgsync.domain.errors import LeaseLostError, UnavailableError
from imgsync.domain.model import Account, EntityPage, Link, LinkSettings, TokenKind
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.surveys import SurveyKey
from imgsync.domain.tasks import TaskStatus
from imgsync.testing import (
    MemoryFailedImages,
    MemoryMoySklad,
    MemoryStoreClock,
    MemorySurveys,
)
from tests.application.world import TYPES, World, png

pytestmark = [pytest.mark.anyio, pytest.mark.database]
A, B = ("a.png", png(1)), ("b.png", png(2))
PATIENCE = 30


class Hosts:
    """Processes that share a database, an account of main and one of a child."""

    def __init__(self, world: World, database: Database) -> None:
        self.world, self.database = world, database
        self.main_id, self.child_id = world.pair([A])
        self.proofs = SqlProofs(database)
        self.surveys = MemorySurveys(world.store)
        self.ids = 0
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    def host(self, ask_seconds: float = 0.01) -> "Host":
        clock = MemoryStoreClock(self.world.store)
        turns = Turns(
            SqlSurveyTurns(self.database, self.world.clock),
            ask_seconds=ask_seconds,
            elapsed=lambda: self.world.clock.moment.timestamp(),
        )
        world = self.world
        memory = SurveyMemory(self.surveys, world.abilities, clock)
        survey = Survey(world.accounts, world.records, world.factory, TYPES, memory=memory)
        note = NoteRuns(
            SqlRunHistory(self.database, world.clock),
            self.proofs,
            world.queue,
            MemoryFailedImages(world.store),
            clock,
            self._new_id,
        )
        return Host(world, Enqueue(survey, world.queue, turns=turns), note)

    def _new_id(self) -> str:
        self.ids += 1
        return f"run {self.ids}"

    def hold_the_first(self) -> None:
        """The first survey stands still once it has read main, until it may go on."""
        real, first = self.world.child.list_entities, [True]

        async def held(*given: Any, **options: Any) -> AsyncIterator[EntityPage]:
            if first:
                first.clear()
                self.reached.set()
                await self.go_on.wait()
            async for page in real(*given, **options):
                yield page

        self.world.child.list_entities = held  # type: ignore[method-assign]

    def is_equal(self) -> bool:
        of_main = self.world.main.images("product", self.main_id)
        return self.world.child.images("product", self.child_id) == of_main


class Host:
    def __init__(self, world: World, enqueue: Enqueue, note: NoteRuns) -> None:
        self.world, self.enqueue, self.note = world, enqueue, note

    async def sync(self, **options: Any) -> EnqueueOutcome:
        """As the command does it."""
        links = [self.world.link]
        async with self.note.noting(RunKind.SYNC, RunCause.COMMAND, links) as run:
            ended = await self.enqueue(links, progress=run.see, **options)
            run.surveyed(ended)
            await self.world.worker().run(drain=True)
        return ended


@pytest.fixture
def hosts(world: World, sqlite_database: Database) -> Hosts:
    return Hosts(world, sqlite_database)


async def test_who_has_read_main_before_a_change_brings_nothing_old_back(
    hosts: Hosts, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that read first would queue last."""
    world, one, other = hosts.world, hosts.host(), hosts.host()
    hosts.hold_the_first()
    first = asyncio.create_task(one.sync())
    await hosts.reached.wait()
    world.clock.advance(timedelta(seconds=1))
    world.main.change_images("product", hosts.main_id, [A, B])
    second = asyncio.create_task(other.sync())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(1)
    assert caplog.messages == [
        "child: another survey is under way; this one begins once that has ended"
    ]
    assert not second.done()
    assert sum((await world.queue.counts()).values()) == 0
    hosts.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(first, second)
    assert hosts.is_equal()
    # Each of main's images was sent once.
    assert sorted(world.child.blobs.values()) == sorted([A[1], B[1]])
    proof = await hosts.proofs.get("child")
    assert proof is not None
    assert proof.is_equal
    # The next one goes on from the later of the two.
    past = await hosts.surveys.get(SurveyKey("main", "child", "product"))
    assert past is not None
    assert past.began == world.clock.moment
    assert (await other.sync()).unchanged == 1
    assert (await world.queue.counts())[TaskStatus.PENDING] == 0


async def test_whoever_was_stopped_for_long_queues_nothing_any_more(hosts: Hosts) -> None:
    world, one, other = hosts.world, hosts.host(), hosts.host()
    hosts.hold_the_first()
    first = asyncio.create_task(one.sync())
    await hosts.reached.wait()
    world.clock.advance(timedelta(minutes=5))
    world.main.change_images("product", hosts.main_id, [A, B])
    async with asyncio.timeout(PATIENCE):
        await other.sync()
        assert hosts.is_equal()
        hosts.go_on.set()
        with pytest.raises(LeaseLostError, match="another survey"):
            await first
        await world.worker().run(drain=True)
    assert hosts.is_equal()
    past = await hosts.surveys.get(SurveyKey("main", "child", "product"))
    assert past is not None
    assert past.began == world.clock.moment
    proof = await hosts.proofs.get("child")
    assert proof is not None
    assert (proof.is_equal, proof.compared_at) == (True, world.clock.moment)


async def test_whoever_was_stopped_for_long_records_nothing_any_more(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all that it found is equal, there is nothing to queue."""
    world, one = hosts.world, hosts.host()
    world.child.change_images("product", hosts.child_id, [A])
    hosts.hold_the_first()
    first = asyncio.create_task(one.sync())
    await hosts.reached.wait()
    world.clock.advance(timedelta(minutes=5))
    written = list[object]()

    async def write(_: Survey, what: object) -> None:
        written.append(what)

    async with asyncio.timeout(PATIENCE):
        other = SqlSurveyTurns(hosts.database, world.clock)
        assert (await other.take(["child"], timedelta(seconds=30))).token
        monkeypatch.setattr(Survey, "adopt", write)
        monkeypatch.setattr(Survey, "note_roles", write)
        hosts.go_on.set()
        with pytest.raises(LeaseLostError, match="another survey"):
            await first
    assert written == []


async def test_whoever_was_stopped_and_nobody_came_goes_on(hosts: Hosts) -> None:
    one = hosts.host()
    hosts.hold_the_first()
    first = asyncio.create_task(one.sync())
    await hosts.reached.wait()
    hosts.world.clock.advance(timedelta(minutes=5))
    hosts.go_on.set()
    async with asyncio.timeout(PATIENCE):
        assert (await first).entities == 1
    assert hosts.is_equal()


@pytest.mark.parametrize("what", ["dry run", "single ones"])
async def test_what_queues_nothing_or_single_ones_does_not_wait(hosts: Hosts, what: str) -> None:
    """Of single ones the webhooks see to it that they are looked at again afterwards."""
    options: dict[str, Any] = {"dry_run": True}
    if what == "single ones":
        options = {"chosen": Chosen({"product": [hosts.main_id]})}
    hosts.hold_the_first()
    first = asyncio.create_task(hosts.host().sync())
    await hosts.reached.wait()
    async with asyncio.timeout(PATIENCE):
        found = await hosts.host().enqueue([hosts.world.link], **options)
        assert found.entities == 1
        hosts.go_on.set()
        await first


async def test_surveys_of_other_children_do_not_wait(hosts: Hosts) -> None:
    world = hosts.world
    world.store.accounts["other"] = Account("other", "Other", TokenKind.SOLUTION, "token")
    world.factory.accounts["other"] = MemoryMoySklad()
    settings = LinkSettings(sync_images_all=True)
    link = Link(world.store.accounts["main"], world.store.accounts["other"], settings)
    hosts.hold_the_first()
    first = asyncio.create_task(hosts.host().sync())
    await hosts.reached.wait()
    async with asyncio.timeout(PATIENCE):
        await hosts.host().enqueue([link])
        hosts.go_on.set()
        await first


@pytest.mark.parametrize("how", ["told to stop", "failed"])
async def test_a_survey_that_ends_early_leaves_its_turn(hosts: Hosts, how: str) -> None:
    hosts.hold_the_first()
    first = asyncio.create_task(hosts.host().sync())
    await hosts.reached.wait()
    if how == "failed":
        hosts.world.child.fail = lambda _: UnavailableError("503")
        hosts.go_on.set()
    else:
        first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    hosts.world.child.fail = lambda _: None
    async with asyncio.timeout(PATIENCE):
        await hosts.host(ask_seconds=PATIENCE * 2).sync()
    assert hosts.is_equal()


async def test_who_lost_its_turn_writes_nothing_more(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it has nothing to queue: what it found to be equal, and which account is which."""
    host, written = hosts.host(), list[str]()
    await host.sync()
    real = hosts.world.child.list_entities
    survey = host.enqueue.survey

    async def stopped(*given: Any, **options: Any) -> AsyncIterator[EntityPage]:
        hosts.world.clock.advance(timedelta(minutes=10))
        taken = await SqlSurveyTurns(hosts.database, hosts.world.clock).take(
            [hosts.world.link.child.id], timedelta(minutes=1)
        )
        assert taken.token
        async for page in real(*given, **options):
            yield page

    async def note(what: Any, *_: Any) -> None:
        written.append(str(what))

    hosts.world.child.list_entities = stopped  # type: ignore[method-assign]
    for name in ("adopt", "note_roles", "note"):
        monkeypatch.setattr(type(survey), name, note)
    monkeypatch.setattr(Turns, "_keep", lambda *_: asyncio.sleep(PATIENCE))
    with pytest.raises(LeaseLostError):
        await host.enqueue([hosts.world.link])
    assert written == []


async def test_a_long_survey_keeps_its_turn(hosts: Hosts, sqlite_database: Database) -> None:
    """By the time of the database, and of a clock that goes on."""
    turns = Turns(SqlSurveyTurns(sqlite_database), timedelta(seconds=3), 0.05)
    async with turns.of([hosts.world.link]) as mine:
        waiting = asyncio.create_task(_once(turns, hosts.world.link))
        await asyncio.sleep(6)
        assert not waiting.done()
        await mine.confirm()
    async with asyncio.timeout(PATIENCE):
        await waiting


async def _once(turns: Turns, link: Link) -> None:
    async with turns.of([link]):
        pass
