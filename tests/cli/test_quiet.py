"""-q and -v; what is told at a terminal only."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

LONELY = "Child: product 'Lonely': skipped: no child entity has externalCode 'alone'"


@pytest.fixture
def sold(ready: Cli, shop: Shop) -> Cli:
    """A lamp to be copied, and a product that the child does not have."""
    shop.pair("Lamp", pictures(2))
    shop.main.add_entity("product", name="Lonely", external_code="alone", images=pictures(1))
    ready.ok("link", shop.main.name, shop.child.name)
    return ready


def at_terminal(cli: Cli, *arguments: str) -> str:
    """What the command writes to a stderr that is a terminal."""
    ours, its = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        done = subprocess.Popen(
            [sys.executable, "-m", "imgsync", *arguments],
            env={**os.environ, **cli.env, "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.DEVNULL,
            stderr=its,
        )
        os.close(its)
        seen = b""
        try:
            while chunk := terminal.read(65_536):
                seen += chunk
        except OSError:  # so Linux ends a terminal that nobody has open any more
            pass
        assert done.wait(60) == 0
    return seen.decode()


@pytest.mark.parametrize("command", ["check", "enqueue", "sync"])
def test_without_a_terminal_nothing_is_on_stderr_that_needs_nobody(sold: Cli, command: str) -> None:
    result = sold.run(command)
    assert result.stderr == ""
    assert "skipped" in result.stdout or "not to be matched" in result.stdout


@pytest.mark.process
def test_at_a_terminal_progress_and_what_was_skipped_are_told(sold: Cli) -> None:
    seen = at_terminal(sold, "sync")
    assert "Survey of Child" in seen
    assert "Copying" in seen
    assert LONELY in seen


@pytest.mark.process
def test_quiet_is_quiet_at_a_terminal_too(sold: Cli) -> None:
    assert at_terminal(sold, "-q", "sync") == ""


def test_quiet_logs_errors_only(sold: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setLevel(0)
    sold.ok("--quiet", "queue", "status", IMGSYNC_COLOUR="1", IMGSYNC_LOG_LEVEL="DEBUG")
    assert not caplog.records
    sold.ok("queue", "status", IMGSYNC_COLOUR="1")
    assert "IMGSYNC_COLOUR" in caplog.text


def test_verbose_logs_what_was_skipped(sold: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setLevel(0)
    sold.ok("enqueue", IMGSYNC_LOG_LEVEL="INFO")
    assert LONELY not in caplog.text
    sold.ok("-v", "enqueue", IMGSYNC_LOG_LEVEL="ERROR")
    assert LONELY in caplog.text


def test_quiet_and_verbose_are_opposites(cli: Cli) -> None:
    assert "say one of them" in cli.fail("-q", "-v", "queue", "status", status=2)


def test_errors_are_told_when_quiet(cli: Cli, tmp_path: Path) -> None:
    assert cli.fail("-q", "sync").startswith("Error: No account is linked")
