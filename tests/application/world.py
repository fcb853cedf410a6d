"""A main and a child account in memory, with real use cases and a real queue between them."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from imgsync.adapters.moysklad.encoding import API_LIMITS, array_size
from imgsync.adapters.moysklad.limits import MAX_REQUEST_BYTES
from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.application.copy import CopyImagesHandler, SyncEntity
from imgsync.application.payloads import BATCH, LEGACY, PayloadFormats, stored_payload
from imgsync.application.survey import PlanSync
from imgsync.application.work import RunTask, Worker
from imgsync.domain.model import Account, EntityType, EntityTypes, SyncRequest, TokenKind
from imgsync.domain.packing import RequestRoom
from imgsync.domain.replace import STRATEGIES
from imgsync.domain.settings import ChildSettings
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncResult, Task
from moysklad_emulator.pictures import padded_png
from tests.fakes.gauge import ParallelGauge
from tests.fakes.moysklad import FakeFactory, FakeMoySklad
from tests.fakes.permit import UNLIMITED
from tests.fakes.storage import MemoryFileStorage

TYPES = EntityTypes([EntityType("product"), EntityType("bundle"), EntityType("variant")])
LEASE = timedelta(seconds=60)


def png(number: int, size: int = 100) -> bytes:
    """A whole PNG of `size` bytes, different for each number."""
    return padded_png(number, size)


@dataclass
class TestClock:
    __test__ = False
    moment: datetime = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@dataclass
class World:
    engine: Engine
    strategy: str = "atomic"
    max_request_bytes: int = MAX_REQUEST_BYTES
    main: FakeMoySklad = field(default_factory=FakeMoySklad)
    child: FakeMoySklad = field(default_factory=FakeMoySklad)
    storage: MemoryFileStorage = field(default_factory=MemoryFileStorage)
    clock: TestClock = field(default_factory=TestClock)

    def __post_init__(self) -> None:
        self.queue = SqlTaskQueue(self.engine, self.clock)
        self.accounts = SqlAccountRepository(self.engine, self.clock)
        self.settings = SqlSettingsRepository(self.engine)
        for account_id in ("main", "child"):
            self.accounts.add(Account(account_id, account_id, TokenKind.SOLUTION, "token"))
        self.settings.put("child", ChildSettings(sync_images_all=True))
        self.records = SqlSyncRecordRepository(self.engine)
        self.child.limits = replace(
            API_LIMITS, request=RequestRoom(self.max_request_bytes, array_size)
        )
        self.factory = FakeFactory({"main": self.main, "child": self.child})
        self.sync_entity = SyncEntity(
            self.accounts,
            self.settings,
            self.records,
            self.factory,
            self.storage,
            TYPES,
            STRATEGIES[self.strategy],
            PillowCheck(),
        )
        self.plan = PlanSync(self.accounts, self.records, self.factory, TYPES)

    async def sync(self, request: SyncRequest) -> SyncResult:
        """A sync by a worker whose right to write never ends."""
        return await self.sync_entity(request, UNLIMITED)

    def pair(self, images: list[tuple[str, bytes]], old: int = 0) -> tuple[str, str]:
        """A main product with these images, and its counterpart with `old` images of its own."""
        main_id = self.main.add("product", "Lamp", images, external_code="x")
        own = [(f"old{n}.png", png(900 + n)) for n in range(old)]
        return main_id, self.child.add("product", "Lamp", own, external_code="x")

    def gauge_downloads(self, seconds: float) -> ParallelGauge:
        """Measures how many downloads of the main account run at once; each takes `seconds`."""
        gauge, download = ParallelGauge(), self.main.download

        async def measured(*args: Any, **kwargs: Any) -> None:
            with gauge.under_way():
                await asyncio.sleep(seconds)
                await download(*args, **kwargs)

        self.main.download = measured  # type: ignore[method-assign]
        return gauge

    async def request(self) -> SyncRequest:
        """The planned request of the only pair."""
        (planned,) = [p async for p in self.plan("main", "child")]
        assert planned.request is not None
        return planned.request

    def run_task(self, lease: timedelta = LEASE) -> RunTask:
        formats = PayloadFormats([BATCH, LEGACY])
        copy = CopyImagesHandler(self.accounts, formats, self.sync_entity, self.clock)
        return RunTask(self.queue, {TASK_ENTITY_TYPE: copy}, lease)

    def worker(self, concurrency: int = 2) -> Worker:
        return Worker(self.queue, self.run_task(), LEASE, concurrency, 0.01)

    async def enqueue(self) -> int:
        request = await self.request()
        return self.put(stored_payload(request), request.dedupe_key)

    def put(self, payload: Any, key: str | None = None) -> int:
        return self.queue.enqueue(payload, dedupe_key=key).task_id

    def task(self, task_id: int) -> Task:
        task = self.queue.get(task_id)
        assert task is not None
        return task
