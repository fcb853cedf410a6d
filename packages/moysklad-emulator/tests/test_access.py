import httpx
import pytest

from service import JPEG, Service, codes, entity_path, images_path, plain


def raw_get(service: Service, **headers: str | None) -> httpx.Response:
    """GET with exactly the given headers on top of Host and Authorization."""
    request = service.client.build_request("GET", "entity/product")
    for name, value in headers.items():
        request.headers.pop(name.replace("_", "-"), None)
        if value is not None:
            request.headers[name.replace("_", "-")] = value
    return service.client.send(request)


def test_a_bearer_token_gives_access_to_its_account(service: Service) -> None:
    product = service.product()
    rows = service.client.get("entity/product").json()["rows"]
    assert [(row["id"], row["accountId"]) for row in rows] == [(product.id, service.account.id)]


def test_a_login_and_password_give_access(service: Service) -> None:
    service.account.add_user(login="имя@main", password="p:w")
    url = f"{service.server.api_url}/entity/product"
    assert plain.get(url, auth=("имя@main".encode(), b"p:w")).status_code == 200
    refused = plain.get(url, auth=("имя@main".encode(), b"other"))
    assert (refused.status_code, codes(refused)) == (401, [1056])


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic ???", "Basic /w==", "Digest x"])
def test_other_credentials_are_refused(service: Service, header: str | None) -> None:
    response = raw_get(service, Authorization=header)
    assert response.status_code == 401
    assert codes(response) == [1056]


def test_a_user_has_one_kind_of_credentials_and_no_one_elses(service: Service) -> None:
    with pytest.raises(ValueError, match="token, or a login"):
        service.account.add_user(token="t", login="l", password="p")
    with pytest.raises(ValueError, match="token, or a login"):
        service.account.add_user(login="l")
    service.account.add_user(token="once")
    with pytest.raises(ValueError, match="another user"):
        service.account.add_user(token="once")


def test_a_token_may_end(service: Service) -> None:
    newer = service.account.add_user(token=f"newer-{service.account.id}")
    service.account.remove_user(service.user)
    response = service.client.get("entity/product")
    assert (response.status_code, codes(response)) == (401, [1056])
    with service.client_for(f"newer-{service.account.id}") as client:
        assert client.get("entity/product").status_code == 200
    service.account.remove_user(newer)
    service.account.add_user(token=service.token)
    assert service.client.get("entity/product").status_code == 200


def test_other_accounts_are_invisible(service: Service) -> None:
    product = service.product(("a.jpg", b"a"))
    other = service.emulator.add_account("Other")
    other.add_user(token=f"other-{other.id}")
    with service.client_for(f"other-{other.id}") as client:
        assert client.get("entity/product").json()["rows"] == []
        for path in (entity_path(product), images_path(product)):
            response = client.get(path)
            assert (response.status_code, codes(response)) == (404, [1021])


def test_without_api_access_every_request_is_refused(service: Service) -> None:
    service.user.api_access = False
    response = service.client.get("entity/product")
    assert (response.status_code, codes(response)) == (403, [1061])
    service.user.api_access = True
    assert service.client.get("entity/product").status_code == 200


@pytest.mark.parametrize(
    "value", [None, "identity", "deflate, br", "gzip;q=0", "gzip; q=0.0", "gzip;q=0.000"]
)
def test_without_gzip_the_answer_is_an_empty_415(service: Service, value: str | None) -> None:
    response = raw_get(service, Accept_Encoding=value)
    assert (response.status_code, response.content) == (415, b"")


@pytest.mark.parametrize("value", ["gzip", "deflate, GZIP;q=0.5"])
def test_answers_are_compressed(service: Service, value: str) -> None:
    response = raw_get(service, Accept_Encoding=value)
    assert response.status_code == 200
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"] == "application/json;charset=utf-8"


def test_errors_are_compressed_too(service: Service) -> None:
    assert service.client.get("entity/unknown").headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("value", [None, "*/*", "application/json; charset=UTF-8"])
def test_accept_is_optional(service: Service, value: str | None) -> None:
    assert raw_get(service, Accept=value).status_code == 200


@pytest.mark.parametrize("value", ["application/json", "text/html", "image/*"])
def test_another_accept_is_refused(service: Service, value: str) -> None:
    response = raw_get(service, Accept=value)
    assert (response.status_code, codes(response)) == (400, [1062])


@pytest.mark.parametrize("name", ["X-Lognex-Accept-Region", "Lognex-Pretty-Print-JSON"])
def test_an_own_header_that_is_not_played_is_refused(service: Service, name: str) -> None:
    response = service.client.get("entity/product", headers={name: "kz"})
    assert (response.status_code, codes(response)) == (400, [3030])


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        ("https://sync.example/hook", 200),
        ("sync.example", 400),
        ("https://s.example/" + "x" * 255, 400),
    ],
)
def test_webhooks_are_switched_off_by_the_prefix_of_an_address(
    service: Service, prefix: str, status: int
) -> None:
    name = "X-Lognex-WebHook-DisableByPrefix"
    assert service.client.get("entity/product", headers={name: prefix}).status_code == status


def test_headers_above_8_kilobytes_are_refused(service: Service) -> None:
    assert raw_get(service, X_Padding="x" * 7000).status_code == 200
    assert raw_get(service, X_Padding="x" * 8192).status_code == 431


def test_the_url_counts_as_a_header(service: Service) -> None:
    def status(length: int) -> int:
        condition = f"filter=name={'x' * length}"
        return service.client.get(f"entity/product?{condition}").status_code

    assert [status(7000), status(8100), status(8192)] == [200, 431, 414]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "report/stock", 404, 1002),
        ("GET", "entity//product", 404, 1002),
        ("PUT", "entity/product", 405, 1039),
        ("HEAD", "entity/product", 405, None),
        ("PATCH", "entity/product", 405, 1039),
        ("POST", "entity/organization", 405, 1039),
        ("GET", "entity/product/metadata/attributes", 404, 1002),
        ("GET", "entity/unknown", 404, 1005),
        ("GET", "entity/product/00000000-0000-0000-0000-000000000000", 404, 1021),
        ("GET", "entity/product/00000000-0000-0000-0000-000000000000/images", 404, 1021),
    ],
)
def test_wrong_paths(
    service: Service, method: str, path: str, status: int, code: int | None
) -> None:
    response = service.client.request(method, path)
    assert response.status_code == status
    assert code is None or codes(response) == [code]


def test_a_trailing_slash_changes_nothing(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    for path in ("entity/product", entity_path(product), images_path(product)):
        plain, slashed = service.client.get(path), service.client.get(f"{path}/")
        assert slashed.status_code == 200
        assert slashed.json() == plain.json()
    assert service.client.post(f"{images_path(product)}/", json=[]).status_code == 200


def test_an_error_has_the_documented_shape(service: Service) -> None:
    (error,) = service.client.get("entity/product?limit=0").json()["errors"]
    assert set(error) == {"error", "code", "parameter", "moreInfo"}
    assert error["parameter"] == "limit"
    assert error["moreInfo"].endswith("#error_1040")
