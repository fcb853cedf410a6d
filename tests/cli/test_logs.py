"""What a line of the log tells, as text and as JSON, and what it never does."""

import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgsync.application.log_lines import DETAIL, EVENT, about
from imgsync.application.work import TaskEnd
from imgsync.entrypoints.cli.logs import JsonFormatter, OneLineFormatter
from tests.application.world import png
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

SECRETS = [
    "Illegal header value b'Bearer hush-hush'",
    "Authorization: Basic aHVzaC1odXNo",
    "Cannot connect to postgresql://user:hush-hush@host/db",
    "GET https://host/file?Signature=hush-hush&X=1",
    "POST /webhooks/moysklad/hush-hush?requestId=1 204",
    'the answer was {"access_token": "hush-hush"}',
]


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    made = logging.LogRecord("imgsync.x", logging.INFO, "f", 1, message, (), None)
    if error is not None:
        try:
            raise error
        except Exception as raised:
            made.exc_info = (type(raised), raised, raised.__traceback__)
    return made


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("kind", [OneLineFormatter, JsonFormatter])
def test_no_secret_is_told(kind: type[logging.Formatter], text: str) -> None:
    told = kind().format(record(text, ValueError(text)))
    assert "hush" not in told
    assert "aHVza" not in told
    assert "ValueError" in told


def test_a_line_of_json_names_run_task_child_and_entity() -> None:
    told_by = record("image downloaded: a.jpg")
    told_by.__dict__.update({EVENT: "image downloaded", DETAIL: {"bytes": 3}})
    with about(
        run="r1", task=7, child="Омск", entity_type="product", entity="Lamp\n\x1b", code="L-1"
    ):
        line = JsonFormatter().format(told_by)
    assert "\n" not in line
    assert "\x1b" not in line
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("time")).utcoffset() == timedelta(0)
    assert told == {
        "level": "info",
        "logger": "imgsync.x",
        "event": "image downloaded",
        "message": "image downloaded: a.jpg",
        "bytes": 3,
        "run": "r1",
        "task": 7,
        "child": "Омск",
        "entity_type": "product",
        "entity": "Lamp\n\x1b",
        "code": "L-1",
    }


def test_a_line_of_text_begins_with_what_it_is_about() -> None:
    with about(task=7, child="Omsk", entity_type="product", entity="Lamp", code="L-1"):
        line = OneLineFormatter().format(record("task 7: the lease was lost"))
    assert line.endswith(": Omsk: product 'Lamp' (code L-1), task 7: the lease was lost")
    assert OneLineFormatter().format(record("nothing")).endswith("imgsync.x: nothing")


def told_by_a_worker(cli: Cli) -> list[dict[str, Any]]:
    """What one that runs all due tasks logs, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "worker", "--drain"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | cli.env | {"IMGSYNC_LOG_FORMAT": "json"},
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.process
@pytest.mark.database
def test_a_worker_tells_each_step_of_a_copy_as_json(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", [*pictures(2), ("a.gif", b"no picture")], old=pictures(1, 900), code="L-1")
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    about_task = [one for one in told_by_a_worker(ready) if "task" in one]
    events = {one["event"] for one in about_task}
    assert {
        "batch started",
        "images deleted",
        "image downloaded",
        "image skipped",
        "batch uploaded",
        "task completed",
        "image not copied",
    } <= events
    for one in about_task:
        assert (one["child"], one["entity"], one["code"]) == ("Child", "Lamp", "L-1")
    assert all(one["run"] for one in about_task if one["logger"] == "imgsync.copying")


@pytest.mark.process
@pytest.mark.database
@pytest.mark.slow
def test_each_line_about_a_task_that_goes_wrong_names_child_and_entity(
    ready: Cli, shop: Shop
) -> None:
    """A picture that is too large, one that is none, a task that fails and one that is retried."""
    big = ("big.png", png(1, 11_000_000))
    shop.pair("Lamp", [*pictures(1), big], code="L-1")
    shop.pair("Chair", [("chair.gif", b"no picture")], code="C-1")
    shop.pair("Sofa", pictures(1, 2000), code="S-1")
    (sofa,) = (one for one in shop.main.entities("product") if one.name == "Sofa")
    shop.emulator.faults.add(path_regex=sofa.images[0].id, where="storage", status=503, times=99)
    shop.emulator.faults.add(path_regex=sofa.images[0].id, status=503, times=99)
    ready.ok("settings", "set", "--child", "Child", "--no-fit")
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    about_task = [one for one in told_by_a_worker(ready) if "task" in one]
    codes = {"Lamp": "L-1", "Chair": "C-1", "Sofa": "S-1"}
    for one in about_task:
        assert one["child"] == "Child", one
        assert one["code"] == codes[one["entity"]], one
    events = {(one["entity"], one["event"]) for one in about_task}
    assert {
        ("Lamp", "image too large, skipped"),
        ("Lamp", "task completed"),
        ("Chair", "task failed"),
        ("Sofa", "task retrying"),
    } <= events


def test_the_document_names_the_steps_of_a_copy() -> None:
    document = Path(__file__).parents[2] / "docs" / "operations.md"
    logs = document.read_text(encoding="utf-8").partition("## Logs")[2].partition("##")[0]
    told = set(re.findall(r"`([a-z]+ [a-z, ]+)`", " ".join(logs.split())))
    source = Path(__file__).parents[2] / "src" / "imgsync"
    written = "".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py"))
    ends = {f"task {end.value}" for end in TaskEnd}
    assert len(told) > 7
    assert [one for one in told if f'"{one}"' not in written and one not in ends] == []
