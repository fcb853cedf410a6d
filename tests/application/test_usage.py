"""What accounts take is counted, and written down in time."""

import asyncio
import math
from collections.abc import Mapping

import pytest

from imgsync.application.usage import GatherUsage, measured
from imgsync.domain.errors import StoreError
from imgsync.domain.runs import TaskTimes, Usage

pytestmark = pytest.mark.anyio


class Written:
    """Part of a `UsageRepository`: adds up what it is given, unless it fails."""

    def __init__(self) -> None:
        self.taken: dict[str, Usage] = {}
        self.times: dict[tuple[str, str], TaskTimes] = {}
        self.calls = 0
        self.fails = False

    async def add(self, taken: Mapping[str, Usage]) -> None:
        self.calls += 1
        if self.fails:
            raise StoreError("no answer")
        for account_id, usage in taken.items():
            self.taken[account_id] = self.taken.get(account_id, Usage()) + usage

    async def add_times(self, times: Mapping[tuple[str, str], TaskTimes]) -> None:
        if self.fails:
            raise StoreError("no answer")
        for key, one in times.items():
            self.times[key] = self.times[key] + one if key in self.times else one


async def test_it_is_written_down_every_so_often_and_at_the_end() -> None:
    written = Written()
    meter = GatherUsage(written, seconds=0.05)  # type: ignore[arg-type]
    for _ in range(3):
        meter.request("a", 4)
    meter.too_many("a")
    assert written.calls == 0
    await asyncio.sleep(0.15)
    assert written.taken == {"a": Usage(requests=3, units=12, too_many=1)}
    assert written.calls == 1  # and no more while nothing is taken
    meter.image("b", 1000)
    await meter.close()
    assert written.taken["b"] == Usage(images=1, bytes=1000)
    assert written.calls == 2


async def test_what_cannot_be_written_down_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    written = Written()
    meter = GatherUsage(written, seconds=0.02)  # type: ignore[arg-type]
    written.fails = True
    meter.request("a", 1)
    await asyncio.sleep(0.1)
    assert written.calls > 1
    assert "could not be written down: no answer" in caplog.text
    meter.request("a", 1)
    written.fails = False
    await meter.close()
    assert written.taken == {"a": Usage(requests=2, units=2)}


async def test_runs_beside_one_another_count_their_own() -> None:
    meter = GatherUsage(Written())  # type: ignore[arg-type]

    async def run(units: int) -> Usage:
        async def request() -> None:
            await asyncio.sleep(0)
            meter.request("a", units)

        with measured() as taken:
            await asyncio.gather(*(request() for _ in range(10)))
        meter.request("a", 100)  # of nobody
        return taken.usage

    found = tuple(await asyncio.gather(run(1), run(4)))
    assert found == (Usage(requests=10, units=10), Usage(requests=10, units=40))
    await meter.close()


async def test_how_long_tasks_take_is_written_down_and_not_lost() -> None:
    written = Written()
    meter = GatherUsage(written, seconds=0.02)  # type: ignore[arg-type]
    written.fails = True
    meter.task("image_sync", "completed", 0.1)
    await asyncio.sleep(0.1)
    meter.task("image_sync", "completed", 0.2)
    meter.task("image_sync", "completed", 9999)
    meter.task("undo", "failed", 3)
    assert written.times == {}
    written.fails = False
    await meter.close()
    copies = written.times.pop(("image_sync", "completed"))
    assert copies.tasks == {0.1: 1, 0.5: 1, math.inf: 1}
    assert copies.seconds == pytest.approx(9999.3)
    assert written.times == {("undo", "failed"): TaskTimes({5.0: 1}, 3)}
