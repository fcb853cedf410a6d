"""Requests to one account's API: credentials, pacing, repetition."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from imgsync.adapters.moysklad.body import StreamedBody
from imgsync.adapters.moysklad.errors import ThrottledError, TransientError, error_of
from imgsync.adapters.moysklad.pacer import Pacer
from imgsync.domain.accounts import Account, TokenKind
from imgsync.domain.errors import ApiError, UnavailableError
from imgsync.domain.retry import REQUEST_RETRY_DELAYS
from imgsync.domain.urls import DownloadPolicy

THROTTLE_BUDGET_SECONDS = 120.0
"""How long a request is repeated after answers 429 before its task is put off."""

_HEADERS = {"Accept": "application/json;charset=utf-8", "Accept-Encoding": "gzip"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_T = TypeVar("_T")


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
    ) -> None:
        self._account = account
        self._policy = policy
        self._client = client
        self._pacer = pacer
        self._sleep = sleep
        self._monotonic = monotonic
        self._authorisation = _authorisation(account)

    async def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        body: StreamedBody | None = None,
    ) -> Any:
        """Decoded answer to a request on a path below the API's base; repeats what may pass.

        Raises the errors of `imgsync.adapters.moysklad.errors.error_of`, UnavailableError after
        the last repetition, ApiError for an answer that is not JSON.
        """
        url = f"{self._policy.api_url}/{path}"

        async def once() -> Any:
            target = url
            async with self.exchange(
                method, target, params=params, json=json, body=body
            ) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response)
                target = _location(response)
            # A UUID of the user interface answers 308 with the address by API id.
            async with self.exchange(method, target, json=json, body=body) as response:
                return await self._read(response)

        return await self.repeat(once)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        body: StreamedBody | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One paced request; the answer is open for reading and no status is an error yet.

        `seconds`: time for the whole exchange, without the wait for the account's pace.
        """
        if not self._policy.may_authorise(url):
            raise ApiError(f"refusing to send credentials to {httpx.URL(url).host}")
        headers = _HEADERS | {"Authorization": self._authorisation}
        content: AsyncIterator[bytes] | None = None
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(body.length)}
            content = body.chunks()
        async with self._pacer.slot(), network_errors(), asyncio.timeout(seconds):
            request = self._client.build_request(
                method, url, params=params, json=json, content=content, headers=headers
            )
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                self._pacer.observe(response)
                yield response
            finally:
                await response.aclose()

    async def fail(self, response: httpx.Response) -> None:
        """Raises the error of an answer other than a success or redirect."""
        if response.is_error:
            await response.aread()
            raise error_of(response, self._account.name)

    async def repeat(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Runs an operation again after 429 (as long as told) and after what may pass."""
        started, failures = self._monotonic(), 0
        while True:
            try:
                return await operation()
            except ThrottledError as error:
                if self._monotonic() - started > THROTTLE_BUDGET_SECONDS:
                    raise UnavailableError(str(error)) from error
            except TransientError as error:
                if failures == len(REQUEST_RETRY_DELAYS):
                    raise UnavailableError(str(error)) from error
                await self._sleep(max(REQUEST_RETRY_DELAYS[failures], error.wait))
                failures += 1

    async def _read(self, response: httpx.Response) -> Any:
        await self.fail(response)
        await response.aread()
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise ApiError(
                f"MoySklad account '{self._account.name}': the answer of "
                f"{response.request.url.path} is not JSON"
            ) from None


@asynccontextmanager
async def network_errors() -> AsyncIterator[None]:
    """Turns time-outs and broken connections into TransientError."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TransientError(f"timed out ({type(error).__name__})") from error
    except httpx.LocalProtocolError:
        # Its text shows the header that it complains of.
        raise ApiError("the request cannot be sent: a header or the body is not valid") from None
    except httpx.RequestError as error:
        raise TransientError(f"connection failed: {type(error).__name__}: {error}") from error


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
