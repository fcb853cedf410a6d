"""Totals of the tasks that a worker ran."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from imgsync.application.run_task import TaskEnd, TaskReport


@dataclass(slots=True)
class Tally:
    """Counts task ends and outcomes, images and bytes; keeps each warning and error with its id."""

    ends: Counter[TaskEnd] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    uploaded: int = 0
    kept: int = 0
    downloaded_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, report: TaskReport) -> None:
        self.ends[report.end] += 1
        if report.result is not None:
            result = report.result
            self.outcomes[result.outcome.value] += 1
            self.uploaded += result.uploaded
            self.kept += result.kept
            self.downloaded_bytes += result.downloaded_bytes
            self.warnings += [f"Task {report.task.id}: {text}" for text in result.warnings]
        elif report.error is not None:
            self.errors.append(f"Task {report.task.id}: {report.error}")

    @property
    def failed(self) -> int:
        return self.ends[TaskEnd.FAILED]

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
