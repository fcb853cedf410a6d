"""Ports to the history of runs, to what is known of children, and to what accounts and tasks took.

Errors of all but `Meter`: StoreError where the store cannot be used, NoRoomError where its disk is
full. Text may lose NUL and lone surrogates where the store cannot hold them.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from imgsync.domain.runs import ChildProof, Run, RunKind, TaskTimes, Usage, UsageHour

NONE_YET: Mapping[str, Mapping[str, int]] = MappingProxyType({})


class RunHistory(Protocol):
    """Runs, by their ids."""

    async def begin(self, run: Run) -> None:
        """Notes a new run."""
        ...

    async def note(
        self,
        run_id: str,
        numbers: Mapping[str, int],
        by_child: Mapping[str, Mapping[str, int]] = NONE_YET,
    ) -> None:
        """Its numbers so far, and of each child, in place of those before."""
        ...

    async def end(
        self,
        run_id: str,
        numbers: Mapping[str, int],
        error: str | None = None,
        by_child: Mapping[str, Mapping[str, int]] = NONE_YET,
    ) -> None:
        """It ended now, with these numbers in all; `error`: why it did not come to its end."""
        ...

    async def get(self, run_id: str) -> Run | None: ...

    async def find(
        self,
        *,
        child_id: str | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        """Those that began from `since` on and before `until`, of this child and kind, newest
        first."""
        ...

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        """Deletes runs that began longer ago than this, at most `limit`; how many."""
        ...


class Proofs(Protocol):
    """How children stand beside their main accounts."""

    async def put(self, proof: ChildProof) -> None:
        """In place of what is known of the child. Of a child that another main account was compared
        with later, or the same, nothing is changed."""
        ...

    async def get(self, child_id: str) -> ChildProof | None: ...

    async def all(self) -> list[ChildProof]:
        """By the ids of the children."""
        ...

    async def forget(self, child_id: str) -> None:
        """The child receives nothing any more."""
        ...


class UsageRepository(Protocol):
    """What accounts took of MoySklad, by the hour (of UTC), and how long attempts at tasks did."""

    async def add(self, taken: Mapping[str, Usage]) -> None:
        """Adds what these accounts, by their ids, took in the present hour."""
        ...

    async def hours(
        self,
        since: datetime,
        until: datetime | None = None,
        *,
        account_ids: Collection[str] = (),
    ) -> Sequence[UsageHour]:
        """The hours that end after `since` and begin before `until`, the earliest first, by
        account; of these accounts, or of all where none is named."""
        ...

    async def add_times(self, times: Mapping[tuple[str, str], TaskTimes]) -> None:
        """Adds how long attempts at tasks took, by kind and end."""
        ...

    async def times(self) -> Mapping[tuple[str, str], TaskTimes]:
        """Of all attempts there ever were, by kind and end."""
        ...

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        """Deletes hours longer ago than this, at most `limit` rows; how many."""
        ...


class Meter(Protocol):
    """Counts what is taken; no method raises, nor waits."""

    def request(self, account_id: str, units: int) -> None:
        """A request went out that costs so many units."""
        ...

    def too_many(self, account_id: str) -> None:
        """It was answered 429."""
        ...

    def image(self, account_id: str, size: int) -> None:
        """An image of so many bytes was uploaded to the account."""
        ...

    def events(self, account_id: str, came: int, dropped: int) -> None:
        """So many events of the account's webhooks came, of which some were dropped."""
        ...

    def task(self, kind: str, end: str, seconds: float) -> None:
        """An attempt at a task took so long; `end` is a text of `TaskEnd`."""
        ...


class NoMeter:
    """Counts nothing; implements `Meter`."""

    def request(self, account_id: str, units: int) -> None:
        return

    def too_many(self, account_id: str) -> None:
        return

    def image(self, account_id: str, size: int) -> None:
        return

    def events(self, account_id: str, came: int, dropped: int) -> None:
        return

    def task(self, kind: str, end: str, seconds: float) -> None:
        return
