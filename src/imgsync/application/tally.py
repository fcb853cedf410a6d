"""Totals of the tasks that a worker ran."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imgsync.application.run_task import TaskEnd, TaskReport
from imgsync.domain.tasks import Task


@dataclass(slots=True)
class Tally:
    """Counts task ends and outcomes, images and bytes; keeps each warning and error, with the id
    of its task and what that is about."""

    ends: Counter[TaskEnd] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    uploaded: int = 0
    kept: int = 0
    downloaded_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, report: TaskReport) -> None:
        self.ends[report.end] += 1 + report.parked_along
        if report.result is not None:
            result = report.result
            self.outcomes[str(result.outcome)] += 1
            self.uploaded += result.uploaded
            self.kept += result.kept
            self.downloaded_bytes += result.downloaded_bytes
            label = task_label(report.task)
            self.warnings += [f"{label}: {text}" for text in result.warnings]
        elif report.error is not None:
            self.errors.append(f"{task_label(report.task)}: {report.error}")

    @property
    def failed(self) -> int:
        return self.ends[TaskEnd.FAILED]

    @property
    def parked(self) -> int:
        """Times that a task was put off because an account takes no requests."""
        return self.ends[TaskEnd.PARKED]

    def as_dict(self) -> dict[str, Any]:
        return {
            **{end.value: self.ends[end] for end in TaskEnd},
            "outcomes": dict(self.outcomes),
            "uploaded": self.uploaded,
            "kept": self.kept,
            "downloaded_bytes": self.downloaded_bytes,
            "warnings": self.warnings,
            "errors": self.errors,
        }


def task_label(task: Task) -> str:
    """Such as ``Task 7 (product 'Lamp')``, as far as its payload tells."""
    entity = entity_label(task)
    return f"Task {task.id} ({entity})" if entity else f"Task {task.id}"


def entity_label(task: Task) -> str:
    """Such as ``product 'Lamp'``, or by id where a payload has no name; '' where it tells none."""
    payload = task.payload if isinstance(task.payload, Mapping) else {}
    kind = payload.get("parent_entity_type") or payload.get("entity_type")
    name, entity_id = payload.get("name"), payload.get("parent_entity_id")
    if not isinstance(kind, str):
        return ""
    if isinstance(name, str) and name:
        return f"{kind} '{name}'"
    return f"{kind} {entity_id}" if isinstance(entity_id, str) else ""
