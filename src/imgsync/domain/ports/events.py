"""Ports to the events of webhooks, to what is known of an account's webhooks, and to what is kept
of entities.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Protocol

from imgsync.domain.webhooks import Backlog, ClaimedEvents, Event, WebhookState


class EventStore(Protocol):
    """Events that wait to be acted upon. The times are the store's."""

    async def receive(self, request_id: str, events: Sequence[Event]) -> bool:
        """Keeps the events of a request, in one transaction. False, and nothing is kept, where a
        request of this id came before."""
        ...

    async def claim(
        self, *, quiet: timedelta, longest: timedelta, lease: timedelta
    ) -> ClaimedEvents | None:
        """Events of one account, for this process alone until `lease` has passed: those of each
        entity with which nothing has happened for `quiet`, or that waits for `longest`.

        Of an account of which events are held, no others are claimed: two who survey one entity at
        once might end in the wrong order. None where nothing is due.
        """
        ...

    async def renew(self, token: str, lease: timedelta) -> bool:
        """Holds a claim for `lease` from now on; False where it has lapsed."""
        ...

    async def done(self, token: str) -> None:
        """The events of a claim go; nothing where it has lapsed."""
        ...

    async def put_off(self, token: str, delay: timedelta) -> None:
        """The events of a claim wait for `delay`, and then are claimed again."""
        ...

    async def leave_to(self, token: str, child_ids: Collection[str], delay: timedelta) -> None:
        """As `done`, but that each of these children has yet to be compared: the same events wait
        for it alone, for `delay`."""
        ...

    async def backlog(self) -> Backlog: ...

    async def prune(self, older: timedelta, limit: int = 1000) -> int:
        """Drops at most so many ids of requests, and events that nobody could act upon, that came
        so long ago; how many."""
        ...


class WebhookStates(Protocol):
    """What the last look at an account's webhooks found."""

    async def all(self) -> list[WebhookState]:
        """By account id; one that cannot be read tells its account alone."""
        ...

    async def put(self, state: WebhookState) -> None:
        """In place of what was there; `checked_at` is now, and `last_event_at` stays."""
        ...

    async def forget(self, account_id: str) -> None: ...


class EndedEntities(Protocol):
    """What is kept of entities that are no more: records, and images that failed."""

    async def of_main(self, account_id: str, entity_type: str, ids: Collection[str]) -> int:
        """Forgets what is kept of the counterparts of main's entities, as far as the log of
        changes and the failed images tell which they were; how many records went."""
        ...

    async def of_child(self, account_id: str, entity_type: str, ids: Collection[str]) -> int:
        """Forgets what is kept of a child's entities; how many records went."""
        ...
