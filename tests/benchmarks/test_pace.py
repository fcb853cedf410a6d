"""Several processes on one token: all of its limit, and no answer 429."""

import pytest
from benchmarks.pace import measure

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("processes", "latency", "weight"), [(1, 0.3, 1), (3, 0.0, 4), (6, 0.3, 1)]
)
def test_processes_share_the_limit_of_a_token(
    sqlite_url: str, processes: int, latency: float, weight: int
) -> None:
    use = measure(processes, latency, weight, sqlite_url, intervals=1)
    assert use.refused == 0
    assert use.most_at_once <= 5
    assert use.share > 0.7  # of a busy machine; `python -m benchmarks.pace` shows 95 % and more


def test_hosts_share_it_through_postgresql(postgresql_url: str) -> None:
    use = measure(3, 0.0, 1, postgresql_url, intervals=1)
    assert (use.refused, use.share > 0.7) == (0, True)
