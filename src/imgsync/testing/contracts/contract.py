"""What every suite brings along, so that whoever uses it has nothing to configure."""

import asyncio
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar

import pytest

StoreT = TypeVar("StoreT")
"""What a test class keeps its adapters' data in; only that class knows what it is."""

_LONGEST_WAIT = timedelta(seconds=30)


class Contract:
    """Runs the tests of a class on asyncio, by the pytest plugin of anyio."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


class TimedContract(Contract, Generic[StoreT]):
    """A suite in whose course time passes.

    A store whose clock cannot be set has `real_time` = True in place of `advance`: leases last
    `real_lease` then and are really waited for. Tests that would wait for minutes are skipped.
    """

    real_time: ClassVar[bool] = False
    real_lease: ClassVar[timedelta] = timedelta(seconds=0.6)

    @pytest.fixture
    def store(self) -> Any:
        """To be overridden: a new, empty store for each test; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'store'")

    async def advance(self, store: StoreT, by: timedelta) -> None:
        """To be overridden: moves the store's clock forward, by microseconds or by days."""
        if not self.real_time:
            raise NotImplementedError("the test class has neither 'advance' nor real_time = True")
        if by > _LONGEST_WAIT:
            pytest.skip(f"this store's clock cannot be set, and the test takes {by}")
        await asyncio.sleep(by.total_seconds() + 0.02)
