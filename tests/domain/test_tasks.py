"""Ids of many tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.domain.tasks import TaskIds


@given(st.lists(st.integers(-5000, 5000) | st.integers() | st.text(max_size=3)))
def test_ids_are_there_once_each_and_no_others(given: list[int | str]) -> None:
    ids = TaskIds(given)
    assert set(ids) == set(given)
    assert len(ids) == len(list(ids)) == len(set(given))
    numbers = [i for i in ids if isinstance(i, int)]
    assert numbers == sorted(numbers)
    assert all(i in ids for i in given)
    assert [i for i in (0, 1, 10**30, "", "a", None) if (i in ids) != (i in given)] == []


@pytest.mark.slow
def test_three_million_ids_of_one_queue_take_less_than_a_megabyte() -> None:
    ids = TaskIds(range(7, 3_000_007))
    assert len(ids) == 3_000_000
    assert sum(block.__sizeof__() for block in ids._blocks.values()) < 1_000_000
