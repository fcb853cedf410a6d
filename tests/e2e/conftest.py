"""imgsync's workers as processes of their own, against the emulator over HTTP."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.application.log_lines import COPY_LOG
from imgsync.domain.tasks import Task, TaskStatus
from imgsync.entrypoints.cli.main import main
from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop

DEADLINE_SECONDS = 30.0
Popen = subprocess.Popen[str]


class Host:
    """A machine that runs imgsync."""

    def __init__(self, env: dict[str, str], stack: ExitStack) -> None:
        outer = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
        self._env = outer | env
        self._stack = stack

    @property
    def temp_dir(self) -> Path:
        return Path(self._env["IMGSYNC_TEMP_DIR"])

    def start(self, *arguments: str, **env: str) -> Popen:
        return self.start_program(("-m", "imgsync", *arguments), **env)

    def start_program(self, program: Sequence[str], **env: str) -> Popen:
        process = subprocess.Popen(
            [sys.executable, *program],
            env=self._env | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(_end, process)
        return process

    def run(self, *arguments: str, **env: str) -> str:
        return self.end(0, *arguments, **env)

    def end(self, status: int, *arguments: str, **env: str) -> str:
        """What a command writes to stdout that ends with that exit status. It runs in the test's
        own process: to start one takes longer than most commands. Where the test is async itself,
        a command has a process of its own, as its event loop would be the second of a thread."""
        if asyncio._get_running_loop() is not None:
            process = self.start(*arguments, **env)
            stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == status, stderr
            return stdout
        # It sets levels of the whole process, which are those of later tests otherwise.
        loggers = [logging.getLogger(name) for name in ("httpx", "httpcore", "alembic", COPY_LOG)]
        before = [(one, one.level) for one in (logging.getLogger(), *loggers)]
        done = CliRunner().invoke(main, arguments, env=self._env | env)
        for one, level in before:
            one.setLevel(level)
        assert done.exit_code == status, done.output
        return done.stdout

    def json(self, *arguments: str, **env: str) -> Any:
        return json.loads(self.run(*arguments, "--json", **env))


def _end(process: Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)  # each look asks a database, of a machine that has other work


def terminate(process: Popen) -> str:
    """SIGTERM; what the process wrote to stderr once it ended well."""
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, stderr
    return stderr


@pytest.fixture
def shop() -> Iterator[Shop]:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield Shop.on(server)


class Tasks:
    """A queue as seen from a test that is not async."""

    def __init__(self, database: Database) -> None:
        self._queue = SqlTaskQueue(database)

    def counts(self) -> dict[TaskStatus, int]:
        return asyncio.run(self._queue.counts())

    def find(self, status: TaskStatus | None = None, limit: int = 100) -> list[Task]:
        return asyncio.run(self._queue.find(status, limit=limit))


StartHost = Callable[[Shop, str], Host]


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[StartHost]:
    """Configures a host for a shop and a database, with both accounts stored."""
    with ExitStack() as stack:

        def start(shop: Shop, url: str) -> Host:
            env = shop.environment(url, str(tmp_path / "temp"))
            host = Host(env | {"IMGSYNC_POLL_SECONDS": "0.05"}, stack)
            for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
                add = ("account", "add", account.id, "--name", account.name, "--offline")
                host.run(*add, IMGSYNC_TOKEN=token)
            host.run("settings", "set", "--child", "Child", "--sync-images-all")
            return host

        yield start
