import json

import pytest

from moysklad_emulator import Emulator, EmulatorLimits, Stats
from moysklad_emulator.documents import Documents
from moysklad_emulator.stats import AccountUse
from service import JPEG, Service, StartService, images_path, plain, upload


def test_requests_and_bytes_are_counted(service: Service) -> None:
    product = service.product(("a.jpg", JPEG + bytes(996)))
    body = json.dumps(upload("b.jpg")).encode()
    added = service.client.post(images_path(product), content=body)
    assert service.client.post(images_path(product), content=b"{}").status_code == 412
    image = product.images[0].id
    service.client.delete(f"{images_path(product)}/{product.images[1].id}")
    service.client.get("nowhere")
    location = service.client.get(f"download/{image}").headers["location"]
    plain.get(location)
    stats = service.emulator.stats
    assert stats.requests == {
        ("POST", "entity/{type}/{id}/images"): 2,
        ("DELETE", "entity/{type}/{id}/images/{image}"): 1,
        ("GET", "(unknown)"): 1,
        ("GET", "download/{image}"): 1,
        ("GET", "storage/temporary"): 1,
    }
    assert stats.statuses == {200: 3, 412: 1, 404: 1, 302: 1}
    assert (stats.api_calls, stats.storage_requests) == (5, 1)
    assert (stats.uploads, stats.deletions, stats.downloads) == (1, 1, 1)
    assert stats.throttled == 0
    assert stats.bytes_in == len(body) + 2
    assert stats.bytes_out > 1000 + int(added.headers["content-length"])
    assert stats.max_parallel == {service.user.id: 1}
    use = stats.accounts[service.account.id]
    assert (use.bytes_in, use.requests) == (stats.bytes_in, 5)
    assert use.bytes_out == stats.bytes_out  # those of the file too


def test_requests_and_units_are_counted_by_account(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=10, rate_interval=60))
    other = service.emulator.add_account("Other")
    other.add_user(token="other", weight=3)
    with service.client_for("other") as client:
        answers = [client.get("entity/product") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    service.client.get("entity/nothing")
    plain.get(f"{service.server.api_url}/entity/product")  # whose account nobody knows
    stats = service.emulator.stats
    answered = sum(int(answer.headers["content-length"]) for answer in answers)
    own = stats.accounts[service.account.id].bytes_out
    assert own > 0
    assert stats.accounts == {
        other.id: AccountUse(requests=4, units=9, throttled=1, bytes_out=answered),
        service.account.id: AccountUse(requests=1, units=1, bytes_out=own),
    }
    shown = stats.as_json()["accounts"][other.id]
    assert shown["bytes_out"] == answered
    assert (shown["requests"], shown["units"], shown["throttled"]) == (4, 9, 1)


def test_a_snapshot_does_not_change(service: Service) -> None:
    before = service.emulator.stats
    service.client.get("entity/product")
    assert before == Stats()
    assert service.emulator.stats.api_calls == 1


def test_counters_can_be_reset(service: Service) -> None:
    service.client.get("entity/product")
    service.emulator.reset_stats()
    assert service.emulator.stats == Stats()


def test_refused_requests_are_counted_with_their_route(service: Service) -> None:
    assert plain.get(f"{service.server.api_url}/entity/product").status_code == 401
    stats = service.emulator.stats
    assert stats.requests == {("GET", "entity/{type}"): 1}
    assert stats.max_parallel == {}


def test_the_body_of_a_refused_request_is_read(service: Service) -> None:
    body = bytes(1_000_000)
    assert plain.post(f"{service.server.api_url}/entity/product", content=body).status_code == 401
    assert service.emulator.stats.bytes_in == len(body)


def test_a_deletion_of_many_is_one(service: Service) -> None:
    product = service.product(*[(f"{n}.jpg", JPEG + bytes([n])) for n in range(3)])
    body = [service.meta(product, n) for n in (0, 1)]
    service.client.post(f"{images_path(product)}/delete", json=body)
    stats = service.emulator.stats
    assert (stats.deletions, stats.uploads) == (1, 0)


def test_commands_are_not_counted(service: Service) -> None:
    answers = [plain.get(f"{service.server.control_url}/{path}") for path in ("stats", "unknown")]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert service.emulator.stats == Stats()


def test_a_failure_of_the_emulator_itself_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    location = service.download_location(service.product(("a.jpg", JPEG)))
    service.emulator.reset_stats()
    monkeypatch.setattr(Documents, "organization_page", fail)
    monkeypatch.setattr(Emulator, "file_of", fail)
    answers = [service.client.get("entity/organization"), plain.get(location)]
    assert [answer.status_code for answer in answers] == [500, 500]
    assert answers[0].headers["X-RateLimit-Limit"] == "100000"
    assert service.emulator.stats.statuses == {500: 2}
    assert service.user.slots.used == 0
