"""How a run's tasks ended, and the exit status that comes of it."""

from dataclasses import dataclass, field

from imgsync.application.work import TaskEnd, TaskReport
from imgsync.domain.tasks import SyncOutcome, TaskId
from imgsync.entrypoints.exit_status import ExitStatus


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
