"""What happened in accounts, and who is told: events of one request are told together."""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from moysklad_emulator.accounts import EmulatedAccount

Action = Literal["CREATE", "UPDATE", "DELETE"]


@dataclass(frozen=True, slots=True)
class Event:
    """A change of an entity. `fields`: what an UPDATE has changed, by the API's names."""

    type: str
    entity_id: str
    action: Action
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Change:
    """What one request, or one call of a test, has done in an account, and by whom.

    `quiet`: prefixes of the addresses of webhooks that are not to be told.
    """

    uid: str
    quiet: tuple[str, ...] = ()
    account: "EmulatedAccount | None" = None
    events: list[Event] = field(default_factory=list)


Listener = Callable[["EmulatedAccount", Change], None]

_CHANGE: contextvars.ContextVar[Change | None] = contextvars.ContextVar("change", default=None)


class Events:
    """Collects events and gives them to the listener, which a running server is."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._lock = threading.Lock()

    def listen(self, listener: Listener | None) -> None:
        """Replaces the listener. It is called in any thread, and must not block."""
        with self._lock:
            self._listener = listener

    @contextmanager
    def of_request(self, uid: str, quiet: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Collects the events of a request; they are told at the end, or when what it gives is
        called.
        """
        change = Change(uid, tuple(quiet))

        def tell() -> None:
            if change.account is not None and change.events:
                told = Change(change.uid, change.quiet, change.account, list(change.events))
                change.events.clear()
                self._tell(change.account, told)

        token = _CHANGE.set(change)
        try:
            yield tell
        finally:
            _CHANGE.reset(token)
            tell()

    def note(self, account: "EmulatedAccount", event: Event) -> None:
        """Takes note of an event; told at once where no request is its cause."""
        change = _CHANGE.get()
        if change is None:
            self._tell(account, Change(f"admin@{account.login}", (), account, [event]))
        else:
            change.account = account
            change.events.append(event)

    def _tell(self, account: "EmulatedAccount", change: Change) -> None:
        with self._lock:
            listener = self._listener
        if listener is not None:
            listener(account, change)
