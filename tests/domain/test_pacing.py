"""The rate bucket never lets a window of the server overflow."""

from hypothesis import given
from hypothesis import strategies as st

from imgsync.domain.pacing import RateBucket


def spend(bucket: RateBucket, now: float, weight: int, times: int = 1) -> None:
    for _ in range(times):
        assert bucket.delay(now, weight) == 0
        bucket.send(weight)
        bucket.answered(now, weight)


def test_a_full_bucket_waits_for_the_first_units_to_come_back() -> None:
    bucket = RateBucket()
    spend(bucket, 10.0, 3, times=15)
    assert bucket.delay(11.0, 3) == 2.0
    assert bucket.delay(13.0, 3) == 0.0


def test_requests_under_way_count_until_their_answer_is_an_interval_old() -> None:
    bucket = RateBucket(limit=2)
    bucket.send(1)
    bucket.send(1)
    assert bucket.delay(100.0, 1) > 0
    bucket.answered(100.0, 1)
    assert bucket.delay(102.9, 1) > 0
    assert bucket.delay(103.0, 1) == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 4)), min_size=1, max_size=80),
)
def test_no_window_of_three_seconds_holds_more_than_45_units(
    steps: list[tuple[float, int]],
) -> None:
    bucket, now, sent = RateBucket(), 0.0, list[tuple[float, int]]()
    for pause, weight in steps:
        now += pause
        while (wait := bucket.delay(now, weight)) > 0:
            now += wait
        bucket.send(weight)
        bucket.answered(now, weight)
        sent.append((now, weight))
        assert sum(units for at, units in sent if at > now - 3.0) <= 45


def test_what_others_spent_is_learned_from_the_headers() -> None:
    bucket = RateBucket()
    spend(bucket, 0.0, 1)
    bucket.observe(0.0, 1, limit=45, remaining=1, interval=3.0)
    spend(bucket, 0.0, 1)
    assert bucket.delay(0.0, 1) == 3.0


def test_headers_that_count_requests_instead_of_units_are_scaled() -> None:
    bucket = RateBucket()
    bucket.observe(0.0, 3, limit=15, remaining=15, interval=3.0)
    spend(bucket, 0.0, 3, times=15)
    assert bucket.delay(0.0, 3) == 3.0


def test_a_429_holds_every_request_as_long_as_told() -> None:
    bucket = RateBucket()
    bucket.rejected(5.0, 1.5)
    assert bucket.delay(5.5, 1) == 1.0
    bucket.rejected(5.5, 0.1)
    assert bucket.delay(5.5, 1) == 1.0
    assert bucket.delay(6.5, 1) == 0.0


def test_it_stops_long_before_200_rejections_in_a_minute() -> None:
    bucket, now, rejections = RateBucket(), 0.0, list[float]()
    for _ in range(500):
        now += bucket.delay(now, 1)
        bucket.rejected(now, 0.01)
        rejections.append(now)
    for at in rejections:
        assert sum(at - 60 < other <= at for other in rejections) < 200


def test_a_weight_above_the_limit_still_passes() -> None:
    bucket = RateBucket(limit=2)
    assert bucket.delay(0.0, 4) == 0.0
