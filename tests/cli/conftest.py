"""The command line in this process, with a database and temp folder of its own."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imgsync.application.log_lines import COPY_LOG
from imgsync.entrypoints.cli.main import main
from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop
from tests.support.keys import key_file


class Cli:
    """Runs commands; `ok` and `fail` also check the exit status."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self._runner = CliRunner()

    def run(self, *arguments: str, stdin: str | None = None, **env: str) -> Result:
        return self._runner.invoke(main, arguments, input=stdin, env=self.env | env)

    def ok(self, *arguments: str, stdin: str | None = None, **env: str) -> str:
        result = self.run(*arguments, stdin=stdin, **env)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, **env: str) -> Any:
        return json.loads(self.ok(*arguments, "--json", **env))

    def fail(self, *arguments: str, status: int = 1, stdin: str | None = None, **env: str) -> str:
        result = self.run(*arguments, stdin=stdin, **env)
        assert result.exit_code == status, result.output
        assert isinstance(result.exception, SystemExit)
        return result.stderr

    def failed_json(self, *arguments: str, status: int = 1, **env: str) -> Any:
        """The one document that a command prints which does not end with 0."""
        result = self.run(*arguments, "--json", **env)
        assert result.exit_code == status, result.output
        document = json.loads(result.stdout)
        assert document["exit_status"] == status
        return document


def key_of(cli: Cli) -> Path:
    """The file of the key that its commands make."""
    return key_file(cli.env["XDG_CONFIG_HOME"])


@pytest.fixture(autouse=True)
def _own_log_levels(caplog: pytest.LogCaptureFixture) -> None:
    """The command sets levels of the whole process; they end with the test."""
    for name in ("httpx", "httpcore", "alembic", COPY_LOG, None):
        caplog.set_level(logging.WARNING, logger=name)


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(
        {
            "IMGSYNC_DATABASE_URL": sqlite_url,
            "IMGSYNC_TEMP_DIR": str(tmp_path / "temp"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
    )


@pytest.fixture
def shop() -> Iterator[Shop]:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield Shop.on(server)


@pytest.fixture
def ready(cli: Cli, shop: Shop, sqlite_url: str, tmp_path: Path) -> Cli:
    """The command line with both accounts stored and all images switched on."""
    cli.env |= shop.environment(sqlite_url, str(tmp_path / "temp"))
    for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
        store(cli, account.id, account.name, token)
    cli.ok("settings", "set", "--child", "Child", "--sync-images-all")
    return cli


def store(cli: Cli, account_id: str, name: str, token: str) -> None:
    """Stores an account without asking the API for it."""
    cli.ok("account", "add", account_id, "--name", name, "--offline", IMGSYNC_TOKEN=token)
