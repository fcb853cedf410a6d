"""What accounts have shown that they can do, as use cases ask for it and add to it."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import Abilities, Account
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import AbilityRepository
from imgsync.uptime import uptime

_RECENT_SECONDS = 10.0


@dataclass(slots=True)
class KnownAbilities:
    """Implements `AbilityRepository`: abilities as they were at most ten seconds ago, and written
    only where something is news. What is learnt through this object is heeded at once."""

    abilities: AbilityRepository
    elapsed: Callable[[], float] = uptime
    _known: dict[str, tuple[float, Abilities]] = field(default_factory=dict)

    async def get(self, account_id: str) -> Abilities:
        asked = self.elapsed()
        at, known = self._known.get(account_id, (0.0, None))
        if known is not None and asked - at < _RECENT_SECONDS:
            return known
        known = await self.abilities.get(account_id)
        self._known[account_id] = asked, known
        return known

    async def learn(self, account_id: str, shown: Abilities) -> None:
        known = await self.get(account_id)
        if known.with_shown(shown) == known:
            return
        try:
            await self.abilities.learn(account_id, shown)
        finally:
            self._known.pop(account_id, None)

    async def forget(self, account_id: str) -> None:
        try:
            await self.abilities.forget(account_id)
        finally:
            self._known.pop(account_id, None)


async def learn_shown(
    abilities: AbilityRepository | None, moysklad: MoySkladFactory, accounts: Iterable[Account]
) -> None:
    """Keeps what the accounts' answers have shown so far; nowhere where `abilities` is None.

    What cannot be kept now is no error: it is shown again.
    """
    if abilities is None:
        return
    for account in accounts:
        with contextlib.suppress(ImgsyncError):
            await abilities.learn(account.id, moysklad.for_account(account).shown)


async def trust_learnt(
    abilities: AbilityRepository | None, main: MoySkladPort, account_id: str
) -> None:
    """Lets the port of a main account ask the hosts of permanent links that any process has learnt
    of it. Where they cannot be read, its images cost requests, which is no error."""
    if abilities is None:
        return
    with contextlib.suppress(ImgsyncError):
        main.trust((await abilities.get(account_id)).permanent_hosts)


async def known_of(
    abilities: AbilityRepository | None, account: MoySkladPort, account_id: str
) -> Abilities:
    """What an account has shown, to this port and to any process. Where that cannot be read, what
    is learnt is learnt again, which is no error."""
    if abilities is not None:
        with contextlib.suppress(ImgsyncError):
            return (await abilities.get(account_id)).with_shown(account.shown)
    return account.shown
