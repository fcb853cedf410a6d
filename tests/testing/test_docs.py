"""The examples of docs/testing.md run, and it names every suite."""

import re
import runpy
from pathlib import Path

import pytest

from imgsync import testing
from tests.testing.inner import Outcome, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def written(tmp_path: Path, example: str, name: str) -> Path:
    module = tmp_path / name
    module.write_text(example, encoding="utf-8")
    return module


def test_the_document_has_these_examples() -> None:
    assert ["class Test" in example for example in EXAMPLES] == [True, True, False]


@pytest.mark.slow
def test_a_queue_is_proved_as_the_document_says(tmp_path: Path) -> None:
    outcome = Outcome()
    run([str(written(tmp_path, EXAMPLES[0], "test_told_queue.py"))], outcome)
    assert outcome.errors == []
    assert outcome.passed > 80


@pytest.mark.slow
def test_real_time_is_waited_for_as_the_document_says(tmp_path: Path) -> None:
    outcome = Outcome()
    run([str(written(tmp_path, EXAMPLES[1], "test_real_time.py"))], outcome)
    assert outcome.errors == []
    assert outcome.passed > 80
    waits = [text for text in outcome.skipped if "cannot be set, and the test takes" in text]
    assert len(waits) == 1


def test_an_account_in_memory_does_as_the_document_says(tmp_path: Path) -> None:
    runpy.run_path(str(written(tmp_path, EXAMPLES[2], "example.py")))


def test_every_suite_is_named() -> None:
    named = set(re.findall(r"`(\w+Contract)`", DOCUMENT.read_text(encoding="utf-8")))
    assert named == {name for name in testing.__all__ if name.endswith("Contract")}
