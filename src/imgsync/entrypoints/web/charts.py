"""Bars, one for each day, as a page draws them in SVG, without a script."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from imgsync.domain.runs import Run

WIDTH, HEIGHT = 600, 120
_GAP = 0.2


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, in points of the picture."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """`values` are of the days, None where nothing is known of one. `texts`: the same as people
    read them, `most`: the largest of them."""

    id: str
    name: str
    values: Sequence[float | None]
    texts: Sequence[str]
    most: str

    @property
    def bars(self) -> list[Bar]:
        """As high as the picture for the largest; none for 0 and for what is not known."""
        step, largest = WIDTH / max(1, len(self.values)), max(map(_number, self.values), default=0)
        if largest <= 0:
            return []
        return [
            Bar(
                round((n + _GAP / 2) * step, 1),
                round(HEIGHT - HEIGHT * value / largest, 1),
                round(step * (1 - _GAP), 1),
                round(HEIGHT * value / largest, 1),
            )
            for n, value in enumerate(map(_number, self.values))
            if value > 0
        ]


def chart(
    id_: str, name: str, values: Sequence[float | None], text_of: Callable[[float], str]
) -> Chart:
    """A chart of these values; `text_of` tells one as people read it."""
    texts = ["—" if value is None else text_of(value) for value in values]
    return Chart(id_, name, values, texts, text_of(max(map(_number, values), default=0)))


def _number(value: float | None) -> float:
    return value or 0


def last_days(now: datetime, zone: tzinfo, count: int) -> list[date]:
    """That many days of a zone, the last of which is today."""
    today = now.astimezone(zone).date()
    return [today - timedelta(days=n) for n in reversed(range(count))]


def begin_of(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone)


def seconds_by_day(
    runs: Sequence[Run], days: Sequence[date], zone: tzinfo, known_from: date
) -> Mapping[date, float | None]:
    """How long the runs that began on each day took together; None of days before `known_from`."""
    taken: dict[date, float] = {}
    for run in runs:
        day = run.began.astimezone(zone).date()
        taken[day] = taken.get(day, 0.0) + (run.seconds or 0.0)
    return {day: taken.get(day, 0.0) if day >= known_from else None for day in days}
