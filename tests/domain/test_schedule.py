"""When a link is surveyed by itself."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsync.adapters.clock import SystemZone
from imgsync.domain.model import LinkSettings
from imgsync.domain.schedule import (
    LinkSchedule,
    first_survey,
    is_outdated,
    next_survey,
    next_sweep,
)

MOMENTS = st.integers(0, 2**31).map(lambda second: datetime.fromtimestamp(second, UTC))
MINUTES = st.integers(1, 1440)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sweep": "24:00"}, "sweep"),
        ({"sweep": "3:30"}, "sweep"),
        ({"sweep": "03:30\n"}, "sweep"),
        ({"sweep": 330}, "sweep"),
        ({"survey_minutes": 0}, "survey_minutes"),
        ({"survey_minutes": 1441}, "survey_minutes"),
        ({"survey_minutes": True}, "survey_minutes"),
        ({"survey_minutes": 1.5}, "survey_minutes"),
        ({"copies": 1}, "copies"),
    ],
)
def test_a_schedule_that_is_none_is_refused_by_its_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"schedule\.{named} is "):
        LinkSchedule(**wrong)


@pytest.mark.parametrize("edge", [{"sweep": None}, {"sweep": "00:00"}, {"survey_minutes": 1440}])
def test_the_edges_of_a_schedule_are_taken(edge: dict[str, Any]) -> None:
    LinkSchedule(**edge)


def test_what_a_survey_remembers_settings_by_tells_nothing_of_when() -> None:
    later = LinkSettings(schedule=LinkSchedule("04:00"), guard=True)
    assert repr(later) == repr(LinkSettings())


BERLIN = ZoneInfo("Europe/Berlin")


def sweeps(sweep: str, begin: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """So many in a row, in UTC."""
    moment = datetime.fromisoformat(begin)
    found = []
    for _ in range(count):
        moment = next_sweep(sweep, moment, zone)
        found.append(f"{moment:%m-%d %H:%M}")
        assert moment.tzinfo is UTC
    return found


def test_a_sweep_is_due_once_a_day_at_the_time_of_the_zone() -> None:
    assert sweeps("03:30", "2026-11-28T02:29Z", 2) == ["11-28 02:30", "11-29 02:30"]
    assert sweeps("03:30", "2026-11-28T02:30Z", 1) == ["11-29 02:30"]
    assert sweeps("23:59", "2026-12-31T23:30Z", 1) == ["01-01 22:59"]
    assert sweeps("00:00", "2026-11-28T22:59Z", 2) == ["11-28 23:00", "11-29 23:00"]


def test_where_the_clocks_leave_the_time_out_it_is_due_as_long_after() -> None:
    # On 29 March 2026 it is 03:00 right after 01:59 (UTC+1); 02:30 is 03:30 by summer time.
    assert sweeps("02:30", "2026-03-27T12:00Z", 3) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_where_the_clocks_show_the_time_twice_it_is_due_once() -> None:
    assert sweeps("02:30", "2026-10-24T12:00Z", 2) == ["10-25 00:30", "10-26 01:30"]
    assert sweeps("02:30", "2026-10-25T00:45Z", 1) == ["10-26 01:30"]


def test_a_day_that_a_zone_left_out_costs_one_sweep() -> None:
    apia = ZoneInfo("Pacific/Apia")  # 30 December 2011 was not
    assert len(set(sweeps("03:30", "2011-12-28T00:00Z", 4, apia))) == 4


@given(due=MOMENTS, minutes=MINUTES, subject=st.text())
def test_surveys_keep_their_rhythm_and_skip_what_was_missed(
    due: datetime, minutes: int, subject: str
) -> None:
    period, second = timedelta(minutes=minutes), timedelta(seconds=1)
    due = first_survey(minutes, subject, due)
    for late, periods in (
        (0 * second, 1),
        (period / 3, 1),
        (period - second, 1),
        (period, 2),  # it took longer than its interval: the next one is left out
        (period * 1.3, 2),
        (period * 6.7, 7),
        (-second, 1),  # a clock that was set back
    ):
        assert next_survey(minutes, subject, due, due + late) == due + periods * period


@given(after=MOMENTS, minutes=MINUTES, subject=st.text())
def test_the_first_survey_of_a_link_comes_within_its_interval(
    after: datetime, minutes: int, subject: str
) -> None:
    first = first_survey(minutes, subject, after)
    assert timedelta(0) < first - after <= timedelta(minutes=minutes)
    assert first.tzinfo is UTC


@given(due=MOMENTS, minutes=MINUTES, subject=st.text(), late=st.floats(0.0, 3.0, allow_nan=False))
def test_a_survey_that_was_due_at_another_moment_is_brought_to_its_own_and_not_right_after(
    due: datetime, minutes: int, subject: str, late: float
) -> None:
    period = timedelta(minutes=minutes)
    now = due + late * period
    following = next_survey(minutes, subject, due, now)
    assert following == first_survey(minutes, subject, following - timedelta(seconds=1))
    assert following > now
    assert following - due >= period / 2
    assert following - max(now, due + period / 2) <= period


@given(
    at=MOMENTS,
    minutes=st.integers(5, 1440),
    prefix=st.text(max_size=8),
    mains=st.integers(300, 1000),
)
@settings(max_examples=20, deadline=None)
def test_surveys_of_many_main_accounts_are_spread_evenly(
    at: datetime, minutes: int, prefix: str, mains: int
) -> None:
    """Also where all of them were overdue."""
    period = timedelta(minutes=minutes)
    moments = [next_survey(minutes, f"{prefix}{n}", at - period, at) for n in range(mains)]
    tenths = Counter((moment - at - timedelta(microseconds=1)) * 10 // period for moment in moments)
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) <= 2 * mains / 10


def test_the_moment_of_a_survey_is_the_same_in_every_process() -> None:
    """Python's own hash of a text is another one in each."""
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
    found = [first_survey(15, f"main{n}", noon).strftime("%H:%M:%S") for n in range(3)]
    assert found == ["12:02:24", "12:11:15", "12:08:08"]


def test_a_missed_sweep_is_left_to_the_next_one_where_that_is_near() -> None:
    due = datetime(2026, 11, 28, 3, 30, tzinfo=UTC)
    day, minute = timedelta(days=1), timedelta(minutes=1)
    assert not is_outdated(due, due + 5 * minute, due + day)
    assert not is_outdated(due, due + day / 2, due + day)
    assert is_outdated(due, due + day - 59 * minute, due + day)
    assert not is_outdated(due, due + day - 61 * minute, due + day)


def test_the_zone_of_the_server_is_that_of_its_clock() -> None:
    zone = SystemZone()
    for month in range(1, 13):
        moment = datetime(2026, month, 14, 9, 26, tzinfo=UTC)
        assert moment.astimezone(zone).replace(tzinfo=None) == moment.astimezone().replace(
            tzinfo=None
        )
        assert next_sweep("03:30", moment, zone).astimezone().strftime("%H:%M") == "03:30"
