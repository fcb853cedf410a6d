"""Contracts of the ports Clock and StoreClock: this host's, and the databases' own."""

from datetime import UTC, datetime, timedelta

import pytest

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.sql.database import Database, DatabaseClock
from imgsync.testing import StoreClockContract


class TestDatabaseClock(StoreClockContract):
    @pytest.fixture
    def clock(self, database: Database) -> DatabaseClock:
        return DatabaseClock(database)


def test_the_present_of_this_host_is_in_utc_and_never_goes_back() -> None:
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=5)
