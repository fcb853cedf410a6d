"""Port to our solutions, the accounts that have installed them, and MoySklad's calls.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from imgsync.domain.model import Account
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.solutions import Consequence, Installation, Solution, SolutionCall

Decide = Callable[[SolutionCall, Solution, Sequence[Installation], Account | None], Consequence]
"""What follows from a call, as `imgsync.domain.solutions.consequence` tells."""


class Solutions(Protocol):
    async def put(self, solution: Solution) -> None:
        """In place of the one with its id. Accounts that go by a token of it are from now on of the
        kind that it is."""
        ...

    async def get(self, app_id: str) -> Solution | None:
        """DamagedRowError for one that cannot be read."""
        ...

    async def all(self) -> list[Solution]:
        """By id."""
        ...

    async def remove(self, app_id: str) -> bool:
        """Its calls are not taken any more; accounts keep their tokens. False where there is no
        such solution."""
        ...

    async def ids(self) -> list[str]:
        """Of all that are stored, those that are damaged included."""
        ...

    async def installations(self) -> list[Installation]:
        """Of all solutions, by solution and account."""
        ...

    async def take_over(self, given: Sequence[Installation]) -> None:
        """Stores what another store knew, in place of what is known here, unless MoySklad has told
        that later. Whether they are of a draft is not read."""
        ...

    async def take(self, call: SolutionCall, decide: Decide, entry: AuditEntry) -> Consequence:
        """Heeds a call: what it leads to is stored together, with `entry` in the list of changes,
        or not at all. Calls of one account wait for one another, whichever hosts take them. Every
        call uses up its token, but for a refused one.

        A call that was heeded before is REPEATED, one with the token of another call REPLAYED.
        UNKNOWN where there is no such solution. ValueError as `decide`.
        """
        ...
