"""Writes under a permit: confirmed right before, and never finished by a stopped process."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import respx

from imgsync.adapters.moysklad.requests import bulk_array, image_array, small_body
from imgsync.adapters.moysklad.transport import WriteWindow
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.model import Element, Upload
from imgsync.domain.ports.moysklad import ImageSet
from imgsync.uptime import uptime
from tests.moysklad.harness import API, PRODUCT, FakeTime, Harness, content
from tests.moysklad.raw import RawServer, json_response

pytestmark = pytest.mark.anyio
IMAGES = f"{API}/entity/product/p1/images"
PATH = "/entity/product/p1/images"
ROW = {"meta": {"href": f"{IMAGES}/i1"}, "filename": "a.png", "size": 3, "updated": "u"}
ABC = content(b"abc")
UPLOAD: list[Element] = [Upload("k", "a.png", 3)]


@dataclass
class Permit:
    """Gives the seconds of `answers` one by one, the last for ever; `asked` notes the moments."""

    answers: list[float | Exception]
    asked: list[float] = field(default_factory=list)
    clock: FakeTime = field(default_factory=FakeTime)

    async def confirm(self) -> float:
        self.asked.append(self.clock.now)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_permit_is_confirmed_at_each_repetition_after_the_pause(
    harness: Harness, network: respx.MockRouter
) -> None:
    permit = Permit([60.0], clock=harness.time)
    answers = [httpx.Response(503), httpx.Response(200, json=[ROW])]
    network.post(IMAGES).mock(side_effect=answers)
    await harness.client.set_images(PRODUCT, "p1", UPLOAD, ABC, permit)
    assert permit.asked == [1000.0, 1000.5]


async def test_the_permit_is_confirmed_after_the_wait_for_the_pace(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(IMAGES).respond(429, headers={"X-Lognex-Retry-After": "9000"})
    network.post(IMAGES).respond(json=[ROW])
    with contextlib.suppress(TimeoutError):
        async with harness.transport.exchange("GET", IMAGES):
            pass
    permit = Permit([60.0], clock=harness.time)
    await harness.client.set_images(PRODUCT, "p1", UPLOAD, ABC, permit)
    assert permit.asked == [1009.0]


async def test_without_the_permit_nothing_goes_out(
    harness: Harness, network: respx.MockRouter
) -> None:
    writes = network.post(url__startswith=IMAGES).respond(json=[ROW])
    for answer in (LeaseLostError("gone"), 0.0, -5.0):
        with pytest.raises(LeaseLostError):
            await harness.client.set_images(PRODUCT, "p1", UPLOAD, ABC, Permit([answer]))
        with pytest.raises(LeaseLostError):
            await harness.client.delete_images(PRODUCT, "p1", [f"{IMAGES}/i1"], Permit([answer]))
    assert not writes.called


async def test_a_permit_that_is_lost_between_two_tries_ends_the_write(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(IMAGES).respond(503)
    permit = Permit([60.0, LeaseLostError("gone")])
    with pytest.raises(LeaseLostError):
        await harness.client.set_images(PRODUCT, "p1", UPLOAD, ABC, permit)
    assert route.call_count == 1


async def test_a_redirected_write_is_confirmed_anew(
    harness: Harness, network: respx.MockRouter
) -> None:
    moved = f"{API}/entity/product/real/images"
    network.post(IMAGES).respond(308, headers={"Location": moved})
    network.post(moved).respond(json=[ROW])
    permit = Permit([60.0])
    await harness.client.set_images(PRODUCT, "p1", UPLOAD, ABC, permit)
    assert len(permit.asked) == 2


async def test_a_write_that_is_not_answered_in_time_is_broken_off(
    server: RawServer, local: Harness
) -> None:
    async def never(_: object) -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    server.on(PATH, never)
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLostError, match="outlasted the lease"):
            await local.client.set_images(PRODUCT, "p1", UPLOAD, ABC, Permit([0.4]))


async def test_a_body_that_outlasts_its_permit_stays_incomplete(
    server: RawServer, local: Harness
) -> None:
    server.on(PATH, json_response([ROW]))
    size = 40_000_000

    async def slow(_key: str) -> AsyncIterator[bytes]:
        """As a disk that stands still; the loop's own timers cannot fire meanwhile."""
        for _ in range(40):
            yield b"x" * (size // 40)
            time.sleep(0.02)  # noqa: ASYNC251 (so that they cannot)

    with pytest.raises(LeaseLostError):
        await local.client.set_images(
            PRODUCT, "p1", [Upload("k", "a.png", size)], slow, Permit([0.3])
        )
    await asyncio.sleep(0.2)
    (request,) = server.requests
    assert 0 < len(request.body) < int(request.headers["content-length"])


@pytest.mark.parametrize("kind", ["upload", "delete", "bulk"])
async def test_the_last_chunk_is_small_and_comes_after_a_check_of_its_own(kind: str) -> None:
    sets = [ImageSet(entity_id, UPLOAD, ABC, Permit([60.0])) for entity_id in ("p1", "p2")]
    body = {
        "upload": image_array(UPLOAD, ABC),
        "delete": small_body([{"meta": {}}]),
        "bulk": bulk_array(f"{API}/entity/product", "product", sets),
    }[kind]
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    seen = [(checks, chunk) async for chunk in body.guarded(check)]
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert len(seen) > 1
    assert seen[-1][1] == b"]"
    assert sum(len(chunk) for _, chunk in seen) == body.length


async def test_the_window_counts_from_before_the_permit_was_asked() -> None:
    clock = FakeTime()

    class SlowPermit:
        async def confirm(self) -> float:
            clock.now += 100  # such as a process that is stopped right here
            return 60.0

    with pytest.raises(LeaseLostError):
        await WriteWindow.open(SlowPermit(), clock.monotonic)


async def test_the_window_ends_before_the_permit() -> None:
    clock = FakeTime()
    for seconds, most in ((120.0, 110.0), (4.0, 3.0)):
        window = await WriteWindow.open(Permit([seconds]), clock.monotonic)
        assert window.left == most


def test_the_clock_of_writes_goes_on_during_sleep_where_the_system_has_one() -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    expected = time.clock_gettime(clock)
    assert 0 <= uptime() - expected < 5


_WRITER = """
import asyncio, sys
from tests.moysklad.harness import ACCOUNT, PRODUCT, build, content, http_client
from tests.moysklad.test_permit import Permit
from imgsync.domain.model import Upload
from imgsync.domain.errors import LeaseLostError

async def main(url):
    async with http_client() as api:
        client = build(ACCOUNT, api, api, url=url).client
        pieces = content(*[b"x" * 30_000] * 2000)
        try:
            await client.set_images(
                PRODUCT, "p1", [Upload("k", "a.png", 60_000_000)], pieces, Permit([2.0])
            )
        except LeaseLostError:
            print("lost")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
async def test_a_process_that_was_stopped_does_not_finish_its_write(server: RawServer) -> None:
    server.on(PATH, json_response([ROW]))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _WRITER,
        server.url,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    async with asyncio.timeout(30):
        while not server.requests or len(server.requests[0].body) < 100_000:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        stopped_at = len(server.requests[0].body)
        await asyncio.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        output, _ = await process.communicate()
    assert stopped_at < int(server.requests[0].headers["content-length"])
    assert output.strip() == b"lost"
    assert not server.requests[0].complete


async def test_small_pieces_of_a_body_are_written_together_and_the_last_alone() -> None:
    """Each is a write to the connection; without the last the API does nothing."""
    uploads = [Upload(str(n), f"{n}.png", 12_000) for n in range(10)]
    body = image_array(uploads, content(bytes(12_000)))
    chunks = [chunk async for chunk in body.chunks()]
    assert sum(map(len, chunks)) == body.length
    assert chunks[-1] == b"]"
    assert len(chunks) <= 2 + body.length // 65_536
