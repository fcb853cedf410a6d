"""Exit statuses, and the one JSON document of every end."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlSettingsRepository
from imgsync.application.copy import CopyImagesHandler
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.survey import Found, Survey
from imgsync.application.work import TaskEnd, TaskReport, Worker
from imgsync.domain.errors import StoreError, UnavailableError
from imgsync.domain.model import LinkSettings
from imgsync.domain.tasks import SyncOutcome, SyncResult, Task, TaskId, TaskStatus
from imgsync.entrypoints.cli import enqueue, sync
from imgsync.entrypoints.ends import Ends
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.plugins import manager
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

BOTH = ("--main", "Main", "--child", "Child")
TABLE = (
    (0, "all done"),
    (1, "an error"),
    (2, "wrong usage"),
    (3, "done in part"),
    (4, "nothing done because image sync is off"),
)


@pytest.mark.parametrize("command", [[], ["sync"], ["worker"], ["enqueue"]])
def test_the_help_has_the_table(cli: Cli, command: list[str]) -> None:
    text = cli.ok(*command, "--help")
    for status, meaning in TABLE:
        assert f"  {status}  {meaning}" in text


def plan_that(monkeypatch: pytest.MonkeyPatch, after: Callable[[int], None]) -> None:
    """Calls `after` with the number of entities planned so far, at each of them."""
    plan = Survey.__call__

    async def interrupted(self: Survey, *args: Any, **options: Any) -> AsyncIterator[Found]:
        count = 0
        after(count)
        async for planned in plan(self, *args, **options):
            yield planned
            count += 1
            after(count)
            await asyncio.sleep(0.01)  # in which a signal is heard

    monkeypatch.setattr(Survey, "__call__", interrupted)


def gone_after(planned: int) -> Callable[[int], None]:
    def fail(count: int) -> None:
        if count == planned:
            raise UnavailableError("MoySklad does not answer")

    return fail


@pytest.mark.parametrize("command", ["sync", "enqueue"])
def test_an_api_gone_at_the_beginning_is_an_error(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shop.pair("Lamp", pictures(1))
    plan_that(monkeypatch, gone_after(0))
    assert ready.failed_json(command, *BOTH, status=1) == {
        "error": "MoySklad does not answer",
        "exit_status": 1,
        "status": "error",
    }
    assert "Error: MoySklad does not answer" in ready.fail(command, *BOTH, status=1)


@pytest.mark.parametrize("command", ["sync", "enqueue"])
def test_an_api_gone_half_way_is_done_in_part(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name in "ABC":
        shop.pair(name, pictures(1))
    plan_that(monkeypatch, gone_after(2))
    told = ready.failed_json(command, *BOTH, status=3)
    assert told["error"] == "MoySklad does not answer"
    assert len(told.get("enqueue", told)["task_ids"]) == 2
    assert told["status"] == "part"
    assert ready.json("queue", "status")["pending"] == 2
    result = ready.run(command, *BOTH)
    assert result.exit_code == 3
    assert "Error: MoySklad does not answer" in result.stderr
    assert ("2 tasks are left" if command == "sync" else "Queued 2 tasks") in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["sync", "enqueue"])
def test_a_signal_while_planning_tells_what_was_queued(
    ready: Cli,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: signal.Signals,
) -> None:
    for name in "ABC":
        shop.pair(name, pictures(1))
    at = [2]
    plan_that(monkeypatch, lambda count: signal.raise_signal(number) if count == at[0] else None)
    told = ready.failed_json(command, *BOTH, status=3)
    assert told["error"] == "told to stop before the end"
    assert 1 <= len(told.get("enqueue", told)["task_ids"]) <= 2
    at[0] = 0
    said = ready.fail(command, *BOTH, status=1)
    assert said.strip().splitlines()[-1] == "Error: told to stop before the end"
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["sync", "enqueue"])
def test_a_signal_while_the_end_is_told_changes_nothing(
    ready: Cli,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: signal.Signals,
) -> None:
    shop.pair("Lamp", pictures(1))
    module = {"sync": sync, "enqueue": enqueue}[command]
    say = module.say

    def interrupted(line: str, **options: Any) -> None:
        signal.raise_signal(number)
        say(line, **options)

    monkeypatch.setattr(module, "say", interrupted)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    assert ("1 task completed" if command == "sync" else "Queued 1 task") in ready.ok(
        command, *BOTH
    )
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("module", [sync, enqueue])
def test_more_to_clear_than_allowed_is_done_in_part(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    asked: list[int | None] = []

    async def plan(
        *_: Any, max_clear: int | None = None, outcome: EnqueueOutcome, **__: Any
    ) -> EnqueueOutcome:
        asked.append(max_clear)
        outcome.clears_refused = 21
        return outcome

    monkeypatch.setattr(Enqueue, "__call__", plan)
    command = module.__name__.rpartition(".")[2]
    assert ready.failed_json(command, *BOTH, "--max-clear", "7", status=3)["status"] == "part"
    assert asked == [7]


def test_a_task_that_is_put_off_is_done_in_part(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", pictures(1))
    shop.emulator.faults.add(method="POST", path_regex="/images$", status=503, times=8)
    told = ready.failed_json("sync", *BOTH, status=3)
    assert (told["run"]["retrying"], told["status"]) == (1, "part")


def test_a_worker_stopped_while_draining_is_done_in_part(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.pair("Lamp", pictures(1))
    ready.ok("enqueue", *BOTH)
    run = Worker.run

    async def stopped(self: Worker, **options: Any) -> None:
        await run(self, **options | {"drain": True})
        self.stop()

    monkeypatch.setattr(Worker, "run", stopped)
    assert ready.failed_json("worker", "--drain", status=3)["completed"] == 1
    assert ready.failed_json("worker", "--drain", status=1)["status"] == "error"
    assert ready.json("worker")["status"] == "done"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "--nonsense"],
        ["queue", "retry", "0"],
        ["nonsense"],
        ["settings", "set", "--child", "Child"],
    ],
)
def test_wrong_usage_is_a_document_too(ready: Cli, arguments: list[str]) -> None:
    told = ready.failed_json(*arguments, status=2)
    assert (told["status"], told["exit_status"]) == ("usage", 2)
    assert told["error"]


def test_pruning_tells_how_many_tasks_are_gone(
    ready: Cli, shop: Shop, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.pair("Lamp", pictures(1))
    ready.ok("sync", *BOTH)
    assert ready.json("queue", "prune")["pruned"] == 0
    age = "UPDATE sync_queue SET updated_at = '2020-01-01 00:00:00+00:00'"
    database = Database.open(sqlite_url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(age)
    database.close()
    monkeypatch.setenv("IMGSYNC_KEEP_DAYS", "5000")
    assert "0 tasks" in ready.ok("queue", "prune")
    monkeypatch.delenv("IMGSYNC_KEEP_DAYS")
    assert "1 task deleted" in ready.ok("queue", "prune")
    # What was copied is known still.
    again = ready.json("sync", *BOTH)
    assert (again["enqueue"]["unchanged"], again["run"]["completed"]) == (1, 0)


@pytest.mark.parametrize("verb", ["retry", "release"])
def test_ids_that_are_left_are_in_the_one_document(ready: Cli, verb: str) -> None:
    told = ready.failed_json("queue", verb, "7")
    assert told["retried" if verb == "retry" else "released"] == []
    assert "7" in told["error"]


def test_ids_of_another_queue_may_be_texts(ready: Cli) -> None:
    said = ready.fail("queue", "retry", "job-17", "007")
    assert said.strip().endswith(
        "(not failed, or a newer task of the entity is pending): job-17, 007"
    )


@pytest.mark.parametrize("own", [7, "7", "007"])
def test_an_id_reaches_the_queue_as_it_is_and_as_a_number(
    ready: Cli, monkeypatch: pytest.MonkeyPatch, own: TaskId
) -> None:
    """Those of another queue may be texts of digits."""

    async def those_of_mine(_: Any, ids: Sequence[TaskId] | None) -> list[TaskId]:
        return [id_ for id_ in ids or () if (type(id_), id_) == (type(own), own)]

    monkeypatch.setattr(SqlTaskQueue, "retry", those_of_mine)
    monkeypatch.setattr(SqlTaskQueue, "free", those_of_mine)
    assert ready.json("queue", "retry", str(own))["retried"] == [own]
    assert ready.json("queue", "release", str(own))["released"] == [own]


@pytest.mark.parametrize("text", ["0", str(2**63), " ", "a\x1b[31m"])
def test_what_is_no_id_is_wrong_usage(ready: Cli, text: str) -> None:
    assert "Invalid value for '[ID]...'" in ready.fail("queue", "release", text, status=2)


@pytest.mark.parametrize("command", [["worker"], ["worker", "--drain"], ["queue", "status"]])
def test_a_database_that_fails_is_one_line(
    ready: Cli, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreError("Cannot use the database: connection failed:\n\tIs the server running?")

    for method in ("claim", "counts"):
        monkeypatch.setattr(SqlTaskQueue, method, fail)
    monkeypatch.setattr(Worker, "run", fail)
    said = ready.fail(*command)
    told = "Error: Cannot use the database: connection failed: Is the server running?"
    assert said.strip() == told


def test_a_plugin_that_fails_is_one_line(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "imgsync_no\nsuch_module", "imgsync")
    monkeypatch.setattr(manager, "entry_points", lambda **_: [broken])
    for command in (["worker", "--drain"], ["worker"], ["plugins"], ["sync", *BOTH]):
        said = ready.fail(*command).strip()
        assert said.splitlines()[-1].startswith("Error: plugin 'broken' cannot be loaded: ")
        assert "Traceback" not in said


def test_what_nobody_expected_is_one_line_and_in_the_log(
    ready: Cli, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(SqlTaskQueue, "counts", fail)
    assert ready.fail("queue", "status").strip() == "Error: Unexpected ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text
    assert ready.failed_json("queue", "status")["status"] == "error"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_short_command_is_one_line(
    ready: Cli, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    async def told_to_stop(_: SqlTaskQueue) -> None:
        signal.raise_signal(number)
        await asyncio.Event().wait()

    monkeypatch.setattr(SqlTaskQueue, "counts", told_to_stop)
    assert ready.fail("queue", "status").strip() == "Error: told to stop before the end"
    assert ready.failed_json("queue", "status")["error"] == "told to stop before the end"


def test_a_configuration_that_is_wrong_is_a_document_too(cli: Cli) -> None:
    told = cli.failed_json("queue", "status", IMGSYNC_LEASE_SECONDS="x")
    assert "IMGSYNC_LEASE_SECONDS" in told["error"]


def test_every_status_has_a_text_of_its_own() -> None:
    assert [(s.value, s.text) for s in ExitStatus] == [
        (0, "done"),
        (1, "error"),
        (2, "usage"),
        (3, "part"),
        (4, "off"),
    ]
    assert json.loads(json.dumps(ExitStatus.PART)) == 3


def test_what_other_workers_have_completed_is_done(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Lamp", "Chair"):
        shop.pair(name, pictures(1))
    run = Worker.run

    async def after_another(worker: Worker, **options: Any) -> None:
        await run(worker, drain=True)
        await run(worker, **options)

    monkeypatch.setattr(Worker, "run", after_another)
    assert "2 tasks completed by other workers." in ready.ok("sync", *BOTH)


def test_sync_that_is_switched_off_half_way_is_done_in_part(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ABC":
        shop.pair(name, pictures(1))
    complete = SqlTaskQueue.complete

    async def then_off(self: SqlTaskQueue, *args: Any, **kwargs: Any) -> None:
        await complete(self, *args, **kwargs)
        await SqlSettingsRepository(self._database).put(shop.child.id, LinkSettings())

    monkeypatch.setattr(SqlTaskQueue, "complete", then_off)
    monkeypatch.setattr("imgsync.application.parking._RECENT_SECONDS", 0)
    monkeypatch.setattr(CopyImagesHandler, "together", lambda *_: None)
    result = ready.run("sync", *BOTH, IMGSYNC_CONCURRENCY="1")
    assert result.exit_code == 3
    assert "off for child 'Child' meanwhile: 2 tasks did nothing" in result.stderr


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], ExitStatus.DONE),
        ([SyncOutcome.UNCHANGED], ExitStatus.DONE),
        ([SyncOutcome.DISABLED], ExitStatus.OFF),
        ([SyncOutcome.DISABLED, SyncOutcome.COMPLETED], ExitStatus.PART),
    ],
)
def test_tasks_of_several_children(outcomes: list[SyncOutcome], status: ExitStatus) -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    ends = Ends()
    for number, outcome in enumerate(outcomes):
        task = Task(number, {}, TaskStatus.COMPLETED, 50, 1, 3, moment, moment, moment)
        ends.add(TaskReport(task, TaskEnd.COMPLETED, SyncResult(outcome)))
    assert ends.status is status
