"""The benchmark measures what it says."""

import pytest
from benchmarks.measure import measure
from benchmarks.workload import Workload

SMALL = Workload(entities=2, images=10, image_bytes=2000)
QUICK_INTERVAL = 0.2


@pytest.mark.parametrize(
    ("module", "calls", "changes"),
    [("benchmarks.imgsync_copy", 12, 1), ("benchmarks.baseline_copy", 22, 11)],
)
def test_ten_images_cost_one_upload_instead_of_eleven_changes(
    module: str, calls: int, changes: int
) -> None:
    found = measure(module, SMALL, QUICK_INTERVAL)
    assert (found.calls_per_entity, found.changes_per_entity) == (calls, changes)
    assert found.images_per_second > 0
    assert found.peak_bytes > 10_000_000
