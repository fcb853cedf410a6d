"""Port to the numbers that tell how the whole is doing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from imgsync.domain.runs import TaskTimes


@dataclass(frozen=True, slots=True)
class Used:
    """What an account has taken since the beginning of the UTC day: requests, units of its rate
    limit, answers 429, images, and their bytes; events of its webhooks, and those dropped."""

    account: str
    requests: int
    units: int
    too_many: int
    images: int
    bytes: int
    events: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class WebhookFigures:
    """Of an account's webhooks: how many are wanted, how many of those are there and on, how many
    MoySklad had switched off; when one brought an event last, None for never."""

    wanted: int
    working: int
    switched_off: int
    last_event: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All at one moment. Accounts are told by name, those of one name by id too, those without one
    by id; of tasks without a child it is ''. `oldest_due`: seconds since the task was due that
    waits longest, 0 where none does."""

    tasks: dict[tuple[str, str], int]
    """By child and status."""
    oldest_due: float
    used: tuple[Used, ...]
    failed_images: dict[tuple[str, bool], int]
    """By child, and whether no attempt is to come."""
    proofs: dict[str, datetime | None]
    """When each child that receives images was last found equal; None for never."""
    parked: tuple[str, ...]
    """Accounts that take no requests now."""
    times: Mapping[tuple[str, str], TaskTimes] = field(default_factory=dict)
    """How long attempts at tasks took, by kind and end, since the database was made."""
    waiting_events: int = 0
    """Events of webhooks that nobody has acted upon yet."""
    oldest_event: float = 0.0
    """Seconds since the one came that waits longest, 0 where none does."""
    webhooks: Mapping[str, WebhookFigures] = field(default_factory=dict)
    """By the account that is to have them."""


class ReadFigures(Protocol):
    """Reads from the store, in as many statements whatever the number of accounts."""

    async def __call__(self) -> Figures:
        """StoreError where the store cannot be used."""
        ...

    async def revision(self) -> str | None:
        """Which schema the store has; StoreError where it cannot be used."""
        ...
