"""A main and a child account in memory, with real use cases and a queue in memory between them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application.abilities import KnownAbilities
from imgsync.application.bulk import Bulk
from imgsync.application.copy import CopyImagesHandler, SyncEntity
from imgsync.application.payloads import BATCH, LEGACY, PayloadFormats, stored_payload
from imgsync.application.survey import NotSurveyed, Survey, Surveyed
from imgsync.application.work import RunTask, Worker
from imgsync.domain.diff import Skip
from imgsync.domain.model import (
    Account,
    EntityType,
    EntityTypes,
    Link,
    LinkSettings,
    SyncRequest,
    TokenKind,
)
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.repositories import AccountRepository
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.replace import STRATEGIES
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncResult, Task, TaskId
from imgsync.testing import (
    MEMORY_LIMITS,
    UNLIMITED,
    MemoryAbilities,
    MemoryAccounts,
    MemoryContentStore,
    MemoryMoySklad,
    MemoryMoySkladFactory,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemoryTaskQueue,
    SetClock,
)
from moysklad_emulator.pictures import padded_png
from tests.support.gauge import ParallelGauge

TYPES = EntityTypes([EntityType("product"), EntityType("bundle"), EntityType("variant")])
LEASE = timedelta(seconds=60)


def png(number: int, size: int = 100) -> bytes:
    """A whole PNG of `size` bytes, different for each number."""
    return padded_png(number, size)


@dataclass
class World:
    strategy: str = "atomic"
    max_request_bytes: int = MEMORY_LIMITS.request.max_bytes
    main: MemoryMoySklad = field(default_factory=MemoryMoySklad)
    child: MemoryMoySklad = field(default_factory=MemoryMoySklad)
    storage: MemoryContentStore = field(default_factory=MemoryContentStore)
    clock: SetClock = field(default_factory=SetClock)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        for name in ("main", "child"):
            self.store.accounts[name] = Account(name, name, TokenKind.SOLUTION, "token")
        self.store.settings["child"] = LinkSettings(sync_images_all=True)
        self.queue = MemoryTaskQueue(self.store)
        self.accounts: AccountRepository = MemoryAccounts(self.store)
        self.settings = MemorySettings(self.store)
        self.records = MemoryRecords(self.store)
        self.abilities = MemoryAbilities(self.store)
        self.bulk = Bulk(KnownAbilities(self.abilities), patience_seconds=0.3)
        self.child.limits = replace(
            MEMORY_LIMITS,
            request=RequestRoom(self.max_request_bytes, MEMORY_LIMITS.request.size_of),
        )
        self.factory = MemoryMoySkladFactory({"main": self.main, "child": self.child})
        self.sync_entity = SyncEntity(
            self.accounts,
            self.settings,
            self.records,
            self.factory,
            self.storage,
            TYPES,
            STRATEGIES[self.strategy],
            PillowCheck(),
            bulk=self.bulk,
            abilities=self.abilities,
        )
        self.survey = Survey(self.accounts, self.records, self.factory, TYPES, self.abilities)

    @property
    def link(self) -> Link:
        accounts = self.store.accounts
        return Link(accounts["main"], accounts["child"], self.store.settings["child"])

    async def plan(self, main: str, child: str, **options: Any) -> AsyncIterator[Surveyed]:
        """What a survey finds that is not as it should be; an error is raised."""
        link = Link(
            await self.accounts.get(main), await self.accounts.get(child), LinkSettings(False, True)
        )
        async for found in self.survey([link], **options):
            if isinstance(found, NotSurveyed):
                raise found.error
            if found.request is not None or isinstance(found.change, Skip):
                yield found

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

        async def measured(*args: Any, **kwargs: Any) -> TempFile:
            with gauge.under_way():
                await asyncio.sleep(seconds)
                return await download(*args, **kwargs)

        self.main.download = measured  # type: ignore[method-assign]
        return gauge

    async def request(self) -> SyncRequest:
        """The request of the only pair, whether anything has changed or not."""

        async def all_wait(keys: Collection[str]) -> Collection[str]:
            return keys

        (planned,) = [p async for p in self.plan("main", "child", waiting=all_wait)]
        assert planned.request is not None
        return planned.request

    def run_task(self, lease: timedelta = LEASE) -> RunTask:
        formats = PayloadFormats([BATCH, LEGACY])
        clock = MemoryStoreClock(self.store)
        copy = CopyImagesHandler(self.accounts, formats, self.sync_entity, clock)
        return RunTask(self.queue, {TASK_ENTITY_TYPE: copy}, lease)

    def worker(self, concurrency: int = 2) -> Worker:
        return Worker(self.queue, self.run_task(), LEASE, concurrency, 0.01)

    async def enqueue(self) -> TaskId:
        request = await self.request()
        return await self.put(stored_payload(request), request.dedupe_key)

    async def put(self, payload: Any, key: str | None = None) -> TaskId:
        (queued,) = await self.queue.enqueue([NewTask(payload, key)])
        return queued.task_id

    async def task(self, task_id: TaskId) -> Task:
        task = await self.queue.get(task_id)
        assert task is not None
        return task

    async def claim(self, lease: timedelta = LEASE) -> Task:
        (task,) = await self.queue.claim(lease=lease)
        return task
