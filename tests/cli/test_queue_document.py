"""The lines of the section "A long queue" of docs/operations.md are run as they stand."""

import re
import shlex
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.cli.conftest import Cli, store

pytestmark = pytest.mark.database
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
STATUSES = (
    ["failed"] * 2 + ["completed"] * 3 + ["pending"] * 30
)  # the first of which a later one has superseded
PUT = """
INSERT INTO sync_queue (payload, account_id, dedupe_key, status, error, warnings)
VALUES ('{"name": "Lamp"}', 'omsk', :key, :status, :error, :warnings)
"""


def lines() -> list[list[str]]:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A long queue\n")[2]
    section = section.partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    told = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ imgsync queue ") for line in told)
    return [shlex.split(line)[2:] for line in told]


def test_its_commands_do_what_it_says(cli: Cli, sqlite_url: str) -> None:
    store(cli, "main", "Main", "t1")
    store(cli, "omsk", "Omsk", "t2")
    cli.ok("link", "Main", "Omsk")
    with create_engine(sqlite_url).begin() as connection:
        for number, status in enumerate(STATUSES):
            values = {
                "key": "k2" if number == 0 else f"k{number}",
                "status": status,
                "error": "503" if status == "failed" else None,
                "warnings": '["a.jpg: broken"]' if number == 3 else "[]",
            }
            connection.execute(text(PUT), values)
    said = {" ".join(line): cli.ok(*line) for line in lines()}
    assert len(said) == 12
    assert [line for line, told in said.items() if "No tasks" in told or not told] == []
    assert re.findall(r"\w+ +\d+", said["queue status"]) == [
        "pending    30",
        "processing 0",
        "completed  3",
        "failed     1",
        "cancelled  0",
        "superseded 1",
    ]
    assert said["queue retry --status failed --child Omsk"] == "1 task retried.\n"
    assert said["queue cancel --child Omsk --yes"] == "31 tasks cancelled.\n"
    assert said["queue delete --status superseded --yes"] == "1 task deleted.\n"
    assert said["queue pause Omsk"] == "Paused: Omsk.\n"
    assert said["queue prune"] == "0 tasks deleted.\n"
    assert "a.jpg: broken" in said["queue list --status completed-with-warnings"]
