"""Ports to what the web server keeps: its secrets, failed logins, and who changed what.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from imgsync.domain.logins import Admission, LoginLimits


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change that somebody made. `who`: how they were known; `action`: a word such as ``sync``;
    `subject`: what was changed; `detail`: a JSON object."""

    who: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    id: int = 0
    at: datetime | None = None


class WebSecrets(Protocol):
    """Texts by name that nobody is shown, such as the hash of the password."""

    async def get_many(self, names: Collection[str]) -> dict[str, str]:
        """Of those that there are."""
        ...

    async def put(self, name: str, value: str) -> None:
        """In place of what was there."""
        ...

    async def keep(self, name: str, value: str) -> str:
        """What is kept by that name: `value` where nothing was. All that ask at the same time are
        given the same."""
        ...

    async def drop(self, name: str) -> bool:
        """False where there was none."""
        ...

    async def drop_older(self, prefix: str, value: str) -> int:
        """Drops those whose name begins so and whose value is less than this, as texts are
        ordered; how many."""
        ...


class LoginAttempts(Protocol):
    """Attempts to log in that did not end well, by their origin (`domain.logins`). The time is the
    store's, so that several hosts count together."""

    async def begin(self, origin: str, limits: LoginLimits) -> Admission:
        """Whether an attempt may be made now. One that may is noted as failed until `forget` is
        told of it, so that many at once are counted before any has ended; of one that may not,
        nothing is written. Those that are older than `LoginLimits.kept` are dropped."""
        ...

    async def forget(self, origin: str) -> None:
        """Somebody has logged in from there: none of its attempts counts any more."""
        ...


class Audit(Protocol):
    """Changes that people and programs have made, in the order in which they were made."""

    async def note(self, entry: AuditEntry) -> None:
        """The time is the store's. Text may lose NUL and lone surrogates."""
        ...

    async def find(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest first, those with a smaller id than `before`. What is damaged in one is
        empty."""
        ...
