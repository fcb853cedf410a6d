"""Ports to the time of day."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The clock of this host."""

    def now(self) -> datetime:
        """The present, in UTC."""
        ...


class StoreClock(Protocol):
    """The clock of a store that several hosts share, so that they agree however theirs differ."""

    async def now(self) -> datetime:
        """The present, in UTC. StoreError where the store cannot be asked."""
        ...
