"""Workers as processes: killed, told to stop, several at once."""

import json
import signal
from pathlib import Path

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.domain.tasks import TaskStatus
from tests.e2e.conftest import DEADLINE_SECONDS, StartHost, Tasks, terminate, wait_until
from tests.shop import Shop, pictures

BOTH = ("--main", "Main", "--child", "Child")
THREE = pictures(3)


def hold_downloads(shop: Shop, seconds: float, times: int = 100) -> None:
    """The next downloads hang, as on a slow network."""
    shop.emulator.faults.add(
        method="GET",
        path_regex="/(temporary|permanent)/",
        where="storage",
        delay=seconds,
        times=times,
    )


def test_a_worker_killed_with_signal_9_loses_nothing(
    shop: Shop, start_host: StartHost, database: Database, database_url: str, tmp_path: Path
) -> None:
    lamp = shop.pair("Lamp", THREE, old := pictures(1, 90))
    host, queue = start_host(shop, database_url), Tasks(database)
    host.run("enqueue", *BOTH)
    hold_downloads(shop, 60, times=1)
    victim = host.start("worker", IMGSYNC_LEASE_SECONDS="2")
    shared = "temp/imgsync-content/index/*/*"
    wait_until(lambda: len(list(tmp_path.glob(shared))) == 2)
    victim.kill()
    victim.wait()
    shop.emulator.faults.clear()
    assert queue.counts()[TaskStatus.PROCESSING] == 1
    assert shop.images(lamp) == old

    heir = host.start("worker", IMGSYNC_LEASE_SECONDS="2")
    wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 1)
    assert "attempt" not in terminate(heir)
    check, task = queue.find()
    assert (task.attempts, task.crashes, task.result) == (1, 1, "completed")
    assert (check.status, check.payload) == (TaskStatus.PENDING, task.payload)
    assert shop.images(lamp) == THREE
    # The two that were whole are shared, and were not downloaded again; the third was on its way.
    assert shop.emulator.stats.downloads == 3
    size = sum(len(content) for _, content in THREE)
    cleaned = host.json("cleanup-temp", "--hours", "0")
    assert (cleaned["files"], size <= cleaned["freed_bytes"] < size + 300) == (2 + 3 + 3, True)
    assert files_in(tmp_path / "temp") == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_sigterm_finishes_the_task_under_way_and_takes_no_other(
    shop: Shop, start_host: StartHost, sqlite_database: Database, sqlite_url: str
) -> None:
    lamps = [shop.pair("A", THREE), shop.pair("B", THREE)]
    host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
    host.run("enqueue", *BOTH)
    hold_downloads(shop, 1.5, times=3)
    worker = host.start("worker", "--concurrency", "1")
    wait_until(lambda: queue.counts()[TaskStatus.PROCESSING] == 2)
    said = terminate(worker)
    assert "stopping: tasks under way may finish" in said
    assert queue.counts() == {
        TaskStatus.PENDING: 1,
        TaskStatus.PROCESSING: 0,
        TaskStatus.COMPLETED: 1,
        TaskStatus.FAILED: 0,
    }
    assert [shop.images(lamp) for lamp in lamps] == [THREE, []]


def test_after_the_grace_time_the_task_is_given_back_uncounted(
    shop: Shop, start_host: StartHost, sqlite_database: Database, sqlite_url: str, tmp_path: Path
) -> None:
    lamp = shop.pair("Lamp", THREE, old := pictures(1, 90))
    host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
    host.run("enqueue", *BOTH)
    hold_downloads(shop, 60, times=1)
    worker = host.start("worker", IMGSYNC_GRACE_SECONDS="0.1")
    wait_until(lambda: bool(list((tmp_path / "temp").glob("task-*/*.png"))))
    terminate(worker)
    (task,) = queue.find()
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)
    assert shop.images(lamp) == old
    assert list((tmp_path / "temp").glob("task-*")) == []
    assert list((tmp_path / "temp").glob("imgsync-content/turns/*")) == []


def test_several_workers_share_the_queue(
    shop: Shop, start_host: StartHost, database: Database, database_url: str
) -> None:
    lamps = [shop.pair(f"L{n}", pictures(2, 500 + n)) for n in range(12)]
    host, queue = start_host(shop, database_url), Tasks(database)
    host.run("enqueue", *BOTH)
    workers = [host.start("worker", "--concurrency", "2") for _ in range(3)]
    wait_until(lambda: queue.counts()[TaskStatus.COMPLETED] == 12)
    for worker in workers:
        # The others may have done all before it was there.
        assert worker.stderr is not None
        assert "worker started" in worker.stderr.readline()
        terminate(worker)
    assert {task.attempts for task in queue.find()} == {1}
    assert shop.writes <= 12  # none was written twice
    for number, lamp in enumerate(lamps):
        assert shop.images(lamp) == pictures(2, 500 + number)


def test_an_idle_worker_stops_at_once(shop: Shop, start_host: StartHost, sqlite_url: str) -> None:
    worker = start_host(shop, sqlite_url).start("worker")
    assert worker.stderr is not None
    assert "worker started" in worker.stderr.readline()
    terminate(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_gives_the_task_back_at_once(
    shop: Shop,
    start_host: StartHost,
    sqlite_database: Database,
    sqlite_url: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    shop.pair("Lamp", THREE)
    host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
    host.run("enqueue", *BOTH)
    hold_downloads(shop, 60, times=1)
    worker = host.start("worker")
    wait_until(lambda: bool(list((tmp_path / "temp").glob("task-*/*.png"))))
    assert worker.stderr is not None
    worker.send_signal(number)
    while "stopping" not in worker.stderr.readline():
        assert worker.poll() is None
    worker.send_signal(number)
    worker.communicate(timeout=DEADLINE_SECONDS)
    assert worker.returncode == 0
    (task,) = queue.find()
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)


def test_sync_told_to_stop_leaves_the_rest_in_the_queue(
    shop: Shop, start_host: StartHost, sqlite_database: Database, sqlite_url: str
) -> None:
    lamps = [shop.pair("A", THREE), shop.pair("B", THREE)]
    host, queue = start_host(shop, sqlite_url), Tasks(sqlite_database)
    hold_downloads(shop, 1.5, times=3)
    sync = host.start("sync", *BOTH, IMGSYNC_CONCURRENCY="1")
    wait_until(lambda: queue.counts()[TaskStatus.PROCESSING] == 2)
    sync.send_signal(signal.SIGTERM)
    stdout, stderr = sync.communicate(timeout=DEADLINE_SECONDS)
    assert sync.returncode == 3, stderr
    assert "Error: told to stop before the end" in stderr
    assert "1 task is left to 'imgsync worker'" in stdout
    assert [shop.images(lamp) for lamp in lamps] == [THREE, []]
    assert queue.counts()[TaskStatus.PENDING] == 1


def test_a_reader_that_leaves_is_no_error_with_a_traceback(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    process = start_host(shop, sqlite_url).start("account", "list", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_terminal_without_cyrillic_shows_names_all_the_same(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    host = start_host(shop, sqlite_url)
    host.run("account", "add", "k", "--offline", "--name", "Магазин 🙂", IMGSYNC_TOKEN="t")
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    def printed(*arguments: str) -> str:
        process = host.start(*arguments, **ascii_only)
        stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, stderr
        return stdout

    assert "\\u041c" in printed("account", "list")
    listed = json.loads(printed("account", "list", "--json"))
    assert "Магазин 🙂" in [account["name"] for account in listed]
