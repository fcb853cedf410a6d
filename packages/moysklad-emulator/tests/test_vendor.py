"""Calls to the server of a solution (Vendor API 1.0)."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from moysklad_emulator import EmulatorLimits, Solution
from moysklad_emulator.vendor import Spoilt
from service import Service, StartService, plain

SECRET = "a-secret-key"
QUICK = EmulatorLimits(vendor_retry_interval=0.01, vendor_retry_seconds=30, vendor_long_seconds=0)


@dataclass
class Developer:
    """A server of a developer. `answers`: (status, body) in turn, then Activated. `works`: whether
    the token that came answers while the call is under way."""

    service: Service
    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    got: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    works: list[bool] = field(default_factory=list)

    def claims(self, number: int = -1) -> dict[str, Any]:
        _, claims, _ = self.token(number).split(".")
        return dict(json.loads(decoded(claims)))

    def token(self, number: int = -1) -> str:
        return self.got[number][2]["Authorization"].removeprefix("Bearer ")

    def access(self, number: int = -1) -> str:
        return str(self.got[number][3]["access"][0]["access_token"])


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def is_signed(token: str) -> bool:
    signed, _, mac = token.rpartition(".")
    return hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest() == decoded(mac)


def answers(service: Service, token: str) -> bool:
    with service.client_for(token) as client:
        return client.get("context/application").status_code == 200


@contextmanager
def developing(service: Service) -> Iterator[Developer]:
    developer = Developer(service)

    class Handler(BaseHTTPRequestHandler):
        def handle_call(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            told = json.loads(raw) if raw else None
            developer.got.append((self.command, self.path, dict(self.headers), told))
            token = service.server.vendor.token(*self.path.split("/")[-2:])
            developer.works.append(token is not None and answers(service, token))
            status, body = (200, {"status": "Activated"})
            if developer.answers:
                status, body = developer.answers.pop(0)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_DELETE = handle_call  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    developer.url = f"http://127.0.0.1:{server.server_port}/app"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield developer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def quick(start_service: StartService) -> Service:
    return start_service(QUICK)


@pytest.fixture
def developer(quick: Service) -> Iterator[Developer]:
    with developing(quick) as made:
        yield made


@pytest.fixture
def solution(quick: Service, developer: Developer) -> Solution:
    return quick.server.vendor.add(developer.url, SECRET, app_uid="copies.shop")


def test_installed_it_is_told_signed_and_with_a_token_that_works(
    quick: Service, developer: Developer, solution: Solution
) -> None:
    vendor = quick.server.vendor
    called = vendor.call(solution.app_id, quick.account.id, "Install")
    assert (called.status, called.attempts, called.state) == (200, 1, "Activated")
    ((method, path, headers, body),) = developer.got
    assert (method, path) == (
        "PUT",
        f"/app/api/moysklad/vendor/1.0/apps/{solution.app_id}/{quick.account.id}",
    )
    assert (body["appUid"], body["accountName"], body["cause"]) == (
        "copies.shop",
        quick.account.login,
        "Install",
    )
    assert headers["X_Lognex_RequestId"]
    assert is_signed(developer.token())
    claims = developer.claims()
    assert claims.keys() == {"iat", "exp", "jti"}
    assert claims["exp"] - claims["iat"] == 300
    assert developer.works == [True]
    assert answers(quick, developer.access())


def test_suspended_resumed_and_removed_the_token_is_another_or_none(
    quick: Service, developer: Developer, solution: Solution
) -> None:
    vendor, here = quick.server.vendor, quick.account.id
    vendor.call(solution.app_id, here, "Install")
    first = developer.access()
    assert vendor.call(solution.app_id, here, "Suspend").state == "Suspended"
    assert developer.works[-1] is False
    assert not answers(quick, first)
    assert "access" not in developer.got[-1][3]
    assert vendor.call(solution.app_id, here, "Resume").state == "Activated"
    second = developer.access()
    assert second != first
    for cause in ("TariffChanged", "Autoprolongation"):
        assert vendor.call(solution.app_id, here, cause).state == "Activated"
        assert "access" not in developer.got[-1][3]
        assert answers(quick, second)
    vendor.call(solution.app_id, here, "Uninstall")
    assert vendor.state(solution.app_id, here) is None
    assert not answers(quick, second)
    assert len({developer.claims(n)["jti"] for n in range(len(developer.got))}) == 6


@pytest.mark.parametrize("retries", ["same_token", "signed_anew"])
def test_a_server_that_cannot_now_is_asked_again(
    quick: Service, developer: Developer, solution: Solution, retries: Any
) -> None:
    quick.emulator.dialect = quick.emulator.dialect.changed({"vendor_retries": retries})
    developer.answers = [(503, None), (500, None)]
    called = quick.server.vendor.call(solution.app_id, quick.account.id, "Install")
    assert (called.status, called.attempts) == (200, 3)
    assert len({headers["X_Lognex_RequestId"] for _, _, headers, _ in developer.got}) == 1
    tokens = {developer.token(number) for number in range(3)}
    assert len(tokens) == (1 if retries == "same_token" else 3)


@pytest.mark.parametrize("status", [400, 401, 404, 551])
def test_a_refusal_costs_the_token(
    quick: Service, developer: Developer, solution: Solution, status: int
) -> None:
    vendor, here = quick.server.vendor, quick.account.id
    developer.answers = [(status, None)]
    called = vendor.call(solution.app_id, here, "Install")
    assert (called.status, called.attempts, called.state) == (status, 1, "ActivationFailed")
    assert not answers(quick, developer.access())
    developer.answers = [(200, None), (status, None)]
    vendor.call(solution.app_id, here, "Install")
    assert vendor.call(solution.app_id, here, "Uninstall").state == "DeactivationFailed"


def test_of_a_server_that_is_not_there_it_gives_up(quick: Service) -> None:
    vendor = quick.server.vendor
    for address in ("http://127.0.0.1:9", "https://sync.example"):
        gone = vendor.add(address, SECRET)
        called = vendor.call(gone.app_id, quick.account.id, "TariffChanged")
        assert (called.status, called.attempts) == (None, 1)  # again for 0 seconds


@pytest.mark.parametrize("spoilt", ["signature", "algorithm", "expired", "early", "replayed"])
def test_tokens_are_spoilt_as_asked(
    quick: Service, developer: Developer, solution: Solution, spoilt: Spoilt
) -> None:
    vendor, here = quick.server.vendor, quick.account.id
    vendor.call(solution.app_id, here, "Install")
    good = developer.claims()
    vendor.call(solution.app_id, here, "Resume", spoilt=spoilt)
    bad = developer.claims()
    assert is_signed(developer.token()) == (spoilt in ("expired", "early", "replayed"))
    assert (bad["jti"] == good["jti"]) == (spoilt == "replayed")
    assert (bad["exp"] < good["iat"]) == (spoilt == "expired")
    assert (bad["iat"] > good["exp"]) == (spoilt == "early")


def test_it_asks_how_an_installation_stands(
    quick: Service, developer: Developer, solution: Solution
) -> None:
    developer.answers = [(404, {"error": "no"})]
    asked = quick.server.vendor.status(solution.app_id, quick.account.id)
    assert (asked.status, asked.attempts, developer.got[0][0]) == (404, 1, "GET")
    assert developer.got[0][3] is None


def test_another_process_commands_it_too(quick: Service, developer: Developer) -> None:
    control = quick.server.control_url
    order = {"endpoint_base": developer.url, "secret": SECRET}
    app_id = plain.post(f"{control}/solutions", json=order).json()["app_id"]
    call = {"app_id": app_id, "account_id": quick.account.id, "cause": "Install"}
    called = plain.post(f"{control}/solutions/calls", json=call).json()
    assert (called["status"], called["state"]) == (200, "Activated")
    for wrong in (call | {"cause": "Steal"}, call | {"app_id": quick.account.id}, {}):
        answer = plain.post(f"{control}/solutions/calls", json=wrong)
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert plain.post(f"{control}/solutions", json=order | {"app_id": app_id}).status_code == 400
