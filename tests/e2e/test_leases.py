"""Workers that are stopped, or cut off from the database, at random moments.

In every round the main account's pictures change twice while one of two workers is stopped for
longer than its lease, or loses its database. Whatever happens, no child may be left with old
pictures while the queue says that its task is completed.

IMGSYNC_TEST_ROUNDS makes it longer (default 2 rounds of each kind), IMGSYNC_TEST_SEED another.

Two moments are not left to chance: a worker sleeps with half a picture sent, or between its
download and its upload, and goes on when its heir is done. Each is decided by one fence alone (the
check before each chunk; the question whether the lease holds), as no timer has noticed the sleep.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.domain.tasks import TaskStatus
from moysklad_emulator import EmulatedEntity, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.images import NewImage
from tests.application.world import png
from tests.e2e.conftest import (
    DEADLINE_SECONDS,
    Host,
    Popen,
    StartHost,
    Tasks,
    terminate,
    wait_until,
)
from tests.shop import Images, Shop
from tests.support import sleeping_machine
from tests.support.relay import Relay

ROUNDS = int(os.environ.get("IMGSYNC_TEST_ROUNDS", "2"))
SEED = int(os.environ.get("IMGSYNC_TEST_SEED", "20261124"))
LEASE_SECONDS = 2.0
ENTITIES = 4
PICTURE_BYTES = 3_000_000
"""More than the buffers of a connection hold: a worker may be stopped with half of it sent."""

MORE_THAN_BUFFERS_HOLD = 9_000_000
"""12 MB as base64, where Linux buffers 4 MB that are sent and little that nobody reads."""

SMALL = 10_000
LEASES = {"IMGSYNC_LEASE_SECONDS": str(LEASE_SECONDS), "IMGSYNC_LOG_LEVEL": "ERROR"}
SLOW_SECONDS = 0.4
"""How long a download or a write takes, so that there are moments to be stopped at."""


@dataclass
class Scene:
    """A shop with pairs of entities, and what their main sides show."""

    shop: Shop
    host: Host
    queue: Tasks
    database: Database
    mains: list[EmulatedEntity]
    children: list[EmulatedEntity]
    version: int = 0

    def change(self, picture_bytes: int = PICTURE_BYTES) -> Popen:
        """New pictures on every main entity; the process that queues their tasks."""
        self.version += 1
        for number, entity in enumerate(self.mains):
            content = png(1000 * self.version + number, picture_bytes)
            picture = (f"v{self.version}.png", content)
            # Held elsewhere too, so that a late task can still fetch it after the next change.
            self.shop.main.add_entity("product", name="Archive", images=[picture])
            self.shop.main.set_images(entity, [NewImage.create(*picture)])
        return self.host.start("enqueue", "--main", "main", "--child", "child")

    def wait_for_work(self) -> None:
        wait_until(lambda: self.queue.counts()[TaskStatus.PROCESSING] > 0)

    def newest(self) -> list[Images]:
        return [self.shop.images(entity) for entity in self.mains]

    def shown(self) -> list[Images]:
        return [self.shop.images(entity) for entity in self.children]

    def idle(self) -> bool:
        """Nothing runs, and nothing waits but later checks and retries."""
        now = datetime.now(UTC)
        waiting = [task for task in self.queue.find(TaskStatus.PENDING) if task.scheduled_at <= now]
        return not waiting and not self.queue.counts()[TaskStatus.PROCESSING]

    def check_what_is_shown(self) -> None:
        """Old pictures are allowed only where the queue says that it is not done with them."""
        waiting = {task.dedupe_key for task in self.queue.find(TaskStatus.PENDING)}
        for entity, shown, newest in zip(self.children, self.shown(), self.newest(), strict=True):
            key = f"child/product/{entity.id}"
            current = shown == newest
            assert current or key in waiting, f"{key} holds old pictures, and all is done"

    def six_minutes_later(self) -> None:
        """What waits for later is due."""
        with self.database.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE sync_queue SET scheduled_at = '2020-01-01 00:00:00' "
                    "WHERE status = 'pending'"
                )
            )

    def settle(self) -> None:
        wait_until(self.idle)
        self.check_what_is_shown()
        self.six_minutes_later()
        wait_until(self.idle)
        current = self.shown() == self.newest()
        assert current
        self.check_what_failed()

    def check_what_failed(self) -> None:
        """Only tasks that a newer one of their entity has made good, such as those whose main
        pictures had been replaced before they were fetched."""
        done: set[str | None] = set()
        for task in self.queue.find(limit=1000):
            if task.status is TaskStatus.COMPLETED:
                done.add(task.dedupe_key)
            elif task.status is TaskStatus.FAILED:
                assert task.dedupe_key in done, task.error


@pytest.fixture
def slow_shop() -> Iterator[Shop]:
    """Downloads and writes of this one take their time."""
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        faults = server.emulator.faults
        faults.add(method="POST", path_regex="/images$", delay=SLOW_SECONDS, times=10**6)
        faults.add(
            path_regex="/(temporary|permanent)/", where="storage", delay=SLOW_SECONDS, times=10**6
        )
        yield Shop.on(server)


def scene_of(shop: Shop, host: Host, url: str, entities: int = ENTITIES) -> Scene:
    database = Database.open(url)
    pairs = []
    for n in range(entities):
        name, code, first = f"L{n}", f"x{n}", [("v0.png", png(n))]
        main = shop.main.add_entity("product", name=name, external_code=code, images=first)
        pairs.append((main, shop.child.add_entity("product", name=name, external_code=code)))
    mains, children = [main for main, _ in pairs], [child for _, child in pairs]
    return Scene(shop, host, Tasks(database), database, mains, children)


def finished(process: Popen) -> None:
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, stderr


@pytest.fixture
def quick_shop() -> Iterator[Shop]:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield Shop.on(server)


@dataclass
class Sleeper:
    """A worker on a machine that sleeps, and its only task, with the old picture."""

    scene: Scene
    process: Popen

    @classmethod
    def start(cls, scene: Scene, picture_bytes: int) -> "Sleeper":
        scene.change(picture_bytes).wait(DEADLINE_SECONDS)
        worker = scene.host.start_program((sleeping_machine.__file__, "worker"), **LEASES)
        return cls(scene, worker)

    def fall_asleep(self) -> None:
        """Right after its lease was renewed, so that the next renewal is a while away, and no
        transaction is open."""
        before = self._lease()
        wait_until(lambda: self._lease() != before)
        self.process.send_signal(signal.SIGSTOP)
        for turn in (self.scene.host.temp_dir / "imgsync-content" / "turns").iterdir():
            os.utime(turn, (0, 0))  # as if it had slept for long: nobody waits for its download

    def wake_up(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _lease(self) -> datetime | None:
        (task,) = self.scene.queue.find(TaskStatus.PROCESSING)
        return task.lease_expires_at

    def let_an_heir_finish(self) -> None:
        """Main has another picture by now."""
        finished(self.scene.change(SMALL))
        heir = self.scene.host.start("worker", **LEASES)
        wait_until(lambda: self.scene.idle() and self.scene.shown() == self.scene.newest())
        terminate(heir)


def test_a_worker_that_slept_with_half_a_picture_sent_does_not_send_the_rest(
    quick_shop: Shop, start_host: StartHost, database_url: str
) -> None:
    scene = scene_of(quick_shop, start_host(quick_shop, database_url), database_url, entities=1)
    emulator = quick_shop.emulator
    hold = emulator.faults.add(method="POST", path_regex="/images$", hold_after=100_000)
    sleeper = Sleeper.start(scene, MORE_THAN_BUFFERS_HOLD)
    assert hold.holding.wait(DEADLINE_SECONDS)
    sleeper.fall_asleep()
    sleeper.let_an_heir_finish()
    posts = uploads(emulator)
    hold.release()
    sleeper.wake_up()
    wait_until(lambda: uploads(emulator) == posts + 1)  # whole, or broken off
    assert scene.shown() == scene.newest()
    scene.settle()
    scene.database.close()


def test_a_worker_that_slept_before_its_upload_asks_whether_the_task_is_still_its_own(
    quick_shop: Shop, start_host: StartHost, database_url: str
) -> None:
    scene = scene_of(quick_shop, start_host(quick_shop, database_url), database_url, entities=1)
    hold = quick_shop.emulator.faults.add(
        path_regex="/(temporary|permanent)/", where="storage", hold_after=0
    )
    sleeper = Sleeper.start(scene, SMALL)
    assert hold.holding.wait(DEADLINE_SECONDS)
    sleeper.fall_asleep()
    sleeper.let_an_heir_finish()
    hold.release()
    sleeper.wake_up()
    terminate(sleeper.process)  # which lets its task end
    assert scene.shown() == scene.newest()
    scene.database.close()


def uploads(emulator: Emulator) -> int:
    """Requests that set images, whole or not."""
    return emulator.stats.requests["POST", "entity/{type}/{id}/images"]


def start_workers(host: Host, **env: str) -> list[Popen]:
    return [host.start("worker", "--concurrency", "3", **(LEASES | env)) for _ in range(2)]


def test_workers_stopped_at_random_moments_leave_no_old_picture(
    slow_shop: Shop, start_host: StartHost, database_url: str
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    scene = scene_of(slow_shop, start_host(slow_shop, database_url), database_url)
    workers = start_workers(scene.host)
    for _ in range(ROUNDS):
        first = scene.change()
        scene.wait_for_work()
        time.sleep(chance.uniform(0, 2 * SLOW_SECONDS))
        victim = chance.choice(workers)
        victim.send_signal(signal.SIGSTOP)
        try:
            # It ends later where the victim was stopped in a transaction, holding SQLite's lock.
            change = scene.change()
            time.sleep(1 + LEASE_SECONDS + chance.uniform(0, 1))
        finally:
            victim.send_signal(signal.SIGCONT)
        finished(first)
        finished(change)
        scene.settle()
    for worker in workers:
        worker.terminate()
    scene.database.close()


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_workers_cut_off_from_the_database_leave_no_old_picture(
    slow_shop: Shop, start_host: StartHost, postgresql_url: str, how: str
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    scene = scene_of(slow_shop, start_host(slow_shop, postgresql_url), postgresql_url)
    with Relay(postgresql_url).running() as relay:
        through = relay.url_of()
        victim, _ = start_workers(scene.host, IMGSYNC_DATABASE_URL=through)
        start_workers(scene.host)
        for _ in range(ROUNDS):
            first = scene.change()
            scene.wait_for_work()
            time.sleep(chance.uniform(0, 2 * SLOW_SECONDS))
            relay.cut() if how == "cut" else relay.hang()
            try:
                finished(first)
                finished(scene.change())
                time.sleep(LEASE_SECONDS + chance.uniform(0, 1))
            finally:
                relay.mend()
            scene.settle()
            assert victim.poll() is None
    scene.database.close()
