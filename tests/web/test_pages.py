"""Who may see and change what, and what the pages tell."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import sessions
from imgsync.entrypoints.web.login import COOKIE, LIMITS
from imgsync.entrypoints.web.serving import app_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like another HTTP client better
    from starlette.testclient import TestClient

pytestmark = pytest.mark.database

PASSWORD = "correct horse battery"
HOSTILE = "<script>alert(1)</script>"
SECRET = "a-secret-token-of-the-child"


@pytest.fixture
def container(tmp_path: Path, sqlite_url: str) -> Container:
    return Container(config=fixed_config(database_url=sqlite_url, temp_dir=tmp_path / "temp"))


@pytest.fixture
def browser(container: Container) -> Iterator[TestClient]:
    with TestClient(
        app_of(container), base_url="http://localhost", follow_redirects=False
    ) as client:
        assert client.portal is not None
        yield client
        client.portal.call(close, container)


def set_password(browser: TestClient, container: Container, password: str = PASSWORD) -> None:
    assert browser.portal is not None
    hashed = sessions.hash_of(password)
    browser.portal.call(container.web_secrets().put, sessions.PASSWORD, hashed)


def add_child(browser: TestClient, container: Container) -> None:
    assert browser.portal is not None
    for account in (
        Account("main", "Main", TokenKind.SOLUTION, "main-secret"),
        Account("child", HOSTILE, TokenKind.SOLUTION, SECRET),
    ):
        browser.portal.call(container.accounts().add, account)
    settings = LinkSettings(sync_images_all=True)
    browser.portal.call(container.settings().link, "main", "child", settings)


def token_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


@pytest.mark.parametrize("path", ["/", "/audit", "/login", "/static/imgsync.css", "/nothing"])
def test_every_answer_forbids_what_is_not_the_servers_own(browser: TestClient, path: str) -> None:
    headers = browser.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_name_that_is_not_configured_is_not_answered(browser: TestClient) -> None:
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert browser.get("/", headers={"Host": "127.0.0.1:8425"}).status_code == 200


def test_with_a_password_nobody_sees_a_page_before_the_login(
    browser: TestClient, container: Container
) -> None:
    set_password(browser, container)
    answer = browser.get("/audit?before=3")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Faudit%3Fbefore%3D3"
    assert browser.post("/login", data={"password": "wrong"}).status_code == 403
    answer = browser.post("/login", data={"password": PASSWORD, "next": "//evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    page = browser.get("/")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    set_password(browser, container, "another password")
    assert browser.get("/").status_code == 303


def test_a_cookie_opens_nothing_any_more_once_somebody_has_logged_out_with_it(
    browser: TestClient, container: Container
) -> None:
    set_password(browser, container)
    browser.post("/login", data={"password": PASSWORD})
    copied, token = browser.cookies[COOKIE], token_of(browser.get("/").text)
    browser.post("/login", data={"password": PASSWORD})
    other = browser.cookies[COOKIE]
    assert other != copied
    browser.cookies = {COOKIE: copied}
    assert browser.post("/logout", data={"csrf": token}).headers["location"] == "/login"
    browser.cookies = {COOKIE: copied}
    assert browser.get("/").status_code == 303
    assert browser.post("/children/child/sync", data={"csrf": token}).status_code == 403
    assert browser.get("/live").status_code != 200
    browser.cookies = {COOKIE: other}
    assert browser.get("/").status_code == 200


def test_after_too_many_wrong_passwords_the_right_one_is_refused_too(
    browser: TestClient, container: Container
) -> None:
    set_password(browser, container)
    for _ in range(LIMITS.own):
        assert browser.post("/login", data={"password": "wrong"}).status_code == 403
    answer = browser.post("/login", data={"password": PASSWORD})
    assert answer.status_code == 429
    assert browser.get("/").status_code == 303


def test_a_change_needs_the_token_of_its_session(browser: TestClient, container: Container) -> None:
    add_child(browser, container)
    page = browser.get("/children/child").text
    path, token = "/children/child/switches", token_of(page)
    assert browser.post(path, data={"first_only": "on"}).status_code == 403
    assert browser.post(path, data={"first_only": "on", "csrf": "x"}).status_code == 403
    own = {"first_only": "on", "csrf": token}
    assert browser.post(path, data=own, headers={"Origin": "http://evil"}).status_code == 403
    assert browser.post(path, data=own | {"all_images": "on"}).status_code == 303
    assert browser.portal is not None
    settings = browser.portal.call(container.settings().get, "child")
    assert (settings.sync_images, settings.sync_images_all) == (True, False)
    (entry,) = browser.portal.call(container.audit_log().find)
    assert (entry.who, entry.action) == ("nobody logged in", "settings")


def test_names_are_shown_as_text_and_secrets_not_at_all(
    browser: TestClient, container: Container
) -> None:
    add_child(browser, container)
    for path in ("/", "/children/child", "/audit"):
        page = browser.get(path).text
        assert "<script>" not in page  # as in the name; our own name a file
        assert SECRET not in page
    assert "&lt;script&gt;" in browser.get("/").text


def test_a_large_body_is_refused(browser: TestClient) -> None:
    browser.get("/")
    assert browser.post("/logout", content=b"x" * 1_000_001).status_code == 413


def test_pages_speak_the_language_of_the_browser(browser: TestClient) -> None:
    russian = browser.get("/", headers={"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.8"}).text
    assert '<html lang="ru">' in russian
    assert "Обзор" in russian
    assert "Overview" in browser.get("/", headers={"Accept-Language": "de"}).text
    browser.get("/?lang=ru")
    assert "Обзор" in browser.get("/", headers={"Accept-Language": "en"}).text
