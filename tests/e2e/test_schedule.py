"""Several hosts that keep one schedule."""

import asyncio
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import text, update

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.tables import schedule
from imgsync.domain.runs import Run, RunKind
from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from tests.e2e.conftest import Host, Popen, StartHost, terminate, wait_until
from tests.e2e.test_serve import url_of
from tests.shop import Shop, pictures

LINK = ("link", "Main", "Child", "--sync-images-all", "--survey-every", "never")
SWEEPS = "SELECT count(*) FROM schedule WHERE job LIKE 'sweep%'"


class Store:
    """What the hosts share, as seen from a test."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs(self, kind: RunKind = RunKind.SWEEP) -> list[Run]:
        return asyncio.run(SqlRunHistory(self._database).find(kind=kind))

    def count(self, statement: str) -> int:
        with self._database.engine.begin() as connection:
            found: int = connection.execute(text(statement)).scalar_one()
        return found

    def make_due(self) -> None:
        """As where no host was up at half past three."""
        wait_until(lambda: self.count(SWEEPS) == 1)
        past = datetime.now(UTC) - timedelta(hours=2)
        this = update(schedule).where(schedule.c.job.like("sweep%"))
        with self._database.engine.begin() as connection:
            connection.execute(this.values(next_at=past))

    def lapse(self) -> None:
        """As where a minute has passed since a lease was renewed last."""
        this = update(schedule).values(lease_expires_at=datetime.now(UTC) - timedelta(seconds=1))
        with self._database.engine.begin() as connection:
            connection.execute(this.where(schedule.c.job.like("sweep%")))


def far_sweep() -> str:
    """A time of the day that is hours away, so that a missed sweep is caught up."""
    return f"{(datetime.now().astimezone() + timedelta(hours=12)):%H:%M}"


def serving(host: Host, *options: str) -> Popen:
    process = host.start("serve", "--port", "0", *options)
    url_of(process)
    return process


def test_two_hosts_catch_a_missed_sweep_up_once(
    shop: Shop, start_host: StartHost, postgresql_url: str
) -> None:
    lamp = shop.pair("Lamp", pictures(2))
    host = start_host(shop, postgresql_url)
    host.run(*LINK, "--sweep", far_sweep())
    database = Database.open(postgresql_url)
    try:
        store = Store(database)
        first = serving(host)
        store.make_due()
        second = serving(host)
        wait_until(lambda: any(run.ended for run in store.runs()))
        wait_until(lambda: len(shop.images(lamp)) == 2)
        time.sleep(11)  # each looks at the schedule twice
        for process in (first, second):
            assert "Traceback" not in terminate(process)
        (run,) = store.runs()
        assert (run.cause, run.error, run.numbers["missing"]) == ("schedule", None, 1)
        assert run.numbers["requests"] > 0
        (told,) = json.loads(host.run("runs", "--kind", "sweep", "--json"))["runs"]
        assert told["id"] == run.id
        assert store.count("SELECT sum(images) FROM usage") == 2
        later = "SELECT count(*) FROM schedule WHERE next_at > now() AND lease_token IS NULL"
        assert store.count(later) >= 1
    finally:
        database.close()


def test_without_the_schedule_nothing_is_surveyed(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    shop.pair("Lamp", pictures(1))
    shop.unjudged = "nothing is copied"
    host = start_host(shop, sqlite_url)
    host.run(*LINK)
    process = serving(host, "--no-schedule", "--no-worker")
    time.sleep(2)
    assert "Traceback" not in terminate(process)
    database = Database.open(sqlite_url)
    try:
        store = Store(database)
        assert store.count("SELECT count(*) FROM schedule") == 0
        assert store.runs() == []
    finally:
        database.close()


def test_a_host_that_is_stopped_in_a_sweep_does_not_end_it_after_another_has(
    start_host: StartHost, postgresql_url: str
) -> None:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        shop = Shop.on(server)
        shop.pair("Lamp", pictures(1))
        host = start_host(shop, postgresql_url)
        host.run(*LINK, "--sweep", far_sweep())
        database = Database.open(postgresql_url)
        try:
            store = Store(database)
            # The first answers late, so that the sweep is under way when its host stands still.
            shop.emulator.faults.add(path_regex="/entity/product", delay=8)
            stopped = serving(host)
            store.make_due()
            wait_until(lambda: len(store.runs()) == 1)
            os.kill(stopped.pid, signal.SIGSTOP)
            shop.emulator.faults.clear()
            store.lapse()
            going = serving(host)
            wait_until(lambda: any(run.ended and not run.error for run in store.runs()))
            # The run ends before the schedule learns of it.
            wait_until(lambda: store.count(f"{SWEEPS} AND next_at > now()") == 1)
            due = "SELECT extract(epoch FROM next_at)::bigint FROM schedule WHERE job LIKE 'sweep%'"
            next_at = store.count(due)
            os.kill(stopped.pid, signal.SIGCONT)
            wait_until(lambda: all(run.ended for run in store.runs()))
            assert store.count(due) == next_at
            assert len([run for run in store.runs() if not run.error and run.ended]) == 1
            assert len(store.runs()) == 2
            assert "Traceback" not in terminate(going)
            assert "another host" in terminate(stopped)
        finally:
            database.close()
