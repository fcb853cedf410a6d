"""Image downloads: redirects hop by hop, credentials for the API's origin only."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from imgsync.adapters.moysklad.errors import TransientError
from imgsync.adapters.moysklad.transport import ApiTransport, network_errors
from imgsync.domain.errors import (
    ApiError,
    ImageError,
    ImageTooLargeError,
    NotFoundError,
    UnavailableError,
)
from imgsync.domain.urls import DownloadPolicy

DOWNLOAD_TIMEOUT_SECONDS = 60.0
MAX_REDIRECTS = 5
_LONGEST_WAIT_SECONDS = 60.0
_EXPIRED = frozenset({401, 403, 404, 410})


class Downloader:
    """Fetches images for one account; `storage` is a client that never holds credentials."""

    def __init__(
        self,
        transport: ApiTransport,
        policy: DownloadPolicy,
        storage: httpx.AsyncClient,
        *,
        timeout: float = DOWNLOAD_TIMEOUT_SECONDS,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._storage = storage
        self._timeout = timeout

    async def content_length(self, url: str) -> int | None:
        """Bytes by one HEAD; None where it fails or names no length: the GET will tell."""
        try:
            async with self._follow("HEAD", url) as response:
                if not response.is_success or response.headers.get("Content-Encoding"):
                    return None
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isdecimal() else None
        except (ApiError, NotFoundError, UnavailableError):
            return None

    async def download(
        self,
        url: str,
        write: Callable[[bytes], None],
        restart: Callable[[], None],
        max_bytes: int,
    ) -> None:
        """See `MoySkladPort.download`."""

        async def once() -> None:
            restart()
            received = 0
            async with self._follow("GET", url) as response:
                length = response.headers.get("Content-Length", "")
                if length.isdecimal() and int(length) > max_bytes:
                    raise ImageTooLargeError(int(length), max_bytes)
                async for chunk in response.aiter_bytes():
                    received += len(chunk)
                    if received > max_bytes:
                        raise ImageTooLargeError(None, max_bytes)
                    write(chunk)

        try:
            await self._transport.repeat(once)
        except (ApiError, NotFoundError) as error:
            raise ImageError(str(error)) from error

    @asynccontextmanager
    async def _follow(self, method: str, url: str) -> AsyncIterator[httpx.Response]:
        """The final answer behind the redirects of an address. Each address is checked."""
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            self._policy.check(target)
            _check_address(target)
            async with self._hop(method, target) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = _location(response)
        raise ImageError(f"more than {MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _hop(self, method: str, url: str) -> AsyncIterator[httpx.Response]:
        if self._policy.may_authorise(url):
            async with self._transport.exchange(method, url, seconds=self._timeout) as response:
                await self._transport.fail(response)
                yield response
            return
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        async with (
            network_errors(),
            asyncio.timeout(self._timeout),
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


def _location(response: httpx.Response) -> str:
    try:
        return str(response.url.join(response.headers["Location"]))
    except httpx.InvalidURL as error:
        raise ImageError(f"redirect to an invalid address: {error}") from error
