import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from moysklad_emulator import EmulatorLimits
from moysklad_emulator.abuse import AbuseMonitor
from moysklad_emulator.rate import RateBucket
from service import (
    Service,
    StartService,
    codes,
    entity_path,
    files,
    images_path,
    plain,
    upload,
    uploads,
)


def statuses(client: httpx.Client, count: int) -> list[int]:
    return [client.get("entity/product").status_code for _ in range(count)]


def test_defaults_are_the_documented_limits() -> None:
    limits = EmulatorLimits()
    assert (limits.rate_units, limits.rate_interval) == (45, 3.0)
    assert (limits.max_parallel_per_user, limits.max_parallel_per_account) == (5, 20)
    assert (limits.max_body_bytes, limits.max_puts_per_minute) == (20_000_000, 100)


def test_the_bucket_is_a_sliding_window() -> None:
    now = 100.0
    bucket = RateBucket(10, 3.0, lambda: now)
    assert bucket.try_spend(4)
    now = 101.0
    assert bucket.try_spend(6)
    assert not bucket.try_spend(1)
    assert bucket.milliseconds_until(4) == 2000
    assert bucket.milliseconds_until(5) == 3000
    now = 102.9
    assert not bucket.try_spend(1)
    now = 103.0
    assert bucket.remaining == 4
    assert bucket.milliseconds_until(4) == 0
    now = 104.0
    assert bucket.remaining == 10


@pytest.mark.parametrize(("weight", "allowed"), [(1, 45), (3, 15), (4, 11)])
def test_a_request_costs_the_users_weight(
    start_service: StartService, weight: int, allowed: int
) -> None:
    service = start_service(EmulatorLimits())
    service.account.add_user(token="weighted", weight=weight)
    with service.client_for("weighted") as client:
        assert statuses(client, allowed + 1) == [200] * allowed + [429]
        assert statuses(service.client, 1) == [200]  # another user's bucket is untouched


def test_a_login_costs_three_units_by_default(start_service: StartService) -> None:
    service = start_service(EmulatorLimits())
    service.account.add_user(login="l", password="p")
    response = plain.get(f"{service.server.api_url}/entity/product", auth=("l", "p"))
    assert response.headers["X-RateLimit-Remaining"] == "42"


@pytest.mark.slow
def test_rate_headers_and_waiting_for_the_named_time(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=2, rate_interval=2.0))
    answers = [service.client.get("entity/product") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 429, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["1", "0", "0", "0"]
    assert {a.headers["X-RateLimit-Limit"] for a in answers} == {"2"}
    assert {a.headers["X-Lognex-Retry-TimeInterval"] for a in answers} == {"2000"}
    assert "X-Lognex-Retry-After" not in answers[0].headers
    rejected = answers[-1]
    assert codes(rejected) == [1049]
    wait = int(rejected.headers["X-Lognex-Retry-After"])
    assert 0 < wait <= 2000
    assert int(rejected.headers["X-Lognex-Reset"]) == wait
    time.sleep(wait / 1000)  # rejected requests spent nothing, or this would not be enough
    assert service.client.get("entity/product").status_code == 200


def test_answers_to_unknown_users_have_rate_headers_too(service: Service) -> None:
    response = plain.get(f"{service.server.api_url}/entity/product")
    assert response.status_code == 401
    assert response.headers["X-Lognex-Retry-TimeInterval"] == "3000"


def parallel(clients: list[httpx.Client], each: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(clients) * each) as pool:
        calls = [pool.submit(c.get, "entity/product") for c in clients for _ in range(each)]
        return [call.result() for call in calls]


@pytest.mark.slow
def test_five_requests_of_a_user_run_in_parallel(service: Service) -> None:
    service.emulator.faults.add(path_regex="product", delay=1.5, times=6)
    answers = parallel([service.client], 6)
    refused = [a for a in answers if a.status_code == 429]
    assert [codes(a) for a in refused] == [[1073]]
    assert "X-Lognex-Retry-After" not in refused[0].headers
    assert service.emulator.stats.max_parallel == {service.user.id: 5}
    assert service.client.get("entity/product").status_code == 200


@pytest.mark.slow
def test_twenty_requests_of_an_account_run_in_parallel(service: Service) -> None:
    tokens = [f"{service.account.id}-{number}" for number in range(5)]
    for token in tokens:
        service.account.add_user(token=token)
    service.emulator.faults.add(path_regex="product", delay=2.5, times=25)
    clients = [service.client_for(token) for token in tokens]
    answers = parallel(clients, 5)
    for client in clients:
        client.close()
    refused = [a for a in answers if a.status_code == 429]
    assert [codes(a) for a in refused] == [[1073]] * 5


@pytest.mark.slow
def test_a_request_refused_for_parallelism_spends_no_units(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=3, max_parallel_per_user=1))
    service.emulator.faults.add(path_regex="product", delay=1.5)
    assert sorted(a.status_code for a in parallel([service.client], 3)) == [200, 429, 429]
    assert statuses(service.client, 3) == [200, 200, 429]


def test_over_200_answers_429_in_a_minute_end_access(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=1, rate_interval=60))
    assert statuses(service.client, 202) == [200] + [429] * 201
    response = service.client.get("entity/product")
    assert (response.status_code, codes(response)) == (403, [1061])
    assert not service.user.api_access


def test_over_200_identical_failures_in_a_minute_end_access(service: Service) -> None:
    failures = {service.client.get("entity/product?limit=0").status_code for _ in range(200)}
    assert failures == {400}
    assert service.client.get("entity/product").status_code == 200
    assert service.client.get("entity/product?limit=0").status_code == 400
    assert service.client.get("entity/product").status_code == 403
    service.user.api_access = True  # begins the count anew
    assert service.client.get("entity/product?limit=0").status_code == 400
    assert service.client.get("entity/product").status_code == 200


def test_failures_of_different_requests_do_not_end_access(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(max_identical_failures_per_minute=2))
    product = service.product()
    for number in range(5):
        assert service.client.get(f"entity/product?limit=-{number}").status_code == 400
        body = [{"filename": "a.jpg", "content": f"bad {number}"}]
        assert service.client.post(images_path(product), json=body).status_code == 400
    assert service.user.api_access


@pytest.mark.slow
def test_old_failures_are_forgotten(start_service: StartService) -> None:
    limits = EmulatorLimits(max_identical_failures_per_minute=2, abuse_interval=1.0)
    service = start_service(limits)
    for _ in range(2):
        service.client.get("entity/product?limit=0")
    time.sleep(1.05)
    for _ in range(2):
        service.client.get("entity/product?limit=0")
    assert service.user.api_access
    service.client.get("entity/product?limit=0")
    assert not service.user.api_access


def test_over_100_puts_to_one_entity_in_a_minute_end_access(service: Service) -> None:
    products = [service.product(), service.product()]
    for product in products:
        for number in range(100):
            path = f"{entity_path(product)}{'/' * (number % 2)}"
            assert service.client.put(path, json={"code": str(number)}).status_code == 200
    assert service.user.api_access
    service.client.put(entity_path(products[0]), json={})
    assert service.client.get("entity/product").status_code == 403
    service.user.api_access = True  # begins the count anew
    assert service.client.put(entity_path(products[0]), json={}).status_code == 200
    assert service.user.api_access


def test_old_puts_are_forgotten() -> None:
    now = 0.0
    monitor = AbuseMonitor(EmulatorLimits(max_puts_per_minute=2), lambda: now)
    assert [monitor.record(404, n, "entity") for n in range(3)] == [False, False, True]
    now = 60.0
    assert [monitor.record(200, n, "entity") for n in range(3)] == [False, False, True]
    assert not monitor.record(200, 0, "other")
    assert not monitor.record(200, 0)


def body_of(size: int) -> bytes:
    body = json.dumps([upload()]).encode()
    return body[:-1] + b" " * (size - len(body)) + b"]"


def test_a_body_of_20_million_bytes_is_the_largest(service: Service) -> None:
    product = service.product()
    assert service.client.post(images_path(product), content=body_of(20_000_000)).is_success
    response = service.client.post(images_path(product), content=body_of(20_000_001))
    assert (response.status_code, codes(response)) == (413, [1044])
    assert service.client.get("entity/product").status_code == 200


def test_a_chunked_body_is_measured_too(service: Service) -> None:
    product = service.product()

    def chunks(size: int) -> Iterator[bytes]:
        body = body_of(size)
        for start in range(0, size, 1_000_000):
            yield body[start : start + 1_000_000]

    assert service.client.post(images_path(product), content=chunks(20_000_000)).is_success
    response = service.client.post(images_path(product), content=chunks(20_000_001))
    assert (response.status_code, codes(response)) == (413, [1044])


def test_an_early_refusal_of_a_large_body_is_seen_by_the_client(service: Service) -> None:
    response = plain.post(
        f"{service.server.api_url}/entity/product", content=body_of(20_000_000), timeout=10
    )
    assert (response.status_code, codes(response)) == (401, [1056])


def test_arrays_have_at_most_1000_elements(service: Service) -> None:
    product = service.product()
    meta = {"meta": service.entity_meta(product)}
    assert len(service.client.post("entity/product", json=[meta] * 1000).json()) == 1000
    for path in ("entity/product", images_path(product), f"{images_path(product)}/delete"):
        assert service.client.post(path, json=[meta] * 1001).status_code == 413


def test_an_uploads_slot_is_held_while_its_body_is_sent(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(max_parallel_per_user=1))
    product = service.product()
    seen: list[int] = []

    def slow_body() -> Iterator[bytes]:
        body = json.dumps(uploads(1)).encode()
        yield body[:10]
        deadline = time.monotonic() + 1
        with service.client_for(f"{service.account.id}") as other:
            other.headers = service.client.headers
            while not seen or (seen[-1] != 429 and time.monotonic() < deadline):
                seen.append(other.get("entity/product").status_code)
        yield body[10:]

    assert service.client.post(images_path(product), content=slow_body()).is_success
    assert seen[-1] == 429


def test_abuse_is_counted_by_the_minute() -> None:
    assert EmulatorLimits().abuse_interval == 60


def test_requests_of_other_methods_and_bodies_are_not_identical(
    start_service: StartService,
) -> None:
    service = start_service(EmulatorLimits(max_identical_failures_per_minute=2))
    path = "entity/product/none/images"
    for _ in range(2):
        assert service.client.get(path).status_code == 404
        assert service.client.post(path, json=[]).status_code == 404
    service.emulator.faults.add(method="POST", status=503, times=5)
    for number in range(5):
        assert service.client.post(path, json=[number]).status_code == 503
    assert service.user.api_access
    service.client.get(path)
    assert not service.user.api_access


def test_every_failure_counts_towards_the_identical_ones(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(max_identical_failures_per_minute=2))
    for _ in range(3):
        assert service.client.get("entity/nothing").status_code == 404
    assert not service.user.api_access


def test_a_list_of_kept_images_has_the_same_limit(service: Service) -> None:
    product = service.product(*files(1))
    body = [service.meta(product, 0)] * 11
    response = service.client.post(images_path(product), json=body)
    assert codes(response) == [51006]


def test_a_told_wait_is_never_too_short() -> None:
    moment = [0.0]
    bucket = RateBucket(1, 3.0, lambda: moment[0])
    assert bucket.try_spend(1)
    moment[0] = 0.0004
    assert bucket.milliseconds_until(1) == 3000
    moment[0] += bucket.milliseconds_until(1) / 1000
    assert bucket.try_spend(1)
