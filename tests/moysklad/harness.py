"""A client over a mocked network, with a clock that only sleeps move."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from imgsync.adapters.moysklad.client import MoySkladClient
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.pacer import Pacer
from imgsync.adapters.moysklad.transport import ApiTransport
from imgsync.domain.accounts import Account, TokenKind, request_weight
from imgsync.domain.entity_types import EntityType
from imgsync.domain.urls import DownloadPolicy

API = "https://api.moysklad.ru/api/remap/1.2"
STORAGE = "https://files.selcdn.ru"
PRODUCT = EntityType("product")
SECRET = "very-secret-token"
ACCOUNT = Account("acc", "Main shop", TokenKind.SOLUTION, SECRET)


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
    downloads: list[bytes] = field(default_factory=list)

    async def download(self, url: str, max_bytes: int = 1000) -> bytes:
        await self.client.download(
            url, self.downloads.append, self.downloads.clear, max_bytes=max_bytes
        )
        return b"".join(self.downloads)


def build(account: Account, api: httpx.AsyncClient, storage: httpx.AsyncClient) -> Harness:
    time = FakeTime()
    policy = DownloadPolicy.create(API, ["*.moysklad.ru", "*.selcdn.ru"])
    weight = request_weight(account.token_kind, datetime(2026, 11, 24, tzinfo=UTC))
    pacer = Pacer(lambda: weight, monotonic=time.monotonic, sleep=time.sleep)
    transport = ApiTransport(
        account, policy, api, pacer, sleep=time.sleep, monotonic=time.monotonic
    )
    return Harness(
        MoySkladClient(transport, Downloader(transport, policy, storage, timeout=0.3)),
        transport,
        time,
    )
