"""Names and answers from outside, on the terminal and in the log, byte by byte."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, update

from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.adapters.sql.tables import accounts
from imgsync.application.survey import Survey
from imgsync.domain.errors import ApiError
from imgsync.domain.model import Parking
from imgsync.domain.ports.queue import NewTask
from imgsync.entrypoints.cli.logs import OneLineFormatter
from imgsync.plugins import manager
from imgsync.plugins.hookspecs import hookimpl
from tests.cli.conftest import Cli, store
from tests.shop import Shop, pictures

FORGED = "2026-11-24 10:00:00,000 INFO imgsync.worker: forged"
EVIL = f"\x1b]0;owned\x07[red][/]\r\u202etxt\u2066\u200b\x9b31m\n{FORGED}\x00"
"""A title, a bell, markup, a carriage return, bidi, zero width, C1, a forged log line, NUL."""
NAME = EVIL.replace("\x00", "")
"""What PostgreSQL and a file name can hold of it."""
STEERING = ("\x1b", "\x07", "\r", "\x9b", "\x00", "\x7f", "\u202e", "\u2066", "\u2069", "\u200b")
BOTH = ("--main", "Main", "--child", "Child")


def check_bytes(output: bytes) -> None:
    text = output.decode()
    found = [c for c in STEERING if c in text]
    assert not found, text
    assert FORGED not in text.splitlines(), text
    assert not any(line.startswith("2026-11-24 10:00:00") for line in text.splitlines())


@pytest.fixture
def hostile(ready: Cli, shop: Shop, sqlite_database: Database) -> Cli:
    """Entities, images, codes, an account, its parking and a failed task with such names."""
    image = pictures(1)[0][1]
    for kind in ("product", "bundle"):
        fields: dict[str, Any] = {"name": NAME, "external_code": f"x{NAME}", "code": NAME}
        images = [(f"{NAME}.png", image), (f"{NAME}.gif", b"GIF89a")]
        shop.main.add_entity(kind, images=images, **fields)
        shop.child.add_entity(kind, **fields)
    shop.main.add_entity("product", name=NAME, external_code=f"lone{NAME}", images=pictures(1))
    store(ready, "parked-id", "Parked", "token")

    async def park_and_fail() -> None:
        parking = Parking(EVIL, datetime.now(UTC) + timedelta(hours=1))
        await SqlAccountRepository(sqlite_database).park("parked-id", parking)
        queue = SqlTaskQueue(sqlite_database)
        payload = {"parent_entity_type": NAME, "parent_entity_id": EVIL}
        await queue.enqueue([NewTask(payload, priority=99)])
        (task,) = await queue.claim(lease=timedelta(minutes=1))
        await queue.fail(task, error=EVIL)

    asyncio.run(park_and_fail())
    return ready


COMMANDS: list[list[str]] = [
    ["account", "list"],
    ["settings", "show"],
    ["settings", "show", "--child", NAME],
    ["queue", "failed"],
    ["queue", "status"],
    ["sync", *BOTH, "--dry-run"],
    ["enqueue", *BOTH],
    ["enqueue", *BOTH, "--type", NAME],
    ["enqueue", "--payload", NAME],
    ["sync", *BOTH],
    ["worker", "--drain"],
    ["sync", "--main", NAME, "--child", EVIL.replace("\x00", "")],
    ["plugins"],
    [NAME],
    ["queue", "retry", NAME],
    ["account", "add", "x", "--kind", NAME],
    ["account", "add", "x", "--offline", "--name", NAME],
    ["--config", NAME, "queue", "status"],
]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c)[:20].encode().hex())
def test_no_command_prints_what_steers_a_terminal(
    hostile: Cli, command: list[str], as_json: bool
) -> None:
    hostile.env["IMGSYNC_TOKEN"] = "token"
    result = hostile.run(*command, *(["--json"] if as_json else []))
    check_bytes(result.stdout_bytes)
    check_bytes(result.stderr_bytes)
    if as_json:
        json.loads(result.stdout)


def test_json_keeps_the_names_as_they_are(hostile: Cli) -> None:
    skipped = hostile.json("enqueue", *BOTH)["skipped"]
    assert NAME in [item["name"] for item in skipped]
    (failed,) = hostile.json("queue", "failed")
    assert failed["payload"]["parent_entity_id"] == EVIL
    assert "[red][/]" in hostile.ok("queue", "failed")


@pytest.mark.process
def test_a_process_logs_no_forged_line(hostile: Cli) -> None:
    hostile.ok("enqueue", *BOTH)
    for arguments in (["worker", "--drain"], ["queue", "failed"], ["sync", *BOTH]):
        done = subprocess.run(
            [sys.executable, "-m", "imgsync", *arguments],
            env=os.environ | hostile.env | {"IMGSYNC_LOG_LEVEL": "DEBUG"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        check_bytes(done.stdout)
        check_bytes(done.stderr)
        assert b"alembic" not in done.stderr
        if arguments[0] == "worker":
            assert rb"\x1b]0;owned\x07[red][/]\r\u202etxt" in done.stderr


def test_errors_of_the_api_are_shown_harmless(
    hostile: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise ApiError(f"400: {EVIL}")

    monkeypatch.setattr(Survey, "__call__", refused)
    monkeypatch.setattr(HttpMoySkladFactory, "identify", refused, raising=False)
    for command in (["enqueue", *BOTH], ["sync", *BOTH], ["account", "add"]):
        for options in ([], ["--json"]):
            result = hostile.run(*command, *options, IMGSYNC_TOKEN="token")
            assert result.exit_code == 1
            check_bytes(result.stdout_bytes)
            check_bytes(result.stderr_bytes)
            assert r"400: \x1b]0;owned\x07[red][/]\r\u202etxt" in result.stderr
            if options:
                assert EVIL.split("\n")[0] in json.loads(result.stdout)["error"]


def test_plugins_are_shown_harmless(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        name = version = EVIL

    class Format:
        name = "evil"
        matches = parse = staticmethod(str)

    class Plugin:
        @hookimpl
        def imgsync_payload_formats(self) -> list[Any]:
            return [Format()]

    point = EntryPoint(f"evil{NAME}", "x", "imgsync")
    vars(point).update(dist=Distribution())
    monkeypatch.setattr(EntryPoint, "load", lambda _: Plugin())
    monkeypatch.setattr(manager, "entry_points", lambda **_: [point])
    for options in ([], ["--json"]):
        result = cli.run("plugins", *options)
        assert "forged" in result.stdout, result.stderr
        check_bytes(result.stdout_bytes)


def test_an_account_whose_row_was_written_by_others_is_harmless(
    ready: Cli, sqlite_engine: Engine
) -> None:
    with sqlite_engine.begin() as connection:
        connection.execute(update(accounts).where(accounts.c.name == "Child").values(name=EVIL))
    for command in (["account", "list"], ["settings", "show"], ["sync", *BOTH]):
        result = ready.run(*command)
        check_bytes(result.stdout_bytes)
        check_bytes(result.stderr_bytes)
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", ["message", "argument", "exception", "stack"])
def test_a_log_record_can_forge_no_line(kind: str) -> None:
    error: Any = None
    stack, message, arguments = None, "plain", cast("tuple[str, ...]", ())
    match kind:
        case "message":
            message = EVIL
        case "argument":
            message, arguments = "image %s", (EVIL,)
        case "exception":
            try:
                raise ValueError(EVIL)
            except ValueError as raised:
                error = (ValueError, raised, raised.__traceback__)
        case "stack":
            stack = f"Stack:\n{EVIL}"
    record = logging.LogRecord("imgsync", logging.INFO, "f", 1, message, arguments, error)
    record.stack_info = stack
    record.exc_text = EVIL if error else None  # as another handler may have left it
    text = OneLineFormatter().format(record)
    check_bytes(text.encode())
    first, *others = text.split("\n")
    assert "INFO imgsync: " in first
    assert all(line.startswith("    ") for line in others)
    assert bool(others) == (kind in ("exception", "stack"))


def test_the_format_of_a_line_stays(tmp_path: Path) -> None:
    record = logging.LogRecord("imgsync.worker", logging.WARNING, "f", 1, "Лампа %d", (1,), None)
    assert OneLineFormatter().format(record).endswith(" WARNING imgsync.worker: Лампа 1")
