"""What accounts have shown: how it is merged, remembered for ten seconds, and learnt on the way."""

from dataclasses import replace
from typing import NoReturn

import pytest

from imgsync.application.abilities import KnownAbilities, learn_shown
from imgsync.domain.errors import NoRoomError, StoreError, UnavailableError
from imgsync.domain.model import Abilities, Account, TokenKind
from imgsync.testing import MemoryAbilities, MemoryMoySkladFactory, MemoryStore
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
NONE = Abilities()


class Uptime:
    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


class Counted(MemoryAbilities):
    """`reads` and `writes` count the calls."""

    reads = writes = 0

    async def get(self, account_id: str) -> Abilities:
        self.reads += 1
        return await super().get(account_id)

    async def learn(self, account_id: str, shown: Abilities) -> None:
        self.writes += 1
        await super().learn(account_id, shown)


def test_what_is_shown_later_has_the_last_word() -> None:
    first = Abilities(bulk=True, head=True, permanent_hosts=frozenset({"a"}))
    later = Abilities(bulk=False, permanent_hosts=frozenset({"b"}), images_move_updated=True)
    assert first.with_shown(later) == Abilities(
        bulk=False,
        head=True,
        permanent_hosts=frozenset({"a", "b"}),
        images_move_updated=True,
    )
    assert first.with_shown(NONE) == NONE.with_shown(first) == first
    assert first.with_shown(first) == first


def sizes(accepted: int | None = None, refused: int | None = None) -> Abilities:
    return Abilities(accepted_image_bytes=accepted, refused_image_bytes=refused)


@pytest.mark.parametrize(
    ("first", "later", "both"),
    [
        (sizes(3), sizes(5), sizes(5)),
        (sizes(5), sizes(3), sizes(5)),
        (sizes(refused=9), sizes(refused=7), sizes(refused=7)),
        (sizes(refused=7), sizes(refused=9), sizes(refused=7)),
        (sizes(5, 9), sizes(6, 8), sizes(6, 8)),
        # The limit was raised, or lowered.
        (sizes(5, 9), sizes(10), sizes(10)),
        (sizes(5, 9), sizes(9), sizes(9)),
        (sizes(5, 9), sizes(refused=4), sizes(refused=4)),
        (sizes(5, 9), sizes(10, 12), sizes(10, 12)),
    ],
)
def test_the_largest_taken_and_the_smallest_refused_count(
    first: Abilities, later: Abilities, both: Abilities
) -> None:
    assert first.with_shown(later) == both


async def test_what_others_learn_is_heeded_after_ten_seconds() -> None:
    store, uptime = MemoryStore(), Uptime()
    stored = Counted(store)
    known = KnownAbilities(stored, uptime)
    assert await known.get("a") == NONE
    await MemoryAbilities(store).learn("a", Abilities(bulk=True))
    uptime.seconds += 9.9
    assert await known.get("a") == NONE
    assert stored.reads == 1
    uptime.seconds += 0.2
    assert await known.get("a") == Abilities(bulk=True)
    assert await known.get("b") == NONE


async def test_only_news_is_written_and_heeded_at_once() -> None:
    stored = Counted(MemoryStore())
    known = KnownAbilities(stored, Uptime())
    shown = Abilities(bulk=True, accepted_image_bytes=100)
    for later in (NONE, shown, shown, sizes(90), Abilities(bulk=True)):
        await known.learn("a", later)
    assert stored.writes == 1
    assert await known.get("a") == shown
    await known.learn("a", Abilities(bulk=False))
    assert (await known.get("a")).bulk is False
    assert stored.writes == 2
    await known.forget("a")
    assert await known.get("a") == NONE
    await known.learn("a", shown)
    assert await known.get("a") == shown


async def test_what_others_have_learnt_meanwhile_is_not_written_over() -> None:
    store = MemoryStore()
    known = KnownAbilities(MemoryAbilities(store), Uptime())
    await known.get("a")
    await MemoryAbilities(store).learn("a", Abilities(bulk=False))
    await known.learn("a", Abilities(head=True))
    assert await known.get("a") == Abilities(bulk=False, head=True)


async def test_a_fault_of_the_store_is_told_and_remembered_is_nothing() -> None:
    store = MemoryStore()
    known = KnownAbilities(MemoryAbilities(store), Uptime())
    store.fault = StoreError("gone")
    for _ in range(2):
        with pytest.raises(StoreError):
            await known.learn("a", Abilities(bulk=True))
    store.fault = None
    await known.learn("a", Abilities(bulk=True))
    assert store.abilities == {"a": Abilities(bulk=True)}


@pytest.fixture
def world() -> World:
    world = World()
    abilities = KnownAbilities(MemoryAbilities(world.store))
    world.survey = replace(world.survey, abilities=abilities)
    world.sync_entity = replace(world.sync_entity, abilities=abilities)
    return world


async def test_a_survey_learns_of_main_and_child(world: World) -> None:
    world.pair([("a.png", png(1))])
    world.main.shown = Abilities(permanent_links=True)
    world.child.shown = Abilities(permanent_links=False)
    assert [found async for found in world.survey([world.link])]
    assert world.store.abilities == {"main": world.main.shown, "child": world.child.shown}


async def test_a_task_learns_of_main_and_child(world: World) -> None:
    world.pair([("a.png", png(1, 5000))])
    request = await world.request()
    world.store.abilities.clear()
    world.main.shown = Abilities(head=False)
    await world.sync(request)
    assert world.store.abilities == {"main": Abilities(head=False), "child": sizes(5000)}


async def test_a_survey_and_a_task_go_on_without_what_they_learn(world: World) -> None:
    world.pair([("a.png", png(1))])
    abilities = MemoryAbilities(MemoryStore(fault=NoRoomError("full")))
    world.survey = replace(world.survey, abilities=abilities)
    world.sync_entity = replace(world.sync_entity, abilities=abilities)
    world.main.shown = Abilities(head=False)
    result = await world.sync(await world.request())
    assert result.uploaded == 1
    assert world.store.abilities == {}


async def test_an_account_that_cannot_be_asked_shows_nothing() -> None:
    class Broken(MemoryMoySkladFactory):
        def for_account(self, account: Account) -> NoReturn:
            raise UnavailableError("no proxy")

    store = MemoryStore()
    accounts = [Account("a", "a", TokenKind.SOLUTION, "token")]
    await learn_shown(MemoryAbilities(store), Broken(), accounts)
    await learn_shown(None, MemoryMoySkladFactory(), accounts)
    assert store.abilities == {}
