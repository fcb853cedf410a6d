"""When a link is surveyed by itself."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
MOST_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class LinkSchedule:
    """When `imgsync serve` surveys a link.

    `sweep`: time of the day (``HH:MM``, of the server's zone) of the full survey, None for never.
    `survey_minutes`: minutes between incremental surveys, 1 to 1,440, None for none. `copies`:
    whether what differs is copied, or only told.
    """

    sweep: str | None = "03:30"
    survey_minutes: int | None = 15
    copies: bool = True

    def __post_init__(self) -> None:
        if self.sweep is not None and not (
            isinstance(self.sweep, str) and _CLOCK.fullmatch(self.sweep)
        ):
            raise ValueError("schedule.sweep is no time of day (HH:MM)")
        minutes = self.survey_minutes
        if minutes is not None and (
            not isinstance(minutes, int)
            or isinstance(minutes, bool)
            or not 1 <= minutes <= MOST_MINUTES
        ):
            raise ValueError(
                f"schedule.survey_minutes is no whole number from 1 to {MOST_MINUTES:,}"
            )
        if not isinstance(self.copies, bool):
            raise ValueError("schedule.copies is neither true nor false")


BY_DEFAULT = LinkSchedule()

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_SOON = timedelta(hours=1)
_LATE = timedelta(minutes=10)


def next_sweep(sweep: str, after: datetime, zone: tzinfo) -> datetime:
    """The first moment after `after` (aware) at which the clocks of the zone show `sweep`, once a
    day: of an hour that they show twice the first, of one that they leave out as long after the
    change as it would have been."""
    hour, minute = map(int, sweep.split(":"))
    day = after.astimezone(zone).date()
    for days in range(-1, 3):
        wall = datetime.combine(day + timedelta(days=days), time(hour, minute), tzinfo=zone)
        moment = wall.astimezone(UTC)
        if moment > after:
            return moment
    raise AssertionError("unreachable")


def first_survey(minutes: int, subject: str, after: datetime) -> datetime:
    """The first moment after `after` at which surveys of a subject, such as a main account, are
    due. Each has a second of its own in the period, the same on all hosts and for all time, so that
    those of many main accounts are spread over it."""
    period = timedelta(minutes=minutes)
    digest = hashlib.blake2b(subject.encode(errors="surrogatepass"), digest_size=8).digest()
    first = _EPOCH + timedelta(seconds=int.from_bytes(digest) % (60 * minutes))
    return first + period * ((after - first) // period + 1)


def next_survey(minutes: int, subject: str, due: datetime, now: datetime) -> datetime:
    """When it is due again that was due at `due`. Where that was not the subject's own moment (an
    older imgsync chose it, or it was tried again), the next one is not right after it."""
    half = timedelta(minutes=minutes) / 2
    return first_survey(minutes, subject, max(now, due + half))


def is_outdated(due: datetime, now: datetime, following: datetime) -> bool:
    """Whether a sweep that was missed is left to the `following` one, as that is near."""
    return now - due > _LATE and following - now < _SOON
