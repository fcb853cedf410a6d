"""The pace of one credential: its rate limit and parallel limit, and what a request costs.

All processes that use it keep one `Ledger` of it in a `PaceStore`, and a process asks that for
several requests at once.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import httpx

from imgsync.adapters.moysklad.answers import TransientError
from imgsync.adapters.moysklad.ledger import LEASE_SECONDS, End, Grant, Ledger, Seen
from imgsync.adapters.moysklad.limits import (
    LONGEST_WAIT_SECONDS,
    MAX_PARALLEL_REQUESTS,
    RATE_INTERVAL_SECONDS,
)
from imgsync.domain.model import TokenKind
from imgsync.domain.ports.moysklad import RateInUse
from imgsync.domain.ports.pace import PaceStore, Step, T
from imgsync.uptime import uptime

_CODE_PARALLEL_PAUSE = 0.2
_WORTH_TELLING_SECONDS = 30.0
_PATIENCE_SECONDS = 2.0
"""How long the store may take before the process goes on without it."""
_STORE_AGAIN_SECONDS = 2.0
_LAST_WORD_SECONDS = 0.5
_RENEW_SECONDS = LEASE_SECONDS / 3
_LEASE_MARGIN_SECONDS = 1.0
_CAREFUL_SHARE = 8
"""Processes that share a credential, for all that one knows which cannot ask."""
_ROUND_TRIP_SHARE, _ROUND_TRIP_MARGIN = 0.95, 0.01
_GENERATION_SECONDS = 30.0
_FEWEST_ROUND_TRIPS = 20
_NEVER = float("inf")
MOSCOW_TIME = timezone(timedelta(hours=3))
"""MoySklad's dates are Moscow dates."""

_USER_WEIGHTS = (
    (datetime(2026, 12, 1, tzinfo=MOSCOW_TIME), 4),
    (datetime(2026, 9, 1, tzinfo=MOSCOW_TIME), 3),
    (datetime(2026, 5, 12, tzinfo=MOSCOW_TIME), 2),
)
_log = logging.getLogger(__name__)


def request_weight(kind: TokenKind, at: datetime) -> int:
    """Rate units that one request costs at the aware moment `at`.

    Source: API documentation, Restrictions, "Limit over 3 seconds": 1 for the token of a published
    solution, 4 for one in draft or moderation; 2, 3 and 4 for a user token or a password from
    2026-05-12, 2026-09-01 and 2026-12-01.
    """
    if kind is TokenKind.SOLUTION:
        return 1
    if kind is TokenKind.DRAFT:
        return 4
    return next((weight for start, weight in _USER_WEIGHTS if at >= start), 1)


class ProcessPaces:
    """Implements `PaceStore` for one process alone."""

    def __init__(self, clock: Callable[[], float] = uptime) -> None:
        self._texts: dict[str, str] = {}
        self._clock = clock

    async def change(self, key: str, step: Step[T]) -> T:
        self._texts[key], result = step(self._texts.get(key), self._clock())
        return result

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class RoundTrips:
    """The smallest of the last half to whole minute, for small requests; connecting included."""

    _begun: float = 0.0
    _now: tuple[float, int, float] = (_NEVER, 0, 0.0)
    _before: tuple[float, int, float] = (_NEVER, 0, 0.0)

    def add(self, now: float, seconds: float) -> None:
        if now > self._begun + _GENERATION_SECONDS:
            fresh = now < self._begun + 2 * _GENERATION_SECONDS
            self._before = self._now if fresh else (_NEVER, 0, 0.0)
            self._begun, self._now = now, (_NEVER, 0, 0.0)
        least, count, total = self._now
        self._now = min(least, seconds), count + 1, total + seconds

    @property
    def sure(self) -> float:
        """Seconds by which a unit is certainly counted before its answer, less what the next
        request takes to come there; see the ledger."""
        count = self._now[1] + self._before[1]
        if count < _FEWEST_ROUND_TRIPS:
            return 0.0
        least = min(self._now[0], self._before[0])
        # The least way there and the least way back may never have come together.
        spread = (self._now[2] + self._before[2]) / count - least
        return max(0.0, min(least, 1.0) * _ROUND_TRIP_SHARE - _ROUND_TRIP_MARGIN - spread)


@dataclass(slots=True)
class _Offset:
    """The store's clock less ours, between bounds that every exchange narrows."""

    low: float = -_NEVER
    high: float = _NEVER
    since: float = 0.0

    def narrow(self, asked: float, now: float, answered: float) -> None:
        low, high = now - answered, now - asked
        outdated = answered > self.since + _GENERATION_SECONDS
        if outdated or low > self.high or high < self.low:  # drifted, or set
            self.low, self.high, self.since = low, high, answered
        else:
            self.low, self.high = max(self.low, low), min(self.high, high)


@dataclass(slots=True)
class Slot:
    """One request that may be sent: from `at` on, and before `lapses`, by our clock."""

    id: str
    at: float
    units: int
    lapses: float
    clock: Callable[[], float]
    is_own: bool = False
    sent: float | None = None
    answered: float | None = None
    small: bool = False

    def sending(self, *, small: bool = False) -> None:
        """Notes that the request goes out now; a `small` one tells what a round trip takes.

        TransientError where others may have its place, as this process was stopped meanwhile.
        """
        now = self.clock()
        if now >= self.lapses:
            raise TransientError("the process was stopped right before a request")
        self.sent, self.small = now, small


@dataclass(slots=True)
class _News:
    """What the ledger has not been told."""

    ends: list[End] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    accepted: bool = False

    def __bool__(self) -> bool:
        return bool(self.ends or self.seen or self.rejected or self.accepted)


@dataclass(frozen=True, slots=True)
class _Told:
    """What an exchange with the ledger told; times are the store's."""

    now: float
    grants: list[Grant]
    again: float
    held: float
    interval: float
    probing: bool
    weight: int | None


class _LostStoreError(Exception):
    """The store has lost what was kept in it."""


class Pacer:
    """Admits requests so that neither limit of the credential is passed.

    `weight` gives the units a request costs as far as the kind of the token tells; `credential`
    names it in the store, hashed and salted. `monotonic` and `sleep` are seconds. `name`: of the
    account, for the log.
    """

    def __init__(
        self,
        weight: Callable[[], int],
        *,
        store: PaceStore | None = None,
        credential: str = "",
        monotonic: Callable[[], float] = uptime,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        name: str = "",
    ) -> None:
        self.weight = weight
        self._name = name
        self._told_until = 0.0
        self._monotonic = monotonic
        self._sleep = sleep
        self._is_shared = store is not None
        self._store: PaceStore = store or ProcessPaces(monotonic)
        self._credential = credential
        self._key: str | None = None
        self._is_kept = False
        """The store has had a ledger under this key."""
        self._holder = secrets.token_hex(6)
        self._questions = 0
        self._waiting: deque[asyncio.Future[Slot | None]] = deque()
        self._under_way: dict[str, Slot] = {}
        self._pausing = 0
        self._news = _News()
        self._something = asyncio.Event()
        self._agent: asyncio.Task[None] | None = None
        self._renewed = 0.0
        self._offset = _Offset()
        self._trips = RoundTrips()
        self._interval = RATE_INTERVAL_SECONDS
        self._held_until = 0.0
        self._probing = False
        self._learnt: int | None = None
        self._own: Ledger | None = None
        """The careful share of a process that cannot reach the store."""
        self._own_turn = asyncio.Lock()

    @property
    def has_spare(self) -> bool:
        """Whether a further request would be sent at once, for all that is known."""
        in_use = len(self._under_way) + len(self._waiting)
        return not self._pausing and not self._waiting and in_use < MAX_PARALLEL_REQUESTS

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Waits until a request may be sent and counts it until the block ends."""
        slot = await self._admitted()
        try:
            yield slot
        finally:
            self._ended(slot)

    def observe(self, response: httpx.Response, slot: Slot | None = None) -> None:
        """Takes over the rate headers of an answer, and its wait where it is a 429."""
        now, headers = self._monotonic(), response.headers
        sent = now
        if slot is not None and slot.sent is not None:
            slot.answered, sent = now, slot.sent
            if slot.small:
                self._trips.add(now, now - sent)
        limit = _number(headers, "X-RateLimit-Limit")
        remaining = _number(headers, "X-RateLimit-Remaining")
        interval = _number(headers, "X-Lognex-Retry-TimeInterval")
        if limit is not None and remaining is not None:
            seconds = interval / 1000 if interval else None
            self._news.seen.append(Seen(sent, now, int(limit), int(remaining), seconds))
            self._tell(now, seconds or 0.0)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._hold(now, _retry_after(headers))
        elif self._probing or self._news.rejected:
            self._news.accepted = True
            if self._own is not None:
                self._own.accepted()

    async def close(self) -> None:
        """Tells the store what has ended, if it takes that at once."""
        if self._agent is None or self._agent.done():
            return
        await asyncio.wait({self._agent}, timeout=_LAST_WORD_SECONDS)
        self._agent.cancel()
        await asyncio.gather(self._agent, return_exceptions=True)

    def _hold(self, now: float, seconds: float) -> None:
        self._news.rejected.append(seconds)
        self._held_until = max(self._held_until, now + min(seconds, LONGEST_WAIT_SECONDS))
        if self._own is not None:
            self._own.rejected(now, seconds)
        self._tell(now, seconds)

    async def _admitted(self) -> Slot:
        while True:
            slot = await (self._granted() if self._own is None else self._granted_alone())
            if slot is None:
                continue  # the store went, or is back
            try:
                await self._pause(slot)
            except BaseException:
                self._ended(slot)
                raise
            now = self._monotonic()
            if now < self._held_until and not slot.is_own:
                self._ended(slot)  # others were held too, and one is to go first
            elif now < slot.lapses:
                return slot
            else:
                self._ended(slot)  # stopped meanwhile

    async def _pause(self, slot: Slot) -> None:
        self._pausing += 1
        try:
            while (wait := slot.at - self._monotonic()) > 0:
                await self._sleep(wait)
        finally:
            self._pausing -= 1

    async def _granted(self) -> Slot | None:
        waiting: asyncio.Future[Slot | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._wake()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and (slot := waiting.result()):
                self._ended(slot)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    async def _granted_alone(self) -> Slot | None:
        async with self._own_turn:
            while (own := self._own) is not None:
                now, self._questions = self._monotonic(), self._questions + 1
                weight = self._learnt or self.weight()
                for grant in own.ask(now, "own", 1, weight, str(self._questions)):
                    return Slot(
                        grant.id, grant.at, grant.units, _NEVER, self._monotonic, is_own=True
                    )
                await self._sleep(min(0.25, own.ask_again(now, "own", weight)))
        return None

    def _ended(self, slot: Slot) -> None:
        now = self._monotonic()
        self._under_way.pop(slot.id, None)
        sent, answered, free_at = now, None, now
        if slot.sent is not None:  # else it costs nothing
            sent, answered = slot.sent, slot.answered
            sure = self._trips.sure if answered is not None else 0.0
            answered = now if answered is None else answered
            free_at = max(answered + self._interval - sure, sent + self._interval)
        if slot.is_own:
            if self._own is not None:
                self._own.end(End(slot.id, sent, answered, free_at))
            self._news.ends.append(End("", sent, answered, free_at, slot.units))
        else:
            self._news.ends.append(End(slot.id, sent, answered, free_at))
        self._wake()

    def _wake(self) -> None:
        self._something.set()
        if self._agent is None or self._agent.done():
            self._agent = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        """Speaks with the ledger while there is something to tell, to ask or to renew."""
        while self._waiting or self._news or (self._is_shared and self._under_way):
            self._something.clear()
            again = await self._exchange()
            if self._something.is_set():
                continue
            if self._is_shared and self._under_way:
                again = min(again, self._renewed + _RENEW_SECONDS - self._monotonic())
            elif not self._waiting:
                return
            await self._rest(again)

    async def _rest(self, seconds: float) -> None:
        """Until there is something new, or the time is over."""
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(self._something.wait())}
        if seconds < _NEVER:
            waits.add(asyncio.ensure_future(self._sleep(max(0.0, seconds))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _exchange(self) -> float:
        """One question to the store; seconds until the next is due."""
        news, self._news = self._news, _News()
        asked = self._monotonic()
        call = asyncio.ensure_future(self._ask(news, asked))
        try:
            if self._own is None and self._is_shared:
                await asyncio.wait({call}, timeout=_PATIENCE_SECONDS)
                if not call.done():
                    self._go_alone("it does not answer")
            told = await call
        except Exception as error:
            self._keep(news)
            self._go_alone(str(error) or type(error).__name__)
            await self._sleep(_STORE_AGAIN_SECONDS)
            return 0.0
        self._take(told, asked)
        return told.again if self._waiting else _NEVER

    async def _ask(self, news: _News, asked: float) -> _Told:
        holder, weight, ids = self._holder, self.weight(), list(self._under_way)
        wanted, high = len(self._waiting), self._offset.high
        self._questions += 1
        question = str(self._questions)

        def step(text: str | None, now: float) -> tuple[str, _Told]:
            if self._is_kept and not text:
                raise _LostStoreError
            ledger, offset = Ledger.read(text, now), min(high, now - asked)
            ledger.renew(now, ids)
            for end in news.ends:
                answered = None if end.answered is None else end.answered + offset
                ledger.end(
                    End(end.id, end.sent + offset, answered, end.free_at + offset, end.units)
                )
            for seen in news.seen:
                moved = Seen(
                    seen.sent + offset,
                    seen.answered + offset,
                    seen.limit,
                    seen.remaining,
                    seen.interval,
                )
                ledger.observe(now, moved, weight)
            if not news.seen and any(end.answered is not None for end in news.ends):
                ledger.heard_nothing(weight)
            for seconds in news.rejected:
                ledger.rejected(now, seconds)
            if news.accepted:
                ledger.accepted()
            grants = ledger.ask(now, holder, wanted, weight, question)
            again = ledger.ask_again(now, holder, weight) if len(grants) < wanted else _NEVER
            told = _Told(
                now,
                grants,
                again,
                ledger.held_until,
                ledger.interval,
                ledger.is_probing,
                ledger.weight,
            )
            return ledger.text(now), told

        while True:
            if self._key is None:
                self._key = await _key(self._store, self._credential)
            try:
                told = await self._store.change(self._key, step)
            except _LostStoreError:
                # Its salt went with it: under the old key nobody who starts now would find this.
                self._key, self._is_kept = None, False
            else:
                self._is_kept = True
                return told

    def _take(self, told: _Told, asked: float) -> None:
        answered = self._monotonic()
        self._offset.narrow(asked, told.now, answered)
        low = self._offset.low
        lapses = asked + LEASE_SECONDS - _LEASE_MARGIN_SECONDS if self._is_shared else _NEVER
        self._renewed = asked
        for slot in self._under_way.values():
            slot.lapses = max(slot.lapses, lapses)
        self._interval, self._probing, self._learnt = told.interval, told.probing, told.weight
        if told.held > told.now:
            self._held_until = max(self._held_until, told.held - low)
        if self._own is not None:
            self._own = None
            _log.info("MoySklad account '%s': its pace is shared again", self._name)
        for grant in told.grants:
            at = grant.at - low
            slot = Slot(
                grant.id,
                at,
                grant.units,
                max(lapses, at + lapses - answered) if self._is_shared else _NEVER,
                self._monotonic,
            )
            self._under_way[slot.id] = slot
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(slot)
                    break
            else:
                self._ended(slot)  # whoever wanted it has gone

    def _keep(self, news: _News) -> None:
        """Puts back what the store was not told, as far as it still matters."""
        since = self._monotonic() - 2 * self._interval
        kept = [end for end in news.ends if end.id or end.free_at > since]
        self._news.ends[:0] = kept
        self._news.rejected[:0] = news.rejected
        self._news.accepted |= news.accepted

    def _go_alone(self, reason: str) -> None:
        if self._own is None:
            _log.warning(
                "MoySklad account '%s': the store of its pace cannot be used: %s; this process "
                "goes on slowly by itself, one request at a time, until it can",
                self._name,
                reason,
            )
            own = Ledger(parallel=1, interval=self._interval, weight=self._learnt)
            own.limit //= _CAREFUL_SHARE
            own.spend_all(self._monotonic())
            self._own = own
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    def _tell(self, now: float, seconds: float) -> None:
        """Logs a long wait, once while it lasts."""
        if seconds < _WORTH_TELLING_SECONDS or now < self._told_until:
            return
        wait = min(seconds, LONGEST_WAIT_SECONDS)
        self._told_until = now + wait
        asked = "" if seconds == wait else f" (it asks for {seconds:.3g} s)"
        _log.warning(
            "MoySklad account '%s': the API asks to wait; nothing is sent for %.0f s%s",
            self._name,
            wait,
            asked,
        )


async def _key(store: PaceStore, credential: str) -> str:
    """Names a credential in the store without telling it; the salt is the store's own."""
    return _named(credential, await _salt(store))


async def _salt(store: PaceStore) -> str:
    fresh = secrets.token_hex(16)

    def step(text: str | None, _now: float) -> tuple[str, str]:
        return (text, text) if text else (fresh, fresh)

    return await store.change("salt", step)


@lru_cache(maxsize=1000)
def _named(credential: str, salt: str) -> str:
    hashed = hashlib.scrypt(credential.encode(), salt=salt.encode(), n=2**12, r=8, p=1, dklen=16)
    return hashed.hex()


async def learnt_weight(store: PaceStore, credential: str) -> int | None:
    """Units that a request costs with a credential; None where no answer has shown it."""

    def step(text: str | None, now: float) -> tuple[str, int | None]:
        return text or "", Ledger.read(text, now).weight

    return await store.change(await _key(store, credential), step)


async def rate_in_use(store: PaceStore, credential: str) -> RateInUse | None:
    """What is spent of a credential's limit now; None where nothing was sent with it."""

    def step(text: str | None, now: float) -> tuple[str, RateInUse | None]:
        if not text:
            return "", None
        ledger = Ledger.read(text, now)
        told = RateInUse(ledger.in_use(now), ledger.limit, ledger.interval, ledger.weight)
        return text, told

    # Beside the event loop: a page asks of all accounts at once, and others wait for an answer.
    key = await asyncio.to_thread(_named, credential, await _salt(store))
    return await store.change(key, step)


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that a 429 asks to wait; the parallel limit (1073) names none."""
    told = [_number(headers, name) for name in ("X-Lognex-Retry-After", "X-Lognex-Reset")]
    wait = max((ms for ms in told if ms is not None), default=None)
    if wait is not None:
        return wait / 1000 if wait > 0 else _CODE_PARALLEL_PAUSE
    seconds = _number(headers, "Retry-After")
    return seconds if seconds is not None else RATE_INTERVAL_SECONDS


def _number(headers: httpx.Headers, name: str) -> float | None:
    try:
        value = float(headers[name])
    except (KeyError, ValueError):
        return None
    return value if 0 <= value < float("inf") else None
