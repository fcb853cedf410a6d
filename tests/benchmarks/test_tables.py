"""Numbers beside their limits: requests, sizes, start-up, and how they are printed."""

import pytest
from benchmarks.__main__ import main
from benchmarks.calls import Budget
from benchmarks.catalogue import Catalogue
from benchmarks.tables import Answer, ratio, spread

from benchmarks import calls, growth, startup

LARGE = Catalogue(entities=10_000, images=3, image_bytes=60_000, children=20)


@pytest.mark.parametrize(
    ("budget", "main", "child"),
    [
        (Budget.unchanged(LARGE), 100, 100),
        (Budget.unchanged(Catalogue(101, 1, 100)), 2, 2),
        # 30,000 × 80,060 encoded bytes in requests of 20 MB
        (Budget.first_copy(LARGE, permanent_links=True), 100, 100 + 121),
        (Budget.first_copy(LARGE, permanent_links=False), 100 + 30_000, 100 + 121),
        # small ones: as many requests as there are hundreds of entities
        (Budget.first_copy(Catalogue(250, 3, 100), permanent_links=True), 3, 3 + 3),
        (Budget.changed(LARGE, 100, permanent_links=False), 200, 100 + 1),
        (Budget.changed(LARGE, 101, permanent_links=True), 100, 100 + 2),
    ],
)
def test_the_fewest_requests(budget: Budget, main: int, child: int) -> None:
    assert budget == Budget(main, child)


@pytest.mark.slow
@pytest.mark.parametrize("permanent_links", [True, False])
def test_requests_are_counted_by_account_and_phase(permanent_links: bool) -> None:
    catalogue = Catalogue(entities=3, images=2, image_bytes=500, children=2)
    first, nothing, changed, named = calls.measure(catalogue, permanent_links=permanent_links)
    assert nothing.requests[1] == nothing.limit.child == 1
    downloads = 0 if permanent_links else 6
    assert first.limit == Budget(1 + downloads, 2)
    assert first.requests[0] - nothing.requests[0] == downloads  # each image once for all children
    assert changed.requests[0] - nothing.requests[0] == (0 if permanent_links else 1)
    assert changed.requests[1] > nothing.requests[1]
    assert named.limit == Budget(1 if permanent_links else 2, 2)
    assert 1 <= named.requests[1] <= 3  # no survey
    for one in (first, nothing, changed, named):
        assert one.units == one.requests
        assert one.throttled == (0, 0)
        assert one.ratios[1] == one.requests[1] / one.limit.child


def test_a_survey_asks_each_child_once_for_each_page() -> None:
    found = calls.measure_survey(Catalogue(101, 1, 100, children=2, copied=True))
    assert found.requests[1] == found.limit.child == 2
    assert found.requests[0] >= found.limit.main == 2


def test_sizes_are_measured_in_one_process() -> None:
    found = growth.measure(30)
    assert 20_000_000 < found.survey_peak_bytes <= found.enqueue_peak_bytes < 300_000_000
    assert found.survey_cpu_seconds > 0
    assert 0 < found.diff_seconds < found.survey_seconds < 30
    assert found.per(3.0) == 1000


def test_copies_are_set_beside_the_first_one() -> None:
    catalogues = [Catalogue(1, images, 100_000) for images in (1, 10)]
    rows = growth.copy_answer(catalogues).rows
    assert [row[1] for row in rows] == ["imgsync", "plain script"] * 2
    assert [row[5] for row in rows[:2]] == ["1.00", "1.00"]
    for first, then in zip(rows[:2], rows[2:], strict=True):
        assert float(then[5]) == pytest.approx(int(then[2]) / int(first[2]), abs=0.05)


def test_start_up_is_measured_as_often_as_is_said() -> None:
    seconds = startup.measure(("-c", "import time; time.sleep(0.1)"), 2)
    assert len(seconds) == 2
    assert all(0.1 < one < 30 for one in seconds)


@pytest.mark.slow
def test_a_table_in_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--entities=2", "--children=1", "--surveyed=2", "--image-bytes=500", "--images=1"]
    main(["calls", "--markdown", *sizes])
    text = capsys.readouterr().out
    assert text.count("| First copy | 2 × 1 of 500 B, 1 child |") == 4
    assert text.count("| Nothing changed |") == 4
    assert text.count("| One changed, by payload |") == 4
    assert text.count("| Survey alone |") == 3
    assert "| --- | ---: |" in text


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(SystemExit, match="no part is named speeed"):
        main(["speeed"])


def test_how_numbers_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert str(Catalogue(1000, 2, 1_400_000)) == "1,000 × 2 of 1.4 MB, 1 child"
    assert str(Catalogue(1, 2, 999, children=2)) == "1 × 2 of 999 B, 2 children"
    assert spread([3.0, 1.0, 2.25]) == "1.0 / 2.2 / 3.0"
    assert spread([1234.5], 0) == "1,234"
    assert (ratio(3, 2), ratio(3, 0)) == ("1.50", "–")
    shown = Answer("How many?", ("What", "Number"), notes=("It is so.",))
    shown.add("x" * 120, "7")
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        shown.add("a", "b", "c")
    assert shown.markdown().endswith("| 7 |\n\n- It is so.\n")
    shown.show(markdown=False)
    assert "x" * 120 + "      7" in capsys.readouterr().out  # not cut for a narrow terminal
