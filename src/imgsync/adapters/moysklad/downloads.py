"""Image downloads: redirects hop by hop, credentials for the API's origin only, whole files."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager

import httpx

from imgsync.adapters.moysklad.addresses import DownloadPolicy, authority
from imgsync.adapters.moysklad.answers import (
    CutError,
    TooLongError,
    TransientError,
    content_length,
    pieces,
    read_start,
)
from imgsync.adapters.moysklad.limits import MAX_ERROR_BYTES
from imgsync.adapters.moysklad.network import STORAGE_CONNECTIONS
from imgsync.adapters.moysklad.transport import (
    DOWNLOAD_SECONDS,
    Allowance,
    ApiTransport,
    network_errors,
)
from imgsync.domain.errors import (
    ApiError,
    ForbiddenUrlError,
    ImageError,
    ImageRejectedError,
    ImageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from imgsync.domain.ports.storage import TempFile

MAX_REDIRECTS = 5
_LONGEST_WAIT_SECONDS = 60.0
_EXPIRED = frozenset({401, 403, 404, 410})
_NO_HEAD = frozenset({405, 501})
_MOST_REFUSED_HEADS = 3
_MOST_FAILURES, _REST_SECONDS = 3, 60.0
"""Failures in a row after which a host of permanent links is left alone, and for how long: the
API's own addresses cost a request each, and to wait for such a host at every image costs more."""
_AT_ONCE = STORAGE_CONNECTIONS // 2
"""Downloads at once, by permanent links and by the API's addresses each: more share the line and
take longer, each of them with its own time running."""
_REFUSALS = (ApiError, ImageRejectedError, NotFoundError, PermissionDeniedError)


class Downloader:
    """Fetches images for one account; `storage` is a client that never holds credentials."""

    def __init__(
        self,
        transport: ApiTransport,
        policy: DownloadPolicy,
        storage: httpx.AsyncClient,
        *,
        seconds: float = DOWNLOAD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._storage = storage
        self._seconds = seconds
        self._monotonic = monotonic
        self._refused_heads = 0
        self.head: bool | None = None
        """Whether HEAD on the API's own download addresses tells sizes; None while unknown."""
        self._permanent, self._others = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)
        self._trusted: set[str] = set()
        self._failures: dict[str, int] = {}
        self._rests: dict[str, float] = {}

    def trust(self, hosts: Collection[str]) -> None:
        """See `MoySkladPort.trust`."""
        self._trusted.update(hosts)

    def named(self, links: Iterable[str]) -> frozenset[str]:
        """Trusts the hosts of permanent links that the API itself has named, and returns them."""
        found = set()
        for link in links:
            try:
                self._policy.check_given(link)
                found.add(authority(link))
            except ForbiddenUrlError:
                continue  # it is of no use
        self.trust(found)
        return frozenset(found)

    async def content_length(self, url: str) -> int | None:
        """Bytes by one HEAD; None where it fails or names no length: the GET will tell."""
        self._policy.check(url, self._trusted)
        if self._refused_heads >= _MOST_REFUSED_HEADS:
            return None  # each try would be a failing request
        try:
            async with (
                self._others,
                self._follow("HEAD", url, Allowance(self._seconds)) as response,
            ):
                if response.status_code in _NO_HEAD and self._policy.may_authorise(url):
                    self._refused_heads = _MOST_REFUSED_HEADS
                    self.head = False
                if response.status_code != httpx.codes.OK:
                    return None
                if response.headers.get("Content-Encoding"):
                    return None
                length = content_length(response) or None
                if length is not None and self._policy.may_authorise(url):
                    self.head = True
                return length
        except (*_REFUSALS, UnavailableError):
            return None

    async def storage_of(self, url: str) -> str:
        """See `MoySkladPort.storage_of`. A GET, as HEAD may be refused; its answer is not read."""
        allowance = Allowance(self._seconds)

        async def once() -> str:
            async with self._others, self._follow("GET", url, allowance) as response:
                _check_picture(response)
                return authority(str(response.request.url))

        try:
            return await self._transport.repeat(once, allowance)
        except _REFUSALS as error:
            raise ImageError(str(error)) from error

    async def download(
        self,
        url: str,
        create: Callable[[], Awaitable[TempFile]],
        max_bytes: int,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        """See `MoySkladPort.download`."""
        allowance = Allowance(self._seconds)

        async def once() -> TempFile:
            async with self._follow("GET", url, allowance) as response:
                _check_picture(response)
                told = content_length(response)
                if told is not None and told > max_bytes:
                    raise ImageTooLargeError(told, max_bytes)
                file = await create()
                try:
                    await _save(response, file, max_bytes, size)
                except BaseException:
                    await file.discard()
                    raise
                return file

        async def in_turn() -> TempFile:
            async with self._others:
                return await once()

        # Whoever waits for a turn has not asked yet: neither its own time runs, nor that of an
        # address which the API gives for a minute.
        try:
            if is_permanent:
                async with self._permanent:
                    return await self._once(url, once)
            return await self._transport.repeat(in_turn, allowance)
        except _REFUSALS as error:
            raise ImageError(str(error)) from error

    async def _once(self, url: str, operation: Callable[[], Awaitable[TempFile]]) -> TempFile:
        """A download that is not repeated; UnavailableError at once where the host rests."""
        self._policy.check(url, self._trusted)
        host = authority(url)
        if self._monotonic() < self._rests.get(host, 0.0):
            raise UnavailableError(f"host '{host}' has failed several times a moment ago")
        try:
            file = await operation()
        except UnavailableError:
            self._failures[host] = self._failures.get(host, 0) + 1
            if self._failures[host] >= _MOST_FAILURES:
                self._failures[host] = 0
                self._rests[host] = self._monotonic() + _REST_SECONDS
            raise
        self._failures[host] = 0
        return file

    @asynccontextmanager
    async def _follow(
        self, method: str, url: str, allowance: Allowance
    ) -> AsyncIterator[httpx.Response]:
        """The final answer behind the redirects of an address.

        What the API itself redirects to is trusted, and what that redirects to; an address that
        came from elsewhere, and its redirects, must be on the allow list. Whoever has left the
        API gets no credentials any more.
        """
        self._policy.check(url, self._trusted)
        given = self._policy.may_authorise(url)
        target, hop = url, self._ask if given else self._fetch
        for _ in range(MAX_REDIRECTS + 1):
            _check_address(target)
            async with hop(method, target, allowance) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = _location(response)
                if method != "HEAD":
                    await read_start(response, MAX_ERROR_BYTES)  # keeps the connection open
            if given:
                self._policy.check_given(target)
            else:
                self._policy.check(target, self._trusted)
            hop = self._fetch
        raise ImageError(f"more than {MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _ask(
        self, method: str, url: str, allowance: Allowance
    ) -> AsyncIterator[httpx.Response]:
        """A hop to the API."""
        async with self._transport.exchange(method, url, allowance=allowance) as response:
            if method == "HEAD":
                await self._note_head(response)
            else:
                await self._transport.fail(response)
            yield response

    async def _note_head(self, response: httpx.Response) -> None:
        """A HEAD that the API refuses is a failing request which tells nothing.

        The same one is remembered as any other; where several are refused in a row, HEAD is no
        more used, as its refusal may have nothing to do with the image. That of the credentials
        is left to the GET.
        """
        status = response.status_code
        if not response.is_error:
            self._refused_heads = 0
        elif status not in (httpx.codes.TOO_MANY_REQUESTS, *_NO_HEAD):
            self._refused_heads += 1
            if status != httpx.codes.UNAUTHORIZED:
                await self._transport.fail(response)

    @asynccontextmanager
    async def _fetch(
        self, method: str, url: str, allowance: Allowance
    ) -> AsyncIterator[httpx.Response]:
        """A hop to a storage, without credentials."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        async with (
            network_errors(httpx.URL(url), self._transport.account_name),
            allowance.spend(),
            self._storage.stream(method, url, headers=headers, follow_redirects=False) as response,
        ):
            if method != "HEAD":
                _check_storage(response)
            yield response


def _check_address(url: str) -> None:
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ImageError(f"not a valid address: {error}") from error


def _check_storage(response: httpx.Response) -> None:
    """A temporary address that has expired or a broken storage is worth asking the API anew."""
    status, host = response.status_code, response.request.url.host
    if status in _EXPIRED or status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
        told = response.headers.get("Retry-After", "")
        wait = min(float(told), _LONGEST_WAIT_SECONDS) if told.isdecimal() else 0.0
        raise TransientError(f"storage host '{host}' answered {status}", wait)
    if response.is_error:
        raise ImageError(f"storage host '{host}' answered {status}")


def _check_picture(response: httpx.Response) -> None:
    """Part of a file (206), nothing (204) and 'not modified' (304) are no picture."""
    if response.status_code != httpx.codes.OK:
        host = response.request.url.host
        raise TransientError(f"host '{host}' answered {response.status_code} in place of the file")


async def _save(response: httpx.Response, file: TempFile, max_bytes: int, size: int | None) -> None:
    """Writes the whole body and closes the file; TransientError where it is not of that size."""
    try:
        async for piece in pieces(response, max_bytes):
            await file.write(piece)
    except TooLongError:
        raise ImageTooLargeError(None, max_bytes) from None
    except CutError as error:
        raise TransientError(f"the file did not come whole: {error}") from None
    if size and file.size != size:
        raise TransientError(
            f"the file did not come whole: {file.size} bytes came in place of its {size}"
        )
    await file.close()


def _location(response: httpx.Response) -> str:
    try:
        return str(response.url.join(response.headers["Location"]))
    except httpx.InvalidURL as error:
        raise ImageError(f"redirect to an invalid address: {error}") from error
