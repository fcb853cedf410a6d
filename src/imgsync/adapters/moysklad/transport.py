"""Requests to one account's API: credentials, pace, permits, repetition, bounds and time."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

import httpx

from imgsync.adapters.moysklad.addresses import DownloadPolicy
from imgsync.adapters.moysklad.answers import (
    LASTING,
    AnswerTooLongError,
    RateLimitError,
    TimedOutError,
    TooLongError,
    TransientError,
    decode,
    element_error,
    error_of,
    read_json,
    read_start,
    told_by,
)
from imgsync.adapters.moysklad.gate import RequestGate, RequestKey
from imgsync.adapters.moysklad.limits import (
    MAX_ANSWER_BYTES,
    MAX_ANSWER_MARKS,
    MAX_ERROR_BYTES,
    MAX_SMALL_ANSWER_BYTES,
    MAX_SMALL_ANSWER_MARKS,
    REQUEST_RETRY_DELAYS,
)
from imgsync.adapters.moysklad.pace import Pacer, Slot
from imgsync.adapters.moysklad.requests import StreamedBody
from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImgsyncError,
    LeaseLostError,
    RequestTooLargeError,
    UnavailableError,
)
from imgsync.domain.model import TOKEN_ENDED, Account, TokenKind
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.runs import Meter, NoMeter
from imgsync.uptime import uptime

EXCHANGE_SECONDS = 300.0
"""For one request to the API and its whole answer (documentation, Workbook: up to 300 s)."""

DOWNLOAD_SECONDS = 60.0
"""For the exchanges of one download, all its tries and the waits between them together."""

_MARGIN_SECONDS = 10.0
_MARGIN_SHARE = 0.25

RATE_LIMIT_BUDGET_SECONDS = 120.0
"""How long a request is repeated after answers 429 before its task is put off."""

_HEADERS = {"Accept": "application/json;charset=utf-8", "Accept-Encoding": "gzip"}
_PAGE_BOUNDS = MAX_ANSWER_BYTES, MAX_ANSWER_MARKS
_BOUNDS = MAX_SMALL_ANSWER_BYTES, MAX_SMALL_ANSWER_MARKS
_QUIET_HEADER = "X-Lognex-WebHook-DisableByPrefix"
"""Keeps a write from firing the webhooks whose address begins so; one header for each prefix."""
_WRITES = frozenset({"POST", "PUT", "DELETE"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NEVER_ELEMENTS = frozenset({401, 429})
"""Statuses of the request as a whole, whatever their bodies look like."""
_KEY = "imgsync_request"
_T = TypeVar("_T")

WebhookPrefixes = Callable[[], Awaitable[Collection[str]]]
"""Asked before each write; its StoreError ends the request before anything is sent."""


@dataclass(slots=True)
class Allowance:
    """Seconds that several exchanges may take together; waits for the account's pace are free."""

    left: float
    monotonic: Callable[[], float] = time.monotonic

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[None]:
        """Counts the block; TimeoutError where the allowance ends within it."""
        started = self.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self.left)):
                yield
        finally:
            self.left -= self.monotonic() - started

    def take(self, seconds: float) -> bool:
        """Counts a wait; False where there is not so much left."""
        self.left -= seconds
        return self.left > 0


@dataclass(frozen=True, slots=True)
class WriteWindow:
    """The time in which one write may reach the API, by a clock that no stop of ours holds up."""

    ends_at: float
    clock: Callable[[], float] = field(default=uptime)

    @classmethod
    async def open(cls, permit: WritePermit, clock: Callable[[], float] = uptime) -> "WriteWindow":
        """Confirms the permit. The time counts from before it was asked, and ends with a margin in
        which bytes under way arrive and the API does what they say."""
        asked_at = clock()
        seconds = await permit.confirm()
        margin = min(_MARGIN_SECONDS, seconds * _MARGIN_SHARE)
        window = cls(asked_at + seconds - margin, clock)
        window.check()
        return window

    @property
    def left(self) -> float:
        return self.ends_at - self.clock()

    def check(self) -> None:
        """LeaseLostError where the time is over."""
        if self.left <= 0:
            raise LeaseLostError("the time in which this write was allowed is over")


class ApiTransport:
    """Sends requests of one account. Credentials go to the API's origin and nowhere else."""

    def __init__(
        self,
        account: Account,
        policy: DownloadPolicy,
        client: httpx.AsyncClient,
        pacer: Pacer,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], float] = uptime,
        seconds: float = EXCHANGE_SECONDS,
        webhook_prefixes: WebhookPrefixes | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or NoMeter()
        self._account = account
        self._policy = policy
        self._client = client
        self._pacer = pacer
        self._sleep = sleep
        self._monotonic = monotonic
        self._boot = boot
        self._seconds = seconds
        self._webhook_prefixes = webhook_prefixes
        self._authorisation = _authorisation(account)
        self._gate = RequestGate(account, monotonic)
        self.answered: datetime | None = None
        """When the last answer was given, by the API's clock."""

    @property
    def account_name(self) -> str:
        return self._account.name

    @property
    def whose(self) -> str:
        """How a text about what the API answers begins: with the account's name."""
        return told_by(self._account.name)

    @property
    def api_url(self) -> str:
        """The API's base, without a slash at its end."""
        return self._policy.api_url

    async def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: StreamedBody | None = None,
        permit: WritePermit | None = None,
        may_be_empty: bool = False,
        is_page: bool = False,
        elements: int = 0,
    ) -> Any:
        """Decoded answer to a request on a path below the API's base; repeats what may pass.

        `is_page`: a page of entities, which may be longer than other answers. `elements`: of the
        array that is answered, whatever its status is, as some of them may be errors; a request
        that took the API too long is not repeated then but RequestTooLargeError.
        `permit` is confirmed right before each time that the request goes out.
        Raises the errors of `imgsync.adapters.moysklad.answers.error_of`, UnavailableError after
        the last repetition, AccountParkedError where nothing may be sent, LeaseLostError.
        """
        url = f"{self._policy.api_url}/{path}"

        async def once() -> Any:
            target = url
            async with self.exchange(
                method, target, params=params, body=body, permit=permit
            ) as response:
                if response.status_code not in _REDIRECTS:
                    if elements:
                        return await self._read_elements(response, elements)
                    return await self._read(response, may_be_empty, is_page)
                target = _location(response)
                await read_start(response, MAX_ERROR_BYTES)  # so that the connection stays open
            # A UUID of the user interface answers 308 with the address by API id.
            async with self.exchange(method, target, body=body, permit=permit) as response:
                return await self._read(response, may_be_empty, is_page)

        return await self.repeat(once)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: StreamedBody | None = None,
        permit: WritePermit | None = None,
        allowance: Allowance | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One paced request; the answer is open for reading and no status is an error yet.

        `allowance`: time for the whole exchange, without the wait for the account's pace.
        """
        if not self._policy.may_authorise(url):
            raise ApiError(f"refusing to send credentials to {httpx.URL(url).host}")
        if not self._account.has_token:
            raise AuthorisationError(
                f"account '{self._account.name}': {TOKEN_ENDED}", self._account.id
            )
        headers = _HEADERS | {"Authorization": self._authorisation}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(body.length)}
        address = httpx.URL(url, params=params) if params else httpx.URL(url)
        key = _key(method, address, body)
        quiet = await self._quiet() if method in _WRITES else []
        async with self._gate.passing(key), self._pacer.slot() as slot:
            self._gate.check(key)
            window = await WriteWindow.open(permit, self._boot) if permit else None
            request = self._client.build_request(
                method,
                address,
                content=body.guarded(window.check if window else _always) if body else None,
                headers=[*headers.items(), *quiet],
            )
            request.extensions[_KEY] = key
            slot.sending(small=body is None)
            self._meter.request(self._account.id, slot.units)
            async with (
                network_errors(address, self._account.name),
                _within(window),
                (allowance or Allowance(self._seconds)).spend(),
            ):
                response = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    self._observe(response, slot)
                    yield response
                finally:
                    await response.aclose()

    async def _quiet(self) -> list[tuple[str, str]]:
        if self._webhook_prefixes is None:
            return []
        return [(_QUIET_HEADER, prefix) for prefix in await self._webhook_prefixes()]

    async def fail(self, response: httpx.Response) -> None:
        """Raises the error of an answer other than a success or redirect."""
        if not response.is_error:
            return
        try:
            body = decode(await read_start(response, MAX_ERROR_BYTES))
        except TransientError:
            body = None
        self._raise(response, body)

    def _raise(self, response: httpx.Response, body: object) -> NoReturn:
        error = error_of(response, body, self._account.name, self._account.id)
        if isinstance(error, AuthorisationError):
            self._gate.refused(error)
        elif isinstance(error, LASTING):
            key: RequestKey | None = response.request.extensions.get(_KEY)
            if key is not None and response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                self._gate.memory.remember(key, error)
        raise error

    def element_error(self, element: object) -> ImgsyncError:
        """The error of one element of an answer for many entities."""
        account = self._account
        return element_error(element, account.name, account.id, self._policy.api_url)

    def forget_failures(self, path: str) -> None:
        """Drops what is remembered of failing requests on a path and below it."""
        self._gate.memory.forget(f"{self._policy.api_url}/{path}")

    async def repeat(
        self, operation: Callable[[], Awaitable[_T]], allowance: Allowance | None = None
    ) -> _T:
        """Runs an operation again after 429 (as long as told) and after what may pass.

        UnavailableError after the last repetition, and where `allowance` is used up.
        """
        started, failures = self._monotonic(), 0
        while True:
            try:
                return await operation()
            except RateLimitError as error:
                if self._monotonic() - started > RATE_LIMIT_BUDGET_SECONDS:
                    raise UnavailableError(str(error)) from error
            except TransientError as error:
                if failures == len(REQUEST_RETRY_DELAYS):
                    raise UnavailableError(str(error)) from error
                wait = max(REQUEST_RETRY_DELAYS[failures], error.wait)
                if allowance is not None and not allowance.take(wait):
                    raise UnavailableError(str(error)) from error
                await self._sleep(wait)
                failures += 1

    def _observe(self, response: httpx.Response, slot: Slot) -> None:
        self._pacer.observe(response, slot)
        self.answered = _date(response)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._meter.too_many(self._account.id)
        elif response.is_error:
            self._gate.failed()
        else:
            self._gate.accepted()

    async def _read_elements(self, response: httpx.Response, elements: int) -> Any:
        """The answer to a request for many entities."""
        try:
            if response.status_code in _NEVER_ELEMENTS or not response.is_client_error:
                return await self._read(response, may_be_empty=False, is_page=True)
            try:
                answer = await read_json(response, *_PAGE_BOUNDS)
            except (TooLongError, TransientError):
                answer = None
            if isinstance(answer, list) and len(answer) == elements:
                return answer
            self._raise(response, answer)
        except TimedOutError as error:
            raise RequestTooLargeError(str(error)) from error

    async def _read(self, response: httpx.Response, may_be_empty: bool, is_page: bool) -> Any:
        await self.fail(response)
        where = f"{self.whose}{response.request.url.path}"
        try:
            answer = await read_json(response, *(_PAGE_BOUNDS if is_page else _BOUNDS))
        except TooLongError:
            raise AnswerTooLongError(
                f"{where}: the answer is longer than any that is read"
            ) from None
        except TransientError as error:
            raise TransientError(f"{where}: {error}") from None
        if answer is None and not may_be_empty:
            raise TransientError(f"{where}: the answer is empty")
        return answer


def _key(method: str, url: httpx.URL, body: StreamedBody | None) -> RequestKey | None:
    """What tells an identical request; None where the body would have to be read for it."""
    if body is not None and body.digest is None:
        return None
    return method, str(url), b"" if body is None else body.digest or b""


def _always() -> None:
    """A body without a permit may be sent at any time."""


@asynccontextmanager
async def _within(window: WriteWindow | None) -> AsyncIterator[None]:
    """Ends a write that outlasts its window: LeaseLostError, and its connection is closed."""
    if window is None:
        yield
        return
    ending = asyncio.timeout(window.left)
    try:
        async with ending:
            yield
    except TimeoutError:
        if not ending.expired():
            raise
        raise LeaseLostError(
            "the write was broken off, as it would have outlasted the lease of its task"
        ) from None


@asynccontextmanager
async def network_errors(url: httpx.URL, account: str = "") -> AsyncIterator[None]:
    """Turns time-outs and broken connections into TransientError, which names the server of `url`
    and, where it is given, the account."""
    at = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
    whose = f" for account '{account}'" if account else ""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        said = f"connection to {at}{whose} timed out ({type(error).__name__})"
        raise TransientError(said) from error
    except httpx.LocalProtocolError:
        # Its text shows the header that it complains of.
        raise ApiError("the request cannot be sent: a header or the body is not valid") from None
    except httpx.RequestError as error:
        why = f"{type(error).__name__}: {error}"
        raise TransientError(f"connection to {at}{whose} failed: {why}") from error


def _location(response: httpx.Response) -> str:
    try:
        return str(response.url.join(response.headers.get("Location", "")))
    except httpx.InvalidURL as error:
        raise ApiError(f"the API redirects to an invalid address: {error}") from error


def _authorisation(account: Account) -> str:
    if account.token_kind is TokenKind.PASSWORD:
        pair = f"{account.login}:{account.secret}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")
    return f"Bearer {account.secret}"


def _date(response: httpx.Response) -> datetime | None:
    try:
        found = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
