"""The ledger never lets a window of the server overflow."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.adapters.moysklad.gate import FailureBucket
from imgsync.adapters.moysklad.ledger import End, Grant, Ledger, Seen
from imgsync.adapters.moysklad.pace import MOSCOW_TIME, request_weight
from imgsync.domain.model import TokenKind

_numbers = itertools.count()


def ask(
    ledger: Ledger, now: float, weight: int = 1, holder: str = "a", wanted: int = 1
) -> list[Grant]:
    return ledger.ask(now, holder, wanted, weight, str(next(_numbers)))


def end(ledger: Ledger, grant: Grant, at: float, sent: float | None = None) -> None:
    ledger.end(End(grant.id, grant.at if sent is None else sent, at, at + ledger.interval))


def delay(ledger: Ledger, now: float, weight: int = 1) -> float:
    """Seconds until a request may be sent; without end where one under way is in its way."""
    ledger = Ledger.read(ledger.text(now), now)
    for grant in ask(ledger, now, weight, "another"):
        return grant.at - now
    return ledger.ask_again(now, "another", weight)


def observe(
    ledger: Ledger, now: float, weight: int, *, limit: int, remaining: int, interval: float
) -> None:
    ledger.observe(now, Seen(now, now, limit, remaining, interval), weight)


def spend(ledger: Ledger, now: float, weight: int, times: int = 1) -> None:
    for _ in range(times):
        (grant,) = ask(ledger, now, weight)
        assert grant.at == now
        end(ledger, grant, now)


def test_a_full_bucket_waits_for_the_first_units_to_come_back() -> None:
    ledger = Ledger()
    spend(ledger, 10.0, 3, times=15)
    assert delay(ledger, 11.0, 3) == 2.0
    assert delay(ledger, 13.0, 3) == 0.0


def test_units_in_use_are_those_of_the_last_interval() -> None:
    ledger = Ledger()
    assert ledger.in_use(10.0) == 0
    spend(ledger, 10.0, 4, times=3)
    (grant,) = ask(ledger, 11.0, 4)  # under way
    assert ledger.in_use(11.0) == 16
    assert ledger.in_use(13.5) == 4  # the three are over
    end(ledger, grant, 14.0)
    assert ledger.in_use(16.5) == 4
    assert ledger.in_use(17.5) == 0
    spend(ledger, 20.0, 4, times=11)
    observe(ledger, 20.0, 4, limit=45, remaining=0, interval=3.0)
    assert ledger.in_use(20.1) == 45  # others' too
    ledger.spend_all(20.1)
    assert ledger.in_use(20.2) == 45


def test_requests_under_way_count_until_their_answer_is_an_interval_old() -> None:
    ledger = Ledger(limit=2)
    first, _ = ask(ledger, 90.0, wanted=2)
    assert delay(ledger, 99.0, 1) > 0
    end(ledger, first, 100.0)
    assert delay(ledger, 102.9, 1) > 0
    assert delay(ledger, 103.0, 1) == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 4)), min_size=1, max_size=80),
)
def test_no_window_of_three_seconds_holds_more_than_45_units(
    steps: list[tuple[float, int]],
) -> None:
    ledger, now, sent = Ledger(), 0.0, list[tuple[float, int]]()
    for pause, weight in steps:
        now += pause
        while (wait := delay(ledger, now, weight)) > 0:
            now += wait
        spend(ledger, now, weight)
        sent.append((now, weight))
        assert sum(units for at, units in sent if at > now - 3.0) <= 45


def test_what_others_spent_is_learned_from_the_headers() -> None:
    ledger = Ledger()
    spend(ledger, 0.0, 1)
    observe(ledger, 0.0, 1, limit=45, remaining=1, interval=3.0)
    spend(ledger, 0.0, 1)
    assert delay(ledger, 0.0, 1) == 3.0


def test_headers_that_count_requests_instead_of_units_are_scaled() -> None:
    ledger = Ledger()
    observe(ledger, 0.0, 3, limit=15, remaining=15, interval=3.0)
    spend(ledger, 0.0, 3, times=15)
    assert delay(ledger, 0.0, 3) == 3.0


def test_a_429_holds_every_request_as_long_as_told() -> None:
    ledger = Ledger()
    ledger.rejected(5.0, 1.5)
    assert delay(ledger, 5.5, 1) == 1.0
    ledger.rejected(5.5, 0.1)
    assert delay(ledger, 5.5, 1) == 1.0
    assert delay(ledger, 6.5, 1) == 0.0


def test_it_stops_long_before_200_rejections_in_a_minute() -> None:
    ledger, now, rejections = Ledger(), 0.0, list[float]()
    for _ in range(500):
        now += delay(ledger, now, 1)
        ledger.rejected(now, 0.01)
        rejections.append(now)
    for at in rejections:
        assert sum(at - 60 < other <= at for other in rejections) < 200


def test_a_weight_above_the_limit_still_passes() -> None:
    ledger = Ledger(limit=2)
    assert delay(ledger, 0.0, 4) == 0.0


def test_after_a_429_one_request_at_a_time_goes_out_until_one_is_accepted() -> None:
    ledger = Ledger()
    ledger.rejected(0.0, 1.0)
    (probe,) = ask(ledger, 1.0, wanted=5)
    assert ledger.is_probing
    assert delay(ledger, 1.0, 1) > 0
    end(ledger, probe, 2.0)
    assert delay(ledger, 2.0, 1) == 0
    assert len(ask(ledger, 2.0)) == 1
    ledger.accepted()
    assert delay(ledger, 2.0, 1) == 0
    assert not ledger.is_probing
    assert len(ask(ledger, 2.0, wanted=5)) == 4


def test_each_rejection_after_a_hold_doubles_it_up_to_half_a_minute() -> None:
    ledger, now, waits = Ledger(), 0.0, []
    for _ in range(9):
        ledger.rejected(now, 0.2)
        waits.append(round(delay(ledger, now, 1), 3))
        now += delay(ledger, now, 1)
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    ledger.accepted()
    ledger.rejected(now, 0.2)
    assert round(delay(ledger, now, 1), 3) == 0.2


def test_rejections_of_requests_sent_together_count_as_one_step() -> None:
    ledger = Ledger()
    for _ in range(5):
        ledger.rejected(0.0, 0.2)
    assert delay(ledger, 0.0, 1) == 0.2


def test_eight_hosts_on_one_token_stay_below_200_rejections_a_minute() -> None:
    """The worst case: bursts of five, each accepted in between so that the hold never grows."""
    ledgers, rejections = [Ledger() for _ in range(8)], list[float]()
    for ledger in ledgers:
        now = 0.0
        while now < 180.0:
            for _ in range(5):
                ledger.rejected(now, 0.2)
                rejections.append(now)
            ledger.accepted()
            now += delay(ledger, now, 1)
    worst = max(sum(at - 60 < other <= at for other in rejections) for at in set(rejections))
    assert worst <= 200


def test_requests_under_way_are_not_taken_for_those_of_others() -> None:
    ledger = Ledger(limit=10)
    assert len(ask(ledger, 0.0, wanted=4)) == 4
    observe(ledger, 0.0, 1, limit=10, remaining=6, interval=3.0)
    assert delay(ledger, 0.0, 6) == 0.0


def test_what_was_spent_long_ago_is_not_counted_against_the_headers() -> None:
    ledger = Ledger(limit=10)
    spend(ledger, 0.0, 5)
    observe(ledger, 4.0, 1, limit=10, remaining=4, interval=3.0)
    assert delay(ledger, 4.0, 5) == 3.0


def test_a_smaller_limit_in_units_is_not_scaled() -> None:
    ledger = Ledger()
    observe(ledger, 0.0, 3, limit=30, remaining=30, interval=3.0)
    spend(ledger, 0.0, 3, times=10)
    assert delay(ledger, 0.0, 3) == 3.0


@pytest.mark.parametrize("value", [10**9, 10**12, 10**15, 10**300])
def test_numbers_that_no_server_means_hang_nothing(value: int) -> None:
    ledger, now = Ledger(), 0.0
    observe(ledger, now, 1, limit=value, remaining=0, interval=float(min(value, 10**200)))
    assert delay(ledger, now, 1) <= 300
    ledger.rejected(now, float(min(value, 10**200)))
    assert delay(ledger, now, 1) <= 300
    for _ in range(5):
        now += delay(ledger, now, 1)
        ledger.rejected(now, 1e9)
        assert delay(ledger, now, 1) <= 300


def test_more_remaining_than_the_limit_frees_nothing() -> None:
    ledger = Ledger(limit=10)
    observe(ledger, 0.0, 1, limit=10, remaining=10**9, interval=3.0)
    spend(ledger, 0.0, 1, times=10)
    assert delay(ledger, 0.0, 1) > 0
    observe(ledger, 10.0, 1, limit=10, remaining=-5, interval=3.0)
    assert delay(ledger, 10.0, 1) == 3.0


def test_failures_hold_back_until_the_minute_has_room() -> None:
    bucket = FailureBucket(limit=3)
    for now in (0.0, 10.0, 20.0):
        assert bucket.wait(now) == 0
        bucket.failed(now)
    assert bucket.wait(20.0) == 40.0
    bucket.failed(21.0)  # one that was under way
    assert bucket.wait(21.0) == 49.0
    assert bucket.wait(60.0) == 10.0
    assert bucket.wait(70.0) == 0.0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_no_minute_holds_more_failures_than_the_limit(pauses: list[float]) -> None:
    bucket, now, failures = FailureBucket(limit=60), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if bucket.wait(now) == 0:
            bucket.failed(now)
            failures.append(now)
        assert sum(at > now - 60 for at in failures) <= 60


@pytest.mark.parametrize(
    ("kind", "moment", "weight"),
    [
        (TokenKind.SOLUTION, datetime(2026, 12, 2, tzinfo=UTC), 1),
        (TokenKind.USER, datetime(2026, 11, 24, tzinfo=UTC), 3),
        (TokenKind.PASSWORD, datetime(2026, 11, 30, 20, 59, tzinfo=UTC), 3),
        (TokenKind.PASSWORD, datetime(2026, 12, 1, tzinfo=MOSCOW_TIME), 4),
        (TokenKind.USER, datetime(2026, 6, 1, tzinfo=UTC), 2),
        (TokenKind.USER, datetime(2026, 1, 1, tzinfo=UTC), 1),
    ],
)
def test_request_weight(kind: TokenKind, moment: datetime, weight: int) -> None:
    assert request_weight(kind, moment) == weight
