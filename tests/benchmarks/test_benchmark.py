"""The benchmark measures what it says."""

import pytest
from benchmarks.measure import measure
from benchmarks.workload import Workload

SMALL = Workload(entities=2, images=10, image_bytes=2000)
QUICK_INTERVAL = 0.2


@pytest.mark.parametrize(
    ("module", "calls", "changes"),
    [("benchmarks.imgsync_copy", 10.5, 0.5), ("benchmarks.baseline_copy", 22, 11)],
)
def test_ten_images_cost_one_upload_instead_of_eleven_changes(
    module: str, calls: float, changes: float
) -> None:
    found = measure(module, SMALL, QUICK_INTERVAL)
    assert (found.calls_per_entity, found.changes_per_entity) == (calls, changes)
    assert 0.01 < found.seconds < 30
    assert found.images_per_second == 20 / found.seconds
    assert 20_000_000 < found.peak_bytes < 200_000_000


def test_answers_429_are_no_calls() -> None:
    found = measure("benchmarks.baseline_copy", Workload(5, 10, 100), 0.5)
    assert found.throttled > 0
    assert found.calls_per_entity == 22


def test_a_copy_that_did_not_happen_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="copied 20 of 20 images"):
        measure("tests.benchmarks.false_copy", SMALL, QUICK_INTERVAL)
