"""Contract of the port Clock, on the system's clock and the tests' own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.sql.clock import DatabaseClock
from imgsync.domain.ports.clock import Clock
from tests.application.world import TestClock


@pytest.mark.parametrize("make", [SystemClock, lambda: TestClock(datetime.now(UTC))])
def test_the_present_is_in_utc_and_never_goes_back(make: Callable[[], Clock]) -> None:
    clock = make()
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_database_s_clock_keeps_the_contract(engine: Engine) -> None:
    test_the_present_is_in_utc_and_never_goes_back(lambda: DatabaseClock(engine))
