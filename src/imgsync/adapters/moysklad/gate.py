"""What keeps an account from being switched off by MoySklad: failing requests that are not sent."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from imgsync.adapters.moysklad.answers import told_by
from imgsync.adapters.moysklad.limits import MAX_FAILURES_PER_MINUTE
from imgsync.domain.errors import AccountParkedError, AuthorisationError, ImgsyncError
from imgsync.domain.model import Account

MEMORY_SECONDS = 600.0
"""How long a refused request is remembered, and refused credentials are left alone."""

_REMEMBERED = 2000
_MINUTE = 60.0

RequestKey = tuple[str, str, bytes]
"""Method, URL and digest of the body (empty without one)."""


@dataclass(slots=True)
class FailureBucket:
    """Failing requests of one account within a minute, far below the number that costs the API."""

    limit: int = MAX_FAILURES_PER_MINUTE
    _failures: deque[float] = field(default_factory=deque)

    def failed(self, now: float) -> None:
        """Counts an answer 4xx or 5xx."""
        self._failures.append(now)

    def wait(self, now: float) -> float:
        """Seconds until the minute has room for another failure; 0 while it has."""
        while self._failures and self._failures[0] <= now - _MINUTE:
            self._failures.popleft()
        if len(self._failures) < self.limit:
            return 0.0
        return self._failures[-self.limit] + _MINUTE - now


@dataclass(slots=True)
class FailureMemory:
    """Requests that were refused for good within the last ten minutes, and their errors."""

    monotonic: Callable[[], float] = time.monotonic
    _errors: OrderedDict[RequestKey, tuple[float, ImgsyncError]] = field(
        default_factory=OrderedDict
    )

    def check(self, key: RequestKey | None) -> None:
        """Raises the error of an identical request anew."""
        found = self._errors.get(key) if key else None
        if key is None or found is None:
            return
        at, error = found
        if at <= self.monotonic() - MEMORY_SECONDS:
            del self._errors[key]
            return
        raise type(error)(str(error))

    def remember(self, key: RequestKey, error: ImgsyncError) -> None:
        """`error` is of a kind that is made of its text."""
        self._errors[key] = (self.monotonic(), error)
        self._errors.move_to_end(key)
        if len(self._errors) > _REMEMBERED:
            self._errors.popitem(last=False)

    def forget(self, url: str) -> None:
        """Drops what is remembered of a URL and of those below it: something there has changed."""
        below = (url + "/", url + "?")
        for key in [k for k in self._errors if k[1] == url or k[1].startswith(below)]:
            del self._errors[key]


@dataclass(slots=True)
class RequestGate:
    """Lets requests of one account out, unless they are known to fail.

    Until the credentials have proved good, one request at a time goes out, so that refused ones
    cost one failing request and not one for each task.
    """

    account: Account
    monotonic: Callable[[], float] = time.monotonic
    memory: FailureMemory = field(init=False)
    _failures: FailureBucket = field(default_factory=FailureBucket)
    _refused: str = ""
    _refused_at: float = 0.0
    _proved: bool = False
    _first: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.memory = FailureMemory(self.monotonic)

    @asynccontextmanager
    async def passing(self, key: RequestKey | None) -> AsyncIterator[None]:
        """Holds a request back while another one is the first with these credentials; raises the
        error of an identical one at once."""
        self.memory.check(key)
        if self._proved:
            yield
            return
        async with self._first:
            if not self._proved:
                yield
                return
        yield

    def check(self, key: RequestKey | None) -> None:
        """AccountParkedError where nothing may be sent now, or the error of an identical request;
        asked right before it goes out, as one may have failed while this one waited."""
        self.memory.check(key)
        now = self.monotonic()
        if self._refused and now < self._refused_at + MEMORY_SECONDS:
            raise AccountParkedError(
                f"nothing is sent, as its credentials were refused: {self._refused}",
                self.account.id,
            )
        if (wait := self._failures.wait(now)) > 0:
            raise AccountParkedError(
                f"{told_by(self.account.name)}{self._failures.limit} requests failed "
                f"within a minute; nothing is sent for {wait:.0f} s, as MoySklad switches the API "
                "off for a user with too many of them; its tasks then go on by themselves",
                self.account.id,
            )

    def accepted(self) -> None:
        """Notes an answer that shows the credentials to be good."""
        self._proved, self._refused = True, ""

    def failed(self) -> None:
        """Counts an answer 4xx or 5xx; those of the rate limit are counted by the pacer."""
        self._failures.failed(self.monotonic())

    def refused(self, error: AuthorisationError) -> None:
        """Notes that the credentials are refused."""
        self._refused, self._refused_at, self._proved = str(error), self.monotonic(), False
