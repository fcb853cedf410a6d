"""The suite of the port `StoreClock`."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from imgsync.domain.ports.clock import StoreClock
from imgsync.testing.contracts.contract import Contract


class StoreClockContract(Contract):
    """Proves a `StoreClock`. A test class gives the fixture `clock`."""

    tolerance: ClassVar[timedelta] = timedelta(minutes=5)
    """How far the store's clock may be from this host's."""

    @pytest.fixture
    def clock(self) -> Any:
        """To be overridden; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'clock'")

    async def test_the_present_is_in_utc(self, clock: StoreClock) -> None:
        now = await clock.now()
        assert now.utcoffset() == timedelta(0)
        assert abs(now - datetime.now(UTC)) < self.tolerance

    async def test_time_never_goes_back(self, clock: StoreClock) -> None:
        moments = [await clock.now() for _ in range(20)]
        assert moments == sorted(moments)
