"""Port to what the last comparison of each child found.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from imgsync.domain.differences import Comparison, EntityDifference


class Differences(Protocol):
    """The last comparison of each child, and the entities that it found different.

    The times are the store's. Text may lose NUL and lone surrogates where the store cannot hold
    them.
    """

    async def begin(self, main_account_id: str, child_account_id: str) -> str | None:
        """Notes that a comparison begins; what the last one found stays until it ends. A text of
        its own, by which it is known from now on; None, and nothing is noted, where another has
        not ended that began, or was said to be alive, within the last three minutes."""
        ...

    async def alive(self, child_account_id: str, began: str) -> None:
        """The comparison goes on."""
        ...

    async def end(
        self,
        child_account_id: str,
        began: str,
        differences: Sequence[EntityDifference],
        counts: Mapping[str, int],
        left_out: int,
    ) -> bool:
        """What was found, in place of what the one before found, in one transaction. False, and
        nothing is kept, where another began meanwhile, as this one seemed to be dead."""
        ...

    async def fail(self, child_account_id: str, began: str, error: str) -> None:
        """It broke off; what the one before found stays. Nothing is noted where another began
        meanwhile."""
        ...

    async def get(self, child_account_id: str) -> Comparison | None: ...

    async def find(
        self,
        child_account_id: str,
        *,
        differences: Collection[str] = (),
        text: str = "",
        limit: int = 20,
        offset: int = 0,
    ) -> list[EntityDifference]:
        """In the order in which they were found: of these `differences`, or of any where none
        is named, and whose name, code or
        reason has the `text` in it, whichever the case of its ASCII letters."""
        ...

    async def one(self, child_account_id: str, difference_id: int) -> EntityDifference | None:
        """None where the child has none with this id."""
        ...

    async def forget(self, child_account_id: str) -> None:
        """Nothing is known of the child any more."""
        ...
