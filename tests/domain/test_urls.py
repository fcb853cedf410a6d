"""Download addresses: https on the allow list, http for loopback, credentials for the API."""

import pytest

from imgsync.domain.errors import ForbiddenUrlError
from imgsync.domain.urls import DownloadPolicy

POLICY = DownloadPolicy.create(
    "https://api.moysklad.ru/api/remap/1.2", ["*.moysklad.ru", "CDN.example.com", " "]
)
LOCAL = DownloadPolicy.create("http://127.0.0.1:8000/api/remap/1.2", [])


@pytest.mark.parametrize(
    "url",
    [
        "https://api.moysklad.ru/download/1",
        "https://miniature-prod.moysklad.ru/x",
        "https://a.b.moysklad.ru/x",
        "https://cdn.example.com:8443/x",
    ],
)
def test_allowed(url: str) -> None:
    POLICY.check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://api.moysklad.ru/download/1", "only https"),
        ("https://moysklad.ru.evil.example/x", "allow list"),
        ("https://evilmoysklad.ru/x", "allow list"),
        ("https://moysklad.ru/x", "allow list"),
        ("https://sub.cdn.example.com/x", "allow list"),
        ("https://api.moysklad.ru@evil.example/x", "credentials"),
        ("https://user:pass@api.moysklad.ru/x", "credentials"),
        ("http://127.0.0.1/x", "allow list"),
        ("http://169.254.169.254/latest/meta-data", "allow list"),
        ("file:///etc/passwd", "absolute"),
        ("ftp://api.moysklad.ru/x", "absolute"),
        ("//api.moysklad.ru/x", "absolute"),
        ("https://api.moysklad.ru:99999/x", "valid"),
        ("https://[::1/x", "valid"),
        ("https://api.moysklad.ru/a\x01b", "valid"),
        ("https://api.moysklad.ru/" + "a" * 9000, "valid"),
        ("", "absolute"),
    ],
)
def test_refused(url: str, reason: str) -> None:
    with pytest.raises(ForbiddenUrlError, match=reason):
        POLICY.check(url)


def test_loopback_over_http_only_where_listed() -> None:
    LOCAL.check("http://127.0.0.1:9000/file")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        LOCAL.check("http://localhost:9000/file")
    DownloadPolicy.create("http://127.0.0.1:1/api", ["localhost"]).check("http://localhost:2/f")


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://api.moysklad.ru/anything", True),
        ("https://API.moysklad.ru:443/anything", True),
        ("https://api.moysklad.ru:8443/anything", False),
        ("http://api.moysklad.ru/anything", False),
        ("https://cdn.moysklad.ru/anything", False),
    ],
)
def test_credentials_go_to_the_apis_origin_only(url: str, may: bool) -> None:
    assert POLICY.may_authorise(url) is may


def test_another_loopback_port_is_another_origin() -> None:
    assert LOCAL.may_authorise("http://127.0.0.1:8000/x")
    assert not LOCAL.may_authorise("http://127.0.0.1:8001/x")
