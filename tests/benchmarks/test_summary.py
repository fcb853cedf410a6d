"""What is kept of the benchmark's tables, and what README picks out of them."""

from pathlib import Path

import pytest
from benchmarks.results import keep, kept
from benchmarks.summary import summary
from benchmarks.tables import Answer

from tests.outputs.prints import BENCH


def speeds() -> Answer:
    found = Answer("How quick?", ("Program", "Latency", "Images/s: one run"), notes=("It is.",))
    found.add("imgsync", "0 ms", "171.0")
    found.add("imgsync", "300 ms", "23.0")
    found.add("plain script", "0 ms", "367.0")
    return found


def test_a_cell_is_named_by_its_column_and_others_of_its_row() -> None:
    found = speeds()
    assert found.cell("Images/s*", {"Program": "imgsync", "Latency": "0 ms"}) == "171.0"
    assert found.find("Images/s*", {"Program": "imgsync"}) == ["171.0", "23.0"]
    assert found.find("Latency", {}) == ["0 ms", "300 ms", "0 ms"]


@pytest.mark.parametrize(
    ("column", "where"),
    [
        ("Images/s*", {"Program": "imgsync"}),
        ("Images/s*", {"Program": "other"}),
        ("MB/s", {"Program": "plain script"}),
        ("*", {"Program": "plain script"}),
        ("Images/s*", {"Goal": "1"}),
    ],
)
def test_a_cell_that_is_not_there_or_not_one_is_no_cell(column: str, where: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unpack"):
        speeds().cell(column, where)


def test_a_part_takes_the_place_of_what_was_kept_of_it_and_of_no_other(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    first, then = speeds(), speeds()
    then.add("bulk script", "0 ms", "787.0")
    keep(file, "speed", "an old machine", [first])
    keep(file, "calls", "a machine", [first, first])
    keep(file, "speed", "a machine", [then])
    found = kept(file)
    assert list(found) == ["speed", "calls"]
    assert found["speed"].machine == "a machine"
    assert [one.markdown() for one in found["speed"].answers] == [then.markdown()]
    assert [one.markdown() for one in found["calls"].answers] == [first.markdown()] * 2


def test_the_summary_needs_each_part_and_each_of_its_rows() -> None:
    parts = dict(kept(BENCH))
    assert len(summary(parts).rows) > len(parts)
    (calls,) = parts["calls"].answers
    calls.rows[:] = [row for row in calls.rows if row[0] != "First copy"]
    with pytest.raises(ValueError, match="unpack"):
        summary(parts)
    del parts["calls"]
    with pytest.raises(KeyError, match="calls"):
        summary(parts)
