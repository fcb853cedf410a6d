"""Port to the keys of programs that use the HTTP API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by its name; what it is itself nobody knows but who has it. Times are aware."""

    name: str
    may_write: bool
    created_at: datetime
    last_used_at: datetime | None = None


class ApiKeys(Protocol):
    """Keys by name and by the SHA-256, in hexadecimal digits, of the key. Errors of all: StoreError
    where the store cannot be used, NoRoomError where its disk is full."""

    async def add(self, name: str, key_hash: str, *, may_write: bool) -> bool:
        """False where there is one of this name, which stays as it is."""
        ...

    async def remove(self, name: str) -> bool:
        """From now on it opens nothing. False where there is none of this name."""
        ...

    async def all(self) -> list[ApiKey]:
        """By name."""
        ...

    async def use(self, key_hash: str) -> ApiKey | None:
        """The key of this hash; that it was used is noted once a minute at most."""
        ...
