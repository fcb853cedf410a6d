"""Whose a token is."""

import httpx
import pytest

from service import Service, codes, plain


def as_user(service: Service, path: str) -> httpx.Response:
    return plain.get(f"{service.server.api_url}/{path}", auth=("anna@shop", "secret"))


def test_a_password_belongs_to_an_employee(service: Service) -> None:
    service.account.add_user(login="anna@shop", password="secret")
    employee = as_user(service, "context/employee").json()
    assert (employee["uid"], employee["name"]) == ("anna@shop", "anna")
    assert employee["accountId"] == service.account.id
    refused = as_user(service, "context/application")
    assert (refused.status_code, codes(refused)) == (403, [55005])


def test_a_users_token_belongs_to_an_employee(service: Service) -> None:
    account = service.emulator.add_account("Ёлки & Co", login="elki")
    user = account.add_user(token=account.id, kind="user", login="boris")
    with service.client_for(account.id) as client:
        answer = client.get("context/employee")
    assert answer.json()["uid"] == user.uid == "boris@elki"
    assert int(answer.headers["X-RateLimit-Remaining"]) == 100_000 - 3


@pytest.mark.parametrize(("kind", "weight"), [("solution", 1), ("draft", 4)])
def test_a_solutions_token_belongs_to_it(service: Service, kind: str, weight: int) -> None:
    account = service.emulator.add_account("Main shop")
    account.add_user(token=account.id, kind=kind, login="solution.acme")  # type: ignore[arg-type]
    with service.client_for(account.id) as client:
        answer = client.get("context/application")
        refused = client.get("context/employee")
    assert answer.json()["appUid"] == "solution.acme@main-shop"
    assert "accountId" not in answer.json()
    assert (refused.status_code, codes(refused)) == (403, [55006])
    assert int(answer.headers["X-RateLimit-Remaining"]) == 100_000 - weight


def test_an_organization_tells_the_account(service: Service) -> None:
    page = service.client.get("entity/organization?limit=1").json()
    (row,) = page["rows"]
    assert (row["accountId"], row["name"]) == (service.account.id, service.account.name)
    assert page["meta"]["size"] == 1
    assert service.client.get("entity/organization?offset=1").json()["rows"] == []


def test_contexts_are_read_only(service: Service) -> None:
    assert codes(service.client.post("context/employee", json={})) == [1039]


def test_only_a_token_is_a_solutions(service: Service) -> None:
    with pytest.raises(ValueError, match="a solution has a token"):
        service.account.add_user(login="l", password="p", kind="draft")


def test_an_account_without_latin_letters_has_a_login_too(service: Service) -> None:
    account = service.emulator.add_account("Ёлки")
    assert account.login == f"a{account.id[:8]}"
