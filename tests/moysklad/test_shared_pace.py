"""Processes on one credential: what they spend together, and what one does without the store."""

import asyncio
import heapq
import itertools
import random
import re
from collections import deque
from collections.abc import Awaitable

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgsync.adapters.moysklad.ledger import LEASE_SECONDS, End, Ledger, Seen
from imgsync.adapters.moysklad.pace import (
    Pacer,
    ProcessPaces,
    RoundTrips,
    learnt_weight,
    rate_in_use,
)
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.moysklad import RateInUse
from imgsync.domain.ports.pace import Step, T

pytestmark = pytest.mark.anyio


class Server:
    """A sliding window of 45 units in 3 s, and what it refused."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.spent: deque[float] = deque()
        self.refused = 0

    def count(self, now: float) -> int:
        """The remaining units."""
        while self.spent and self.spent[0] <= now - 3.0:
            self.spent.popleft()
        if (len(self.spent) + 1) * self.weight > 45:
            self.refused += 1
        else:
            self.spent.append(now)
        return 45 - len(self.spent) * self.weight


def play(processes: int, weight: int, way: float, seed: int, seconds: float = 30.0) -> list[float]:
    """Times at which the server counted requests of processes that always want more; it has refused
    none. `way`: seconds to the server and the same back, up to half as long again at times."""
    dice, server, texts = random.Random(seed), Server(weight), [""]  # noqa: S311
    polls = set[str]()
    trips, counted, number = RoundTrips(), list[float](), itertools.count()
    events: list[tuple[float, int, str, str, float]] = []
    wants = dict.fromkeys([str(n) for n in range(processes)], 5)

    def plan(at: float, what: str, who: str, sent: float = 0.0) -> None:
        heapq.heappush(events, (at, next(number), what, who, sent))

    def ask(now: float, who: str, end: End | None = None, seen: Seen | None = None) -> None:
        ledger = Ledger.read(texts[0], now)
        if end is not None:
            ledger.end(end)
        if seen is not None:
            ledger.observe(now, seen, 1)
        for grant in ledger.ask(now, who, wants[who], 1, str(next(number))):
            wants[who] -= 1
            there = way * dice.uniform(1.0, 1.5)
            plan(grant.at + there, "count", grant.id, grant.at)
        if wants[who] and who not in polls:
            again = ledger.ask_again(now, who, 1)
            if again < float("inf"):
                polls.add(who)
                plan(now + max(again, 0.001), "ask", who)
        texts[0] = ledger.text(now)

    for who in wants:
        plan(dice.uniform(0, 0.1), "ask", who)
    while events and events[0][0] < seconds:
        now, _, what, who, sent = heapq.heappop(events)
        if what == "ask":
            polls.discard(who)
            ask(now, who)
        elif what == "count":
            remaining = server.count(now)
            counted.append(now)
            plan(now + way * dice.uniform(1.0, 1.5), f"answer {remaining}", who, sent)
        else:
            trips.add(now, now - sent)
            free_at = max(now + 3.0 - trips.sure, sent + 3.0)
            holder = who.partition("/")[0]
            wants[holder] += 1
            seen = Seen(sent, now, 45, int(what.split()[1]), 3.0)
            ask(now, holder, End(who, sent, now, free_at), seen)
    assert server.refused == 0
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1, 3, 4])
@pytest.mark.parametrize("processes", [1, 2, 5, 12])
def test_together_they_use_the_limit_and_never_pass_it(processes: int, weight: int) -> None:
    for way, seed in ((0.0005, 1), (0.05, 2)):
        counted = play(processes, weight, way, seed)
        used = sum(12.0 < at <= 30.0 for at in counted)
        assert used >= 0.95 * (45 // weight) * 6


@pytest.mark.slow
@example(8, 4, 0.25, 4064)  # of the first round trips none was nearly as short as one can be
@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from([1, 2, 3, 4]), st.floats(0.0001, 0.4), st.integers())
def test_whatever_the_network_is_like_nothing_is_refused(
    processes: int, weight: int, way: float, seed: int
) -> None:
    assert play(processes, weight, way, seed, seconds=8.0)


@pytest.mark.slow
def test_every_process_comes_to_its_turn() -> None:
    ledger, now = Ledger(), 0.0
    turns = dict.fromkeys([str(n) for n in range(12)], 0)
    under_way = dict[str, float]()
    for number in range(4000):
        for who in turns:
            now += 0.001
            for grant_id, since in list(under_way.items()):
                if grant_id.startswith(f"{who}/") and now > since + 0.3:
                    del under_way[grant_id]
                    ledger.end(End(grant_id, since, now, since + 3.0))
                    turns[who] += 1
            for grant in ledger.ask(now, who, 1, 1, f"{number}"):
                under_way[grant.id] = grant.at
        assert len(under_way) <= 5
    assert min(turns.values()) >= max(turns.values()) / 3 > 0


def test_the_places_of_a_process_that_died_are_free_once_their_lease_is_over() -> None:
    ledger = Ledger()
    assert len(ledger.ask(0.0, "dead", 5, 1, "1")) == 5
    assert ledger.ask(LEASE_SECONDS - 0.1, "other", 1, 1, "2") == []
    assert len(ledger.ask(LEASE_SECONDS + 0.1, "other", 5, 1, "3")) == 5
    # What it sent last may have been counted as late as that.
    assert Ledger.read(ledger.text(11.0), 11.0).ask(11.0, "third", 1, 41, "4") == []


def test_a_clock_that_was_set_back_stops_nobody() -> None:
    ledger = Ledger()
    ledger.rejected(10_000.0, 200.0)
    ledger.ask(10_000.0, "a", 5, 1, "1")
    again = Ledger.read(ledger.text(10_000.0), 50.0)
    (grant,) = again.ask(50.0, "b", 1, 1, "2")
    assert grant.at == 53.0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version":1}', '{"version":2}', "9" * 9])
def test_a_damaged_text_is_a_new_beginning(text: str) -> None:
    assert Ledger.read(text, 1.0) == Ledger(is_careful=True)


class Broken:
    """A `PaceStore` that fails or hangs while it is told to."""

    def __init__(self) -> None:
        self.inner = ProcessPaces()
        self.fails = False
        self.hangs: Awaitable[object] | None = None
        self.keys: list[str] = []

    async def change(self, key: str, step: Step[T]) -> T:
        self.keys.append(key)
        if self.fails:
            raise StoreError("the disk is gone")
        if self.hangs is not None:
            await self.hangs
        return await self.inner.change(key, step)

    async def close(self) -> None:
        pass


async def send(pacer: Pacer) -> None:
    async with pacer.slot() as slot:
        slot.sending(small=True)
        headers = {"X-RateLimit-Limit": "45", "X-RateLimit-Remaining": "40"}
        pacer.observe(httpx.Response(200, headers=headers), slot)


@pytest.mark.slow
async def test_without_the_store_a_process_goes_on_carefully_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Broken()
    pacer = Pacer(lambda: 1, store=store, credential="very-secret", name="Shop")
    await send(pacer)
    store.fails = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20):
        await asyncio.gather(*(send(pacer) for _ in range(6)))
    assert loop.time() - began >= 3.0  # others may have spent all that there is
    warnings = [r.message for r in caplog.records if "store of its pace" in r.message]
    assert len(warnings) == 1
    assert "the disk is gone" in warnings[0]
    store.fails = False
    async with asyncio.timeout(10):
        while pacer._own is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await send(pacer)
    await pacer.close()


@pytest.mark.slow
async def test_a_store_that_hangs_stops_no_process() -> None:
    store, release = Broken(), asyncio.Event()
    pacer = Pacer(lambda: 1, store=store, credential="very-secret")
    store.hangs = release.wait()
    async with asyncio.timeout(15):
        await send(pacer)
    assert len(store.keys) == 1  # nothing piles up behind it
    release.set()
    await asyncio.sleep(0.1)
    store.hangs = None
    async with asyncio.timeout(5):
        await send(pacer)
    await pacer.close()


async def test_after_the_store_was_lost_old_and_new_processes_share_one_ledger() -> None:
    store = Broken()
    old = [Pacer(lambda: 1, store=store, credential="very-secret") for _ in range(2)]
    for pacer in old:
        await send(pacer)
    store.inner._texts.clear()
    await send(old[0])
    new = Pacer(lambda: 1, store=store, credential="very-secret")
    for pacer in (new, *old):
        await send(pacer)
    for pacer in (new, *old):
        await pacer.close()
    assert len(store.inner._texts) == 2  # the salt and one ledger


async def test_the_store_learns_no_secret_and_tells_the_weight() -> None:
    store = Broken()
    pacer = Pacer(lambda: 1, store=store, credential="very-secret")
    async with pacer.slot() as slot:
        slot.sending()
        headers = {"X-RateLimit-Limit": "45", "X-RateLimit-Remaining": "41"}
        pacer.observe(httpx.Response(200, headers=headers), slot)
    await pacer.close()
    assert all(re.fullmatch("salt|[0-9a-f]{32}", key) for key in store.keys)
    assert "secret" not in str(store.inner._texts)
    assert await learnt_weight(store, "very-secret") == 4
    assert await learnt_weight(store, "another") is None
    rate = await rate_in_use(store, "very-secret")
    assert rate == RateInUse(rate.units if rate else 0, 45, 3.0, 4)
    assert rate.units in (4, 0)  # where more than the interval has passed
    assert await rate_in_use(store, "another") is None
