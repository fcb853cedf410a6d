"""Download addresses: an allow list for payloads, trust for the API, never a private network."""

import pytest

from imgsync.adapters.moysklad.addresses import DownloadPolicy, is_public
from imgsync.domain.errors import ForbiddenUrlError

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
        ("https://8.8.8.8/x", "allow list"),
        ("https://127.0.0.1/x", "public"),
        ("http://127.0.0.1/x", "only https"),
        ("http://169.254.169.254/latest/meta-data", "only https"),
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


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.files.mow1.cloud.servers.ru:8080/a/goodimage/b?sig=x",
        "https://anything.example/x",
        "https://8.8.8.8/x",
        "https://[2a02:6b8::1]/x",
    ],
)
def test_what_the_api_gives_needs_no_list(url: str) -> None:
    POLICY.check_given(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://storage.example/x", "only https"),
        ("http://localhost/x", "only https"),
        ("https://user:pass@storage.example/x", "credentials"),
        ("https://10.1.2.3/x", "public"),
        ("https://169.254.169.254/x", "public"),
        ("https://[::ffff:127.0.0.1]/x", "public"),
        ("https://[fe80::1%25eth0]/x", "public"),
        ("file:///etc/passwd", "absolute"),
    ],
)
def test_even_the_api_may_not_give(url: str, reason: str) -> None:
    with pytest.raises(ForbiddenUrlError, match=reason):
        POLICY.check_given(url)


def test_an_api_on_loopback_may_give_loopback_over_http_of_another_name_and_port() -> None:
    LOCAL.check_given("http://localhost:9000/file")
    LOCAL.check_given("http://[::1]:9000/file")
    with pytest.raises(ForbiddenUrlError, match="only https"):
        LOCAL.check_given("http://10.0.0.1:9000/file")


def test_loopback_over_http_only_where_listed() -> None:
    LOCAL.check("http://127.0.0.1:9000/file")
    with pytest.raises(ForbiddenUrlError, match="allow list"):
        LOCAL.check("http://localhost:9000/file")
    DownloadPolicy.create("http://127.0.0.1:1/api", ["localhost"]).check("http://localhost:2/f")


def test_loopback_is_refused_where_the_api_is_elsewhere_even_if_listed() -> None:
    policy = DownloadPolicy.create("https://api.moysklad.ru/api", ["localhost", "127.0.0.1"])
    for url in ("http://localhost/x", "http://127.0.0.1/x", "https://127.0.0.1/x"):
        with pytest.raises(ForbiddenUrlError):
            policy.check(url)


PRIVATE = [
    "0.0.0.0",  # noqa: S104 (an address to refuse)
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "3fff::1",
    "5f00::1",
    "64:ff9b:1::808:808",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:0a00:0001::1",
    "2001:0:0:0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_public_address(address: str) -> None:
    assert not is_public(address)
    assert not POLICY.permits(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "185.12.0.1", "2a02:6b8::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_a_public_address(address: str) -> None:
    assert is_public(address)
    assert POLICY.permits(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_permitted_beside_an_api_on_loopback_only(address: str) -> None:
    assert LOCAL.permits(address)
    assert not POLICY.permits(address)


def test_an_api_on_loopback_opens_no_other_private_address() -> None:
    loopback = {a for a in PRIVATE if LOCAL.permits(a)}
    assert loopback == {"127.0.0.1", "127.255.255.254", "::1", "64:ff9b::7f00:1"}


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
