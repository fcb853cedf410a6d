"""Logins while somebody guesses passwords from many addresses."""

import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from argon2 import PasswordHasher

from imgsync.domain.logins import Admission, LoginLimits
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import login, sessions
from imgsync.entrypoints.web.login import BROWSER_COOKIE, COOKIE, LIMITS
from imgsync.entrypoints.web.serving import app_of

pytestmark = [pytest.mark.anyio, pytest.mark.database]
PASSWORD = "correct horse battery"


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    await made.web_secrets().put(sessions.PASSWORD, sessions.hash_of(PASSWORD))
    yield made
    await close(made)


class Visitors:
    """Browsers at one server, each at an address of its own."""

    def __init__(self, container: Container) -> None:
        self._app = app_of(container)

    def at(self, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def visitors(container: Container) -> Visitors:
    return Visitors(container)


async def log_in(browser: httpx.AsyncClient, password: str = PASSWORD) -> int:
    return (await browser.post("/login", data={"password": password})).status_code


async def guess_from(container: Container, addresses: int) -> int:
    """Each guesses until it is refused; how many passwords would be checked."""
    attempts, checked = container.login_attempts(), 0
    for number in range(addresses):
        origin = f"10.{number >> 8}.0.{number & 255}"
        while await attempts.begin(origin, login.LIMITS) is Admission.CHECKED:
            checked += 1
    return checked


async def test_a_botnet_of_a_thousand_addresses_keeps_nobody_out(
    container: Container, visitors: Visitors
) -> None:
    known, stranger = visitors.at("198.51.100.1"), visitors.at("203.0.113.1")
    assert await log_in(known) == 303
    known.cookies.delete(COOKIE)
    checked = await guess_from(container, 1000)
    assert checked <= LIMITS.calm + LIMITS.own_in_a_crowd * 1000 <= LIMITS.in_an_hour
    bot = visitors.at("10.0.0.1")
    refused = await bot.post("/login", data={"password": PASSWORD})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "900")
    assert await log_in(stranger, "wrong") == 403
    assert await log_in(stranger) == 303
    assert (await stranger.get("/")).status_code == 200
    assert await log_in(known) == 303


async def test_where_strangers_are_shut_out_a_known_browser_is_told_of_and_gets_in(
    container: Container, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "LIMITS", LoginLimits(calm=20, in_an_hour=200))
    known, stranger = visitors.at("198.51.100.1"), visitors.at("203.0.113.1")
    assert await log_in(known) == 303
    known.cookies.delete(COOKIE)
    assert (await known.get("/")).status_code == 303
    assert await guess_from(container, 100) == 200
    refused = await stranger.post("/login", data={"password": PASSWORD})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
    assert "from many places" in refused.text
    assert await log_in(known) == 303
    # As long as its own attempts are not too many; what it is known by opens nothing by itself.
    known.cookies.delete(COOKIE)
    assert (await known.get("/")).status_code == 303
    for _ in range(LIMITS.own):
        assert await log_in(known, "wrong") == 403
    assert await log_in(known) == 429


async def test_what_makes_a_browser_known_is_signed_and_ends_with_the_password(
    container: Container, visitors: Visitors
) -> None:
    known = visitors.at("198.51.100.1")
    answer = await known.post("/login", data={"password": PASSWORD})
    (put,) = (
        one for one in answer.headers.get_list("set-cookie") if one.startswith(BROWSER_COOKIE)
    )
    for part in ("HttpOnly", "Path=/login", "SameSite=strict"):
        assert part in put
    gate = await sessions.gate(container.web_secrets())
    cookie = known.cookies[BROWSER_COOKIE]
    name = gate.browser(cookie)
    assert name is not None
    # It stays the same one after another login, and is no session.
    assert await log_in(known) == 303
    assert gate.browser(known.cookies[BROWSER_COOKIE]) == name
    assert gate.session(cookie) is None
    assert gate.browser(gate.new()[1]) is None
    for forged in ("", name, cookie[:-1], "x" * 10_000):
        assert gate.browser(forged) is None
    await container.web_secrets().put(sessions.PASSWORD, sessions.hash_of("another password"))
    assert (await sessions.gate(container.web_secrets())).browser(cookie) is None


async def test_a_known_browser_does_not_wait_behind_strangers(
    visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = visitors.at("198.51.100.1")
    assert await log_in(known) == 303
    go_on, verify = threading.Event(), PasswordHasher.verify

    def slow(hasher: PasswordHasher, stored: str, given: str) -> bool:
        if given == "wrong":
            go_on.wait(30)
        return verify(hasher, stored, given)

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    bots = [visitors.at(f"10.0.0.{number}") for number in range(8)]
    guesses = [asyncio.create_task(log_in(bot, "wrong")) for bot in bots]
    try:
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            assert await log_in(known) == 303
        assert not any(guess.done() for guess in guesses)
    finally:
        go_on.set()
    assert await asyncio.gather(*guesses) == [403] * len(bots)
