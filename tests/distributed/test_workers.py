"""imgsync as processes whose tasks are jobs of the engine, on a shop of the emulator."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import create_engine, text

from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
from imgsync.domain.tasks import Task, TaskStatus
from tests.e2e.conftest import DEADLINE_SECONDS, Host, Popen, StartHost, terminate, wait_until
from tests.shop import Shop, pictures
from tests.support.relay import Relay

T = TypeVar("T")
BOTH = ("--main", "Main", "--child", "Child")
THREE = pictures(3)


class Scene:
    """A host whose accounts are in SQLite and whose tasks are in the engine."""

    def __init__(self, shop: Shop, host: Host, database_url: str, engine_url: str) -> None:
        self.shop = shop
        self._host = host
        self._database_url = database_url
        self._engine_url = engine_url

    def start(self, *arguments: str, **env: str) -> Popen:
        return self._host.start(*arguments, **{"IMGSYNC_QUEUE_URL": self._engine_url} | env)

    def json(self, *arguments: str) -> Any:
        return self._host.json(*arguments, IMGSYNC_QUEUE_URL=self._engine_url)

    def ask(self, question: Callable[[ProcrastinateTaskQueue], Awaitable[T]]) -> T:
        async def ask() -> T:
            queue = ProcrastinateTaskQueue(self._engine_url)
            try:
                return await question(queue)
            finally:
                await queue.close()

        return asyncio.run(ask())

    def number(self, status: TaskStatus) -> int:
        return self.ask(lambda queue: queue.counts())[status]

    def tasks(self) -> list[Task]:
        return self.ask(lambda queue: queue.find())

    def tasks_in_the_database(self) -> int:
        engine = create_engine(self._database_url)
        try:
            with engine.connect() as connection:
                return int(connection.execute(text("SELECT count(*) FROM sync_queue")).scalar_one())
        finally:
            engine.dispose()


@pytest.fixture
def scene(shop: Shop, start_host: StartHost, sqlite_url: str, engine_url: str) -> Scene:
    return Scene(shop, start_host(shop, sqlite_url), sqlite_url, engine_url)


def test_a_sync_copies_every_byte_by_jobs_of_the_engine(scene: Scene) -> None:
    lamps = [scene.shop.pair(f"L{n}", pictures(2, 500 + n), pictures(1, 90)) for n in range(3)]
    said = scene.json("sync", *BOTH)["run"]
    assert (said["completed"], said["uploaded"]) == (3, 6)
    for number, lamp in enumerate(lamps):
        assert scene.shop.images(lamp) == pictures(2, 500 + number)
    assert [task.result for task in scene.tasks()] == ["completed"] * 3
    assert scene.tasks_in_the_database() == 0
    again = scene.json("sync", *BOTH)
    assert (again["enqueue"]["unchanged"], again["run"]["completed"]) == (3, 0)


def test_workers_of_several_hosts_share_the_jobs(scene: Scene) -> None:
    lamps = [scene.shop.pair(f"L{n}", pictures(2, 500 + n)) for n in range(12)]
    workers = [scene.start("worker", "--concurrency", "2") for _ in range(3)]
    scene.json("enqueue", *BOTH)
    wait_until(lambda: scene.number(TaskStatus.COMPLETED) == 12)
    for worker in workers:
        terminate(worker)
    assert {(task.attempts, task.crashes) for task in scene.tasks()} == {(1, 0)}
    assert scene.shop.writes <= 12  # none was written twice
    for number, lamp in enumerate(lamps):
        assert scene.shop.images(lamp) == pictures(2, 500 + number)


def test_a_worker_killed_with_signal_9_loses_nothing(scene: Scene) -> None:
    lamp = scene.shop.pair("Lamp", THREE, old := pictures(1, 90))
    scene.json("enqueue", *BOTH)
    scene.shop.emulator.faults.add(
        method="GET", path_regex="/(temporary|permanent)/", where="storage", delay=60, times=100
    )
    victim = scene.start("worker", IMGSYNC_LEASE_SECONDS="2")
    wait_until(lambda: scene.number(TaskStatus.PROCESSING) == 1)
    time.sleep(1)  # its downloads hang
    victim.kill()
    victim.wait()
    scene.shop.emulator.faults.clear()
    assert scene.number(TaskStatus.PROCESSING) == 1
    assert scene.shop.images(lamp) == old

    heir = scene.start("worker", IMGSYNC_LEASE_SECONDS="2")
    wait_until(lambda: scene.number(TaskStatus.COMPLETED) == 1)
    terminate(heir)
    check, task = scene.tasks()
    assert (task.attempts, task.crashes, task.result) == (1, 1, "completed")
    assert (check.status, check.payload) == (TaskStatus.PENDING, task.payload)
    assert scene.shop.images(lamp) == THREE


def test_a_worker_goes_on_when_the_engine_is_back(scene: Scene, postgresql_url: str) -> None:
    lamps = [scene.shop.pair(f"L{n}", pictures(1, 500 + n)) for n in range(8)]
    scene.shop.emulator.faults.add(
        method="GET", path_regex="/(temporary|permanent)/", where="storage", delay=0.3, times=100
    )
    with Relay(postgresql_url).running() as relay:
        through = relay.url_of().replace("postgresql", "procrastinate", 1)
        worker = scene.start(
            "worker",
            "--concurrency",
            "2",
            IMGSYNC_QUEUE_URL=through,
            IMGSYNC_LEASE_SECONDS="2",
        )
        scene.json("enqueue", *BOTH)
        wait_until(lambda: scene.number(TaskStatus.PROCESSING) >= 1)
        relay.cut()
        time.sleep(2.5)  # longer than a lease
        done = scene.number(TaskStatus.COMPLETED)
        assert done < 8
        assert worker.poll() is None
        relay.mend()
        wait_until(lambda: scene.number(TaskStatus.COMPLETED) >= 8)
        assert "Cannot use the queue procrastinate://" in terminate(worker)
    for number, lamp in enumerate(lamps):
        assert scene.shop.images(lamp) == pictures(1, 500 + number)


def test_a_worker_without_its_engine_ends_with_one_line(scene: Scene) -> None:
    url = "procrastinate://user:s3cret@127.0.0.1:1/database"
    process = scene.start("worker", "--drain", IMGSYNC_QUEUE_URL=url)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode != 0
    assert "Error: Cannot use the queue procrastinate://user@127.0.0.1:1/database" in stderr
    assert "Traceback" not in stderr
    assert "s3cret" not in stderr


def test_the_queue_is_seen_to_by_hand(scene: Scene) -> None:
    scene.shop.pair("Lamp", THREE)
    scene.json("enqueue", *BOTH)
    (task,) = scene.tasks()
    assert scene.json("queue", "status")["pending"] == 1
    scene.ask(_fail)
    (failed,) = scene.json("queue", "failed")
    assert failed["id"] == task.id
    assert scene.json("queue", "retry", str(task.id))["retried"] == [task.id]
    assert scene.json("worker", "--drain")["completed"] == 1


async def _fail(queue: ProcrastinateTaskQueue) -> None:
    (task,) = await queue.claim(lease=timedelta(minutes=1))
    await queue.fail(task, error="x")
