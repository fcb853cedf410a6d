import base64
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moysklad_emulator.faults import Framing
from moysklad_emulator.hostile import BOMB_BYTES, LEVELS, gzip_bomb, placeholder
from moysklad_emulator.pictures import padded_png
from service import JPEG, PNG, Service, codes, entity_path, images_path, plain, upload

DROPPED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


def test_a_fault_answers_a_status_a_number_of_times(service: Service) -> None:
    service.emulator.faults.add(path_regex=r"/entity/product$", status=503, times=2)
    answers = [service.client.get("entity/product") for _ in range(3)]
    assert [a.status_code for a in answers] == [503, 503, 200]
    assert not answers[0].headers["content-type"].startswith("application/json")
    assert "X-RateLimit-Remaining" in answers[0].headers


@pytest.mark.parametrize("status", [204, 304])
def test_a_fault_may_have_a_status_without_a_body(service: Service, status: int) -> None:
    service.emulator.faults.add(status=status)
    response = service.client.get("entity/product")
    assert (response.status_code, response.content) == (status, b"")
    assert service.client.get("entity/product").status_code == 200


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
    assert plain.get(location).status_code == 500
    assert plain.get(location).status_code == 200


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
    with plain.stream("GET", location) as response:
        assert response.headers["content-length"] == str(len(content))
        with pytest.raises(DROPPED):
            _read_into(received, response)
    assert len(b"".join(received)) == 100_000
    assert plain.get(location).content == content


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


def exchange(url: str, path: str, **headers: str) -> bytes:
    """Everything that the server sends to one GET until it closes."""
    target = httpx.URL(url)
    lines = [f"GET {path} HTTP/1.1", f"Host: {target.host}", "Accept-Encoding: gzip"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((target.host, target.port or 80), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def api_exchange(service: Service, path: str = "/api/remap/1.2/entity/product") -> bytes:
    return exchange(service.server.api_url, path, Authorization=f"Bearer {service.token}")


def picture_location(service: Service, size: int = 20_000) -> tuple[str, bytes]:
    content = padded_png(1, size)
    return service.download_location(service.product(("a.png", content))), content


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_cut_file_that_looks_whole(service: Service, framing: Framing) -> None:
    location, content = picture_location(service)
    service.emulator.faults.add(where="storage", cut_to=6_000, framing=framing)
    answer = plain.get(location)
    assert (answer.status_code, answer.content) == (200, content[:6_000])
    assert answer.headers.get("content-length") == ("6000" if framing == "length" else None)
    assert plain.get(location).content == content


@pytest.mark.parametrize(("told", "received"), [(10, 10), ("-1", None), (30_000, None)])
def test_a_length_that_lies(service: Service, told: int | str, received: int | None) -> None:
    location, content = picture_location(service)
    service.emulator.faults.add(where="storage", content_length=told)
    if received is None:
        with pytest.raises(httpx.RemoteProtocolError):
            plain.get(location)
    else:
        assert plain.get(location).content == content[:received]


@pytest.mark.parametrize("status", [204, 206, 304])
def test_a_status_that_is_no_picture(service: Service, status: int) -> None:
    location, content = picture_location(service)
    service.emulator.faults.add(where="storage", answer_status=status, cut_to=6_000)
    answer = plain.get(location)
    assert answer.status_code == status
    assert answer.content == (content[:6_000] if status == 206 else b"")


def test_a_placeholder_is_a_whole_picture(service: Service) -> None:
    location, _ = picture_location(service)
    service.emulator.faults.add(where="storage", body="placeholder")
    assert plain.get(location).content == placeholder()
    assert placeholder().startswith(PNG)


@pytest.mark.slow
def test_a_slow_answer_comes_byte_by_byte(service: Service) -> None:
    location, content = picture_location(service, 100)
    service.emulator.faults.add(where="storage", bytes_per_second=200)
    start = time.monotonic()
    assert plain.get(location).content == content
    assert time.monotonic() - start >= 0.5


def test_an_endless_error_goes_on_until_the_client_leaves(service: Service) -> None:
    service.emulator.faults.add(status=500, code=1999, endless=True, framing="chunked")
    received = 0
    with service.client.stream("GET", "entity/product") as response:
        assert response.status_code == 500
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > 5_000_000:
                break
    deadline = time.monotonic() + 5
    while service.user.slots.used:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert service.client.get("entity/product").status_code == 200


def test_the_work_is_done_though_its_answer_is_no_json(service: Service) -> None:
    product = service.product()
    for body in ("not_json", "empty", "cut_json"):
        service.emulator.faults.add(method="POST", body=body)
        answer = service.client.post(images_path(product), json=[upload(f"{body}.jpg")])
        assert answer.status_code == 200
        with pytest.raises(ValueError, match=r"."):
            answer.json()
        assert service.names(product) == [f"{body}.jpg"]


def test_cut_json_is_half_of_the_true_answer(service: Service) -> None:
    service.product()
    whole = service.client.get("entity/product").text
    service.emulator.faults.add(body="cut_json")
    assert service.client.get("entity/product").content == whole.encode()[: len(whole) // 2]


@pytest.mark.slow
def test_a_gzip_bomb_is_small_on_the_wire(service: Service) -> None:
    service.emulator.faults.add(body="gzip_bomb")
    answer = api_exchange(service)
    assert len(answer) < 1_000_000
    unpacked, count = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    data = answer.partition(b"\r\n\r\n")[2]
    while data:
        count += len(unpacked.decompress(data, 10_000_000))
        data = unpacked.unconsumed_tail
    assert count > BOMB_BYTES
    assert unpacked.eof


@pytest.mark.slow
def test_bodies_may_be_packed_twice(service: Service) -> None:
    service.product()
    whole = service.client.get("entity/product").json()
    service.emulator.faults.add(body="gzip_in_gzip")
    twice = service.client.get("entity/product")
    assert twice.headers["content-encoding"] == "gzip, gzip"
    assert twice.json() == whole
    service.emulator.faults.add(body="gzip_bomb_in_gzip")
    data = api_exchange(service).partition(b"\r\n\r\n")[2]
    assert gzip.decompress(data) == gzip_bomb()


def test_json_of_many_levels(service: Service) -> None:
    service.emulator.faults.add(body="deep_json")
    text = service.client.get("entity/product").text
    assert text.count("[") == LEVELS + 1
    assert text.count("]") == LEVELS + 1


@pytest.mark.parametrize("text", ["1e15", "nan", "-1", "soon", ""])
def test_headers_of_any_text(service: Service, text: str) -> None:
    names = ("X-RateLimit-Remaining", "X-RateLimit-Limit", "Retry-After", "X-Lognex-Retry-After")
    service.emulator.faults.add(headers=dict.fromkeys(names, text))
    response = service.client.get("entity/product")
    assert (response.status_code, response.json()["rows"]) == (200, [])
    assert [response.headers.get_list(name) for name in names] == [[text]] * 4


def test_bytes_are_sent_verbatim(service: Service) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nno"
    service.emulator.faults.add(raw=raw)
    assert api_exchange(service) == raw


def test_an_answer_that_comes_twice(service: Service) -> None:
    product = service.product(name="Once")
    service.emulator.faults.add(path_regex=product.id, twice=True)
    target = httpx.URL(service.server.api_url)
    request = (
        f"GET /api/remap/1.2/{entity_path(product)} HTTP/1.1\r\nHost: {target.host}\r\n"
        f"Accept-Encoding: gzip\r\nAuthorization: Bearer {service.token}\r\n\r\n"
    ).encode()
    received = b""
    with socket.create_connection((target.host, target.port or 80), timeout=10) as connection:
        connection.sendall(request)
        while received.count(b"HTTP/1.1 200") < 2 or received != received[: len(received) // 2] * 2:
            received += connection.recv(65_536)
        connection.sendall(request)
        assert connection.recv(1) == b""  # closed: nobody gets a third
    assert service.emulator.stats.requests == {("GET", "entity/{type}/{id}"): 1}


def test_an_answer_that_never_comes(service: Service) -> None:
    product = service.product()
    service.emulator.faults.add(method="POST", never=True)
    with pytest.raises(httpx.ReadTimeout):
        service.client.post(images_path(product), json=[upload()], timeout=0.3)
    assert service.names(product) == []
    assert service.client.get("entity/product").status_code == 200


def test_a_fault_of_every_method(service: Service) -> None:
    service.emulator.faults.add(method="ANY", status=503, times=2)
    product = service.product()
    assert service.client.get("entity/product").status_code == 503
    assert service.client.post(images_path(product), json=[]).status_code == 503
    assert service.client.get("entity/product").status_code == 200


def test_a_chunked_file_cut_in_the_middle(service: Service) -> None:
    location, _ = picture_location(service)
    service.emulator.faults.add(where="storage", framing="chunked", drop_after_bytes=6_000)
    with pytest.raises(httpx.RemoteProtocolError):
        plain.get(location)


def order(service: Service, **fields: Any) -> httpx.Response:
    return plain.post(f"{service.server.control_url}/faults", json=fields)


def test_faults_are_ordered_and_cleared_over_http(service: Service) -> None:
    assert order(service, body="not_json", times=2).json() == {"waiting": 2}
    assert service.client.get("entity/product").text.startswith("<html>")
    cleared = httpx.delete(f"{service.server.control_url}/faults")
    assert cleared.json() == {"waiting": 0}
    assert service.client.get("entity/product").json()["rows"] == []
    raw = b"HTTP/1.1 299 Odd\r\n\r\n"
    order(service, raw=base64.b64encode(raw).decode())
    assert api_exchange(service) == raw
    location, _ = picture_location(service)
    order(service, where="storage", body_bytes=base64.b64encode(b"other").decode())
    assert plain.get(location).content == b"other"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"wher": "api"}, "wher"),
        ({"path_regex": "("}, "regular expression"),
        ({"body": "bomb"}, "gzip_bomb"),
        ({"times": 0}, "times"),
        ({"method": "GETT"}, "GETT"),
        ({"code": 1073}, "a code needs a status"),
        ({"code": 1073, "status": 204}, "a code needs a status"),
        ({"status": 99}, "99"),
        ({"raw": "bm90", "status": 500}, "nothing is left for 'status'"),
        ({"drop_connection": True, "never": True}, "nothing is left for 'never'"),
        ({"never": True, "headers": {"A": "b"}}, "nothing is left for 'headers'"),
        ({"raw": "no base64"}, "raw"),
        ({"body": "empty", "body_bytes": "YQ=="}, "exclude each other"),
    ],
)
def test_a_wrong_order_is_explained(service: Service, fields: Any, problem: str) -> None:
    answer = order(service, **fields)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]
    assert service.emulator.faults.waiting() == 0


def test_an_order_of_many_levels_is_refused(service: Service) -> None:
    answer = plain.post(f"{service.server.control_url}/faults", content="[" * 100_000)
    assert answer.status_code == 400
    assert service.client.get("entity/product").status_code == 200


def test_a_request_is_held_with_half_of_its_body_until_it_is_released(service: Service) -> None:
    product = service.product()
    fault = service.emulator.faults.add(method="POST", path_regex="/images$", hold_after=1000)
    body = json.dumps([upload(content=padded_png(1, 20_000))]).encode()
    sent, answers = threading.Event(), list[int]()

    def chunks() -> Iterator[bytes]:
        yield body[:1000]
        assert fault.holding.wait(10)
        sent.set()
        yield body[1000:]

    def post() -> None:
        headers = {"Content-Type": "application/json"}
        answer = service.client.post(images_path(product), content=chunks(), headers=headers)
        answers.append(answer.status_code)

    thread = threading.Thread(target=post)
    thread.start()
    assert sent.wait(10)
    thread.join(0.2)
    assert answers == []
    assert service.names(product) == []
    fault.release()
    thread.join(10)
    assert answers == [200]
    assert len(service.names(product)) == 1


def test_a_request_held_from_its_start_goes_on_when_the_faults_are_cleared(
    service: Service,
) -> None:
    control, client = service.server.control_url, service.client
    plain.post(f"{control}/faults", json={"hold_after": 0, "path_regex": "product$"})
    answers = list[int]()
    thread = threading.Thread(
        target=lambda: answers.append(client.get("entity/product").status_code)
    )
    thread.start()
    thread.join(0.2)
    assert answers == []
    httpx.delete(f"{control}/faults")
    thread.join(10)
    assert answers == [200]
