import time

import httpx
import pytest

from tests.emulator.service import JPEG, Service, codes, images_path, upload

DROPPED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


def test_a_fault_answers_a_status_a_number_of_times(service: Service) -> None:
    service.emulator.faults.add(path_regex=r"/entity/product$", status=503, times=2)
    answers = [service.client.get("entity/product") for _ in range(3)]
    assert [a.status_code for a in answers] == [503, 503, 200]
    assert not answers[0].headers["content-type"].startswith("application/json")
    assert "X-RateLimit-Remaining" in answers[0].headers


def test_a_fault_with_a_code_has_an_error_body(service: Service) -> None:
    product = service.product()
    service.emulator.faults.add(method="POST", path_regex="/images$", status=503, code=51007)
    response = service.client.post(images_path(product), json=[upload()])
    assert (response.status_code, codes(response)) == (503, [51007])
    assert service.names(product) == []
    assert service.client.post(images_path(product), json=[upload()]).is_success


def test_faults_meet_their_method_path_and_port_only(service: Service) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)))
    service.emulator.faults.add(method="POST", status=500)
    service.emulator.faults.add(path_regex="bundle", status=500)
    service.emulator.faults.add(where="storage", status=500)
    assert service.client.get("entity/product").status_code == 200
    assert service.client.get("entity/bundle").status_code == 500
    assert httpx.get(location).status_code == 500
    assert httpx.get(location).status_code == 200


def test_an_injected_429_has_its_headers_and_is_counted(service: Service) -> None:
    headers = {"X-Lognex-Retry-After": "50"}
    service.emulator.faults.add(status=429, code=1049, headers=headers)
    response = service.client.get("entity/product")
    assert (response.status_code, codes(response)) == (429, [1049])
    assert response.headers["X-Lognex-Retry-After"] == "50"
    assert service.emulator.stats.throttled == 1


def test_a_delay_comes_before_the_normal_answer(service: Service) -> None:
    service.emulator.faults.add(delay=0.2)
    start = time.monotonic()
    assert service.client.get("entity/product").status_code == 200
    assert time.monotonic() - start >= 0.2


def test_a_connection_dropped_before_the_work(service: Service) -> None:
    product = service.product()
    service.emulator.faults.add(method="POST", drop_connection=True)
    with pytest.raises(DROPPED):
        service.client.post(images_path(product), json=[upload()])
    assert service.names(product) == []
    assert service.client.post(images_path(product), json=[upload()]).is_success


def test_an_answer_lost_after_the_work(service: Service) -> None:
    product = service.product()
    service.emulator.faults.add(method="POST", drop_after_bytes=0)
    request = service.client.build_request("POST", images_path(product), json=[upload()])
    with pytest.raises(DROPPED):
        service.client.send(request, stream=True)  # not even the headers come
    assert service.names(product) == ["a.jpg"]
    assert service.emulator.stats.uploads == 1


def test_a_file_cut_in_the_middle(service: Service) -> None:
    content = JPEG + bytes(500_000)
    location = service.download_location(service.product(("a.jpg", content)))
    service.emulator.faults.add(where="storage", drop_after_bytes=100_000)
    received: list[bytes] = []
    with httpx.stream("GET", location) as response:
        assert response.headers["content-length"] == str(len(content))
        with pytest.raises(DROPPED):
            _read_into(received, response)
    assert len(b"".join(received)) == 100_000
    assert httpx.get(location).content == content


def _read_into(chunks: list[bytes], response: httpx.Response) -> None:
    for chunk in response.iter_raw():
        chunks.append(chunk)  # noqa: PERF402 (extend would lose them on an error)


def test_a_dropped_request_gives_its_slot_back(service: Service) -> None:
    service.emulator.faults.add(drop_connection=True, times=6)
    for _ in range(6):
        with pytest.raises(DROPPED):
            service.client.get("entity/product")
    assert service.client.get("entity/product").status_code == 200


def test_faults_can_be_cleared(service: Service) -> None:
    fault = service.emulator.faults.add(status=500, times=5)
    assert service.client.get("entity/product").status_code == 500
    assert fault.remaining == 4
    service.emulator.faults.clear()
    assert service.client.get("entity/product").status_code == 200
