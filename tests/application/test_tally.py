"""Totals of tasks, and the words that say what each message is about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from imgsync.application.work import Tally, TaskEnd, TaskReport, task_label
from imgsync.domain.tasks import SyncOutcome, SyncResult, Task, TaskStatus

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LAMP = {"parent_entity_type": "product", "parent_entity_id": "p1", "name": "Lamp"}


def task(payload: Any) -> Task:
    return Task(7, payload, TaskStatus.PROCESSING, 50, 1, 3, NOW, NOW, NOW)


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        (LAMP, "product 'Lamp', task 7"),
        ({**LAMP, "code": "00017"}, "product 'Lamp' (code 00017), task 7"),
        ({**LAMP, "name": ""}, "product p1, task 7"),
        ({**LAMP, "name": ["Lamp"]}, "product p1, task 7"),
        ({"entity_type": "bundle", "parent_entity_id": "b1"}, "bundle b1, task 7"),
        ({"parent_entity_type": "product"}, "Task 7"),
        ({"parent_entity_type": 5, "name": "Lamp"}, "Task 7"),
        ({"parent_entity_type": [], "entity_type": {}}, "Task 7"),
        ([], "Task 7"),
        ("text", "Task 7"),
        (None, "Task 7"),
    ],
)
def test_a_task_is_named_as_far_as_its_payload_tells(payload: Any, label: str) -> None:
    assert task_label(task(payload)) == label


def test_every_end_is_counted() -> None:
    tally = Tally()
    for end in TaskEnd:
        tally.add(TaskReport(task(LAMP), end))
    assert all(tally.as_dict()[end.value] == 1 for end in TaskEnd)
    assert (tally.failed, tally.parked) == (1, 1)


def test_messages_name_the_task_and_its_entity() -> None:
    tally = Tally()
    result = SyncResult(SyncOutcome.COMPLETED_WITH_WARNINGS, ("a.gif: no picture",), 2, 1, 300)
    tally.add(TaskReport(task(LAMP), TaskEnd.COMPLETED, result=result))
    tally.add(TaskReport(task(LAMP), TaskEnd.PARKED, error="the storage is full"))
    assert tally.warnings == ["product 'Lamp', task 7: a.gif: no picture"]
    assert tally.errors == ["product 'Lamp', task 7: the storage is full"]
    assert (tally.uploaded, tally.kept, tally.downloaded_bytes) == (2, 1, 300)


def test_notes_are_told_and_are_no_warnings() -> None:
    tally = Tally()
    result = SyncResult(SyncOutcome.COMPLETED, notes=("a.gif: converted from GIF to JPEG",))
    tally.add(TaskReport(task(LAMP), TaskEnd.COMPLETED, result))
    told = tally.as_dict()
    assert told["notes"] == ["product 'Lamp', task 7: a.gif: converted from GIF to JPEG"]
    assert (told["warnings"], told["outcomes"]) == ([], {"completed": 1})


def test_of_several_children_each_message_names_its_own() -> None:
    tally = Tally(names={"c1": "Omsk"})
    lamp = replace(task(LAMP), account_id="c1")
    result = SyncResult(SyncOutcome.COMPLETED_WITH_WARNINGS, ("b: x",), notes=("a: y",))
    tally.add(TaskReport(lamp, TaskEnd.COMPLETED, result))
    tally.add(TaskReport(lamp, TaskEnd.FAILED, error="z"))
    tally.add(TaskReport(replace(lamp, account_id="c2"), TaskEnd.FAILED, error="z"))
    assert tally.notes == ["Omsk: product 'Lamp', task 7: a: y"]
    assert tally.warnings == ["Omsk: product 'Lamp', task 7: b: x"]
    assert tally.errors == [
        "Omsk: product 'Lamp', task 7: z",
        "product 'Lamp', task 7: z",
    ]
