"""Exit statuses that scripts can rely on."""

from dataclasses import dataclass, field
from enum import IntEnum

from imgsync.application.work import TaskEnd, TaskReport
from imgsync.domain.tasks import SyncOutcome, TaskId


class ExitStatus(IntEnum):
    """How a command ended; `text` is the field "status" of its JSON."""

    text: str
    meaning: str

    def __new__(cls, value: int, text: str = "", meaning: str = "") -> "ExitStatus":
        status = int.__new__(cls, value)
        status._value_ = value
        status.text = text
        status.meaning = meaning
        return status

    DONE = 0, "done", "all done"
    ERROR = 1, "error", "an error; of check, that something differs"
    USAGE = 2, "usage", "wrong usage"
    PART = (
        3,
        "part",
        "done in part: a failed, parked or postponed task, Ctrl-C or the API gone half-way, more "
        "to clear than allowed, image sync off for some",
    )
    OFF = 4, "off", "nothing done because image sync is off for the child"


@dataclass(slots=True)
class Ends:
    """How the tasks of a run stand: one that was put off and completed later is complete."""

    completed: int = 0
    disabled: int = 0
    unfinished: set[TaskId] = field(default_factory=set)

    def add(self, report: TaskReport) -> None:
        if report.end is not TaskEnd.COMPLETED:
            self.unfinished.add(report.task.id)
            return
        self.unfinished.discard(report.task.id)
        self.completed += 1
        if report.result is not None and report.result.outcome is SyncOutcome.DISABLED:
            self.disabled += 1

    @property
    def begun(self) -> bool:
        """Whether any task has ended, well or not."""
        return bool(self.completed or self.unfinished)

    @property
    def status(self) -> ExitStatus:
        if self.unfinished or 0 < self.disabled < self.completed:
            return ExitStatus.PART
        return ExitStatus.OFF if self.disabled else ExitStatus.DONE
