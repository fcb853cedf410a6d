"""The simulation of many accounts: its clock, its judge of the pace, what it says of a sweep."""

import asyncio

import pytest
from benchmarks.scale import Costs, Meter429, Outcome, Size

from benchmarks import scale, virtual_time


def test_virtual_time_passes_while_everybody_waits_and_in_order() -> None:
    told: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        told.append((name, virtual_time.now()))

    async def both() -> None:
        await asyncio.gather(wait("late", 7200.0), wait("early", 3.0))

    virtual_time.run(both())
    assert [name for name, _ in told] == ["early", "late"]
    assert [at for _, at in told] == pytest.approx([3.0, 7200.0])


def test_a_wait_for_nothing_is_told() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing that time brings"):
        virtual_time.run(hang())


def test_a_pace_that_is_too_fast_is_found_out() -> None:
    async def hurry() -> Outcome:
        outcome = Outcome(Size(1, 1, 4))
        meter = Meter429(outcome, 4)
        for _ in range(12):  # 48 units at once
            meter.request("main0")
        return outcome

    assert virtual_time.run(hurry()).answers_429 == 1


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1, 4])
def test_a_sweep_by_several_hosts_stays_within_budget_and_limits(weight: int) -> None:
    size = Size(3, 2, weight, Costs(0.001), entities=2_000, children=4, thinned=20)
    done = scale.simulate(size)
    assert done.answers_429 == 0
    assert len(done.ends) == size.mains
    # Of the two types that have no entities main is asked, and nobody else.
    assert (done.most_of_main, done.most_of_child) == (size.pages + 2, size.pages)
    assert done.tasks == done.differing > 0
    assert done.seconds >= done.least_seconds - 3.0
    assert max(done.cpu_seconds) < 2 * min(done.cpu_seconds) + 1.0  # no host does all of it
