"""When a link is surveyed by itself."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from imgsync.adapters.clock import SystemZone
from imgsync.domain.model import LinkSettings
from imgsync.domain.schedule import LinkSchedule, is_outdated, next_survey, next_sweep


@pytest.mark.parametrize(
    ("given", "named"),
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
def test_a_schedule_that_is_none_is_refused_by_its_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"schedule\.{named} is "):
        LinkSchedule(**given)


@pytest.mark.parametrize("given", [{"sweep": None}, {"sweep": "00:00"}, {"survey_minutes": 1440}])
def test_the_edges_of_a_schedule_are_taken(given: dict[str, Any]) -> None:
    LinkSchedule(**given)


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


def test_surveys_keep_their_rhythm_and_skip_what_was_missed() -> None:
    due = datetime(2026, 11, 28, 12, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert next_survey(15, due, due) == due + 15 * minute
    assert next_survey(15, due, due + 4 * minute) == due + 15 * minute
    assert next_survey(15, due, due + 15 * minute) == due + 30 * minute
    assert next_survey(15, due, due + 100 * minute) == due + 105 * minute
    assert next_survey(15, due, due - minute) == due + 15 * minute  # a clock that was set back


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
