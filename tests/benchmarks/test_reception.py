"""The reception of webhooks is measured at a real serve; what is not taken counts as failed."""

import asyncio

import pytest
from benchmarks.catalogue import Catalogue

from benchmarks import reception

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_taken_while_a_worker_copies_is_measured(apart: bool) -> None:
    catalogue = Catalogue(entities=20, images=1, image_bytes=1000)
    found = reception.measure(copies=True, apart=apart, rate=20, seconds=1, catalogue=catalogue)
    assert (len(found.load.seconds), found.load.failed) == (20, 0)
    assert found.load.milliseconds(0.5) <= found.load.milliseconds(1)


def test_what_is_refused_counts_as_failed() -> None:
    with reception._serving(("-m", "benchmarks.reception", "baseline"), {}) as url:
        load = asyncio.run(reception.send(url, ["x"], rate=50, seconds=0.2))
        assert (len(load.seconds), load.failed) == (10, 0)
    wrong = asyncio.run(reception.send(url, ["x"], rate=50, seconds=0.2))
    assert (wrong.seconds, wrong.failed, wrong.share) == ([], 10, 0)
