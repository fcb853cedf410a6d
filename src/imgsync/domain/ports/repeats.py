"""Port to the requests that a program may send again without having them done again.

Errors: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request was answered with: status, body, and the header Location."""

    status: int
    body: str
    location: str | None = None


class Standing(Enum):
    """NEW: it is to be done; UNDER_WAY: somebody does it; OTHER: its key is another request's."""

    NEW = auto()
    UNDER_WAY = auto()
    OTHER = auto()


class Repeats(Protocol):
    """Requests by the keys that their senders chose. The time is the store's."""

    async def begin(
        self, key: str, fingerprint: str, token: str, *, lease: timedelta, keep: timedelta
    ) -> Answered | Standing:
        """Of all that begin the same `key` at once, one is told NEW, to whom it belongs by its
        `token` until `end` or `drop`. One that has not ended after `lease` may be begun anew.
        `fingerprint`: equal for equal requests. What began `keep` ago is forgotten."""
        ...

    async def end(self, key: str, token: str, answered: Answered) -> None:
        """From now on it is answered so. Nothing is kept where it belongs to another by now."""
        ...

    async def drop(self, key: str, token: str) -> None:
        """Nothing was done: it may be begun anew."""
        ...
