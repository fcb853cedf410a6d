"""Builds and keeps one client per account and credentials."""

from collections.abc import Iterable
from typing import Any

import httpx

from imgsync.adapters.moysklad import owner
from imgsync.adapters.moysklad.addresses import DownloadPolicy, is_loopback, origin
from imgsync.adapters.moysklad.client import MoySkladClient
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.network import storage_transport
from imgsync.adapters.moysklad.owner import OwnerCheck
from imgsync.adapters.moysklad.pacer import Pacer
from imgsync.adapters.moysklad.pacing import request_weight
from imgsync.adapters.moysklad.reuse import only_clean
from imgsync.adapters.moysklad.times import EXCHANGE_SECONDS
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.errors import ApiError
from imgsync.domain.model import Account, Identity, TokenKind
from imgsync.domain.ports.clock import Clock

_API_TIMEOUT = httpx.Timeout(EXCHANGE_SECONDS, connect=15.0)
# A storage that says nothing for so long is asked anew while the download's time lasts.
_STORAGE_TIMEOUT = httpx.Timeout(20.0, connect=15.0)

_PROXY_ERRORS = (ImportError, ValueError, httpx.InvalidURL)

_Key = tuple[str, TokenKind, str, str | None]


class HttpMoySkladFactory:
    """Implements the port `MoySkladFactory`. Accounts share no connection and no cookie."""

    def __init__(self, api_url: str, download_hosts: Iterable[str], clock: Clock) -> None:
        self._policy = DownloadPolicy.create(api_url.rstrip("/"), download_hosts)
        self._clock = clock
        self._clients: dict[_Key, MoySkladClient] = {}
        self._pacers: dict[tuple[str, str | None], Pacer] = {}
        self._open: list[httpx.AsyncClient] = []

    def for_account(self, account: Account) -> MoySkladClient:
        key = (account.id, account.token_kind, account.secret, account.login)
        if key not in self._clients:
            self._clients[key] = self._build(account)
        return self._clients[key]

    async def identify(self, secret: str, login: str | None = None) -> Identity:
        kind = TokenKind.USER if login is None else TokenKind.PASSWORD
        try:
            unknown = Account("unknown", login or "of this token", kind, secret, login)
        except ValueError as error:
            raise ApiError(str(error)) from None
        async with self._client() as api:
            transport = ApiTransport(unknown, self._policy, api, self._pacer(unknown))

            async def get(path: str) -> Any:
                return await transport.json("GET", path)

            return await owner.identify(get, is_password=login is not None)

    async def close(self) -> None:
        while self._open:
            await self._open.pop().aclose()
        self._clients.clear()

    def _build(self, account: Account) -> MoySkladClient:
        api, storage = self._client(), self._storage()
        self._open += [api, storage]
        transport = ApiTransport(account, self._policy, api, self._pacer(account))
        downloader = Downloader(transport, self._policy, storage)
        return MoySkladClient(transport, downloader, OwnerCheck(account))

    def _pacer(self, account: Account) -> Pacer:
        """The pace belongs to the credentials: under a new kind or name it goes on."""

        def weight() -> int:
            return request_weight(account.token_kind, self._clock.now())

        key = (account.secret, account.login)
        pacer = self._pacers.setdefault(key, Pacer(weight, name=account.name))
        pacer.weight = weight
        return pacer

    @property
    def _is_local(self) -> bool:
        _, host, _ = origin(self._policy.api_url)
        return is_loopback(host)

    def _client(self) -> httpx.AsyncClient:
        """A client that uses the environment's proxies, but none for an API on loopback."""
        try:
            client = httpx.AsyncClient(timeout=_API_TIMEOUT, trust_env=not self._is_local)
        except _PROXY_ERRORS as error:
            raise _bad_proxy(error) from error
        return only_clean(client)

    def _storage(self) -> httpx.AsyncClient:
        try:
            transport = storage_transport(self._policy.permits, use_proxies=not self._is_local)
        except _PROXY_ERRORS as error:
            raise _bad_proxy(error) from error
        return httpx.AsyncClient(timeout=_STORAGE_TIMEOUT, transport=transport, trust_env=False)


def _bad_proxy(error: Exception) -> ApiError:
    return ApiError(f"the proxy settings of the environment cannot be used: {error}")
