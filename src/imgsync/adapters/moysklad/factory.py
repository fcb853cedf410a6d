"""Builds and keeps one client per account."""

from collections.abc import Iterable

import httpx

from imgsync.adapters.moysklad.client import MoySkladClient
from imgsync.adapters.moysklad.downloads import DOWNLOAD_TIMEOUT_SECONDS, Downloader
from imgsync.adapters.moysklad.pacer import Pacer
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.accounts import Account, request_weight
from imgsync.domain.errors import ApiError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.urls import DownloadPolicy, is_loopback, origin

# The API may take minutes over a large request (documentation, Workbook: up to 300 s).
_API_TIMEOUT = httpx.Timeout(300.0, connect=15.0)
_STORAGE_TIMEOUT = httpx.Timeout(DOWNLOAD_TIMEOUT_SECONDS, connect=15.0)


class HttpMoySkladFactory:
    """Implements the port `MoySkladFactory`. Accounts share no connection and no cookie."""

    def __init__(self, api_url: str, download_hosts: Iterable[str], clock: Clock) -> None:
        self._policy = DownloadPolicy.create(api_url.rstrip("/"), download_hosts)
        self._clock = clock
        self._clients: dict[Account, MoySkladClient] = {}
        self._open: list[httpx.AsyncClient] = []

    def for_account(self, account: Account) -> MoySkladClient:
        if account not in self._clients:
            self._clients[account] = self._build(account)
        return self._clients[account]

    async def close(self) -> None:
        while self._open:
            await self._open.pop().aclose()
        self._clients.clear()

    def _build(self, account: Account) -> MoySkladClient:
        api, storage = self._client(_API_TIMEOUT), self._client(_STORAGE_TIMEOUT)
        self._open += [api, storage]
        pacer = Pacer(lambda: request_weight(account.token_kind, self._clock.now()))
        transport = ApiTransport(account, self._policy, api, pacer)
        return MoySkladClient(transport, Downloader(transport, self._policy, storage))

    def _client(self, timeout: httpx.Timeout) -> httpx.AsyncClient:
        """A client that uses the environment's proxies, but none for an API on loopback."""
        _, host, _ = origin(self._policy.api_url)
        try:
            return httpx.AsyncClient(timeout=timeout, trust_env=not is_loopback(host))
        except (ImportError, ValueError) as error:
            raise ApiError(
                f"the proxy settings of the environment cannot be used: {error}"
            ) from error
