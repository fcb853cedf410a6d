"""What a third party writes to prove an adapter is short, and needs no configuration."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing.inner import Outcome, run

pytestmark = pytest.mark.slow

PROOF = """\
import pytest

from imgsync.testing import MemoryStore, MemoryTaskQueue, SetClock, TaskQueueContract



class TestMyQueue(TaskQueueContract):
    @pytest.fixture
    def store(self):
        return MemoryStore(SetClock())

    async def open(self, store, kinds):
        return MemoryTaskQueue(store, kinds)

    async def advance(self, store, by):
        store.clock.advance(by)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    file = tmp_path / "test_my_queue.py"
    file.write_text(PROOF, encoding="utf-8")
    return file


def test_a_queue_is_proved_in_twenty_lines(module: Path) -> None:
    assert len(PROOF.splitlines()) <= 20
    outcome = Outcome()
    run([str(module)], outcome)
    assert outcome.errors == []
    assert outcome.passed > 80
    reasons = ("no 'accounts'", "no 'accounts'", "no 'damage'", "no 'disable'")
    assert len(outcome.skipped) == len(reasons)
    for reason in reasons:
        assert any(reason in text for text in outcome.skipped)


@pytest.mark.process
def test_it_runs_in_a_pytest_of_its_own(module: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, module.name], cwd=module.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 skipped" in done.stdout


@pytest.mark.parametrize("missing", ["store", "open", "advance"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    # As a name that pytest and the suite do not look for.
    text = PROOF.replace(f"def {missing}(", f"def not_{missing}(")
    module = tmp_path / f"test_without_{missing}.py"
    module.write_text(text, encoding="utf-8")
    outcome = Outcome()
    run([str(module)], outcome, "--maxfail=1")
    assert any(f"'{missing}'" in error for error in outcome.errors)


def test_a_failure_shows_the_values(tmp_path: Path) -> None:
    text = PROOF.replace(
        "        return MemoryTaskQueue(store, kinds)\n",
        "        queue = MemoryTaskQueue(store, kinds)\n"
        "        queue.parked = queue.counts\n"
        "        return queue\n",
    )
    module = tmp_path / "test_wrong_queue.py"
    module.write_text(text, encoding="utf-8")
    outcome = Outcome()
    run([str(module)], outcome)
    assert "test_a_parked_task_waits_uncounted_until_its_account_is_free" in outcome.failed
    assert any("assert {" in error and "} == 1" in error for error in outcome.errors)
