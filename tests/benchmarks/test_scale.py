"""The simulation of many accounts: its clock, its judge of the pace, what it says of a sweep."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.scale import Costs, Meter429, Outcome, Size

from benchmarks import scale, virtual_time
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.testing import MemoryStore, SetClock


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


def test_waits_that_are_shorter_than_the_loop_can_tell_come_to_an_end() -> None:
    """They end before their time, and where several take turns at it no time would pass."""

    async def wait(until: float, delay: int) -> int:
        for _ in range(delay):
            await asyncio.sleep(0)
        for tries in range(100):
            left = until - virtual_time.now()
            if left <= 0:
                return tries
            await asyncio.sleep(left)
        return 100

    async def several() -> list[int]:
        until = 64.1248000000001
        await asyncio.sleep(until - 1e-13)
        return await asyncio.gather(*(wait(until, number) for number in range(4)))

    assert max(virtual_time.run(several())) < 5


def test_a_pace_that_is_too_fast_is_found_out() -> None:
    async def hurry() -> Outcome:
        outcome = Outcome(Size(1, 1, 4))
        meter = Meter429(outcome, 4)
        for _ in range(12):  # 48 units at once
            meter.request("main0", 1.0)
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


def test_pages_that_are_read_ahead_make_a_sweep_quicker_and_cost_no_request() -> None:
    size = Size(1, 1, 1, entities=1_000, children=2, thinned=100)
    ahead, one_by_one = (
        scale.simulate(replace(size, reads_ahead=reads_ahead)) for reads_ahead in (True, False)
    )
    assert ahead.requests == one_by_one.requests
    assert ahead.seconds < 0.6 * one_by_one.seconds
    assert (ahead.answers_429, ahead.tasks) == (0, ahead.differing)


def test_an_incremental_survey_asks_for_what_has_changed() -> None:
    done = scale.simulate(Size(3, 2, 1, children=4, incremental=True))
    assert len(done.ends) == 3
    # The types that main has none of are read whole; the changed ones, and who has their keys too.
    assert (done.most_of_main, done.most_of_child) == (4, 1)
    assert done.tasks == done.differing == 3 * 4 * scale.CHANGED_BETWEEN
    assert done.answers_429 == 0


def test_surveys_of_an_interval_are_spread_over_it_and_each_is_done_once() -> None:
    done = scale.simulate(Size(40, 2, 1, children=1, incremental=True))
    assert len(done.ends) == 40
    tenths = Counter(int(begun // 90) for begun in done.begun.values())
    assert max(tenths.values()) <= 40 / 4
    assert len(tenths) >= 8
    assert (done.most_of_main, done.most_of_child) == (4, 1)
    assert done.busiest_second < sum(done.statements.values()) / 10


def test_a_sweep_asks_from_the_moment_on_at_which_all_are_due() -> None:
    done = scale.simulate(Size(8, 1, 1, entities=100, children=1))
    assert max(done.begun.values()) < 60
    assert sum(done.by_second.values()) == sum(done.statements.values())
    assert min(done.by_second) >= 60


def test_of_what_children_were_given_the_last_is_kept() -> None:
    records = scale.RecentRecords(MemoryStore(clock=SetClock()))
    given = SyncRecord((), (), (), settled=True)

    async def put_and_read() -> list[int]:
        for n in range(scale.KEPT + 5):
            await records.put(EntityKey(f"child{n}", "product", "e1"), given)
        found = [
            await records.get_many(f"child{n}", "product", ["e1", "e2"])
            for n in range(scale.KEPT + 5)
        ]
        return [n for n, known in enumerate(found) if known == {"e1": given}]

    assert asyncio.run(put_and_read()) == list(range(5, scale.KEPT + 5))


def test_links_cost_the_hosts_that_read_them() -> None:
    size = Size(2, 1, 1, Costs(link=0.01), entities=0, children=5)
    free = scale.simulate(replace(size, costs=Costs()))
    done = scale.simulate(size)
    # Those of each of two jobs, and all of them once or twice for the plan.
    spent = done.cpu_seconds[0] - free.cpu_seconds[0]
    assert 0.1 + 0.1 - 1e-6 <= spent <= 0.1 + 0.2 + 1e-6


def test_what_is_derived_is_told_as_such_and_not_where_it_was_simulated() -> None:
    done = Outcome(
        scale.DERIVED_FROM,
        seconds=600.0,
        requests=Counter(main0=102, child0=100),
        statements=Counter(pace=6_000, schedule=600),
        begun={"main0": 0.0},
        ends={"main0": 600.0},
        cpu_seconds=[540.0],
        tasks=30,
    )
    simulated = dict(zip(scale.COLUMNS, scale.row(done), strict=True))
    derived = dict(zip(scale.COLUMNS, scale.derived_row(done), strict=True))
    assert simulated["how"] == "simulated"
    assert "derived" in derived["how"]
    assert simulated["requests"] == "202"
    assert derived["requests"] == f"{202 * scale.WHOLE.mains // done.size.mains:,}"
    assert derived["minutes"] == "100.0"  # ten times as many main accounts on each host
    assert simulated["database questions/s; of these pace"] == "11; 10"
    hosts = scale.WHOLE.hosts // done.size.hosts
    assert derived["database questions/s; of these pace"] == f"{11 * hosts}; {10 * hosts}"
    costs, memory = Costs(), scale.Memory(1.0, 1.0)
    told = scale.table(costs, memory, [done])
    assert [row[1] for row in told.rows] == ["simulated", derived["how"]]
    told = scale.table(costs, memory, [done, replace(done, size=scale.WHOLE)])
    assert [row[1] for row in told.rows] == ["simulated", "simulated"]


def test_the_document_has_the_rows_and_columns_of_the_benchmark() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    shown = text.split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(cells[0]) == scale.COLUMNS
    assert [one[0] for one in cells[2:]] == scale.labels(full=True)
    assert {len(one) for one in cells} == {len(scale.COLUMNS)}
