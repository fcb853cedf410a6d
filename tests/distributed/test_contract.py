"""The queue on procrastinate passes the suite of its port."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
from imgsync.domain.model import Account, Parking
from imgsync.domain.tasks import TASK_ENTITY_TYPE, TaskId
from imgsync.testing import MemoryAccounts, MemoryStore, SetClock, TaskQueueContract


@dataclass
class EngineStore:
    """A database of the engine, and the accounts, which it does not hold."""

    url: str
    clock: SetClock = field(default_factory=SetClock)

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        conninfo = self.url.replace("procrastinate", "postgresql", 1)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement, values)


class FreeingAccounts(MemoryAccounts):
    """Accounts, with the queue told of each that is stored anew, as `AddAccount` does it."""

    def __init__(self, store: EngineStore) -> None:
        super().__init__(MemoryStore(store.clock))
        self._engine = store

    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await super().add(account, parking)
        queue = ProcrastinateTaskQueue(
            self._engine.url, (TASK_ENTITY_TYPE,), clock=self._engine.clock
        )
        await queue.unpark(account.id)
        await queue.close()


class TestProcrastinateTaskQueue(TaskQueueContract[EngineStore]):
    @pytest.fixture
    def store(self, engine_url: str) -> EngineStore:
        return EngineStore(engine_url)

    async def open(self, store: EngineStore, kinds: Sequence[str]) -> ProcrastinateTaskQueue:
        return ProcrastinateTaskQueue(store.url, kinds, clock=store.clock)

    async def advance(self, store: EngineStore, by: timedelta) -> None:
        store.clock.advance(by)

    def accounts(self, store: EngineStore) -> FreeingAccounts:
        return FreeingAccounts(store)

    async def damage(self, store: EngineStore, task_id: TaskId) -> None:
        store.execute(
            """UPDATE procrastinate_jobs SET args = '{"$json": "{damaged"}' WHERE id = %s""",
            [task_id],
        )

    async def disable(self, store: EngineStore) -> None:
        store.execute("DROP TABLE imgsync_tasks, procrastinate_jobs CASCADE")
