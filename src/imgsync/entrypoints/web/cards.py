"""How children and their main accounts stand, as the pages show it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from imgsync.adapters.moysklad.limits import RATE_INTERVAL_SECONDS, RATE_LIMIT_UNITS
from imgsync.domain.model import StoredLink
from imgsync.domain.ports.overview import ChildState
from imgsync.domain.text import natural_key
from imgsync.domain.webhooks import WebhookState
from imgsync.entrypoints.web import plain

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_STALE = timedelta(hours=36)
"""A daily comparison has not come, where the last one is so old."""
_LEAST_OF_HOUR = timedelta(minutes=1)


class Standing(StrEnum):
    """How a child stands, the worst that holds."""

    DAMAGED = "damaged"
    OFF = "off"
    PARKED = "parked"
    FAILED = "failed"
    COPYING = "copying"
    NEVER = "never"
    DIFFERENT = "different"
    STALE = "stale"
    RIGHT = "right"


_WRONG = (Standing.DAMAGED, Standing.PARKED, Standing.FAILED, Standing.DIFFERENT)
_UNKNOWN = (Standing.NEVER, Standing.STALE)


@dataclass(frozen=True, slots=True)
class AccountCard:
    """An account as the overview shows it. `percent`: of the rate limit, this hour; None where
    nothing was asked of it."""

    name: str
    state: ChildState
    percent: int | None
    webhooks: WebhookState | None


@dataclass(frozen=True, slots=True)
class Card:
    """A child as the overview shows it."""

    name: str
    link: StoredLink
    account: AccountCard
    main: AccountCard
    failed: int
    now: datetime

    @property
    def state(self) -> ChildState:
        return self.account.state

    @property
    def standing(self) -> Standing:
        state = self.state
        if self.link.damage:
            return Standing.DAMAGED
        if not self.link.settings.enabled:
            return Standing.OFF
        if state.parked_reason or self.main.state.parked_reason:
            return Standing.PARKED
        if self.failed:
            return Standing.FAILED
        if state.waiting or state.running:
            return Standing.COPYING
        if state.compared_at is None:
            return Standing.NEVER
        if not state.is_equal:
            return Standing.DIFFERENT
        return Standing.STALE if self.now - state.compared_at > _STALE else Standing.RIGHT

    @property
    def unmatched(self) -> int:
        """Entities without a counterpart, which equal children may have too: no picture of theirs
        can be compared. Of a child that receives nothing nobody asks."""
        return 0 if self.standing in (Standing.DAMAGED, Standing.OFF) else self.state.unmatched

    @property
    def minutes_left(self) -> int | None:
        """Of copying, at the rate of the last minute."""
        left = self.state.waiting + self.state.running
        return -(-left // self.state.completed) if left and self.state.completed else None


@dataclass(frozen=True, slots=True)
class Headline:
    """Whether all pictures are right, everywhere, now. `on`: children that receive images, and how
    many of them are `wrong`, `copying` or of `unknown` standing; `off`: the others. `compared_at`:
    since when all of that is known. `lacking`: the cards of those that have something without a
    counterpart, and `unmatched`, how much that is."""

    on: int
    off: int
    wrong: int
    copying: int
    unknown: int
    compared_at: datetime | None
    lacking: tuple[Card, ...] = ()

    @property
    def unmatched(self) -> int:
        return sum(card.unmatched for card in self.lacking)

    @classmethod
    def of(cls, cards: Sequence[Card]) -> "Headline":
        standings = Counter(card.standing for card in cards)
        on = [card for card in cards if card.standing is not Standing.OFF]
        compared = [card.state.compared_at for card in on if card.state.compared_at is not None]
        return cls(
            len(on),
            standings[Standing.OFF],
            sum(standings[one] for one in _WRONG),
            standings[Standing.COPYING],
            sum(standings[one] for one in _UNKNOWN),
            min(compared) if on and len(compared) == len(on) else None,
            tuple(card for card in on if card.unmatched),
        )


async def cards_of(container: "Container") -> list[Card]:
    """All children, those with which something is not as it should be first."""
    links = await container.settings().links()
    names = {account.id: account.name for account in await container.accounts().all()}
    states = await container.overview().states()
    webhooks = {state.account_id: state for state in await container.webhook_states().all()}
    now = await container.shared_clock().now()
    share = _share_of_hour(now)
    percents = {
        one.account_id: min(100, math.ceil(one.usage.units / share * 100))
        for one in await container.usage().hours(now)
        if one.usage.requests
    }
    failed: Counter[str] = Counter()
    for count in await container.failed_images().counts():
        failed[count.child_account_id] += count.images

    for state in states.values():
        state.parked_reason = plain.in_words(state.parked_reason)

    def of(account_id: str) -> AccountCard:
        return AccountCard(
            names.get(account_id, account_id),
            states.get(account_id, ChildState()),
            percents.get(account_id),
            webhooks.get(account_id),
        )

    listed = [
        Card(
            of(link.child_id).name,
            link,
            of(link.child_id),
            of(link.main_id),
            failed[link.child_id],
            now,
        )
        for link in links
    ]
    last = (Standing.RIGHT, Standing.OFF)
    return sorted(listed, key=lambda card: (card.standing in last, natural_key(card.name)))


def _share_of_hour(now: datetime) -> float:
    """The units that an account may spend from the beginning of the hour until now."""
    passed = max(now - now.replace(minute=0, second=0, microsecond=0), _LEAST_OF_HOUR)
    return passed.total_seconds() * RATE_LIMIT_UNITS / RATE_INTERVAL_SECONDS
