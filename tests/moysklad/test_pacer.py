"""The pacer: at most five at once, and no faster than the bucket."""

import asyncio
import base64
import itertools

import httpx
import pytest

from imgsync.adapters.moysklad.pace import Pacer
from imgsync.adapters.moysklad.requests import base64_chunks
from tests.moysklad.harness import FakeTime, content
from tests.support.gauge import ParallelGauge

pytestmark = pytest.mark.anyio


def pacer_of(time: FakeTime, weight: int = 1) -> Pacer:
    return Pacer(lambda: weight, monotonic=time.monotonic, sleep=time.sleep)


async def send(pacer: Pacer) -> None:
    async with pacer.slot() as slot:
        slot.sending()


async def measured(pacer: Pacer, gauge: ParallelGauge) -> None:
    async with pacer.slot() as slot:
        slot.sending()
        with gauge.under_way():
            await asyncio.sleep(0.001)


async def test_at_most_five_requests_are_under_way() -> None:
    pacer, gauge = pacer_of(FakeTime()), ParallelGauge()
    await asyncio.gather(*(measured(pacer, gauge) for _ in range(30)))
    assert gauge.most == 5


@pytest.mark.parametrize(("weight", "in_window"), [(1, 45), (3, 15), (4, 11)])
async def test_the_weight_sets_the_pace(weight: int, in_window: int) -> None:
    time = FakeTime()
    pacer = pacer_of(time, weight)
    for _ in range(in_window):
        await send(pacer)
    assert time.sleeps == []
    await send(pacer)
    assert sum(time.sleeps) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-Lognex-Retry-After": "1500"}, 1.5),
        ({"X-Lognex-Reset": "2500"}, 2.5),
        ({"X-Lognex-Retry-After": "1500", "X-Lognex-Reset": "2500"}, 2.5),
        ({"X-Lognex-Retry-After": "0"}, 0.2),
        ({"Retry-After": "2"}, 2.0),
        ({"X-Lognex-Retry-After": "nonsense"}, 3.0),
        ({}, 3.0),
    ],
)
async def test_a_429_is_waited_out(headers: dict[str, str], wait: float) -> None:
    time = FakeTime()
    pacer = pacer_of(time)
    pacer.observe(httpx.Response(429, headers=headers))
    await send(pacer)
    assert sum(time.sleeps) == pytest.approx(wait)


async def test_a_smaller_bucket_is_learned_from_the_headers() -> None:
    time = FakeTime()
    pacer = pacer_of(time)
    headers = {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "2",
        "X-Lognex-Retry-TimeInterval": "10000",
    }
    pacer.observe(httpx.Response(200, headers=headers))
    for _ in range(3):
        await send(pacer)
    assert sum(time.sleeps) == pytest.approx(10.0)


async def test_a_failed_request_gives_its_place_back() -> None:
    pacer = pacer_of(FakeTime())
    for _ in range(10):
        with pytest.raises(RuntimeError):
            async with pacer.slot():
                raise RuntimeError
    async with asyncio.timeout(1), pacer.slot():
        pass


@pytest.mark.parametrize("sizes", [[], [1], [2], [3], [1, 1, 1], [5, 0, 4], [3, 3], [1000, 1]])
async def test_base64_of_chunks_is_base64_of_the_whole(sizes: list[int]) -> None:
    chunks = [bytes([i]) * size for i, size in enumerate(sizes)]
    assert b"".join(
        [text async for text in base64_chunks(content(*chunks)("k"))]
    ) == base64.b64encode(b"".join(chunks))


async def test_waiters_behind_a_full_bucket_do_not_pass_together() -> None:
    time, pacer = FakeTime(), None

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        await time.sleep(seconds)

    pacer = Pacer(lambda: 45, monotonic=time.monotonic, sleep=sleep)
    sent: list[float] = []

    async def request() -> None:
        async with pacer.slot() as slot:
            slot.sending()
            sent.append(time.now)

    await asyncio.gather(*(request() for _ in range(4)))
    assert all(later - earlier >= 3.0 for earlier, later in itertools.pairwise(sent))


async def test_a_hold_that_comes_while_a_request_waits_is_waited_out_too() -> None:
    time = FakeTime()

    async def sleep(seconds: float) -> None:
        if not time.sleeps:
            headers = {"X-Lognex-Retry-After": "9000"}
            pacer.observe(httpx.Response(429, headers=headers))
        await time.sleep(seconds)

    pacer = Pacer(lambda: 45, monotonic=time.monotonic, sleep=sleep)
    for _ in range(2):
        await send(pacer)
    assert sum(time.sleeps) >= 9.0


async def test_after_a_429_requests_go_one_by_one_until_one_succeeds() -> None:
    time, gauge = FakeTime(), ParallelGauge()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.001)
        await time.sleep(seconds)

    pacer = Pacer(lambda: 1, monotonic=time.monotonic, sleep=sleep)
    pacer.observe(httpx.Response(429, headers={"X-Lognex-Retry-After": "100"}))
    async with asyncio.timeout(5):
        await asyncio.gather(*(measured(pacer, gauge) for _ in range(5)))
    assert gauge.most == 1
    pacer.observe(httpx.Response(200))
    await asyncio.gather(*(measured(pacer, gauge) for _ in range(5)))
    assert gauge.most == 5
