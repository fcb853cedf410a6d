"""A client over a mocked network, with a clock that only sleeps move."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from imgsync.adapters.moysklad.addresses import DownloadPolicy
from imgsync.adapters.moysklad.client import MoySkladClient
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.network import ssl_context
from imgsync.adapters.moysklad.owner import OwnerCheck
from imgsync.adapters.moysklad.pace import Pacer, request_weight
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.model import Account, EntityType, TokenKind
from imgsync.domain.ports.moysklad import ReadContent
from imgsync.testing import MemoryTempFile, MemoryWorkspace

API = "https://api.moysklad.ru/api/remap/1.2"
STORAGE = "https://files.selcdn.ru"
PRODUCT = EntityType("product")
SECRET = "very-secret-token"
ACCOUNT_ID = "b2d1e8a4-0c5d-4e0f-9a55-0242ac120002"
ACCOUNT = Account(ACCOUNT_ID, "Main shop", TokenKind.SOLUTION, SECRET)


@dataclass
class FakeTime:
    """Monotonic seconds; `sleep` moves them at once and notes the wait."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@dataclass
class Harness:
    client: MoySkladClient
    transport: ApiTransport
    time: FakeTime
    files: MemoryWorkspace = field(default_factory=MemoryWorkspace)
    tries: list[MemoryTempFile] = field(default_factory=list)

    async def download(
        self,
        url: str,
        max_bytes: int = 1000,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> bytes:
        """The file; each that was begun is in `tries`."""
        file = await self.client.download(
            url, self._create, max_bytes, size, is_permanent=is_permanent
        )
        return b"".join([chunk async for chunk in self.files.read(file.key)])

    async def _create(self) -> MemoryTempFile:
        self.tries.append(await self.files.create("a.png"))
        return self.tries[-1]


def content(*chunks: bytes) -> ReadContent:
    """The same file for every key."""

    async def read(_key: str) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return read


def http_client(**options: Any) -> httpx.AsyncClient:
    """The authorities' certificates are read once: each reading takes as long as a whole test."""
    return httpx.AsyncClient(verify=ssl_context(), **options)


def build(
    account: Account,
    api: httpx.AsyncClient,
    storage: httpx.AsyncClient,
    *,
    url: str = API,
    owner_is_known: bool = True,
    download_seconds: float = 60.0,
) -> Harness:
    time = FakeTime()
    policy = DownloadPolicy.create(url, ["*.moysklad.ru", "*.selcdn.ru"])
    weight = request_weight(account.token_kind, datetime(2026, 11, 24, tzinfo=UTC))
    pacer = Pacer(lambda: weight, monotonic=time.monotonic, sleep=time.sleep, name=account.name)
    transport = ApiTransport(
        account, policy, api, pacer, sleep=time.sleep, monotonic=time.monotonic
    )
    owner = OwnerCheck(account)
    if owner_is_known:
        owner.saw(account.id)
    downloader = Downloader(
        transport, policy, storage, seconds=download_seconds, monotonic=time.monotonic
    )
    return Harness(MoySkladClient(transport, downloader, owner), transport, time)
