"""Port to whose turn it is to survey a child.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """`token`: how the store knows the turn; '' where none was taken, as these children are `busy`:
    they are being surveyed already."""

    token: str
    busy: frozenset[str] = frozenset()


class SurveyTurns(Protocol):
    """Who surveys which children, of all processes on all hosts. A turn is held by a lease, whose
    times are the store's."""

    async def take(self, child_ids: Collection[str], lease: timedelta) -> TakenTurn:
        """A turn of all of these children, or of none of them."""
        ...

    async def renew(self, token: str, lease: timedelta) -> None:
        """Holds the turn for another lease from now. LeaseLostError where another one has been
        taken of any of its children, or may have been."""
        ...

    async def end(self, token: str) -> None:
        """Others may survey these children; nothing happens where the turn was lost."""
        ...
