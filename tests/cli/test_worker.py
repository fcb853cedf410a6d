"""imgsync worker: the daily cleanup and what is logged."""

import asyncio
import logging
import os
import time as clock
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest

from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.tasks import Task, TaskStatus
from imgsync.entrypoints.cli import working
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures


def test_the_daily_cleanup_deletes_old_temp_files_at_three(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "temp" / ("task-" + "b" * 32)
    folder.mkdir(parents=True)
    for name, hours in (("old.png", 25), ("new.png", 23)):
        (folder / name).write_bytes(b"12345")
        moment = clock.time() - hours * 3600
        os.utime(folder / name, (moment, moment))
    times: list[time] = []
    cleaned = asyncio.Event()
    run = Worker.run

    async def then_run(self: Worker, **options: Any) -> None:
        await cleaned.wait()
        await run(self, **options)

    monkeypatch.setattr(Worker, "run", then_run)

    async def at_once(
        job: Callable[[], Awaitable[None]], at: time, local_now: Callable[[], datetime]
    ) -> None:
        times.append(at)
        assert local_now().utcoffset() is not None
        await job()
        cleaned.set()

    monkeypatch.setattr(working, "run_daily", at_once)
    caplog.set_level(logging.INFO)
    cli.ok("worker", "--drain")
    assert times == [time(3, 0)]
    assert [f.name for f in folder.iterdir()] == ["new.png"]
    assert "cleanup: 1 files, 5 bytes freed" in caplog.text
    assert "cleanup: 0 tasks that ended long ago" in caplog.text
    assert "cleanup: 0 runs that were long ago" in caplog.text


def test_every_end_of_a_task_is_logged(
    ready: Cli, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.pair("Good", [*pictures(2), ("a.gif", b"no picture")])
    shop.pair("Bad", [("b.gif", b"no picture")])
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    caplog.set_level(logging.INFO)
    assert ready.failed_json("worker", "--drain", status=3)["status"] == "part"
    assert (
        "Child: product 'Good', task 1: completed with warnings, 2 uploaded, 0 kept" in caplog.text
    )
    assert (
        "Child: product 'Good', task 1: a.gif: it is neither a JPEG nor a PNG file" in caplog.text
    )
    assert (
        "Child: product 'Bad', task 2, attempt 1: failed: No image was uploaded: b.gif"
        in caplog.text
    )


def test_a_lost_lease_is_told_with_its_entity_and_why(caplog: pytest.LogCaptureFixture) -> None:
    moment = datetime.now(UTC)
    task = Task(
        7,
        {"parent_entity_type": "product", "name": "Lamp", "code": "00017"},
        TaskStatus.PROCESSING,
        0,
        1,
        3,
        *(moment,) * 3,
        account_id="c1",
    )
    why = "another worker holds the task now"
    working.log_end(TaskReport(task, TaskEnd.LEASE_LOST, error=why, child="Omsk"))
    working.log_end(TaskReport(task, TaskEnd.GIVEN_BACK))
    assert [record.getMessage() for record in caplog.records] == [
        f"Omsk: product 'Lamp' (code 00017), task 7, attempt 1: lease lost: {why}",
        "c1: product 'Lamp' (code 00017), task 7, attempt 1: given back",
    ]
