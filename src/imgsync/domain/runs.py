"""What runs found and did, how a child stands, and what accounts took."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum

UNEQUAL = ("missing", "different", "extra", "unsure")
"""Numbers of a child that keep it from being equal. An entity without a counterpart
(``unmatched``) does not: nothing can be copied to it."""

UNMATCHED = "unmatched"
"""The number of a child's entities without a counterpart."""

LEFT = "left"
"""Of those, the ones that no task was queued for: a check queues none."""


class RunKind(StrEnum):
    """SWEEP, SURVEY: of the schedule, a full and an incremental one; CHECK: changes nothing; SYNC
    copies at once; ENQUEUE leaves that to workers; WEBHOOK: of what events named."""

    SWEEP = "sweep"
    SURVEY = "survey"
    CHECK = "check"
    SYNC = "sync"
    ENQUEUE = "enqueue"
    WEBHOOK = "webhook"


class RunCause(StrEnum):
    """Who asked for a run."""

    SCHEDULE = "schedule"
    COMMAND = "command"
    PAGE = "page"
    API = "api"
    WEBHOOK = "webhook"


class RunStatus(StrEnum):
    """FAILED: all or some of it did not come to its end; LOST: nothing has been heard of it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


_SILENCE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of some children; `ended` is None while it is under way, and where its process was
    lost. `numbers`: what was found and done, by name, and `by_child`: of that each child's;
    `error`: why it did not come to its end. `noted`: its last sign of life."""

    id: str
    kind: RunKind
    cause: RunCause
    child_ids: tuple[str, ...]
    began: datetime
    ended: datetime | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    by_child: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    noted: datetime | None = None

    def status(self, now: datetime) -> RunStatus:
        """How it stands at that moment. One that is taken for lost may go on all the same."""
        if self.ended is not None:
            return RunStatus.DONE if self.error is None else RunStatus.FAILED
        is_lost = now - (self.noted or self.began) > _SILENCE
        return RunStatus.LOST if is_lost else RunStatus.RUNNING

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is under way."""
        return None if self.ended is None else (self.ended - self.began).total_seconds()


@dataclass(frozen=True, slots=True)
class ChildProof:
    """How a child stands beside its main account.

    `compared_at`: when all of it was compared last; `equal_at`: when it was last known to show what
    it should, None for never. `numbers`: its entities by how they stand (``equal``, ``missing``,
    ``different``, ``extra``, ``unmatched``, ``unsure``; LEFT), as far as is known now.
    """

    child_id: str
    main_id: str
    compared_at: datetime
    equal_at: datetime | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether nothing that was found to differ is left."""
        return self.equal_at is not None and not self.unequal

    @property
    def unequal(self) -> int:
        """Entities that are not as they should be, or of which nobody can tell."""
        return sum(self.numbers.get(name, 0) for name in UNEQUAL)

    def with_found(self, numbers: Mapping[str, int]) -> "ChildProof":
        """After some of its entities were compared: at least so many differ. That may have been
        found before, as surveys overlap."""
        now = dict(self.numbers)
        for name in (*UNEQUAL, LEFT):
            if (count := numbers.get(name, 0)) > now.get(name, 0):
                now[name] = count
        changed = replace(self, numbers=now)
        now["equal"] = max(0, now.get("equal", 0) - changed.unequal + self.unequal)
        return changed

    def with_undone(self) -> "ChildProof":
        """After one of its entities was put back to what it had before: no task makes it equal."""
        now = dict(self.numbers)
        for name in ("different", LEFT):
            now[name] = now.get(name, 0) + 1
        now["equal"] = max(0, now.get("equal", 0) - 1)
        return replace(self, numbers=now)

    @property
    def may_settle(self) -> bool:
        """Whether all that was found to differ was queued."""
        return not self.numbers.get(LEFT, 0)

    def settled(self, at: datetime) -> "ChildProof":
        """All that differed has been copied, and nothing differs that changed since."""
        now = {n: count for n, count in self.numbers.items() if n not in (*UNEQUAL, LEFT)}
        now["equal"] = now.get("equal", 0) + self.unequal
        return replace(self, equal_at=at, numbers=now)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was taken of MoySklad: requests and their units, answers 429; images and their bytes
    that were uploaded; `events` of webhooks that came, and those of them that were `dropped`."""

    requests: int = 0
    units: int = 0
    too_many: int = 0
    images: int = 0
    bytes: int = 0
    events: int = 0
    dropped: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.requests + other.requests,
            self.units + other.units,
            self.too_many + other.too_many,
            self.images + other.images,
            self.bytes + other.bytes,
            self.events + other.events,
            self.dropped + other.dropped,
        )

    def __bool__(self) -> bool:
        return self != Usage()

    def as_numbers(self) -> dict[str, int]:
        """By name, as the numbers of a run, to which no event belongs."""
        return {
            "requests": self.requests,
            "units": self.units,
            "too_many": self.too_many,
            "uploaded": self.images,
            "bytes": self.bytes,
        }


TIME_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, math.inf)
"""Seconds by which attempts at tasks are told apart, by how long they took."""


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """How long attempts at tasks took. `tasks`: how many took no longer than each bound, but longer
    than the one before; `seconds`: of all together."""

    tasks: Mapping[float, int]
    seconds: float

    @classmethod
    def of(cls, seconds: float) -> "TaskTimes":
        """Of one attempt."""
        return cls({next(bound for bound in TIME_BOUNDS if seconds <= bound): 1}, seconds)

    def __add__(self, other: "TaskTimes") -> "TaskTimes":
        counts = Counter(self.tasks)
        counts.update(other.tasks)
        return TaskTimes(counts, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class UsageHour:
    """What an account took in the hour that begins at `hour`."""

    account_id: str
    hour: datetime
    usage: Usage


def by_day(hours: Iterable[UsageHour], zone: tzinfo) -> dict[date, Usage]:
    """Of all these accounts together, by the days of a zone, the earliest first."""
    days: dict[date, Usage] = {}
    for one in sorted(hours, key=lambda one: one.hour):
        day = one.hour.astimezone(zone).date()
        days[day] = days.get(day, Usage()) + one.usage
    return days
