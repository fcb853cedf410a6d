"""One survey at a time of a child that queues what it finds, whichever process does it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from imgsync.domain.errors import BusyChildError, ImgsyncError, LeaseLostError
from imgsync.domain.model import Link
from imgsync.domain.ports.turns import SurveyTurns
from imgsync.domain.text import natural_key
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
_LEASE = timedelta(seconds=30)
_ASK_SECONDS = 1.0
_NAMED = 3


@dataclass(slots=True)
class Turn:
    """The right to queue what a survey finds. `held_until`: as `elapsed` tells it, which passes
    while the process is stopped. `busy`: children of which it is none."""

    store: SurveyTurns
    token: str
    lease: timedelta
    elapsed: Callable[[], float]
    held_until: float
    busy: frozenset[str] = frozenset()

    async def confirm(self) -> None:
        """LeaseLostError where another survey of these children may have begun: what was read
        before it is not to be queued after what that one finds."""
        if self.elapsed() >= self.held_until:
            await self.renew()

    async def renew(self) -> None:
        asked = self.elapsed()
        await self.store.renew(self.token, self.lease)
        self.held_until = asked + self.lease.total_seconds()


@dataclass(frozen=True, slots=True)
class Turns:
    """Two surveys of a child would each read main and then queue what they found: the one that read
    first may queue last, and what main had before would be copied. So the second begins once the
    first has ended, or is lost."""

    store: SurveyTurns
    lease: timedelta = _LEASE
    ask_seconds: float = _ASK_SECONDS
    elapsed: Callable[[], float] = uptime

    @asynccontextmanager
    async def of(self, links: Sequence[Link], *, waits: bool = True) -> AsyncIterator[Turn]:
        """Within it no other survey of these children queues anything. It waits for those that are
        under way, and says so once; or leaves their children out, where it `waits` for nobody:
        BusyChildError where no other is left."""
        turn = await (self._taken(links) if waits else self._taken_of_free(links))
        keeper = asyncio.create_task(self._keep(turn))
        try:
            yield turn
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            try:
                await self.store.end(turn.token)
            except ImgsyncError as error:  # it ends by itself
                _log.warning("the end of a survey could not be noted: %s", error)

    async def _taken(self, links: Sequence[Link]) -> Turn:
        child_ids = [link.child.id for link in links]
        has_told = False
        while True:
            asked = self.elapsed()
            taken = await self.store.take(child_ids, self.lease)
            if taken.token:
                until = asked + self.lease.total_seconds()
                return Turn(self.store, taken.token, self.lease, self.elapsed, until)
            if not has_told:
                text = "%s: another survey is under way; this one begins once that has ended"
                _log.warning(text, _names(links, taken.busy))
                has_told = True
            await asyncio.sleep(self.ask_seconds)

    async def _taken_of_free(self, links: Sequence[Link]) -> Turn:
        child_ids = {link.child.id for link in links}
        busy = frozenset[str]()
        while free := child_ids - busy:
            asked = self.elapsed()
            taken = await self.store.take(sorted(free), self.lease)
            if taken.token:
                until = asked + self.lease.total_seconds()
                return Turn(self.store, taken.token, self.lease, self.elapsed, until, busy)
            busy |= taken.busy
        raise BusyChildError

    async def _keep(self, turn: Turn) -> None:
        """Ends where the turn is lost: whoever has it finds out before anything is queued."""
        while True:
            await asyncio.sleep(self.lease.total_seconds() / 3)
            try:
                await turn.renew()
            except LeaseLostError:
                return
            except ImgsyncError as error:
                _log.warning("the lease of a survey could not be renewed: %s", error)


def _names(links: Sequence[Link], busy: Collection[str]) -> str:
    names = sorted((link.child.name for link in links if link.child.id in busy), key=natural_key)
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
