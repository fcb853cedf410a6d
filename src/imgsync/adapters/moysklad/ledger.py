"""What the processes of one credential have spent of its rate limit, and who goes next.

Pure: a value that is read from a text, changed, and written again, under a lock that the processes
share. Times are seconds of the clock of that store.

What is safe. The API counts a request somewhere between its sending `s` and its answer `a`: at
``t <= a - y``, where `y` is what the way back takes; the next one, sent at ``s'``, is counted at
``t' >= s' + x``, where `x` is the way there. Both are within one interval only where
``t' < t + interval``, so ``s' >= a + interval - (x + y)`` is safe, and the smallest round trip
seen, less a margin for its own spread, is such an ``x + y``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json

from imgsync.adapters.moysklad.limits import (
    LONGEST_WAIT_SECONDS,
    MAX_PARALLEL_REQUESTS,
    MAX_RATE_REJECTIONS_PER_MINUTE,
    MAX_WEIGHT,
    RATE_INTERVAL_SECONDS,
    RATE_LIMIT_UNITS,
)

LEASE_SECONDS = 10.0
"""How long a request counts as under way without a word of its process."""

_MINUTE = 60.0
_HOSTS_ON_ONE_TOKEN = 8
_REJECTION_CEILING = MAX_RATE_REJECTIONS_PER_MINUTE // _HOSTS_ON_ONE_TOKEN
_LONGEST_HOLD = 30.0
_LARGEST_LIMIT = 1_000_000
_TURN_SECONDS = 1.0
_WAITER_SECONDS = 1.0
_POLL_SECONDS = 0.025
_LONGEST_POLL_SECONDS = 0.25
_BOUND_SECONDS = 600.0
_MOST_ENTRIES = 200
_SLACK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to send one request from `at` on, which costs `units`."""

    id: str
    at: float
    units: int


@dataclass(frozen=True, slots=True)
class End:
    """A request that was answered at `answered`; None for one that was never sent. `free_at`: from
    when its units may be spent again. `units`: of one that was sent without a grant."""

    id: str
    sent: float
    answered: float | None
    free_at: float
    units: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """Rate headers of an answer; `interval` in seconds, None where it is not told."""

    sent: float
    answered: float
    limit: int
    remaining: int
    interval: float | None = None


@dataclass(slots=True)
class _UnderWay:
    at: float
    units: int
    lapses: float


@dataclass(slots=True)
class _Spent:
    sent: float
    answered: float
    units: int
    free_at: float
    others: bool = False


@dataclass(slots=True)
class Ledger:
    """Units and places of one credential.

    `weight`: of a request, None until an answer shows it. `is_careful`: until then every request
    is counted at the most that one may cost, as a token of a solution does not show whether that
    is a draft; not where the answers turn out to have no rate headers.
    """

    limit: int = RATE_LIMIT_UNITS
    interval: float = RATE_INTERVAL_SECONDS
    parallel: int = MAX_PARALLEL_REQUESTS
    weight: int | None = None
    held_until: float = 0.0
    is_careful: bool = False
    _bound: tuple[int, float] = (MAX_WEIGHT, 0.0)
    _streak: int = 0
    _under_way: dict[str, _UnderWay] = field(default_factory=dict)
    _spent: list[_Spent] = field(default_factory=list)
    _waiting: dict[str, tuple[float, float]] = field(default_factory=dict)
    _turns: dict[str, float] = field(default_factory=dict)
    _rejections: list[float] = field(default_factory=list)

    def ask(self, now: float, holder: str, wanted: int, weight: int, name: str) -> list[Grant]:
        """Grants for at most `wanted` requests of a process; it asks again for the others.

        `weight`: of a request as far as the asker knows; what answers have shown goes before. The
        ids of the grants begin with `name`, which no other question of the process has.
        """
        self.tidy(now)
        weight = self._price(weight)
        grants = list[Grant]()
        for number in range(min(wanted, self._allowed(now, holder))):
            at = self._free(now, weight)
            if at is None or at > now + self.interval:
                break
            grant = Grant(f"{holder}/{name}.{number}", at, weight)
            self._under_way[grant.id] = _UnderWay(at, weight, at + LEASE_SECONDS)
            grants.append(grant)
        if len(grants) == wanted:
            self._waiting.pop(holder, None)
        else:
            has_some = self._held_by(holder) > 0  # it waits in earnest with none
            since = now if has_some else self._waiting.get(holder, (now, 0.0))[0]
            self._waiting[holder] = (since, now + _WAITER_SECONDS)
        if not self._held_by(holder):
            self._turns.pop(holder, None)
        else:
            self._turns.setdefault(holder, now)
        return grants

    def ask_again(self, now: float, holder: str, weight: int) -> float:
        """Seconds after which a process that got less than it wanted asks again; without end where
        only its own requests are in the way."""
        if now < self.held_until:
            return min(self.held_until - now, LONGEST_WAIT_SECONDS)
        at = self._free(now, self._price(weight))
        full = len(self._under_way) >= self._places
        if (full or at is None) and self._held_by(holder) == len(self._under_way):
            return float("inf")
        before = sum(self._is_before(now, other, holder) for other in self._waiting)
        poll = min(_POLL_SECONDS * (1 + before), _LONGEST_POLL_SECONDS)
        if full:
            # None ends before the first of those that wait for their time has been sent.
            at = min(min(one.at for one in self._under_way.values()), now + _WAITER_SECONDS / 2)
        return poll if at is None else max(poll, at - now)

    def renew(self, now: float, ids: list[str]) -> None:
        """Says that these requests are still under way."""
        for one in ids:
            if one in self._under_way:
                self._under_way[one].lapses = now + LEASE_SECONDS

    def end(self, end: End) -> None:
        """Counts the end of a request."""
        granted = self._under_way.pop(end.id, None)
        units = end.units or (granted.units if granted else 0)
        if end.answered is None or not units:
            return
        self._spent.append(_Spent(end.sent, end.answered, units, end.free_at))

    def tidy(self, now: float) -> None:
        """Forgets what is over, and what a clock that was set back has left in the future."""
        self.held_until = min(self.held_until, now + LONGEST_WAIT_SECONDS)
        lapsed = [i for i, one in self._under_way.items() if one.lapses <= now]
        for one in lapsed:
            # Sent or not, who knows; but not after it lapsed.
            gone = self._under_way.pop(one)
            if gone.lapses + self.interval > now:
                self._spent.append(
                    _Spent(gone.at, gone.lapses, gone.units, gone.lapses + self.interval)
                )
        for entry in self._under_way.values():
            entry.lapses = min(entry.lapses, now + self.interval + LEASE_SECONDS)
        self._spent = [
            one
            for one in self._spent
            if one.answered + 2 * self.interval > now and one.free_at < now + 2 * self.interval
        ]
        self._spent.sort(key=lambda one: one.free_at)
        if len(self._spent) > _MOST_ENTRIES:
            self._spent = list(_merged(self._spent))
        self._waiting = {h: w for h, w in self._waiting.items() if now < w[1] < now + _MINUTE}
        self._turns = {h: at for h, at in self._turns.items() if now - _MINUTE < at <= now}
        self._rejections = [at for at in self._rejections if now - _MINUTE < at <= now]

    def in_use(self, now: float) -> int:
        """Units that requests of the last interval took, others' among them; no more than the limit
        has."""
        self.tidy(now)
        under_way = sum(one.units for one in self._under_way.values() if one.at <= now)
        spent = sum(one.units for one in self._spent if one.answered + self.interval > now)
        return min(self.limit, under_way + spent)

    def observe(self, now: float, seen: Seen, weight: int) -> None:
        """Takes over the API's view: X-RateLimit-Limit, -Remaining and the interval.

        The headers count units, or whole requests where the limit shrinks with the weight. What is
        gone beyond all that our processes may have spent by then, others have spent. Numbers that
        no server means are brought into bounds, so that they can neither stop an account nor free
        it of every pace.
        """
        limit = min(seen.limit, _LARGEST_LIMIT)
        scale = _scale(limit)
        if limit > 0:
            self.limit = limit * scale
        if seen.interval:
            self.interval = min(seen.interval, LONGEST_WAIT_SECONDS)
        used = (limit - max(0, min(seen.remaining, limit))) * scale
        if scale > 1:
            self._set_weight(scale)
        elif limit <= _MOST_ENTRIES:
            self._learn(now, used, seen, weight)
        else:
            self.heard_nothing(weight)  # what requests cost hardly matters
        # Its window ends at the answer at the latest, and begins an interval before it was sent.
        begin, end = seen.sent - self.interval - _SLACK_SECONDS, seen.answered + _SLACK_SECONDS
        known = sum(one.units for one in self._all() if one.answered > begin and one.sent <= end)
        if used > known:
            at, free_at = seen.answered, seen.answered + self.interval
            self._spent.append(_Spent(at, at, used - known, free_at, others=True))

    def rejected(self, now: float, retry_after: float) -> None:
        """Counts an answer 429 and holds every request for `retry_after` seconds.

        Then one request at a time goes out until one is accepted, and each further rejection
        doubles the hold, as other programs may be using the token. A share of MoySklad's 200 a
        minute, which cost the user the API, holds for the rest of the minute. No hold is longer
        than LONGEST_WAIT_SECONDS.
        """
        retry_after = min(retry_after, LONGEST_WAIT_SECONDS)
        if now >= self.held_until:
            # 2 to the 10th is past every longest hold.
            steps = min(self._streak, 10)
            retry_after = min(retry_after * 2**steps, max(retry_after, _LONGEST_HOLD))
            self._streak += 1
        self._rejections = [at for at in self._rejections if at > now - _MINUTE] + [now]
        if len(self._rejections) >= _REJECTION_CEILING:
            retry_after = max(retry_after, self._rejections[0] + _MINUTE - now)
        self.held_until = max(self.held_until, now + retry_after)

    def accepted(self) -> None:
        """Counts an answer other than 429."""
        self._streak = 0

    @property
    def is_probing(self) -> bool:
        """Whether one request at a time goes out, as the last was refused."""
        return self._streak > 0

    @property
    def _places(self) -> int:
        # The very first goes alone, so that its answer tells what a request costs.
        is_first = self.is_careful and not self._spent
        return 1 if self._streak or is_first else self.parallel

    def _allowed(self, now: float, holder: str) -> int:
        """Places that a process may take now, so that others who wait come to their turn."""
        if now < self.held_until:
            return 0
        before = sum(self._is_before(now, other, holder) for other in self._waiting)
        return max(0, self._places - len(self._under_way) - before)

    def _is_before(self, now: float, other: str, holder: str) -> bool:
        """Fewer places go before more, then the one whose turn it is, then who waits longer."""
        if other == holder:
            return False
        theirs, ours = self._held_by(other), self._held_by(holder)
        if theirs != ours:
            return theirs < ours
        begun = self._turns.get(holder)
        if begun is not None and now < begun + _TURN_SECONDS:
            return False
        waited = self._waiting.get(holder)
        return waited is None or self._waiting[other][0] < waited[0]

    def _held_by(self, holder: str) -> int:
        return sum(1 for one in self._under_way if one.startswith(f"{holder}/"))

    def _free(self, now: float, units: int) -> float | None:
        """When so many units are free; None where that hangs on requests under way."""
        begin = max(now, self.held_until)
        need = units - self.limit + sum(one.units for one in self._under_way.values())
        if need > 0:
            return None
        counted = [one for one in self._spent if one.free_at > begin]
        need += sum(one.units for one in counted)
        for one in counted:
            if need <= 0:
                break
            need -= one.units
            begin = one.free_at
        return begin

    def _all(self) -> Iterator[_Spent]:
        for one in self._under_way.values():
            yield _Spent(one.at, float("inf"), one.units, float("inf"))
        yield from self._spent

    def _price(self, weight: int) -> int:
        """Units of the next request, where its process thinks that it costs `weight`."""
        careful = max(weight, MAX_WEIGHT) if self.is_careful else weight
        return min(self.weight or careful, self.limit)

    def heard_nothing(self, weight: int) -> None:
        """Notes that answers have no rate headers: then `weight` is all that is known."""
        if self.is_careful:
            self.is_careful = False
            self._set_price(weight)

    def _set_price(self, weight: int) -> None:
        for way in self._under_way.values():
            way.units = min(weight, self.limit)
        for one in self._spent:
            if not one.others:
                one.units = min(weight, self.limit)

    def _set_weight(self, weight: int) -> None:
        """From now on, and for what is counted already."""
        self.is_careful = False
        if self.weight != weight:
            self.weight = weight
            self._set_price(weight)

    def _learn(self, now: float, used: int, seen: Seen, weight: int) -> None:
        """What a request costs. The units used are no fewer than those of the requests that were
        surely counted, which bounds it for certain; where they are more than all our requests
        would explain, ours are dearer than was thought, or others use the token. The first is
        believed as far as weights go, as it is the slower, until the bound shows better."""
        surely, maybe, current = 0, 0, self.weight or weight
        for one in self._all():
            if one.others:
                continue
            surely += (
                one.sent > seen.answered - self.interval + _SLACK_SECONDS
                and one.answered < seen.sent - _SLACK_SECONDS / 20
            )
            maybe += (
                one.answered > seen.sent - self.interval - _SLACK_SECONDS
                and one.sent <= seen.answered + _SLACK_SECONDS
            )
        bound, at = self._bound
        if surely and used >= surely:
            certain = used // surely
            if certain <= bound or now > at + _BOUND_SECONDS or at > now:
                self._bound = bound, at = min(certain, MAX_WEIGHT), now
        fresh = at > 0 and now <= at + _BOUND_SECONDS
        if fresh and bound < (MAX_WEIGHT if self.is_careful else current):
            self._set_weight(bound)
        elif maybe and current < (dearer := -(-used // maybe)) <= (bound if fresh else MAX_WEIGHT):
            if maybe == 1 or dearer == MAX_WEIGHT:
                self._set_weight(dearer)
            else:  # how much dearer, a bound will show
                self.weight, self.is_careful = None, True
                self._set_price(MAX_WEIGHT)
        elif maybe == 1 and used == current:
            self._set_weight(current)  # it was alone

    def text(self, now: float) -> str:
        """What `read` reads. It is written for each request and each end of one, and two hundred
        numbers take pydantic's JSON a sixth of the time."""
        return to_json(
            {
                "version": 1,
                "at": now,
                "limit": self.limit,
                "interval": self.interval,
                "weight": self.weight,
                "careful": self.is_careful,
                "bound": self._bound,
                "held_until": self.held_until,
                "streak": self._streak,
                "under_way": {
                    i: (one.at, one.units, one.lapses) for i, one in self._under_way.items()
                },
                "spent": [(o.sent, o.answered, o.units, o.free_at, o.others) for o in self._spent],
                "waiting": self._waiting,
                "turns": self._turns,
                "rejections": self._rejections,
            }
        ).decode()

    @classmethod
    def read(cls, text: str | None, now: float) -> "Ledger":
        """A new one for none, and for a text that another version wrote or that is damaged.

        A clock that was set back makes the times worthless: all is taken for just spent.
        """
        if not text:
            return cls(is_careful=True)
        try:
            found: Any = from_json(text)
            if found["version"] != 1:
                return cls(is_careful=True)
            (bound, since), weight = found["bound"], found["weight"]
            ledger = cls(
                limit=int(found["limit"]),
                interval=float(found["interval"]),
                weight=None if weight is None else int(weight),
                is_careful=bool(found["careful"]),
            )
            if float(found["at"]) > now + 1.0:
                ledger.spend_all(now)
                return ledger
            ledger.held_until = float(found["held_until"])
            ledger._bound = int(bound), float(since)
            ledger._streak = int(found["streak"])
            ledger._under_way = {i: _UnderWay(*one) for i, one in found["under_way"].items()}
            ledger._spent = [_Spent(*one) for one in found["spent"]]
            ledger._waiting = {h: (s, u) for h, (s, u) in found["waiting"].items()}
            ledger._turns = {h: float(at) for h, at in found["turns"].items()}
            ledger._rejections = [float(at) for at in found["rejections"]]
            return ledger
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls(is_careful=True)

    def spend_all(self, now: float) -> None:
        """Takes everything for spent just now."""
        self._spent.append(_Spent(now, now, self.limit, now + self.interval, others=True))


def _scale(limit: int) -> int:
    """Units for one of the headers'; more than 1 where they count requests."""
    dear = (d for d in range(2, MAX_WEIGHT + 1) if limit == RATE_LIMIT_UNITS // d)
    return next(dear, 1)


def _merged(spent: list[_Spent]) -> Iterator[_Spent]:
    """Pairs of neighbours as one that is free with the later; there are many where the limit is
    far above the documented one."""
    for first, second in zip(spent[::2], [*spent[1::2], None], strict=False):
        if second is None:
            yield first
        else:
            yield _Spent(
                min(first.sent, second.sent),
                max(first.answered, second.answered),
                first.units + second.units,
                second.free_at,
            )
