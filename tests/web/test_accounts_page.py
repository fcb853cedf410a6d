"""The page of accounts: what it tells of each, what it lets one do, and what it never shows."""

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from dependency_injector import providers
from sqlalchemy import text

from imgsync.application.parking import TryAgain
from imgsync.domain.errors import StoreError
from imgsync.domain.model import Abilities, Account, LinkSettings, Parking, TokenKind
from imgsync.domain.ports.moysklad import RateInUse
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.runs import ChildProof
from imgsync.domain.tasks import TaskStatus
from imgsync.domain.webhooks import WebhookState
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.accounts import abilities_in_words
from imgsync.testing import MemoryMoySkladFactory

pytestmark = [pytest.mark.anyio, pytest.mark.database]
SECRET = "s3cret-of-the-child"
HOOK = "https://photos.example/webhooks/moysklad/s3cret-of-the-hook"
HOSTILE = "<script>alert(1)</script>"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)


class Rates(MemoryMoySkladFactory):
    async def rate(self, account: Account) -> RateInUse | None:
        if account.id == "perm":
            raise StoreError("gone")
        return RateInUse(30, 45, 3.0, 4) if account.id == "omsk" else None


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    for account_id, name, kind in (
        ("m", "Main", TokenKind.SOLUTION),
        ("omsk", "Omsk", TokenKind.USER),
        ("perm", HOSTILE, TokenKind.DRAFT),
    ):
        await made.accounts().add(Account(account_id, name, kind, SECRET))
        if account_id != "m":
            await made.settings().link("m", account_id, LinkSettings(sync_images_all=True))
    yield made
    await close(made)


async def card(browser: httpx.AsyncClient, account_id: str) -> str:
    """What the page tells of an account, as text."""
    page = (await browser.get("/accounts")).text
    assert "<script>" not in page
    for hidden in (SECRET, HOOK, "photos.example", "moysklad.ru", "s3cret"):
        assert hidden not in page, hidden
    (found,) = [
        one for one in page.split('<li class="card">')[1:] if f"Account {account_id}<" in one
    ]
    told = html.unescape(re.sub(r"<[^>]+>", " ", found))
    return " ".join(told.split())


async def put(container: Container, child: str, number: int = 1) -> None:
    key = f"{child}/product/{number}"
    await container.queue().enqueue([NewTask({"name": "Lamp"}, key, child)])


async def test_an_account_that_works_is_told_in_words(
    browser: httpx.AsyncClient, container: Container
) -> None:
    container.moysklad.override(providers.Object(Rates()))
    await container.proofs().put(ChildProof("omsk", "m", NOW, NOW, {"equal": 3}))
    told = await card(browser, "omsk")
    for words in (
        "Franchise Takes requests",
        "Token of a user",
        "A request costs 4 units",
        "30 of 45 units in the last 3 s",
        f"Last found equal {NOW.astimezone():%b}",
        "Nothing yet: that is learnt along the way.",
    ):
        assert words in told, told
    assert "Main account Takes requests" in await card(browser, "m")
    assert "Last found equal" not in await card(browser, "m")
    assert "nothing was sent yet" in await card(browser, "m")
    perm = await card(
        browser, "perm"
    )  # the store of its pace cannot be read, which costs that only
    assert "Token of a solution in draft" in perm
    assert "nothing was sent yet" in perm


async def test_a_parked_account_says_why_and_is_tried_at_once(
    browser: httpx.AsyncClient, container: Container
) -> None:
    await container.accounts().park("omsk", Parking(f"{SECRET} is refused (1056)", LATER))
    await put(container, "omsk")
    (held,) = await container.queue().claim(lease=container.lease())
    await container.queue().park(held, account_id="omsk", until=LATER, error="refused")
    told = await card(browser, "omsk")
    assert "Takes no requests" in told
    assert "••• is refused (1056)" in told
    assert "Try now" in told
    assert "Try now" not in await card(browser, "m")
    assert (await browser.post("/accounts/omsk/try")).status_code == 403
    token = re.search(r'name="csrf" value="([^"]+)"', (await browser.get("/accounts")).text)
    assert token
    answer = await browser.post("/accounts/omsk/try", data={"csrf": token[1]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/accounts?woken=1")
    assert (
        "1 task that waited for it is due now."
        in (await browser.get(answer.headers["location"])).text
    )
    assert "Takes no requests" not in await card(browser, "omsk")
    assert await container.accounts().parking("omsk") is None
    (task,) = await container.queue().claim(lease=container.lease())
    assert task.account_id == "omsk"
    (entry,) = await container.audit_log().find()
    assert (entry.action, entry.subject) == ("try account", "Omsk")
    again = await browser.post("/accounts/none/try", data={"csrf": token[1]})
    assert again.status_code == 404


async def test_credentials_that_are_stored_meanwhile_stay(container: Container) -> None:
    """Somebody stores a new token while the button is pressed."""
    accounts = container.accounts()
    await accounts.park("omsk", Parking("refused", LATER))
    new = Account("omsk", "Omsk", TokenKind.USER, "the-new-one")

    class Slow:
        async def now(self) -> datetime:
            await accounts.add(new)
            await accounts.park("omsk", Parking("refused too", LATER), new)
            return datetime.now(UTC)

    await TryAgain(accounts, container.queue(), Slow())("omsk")
    assert (await accounts.get("omsk")).secret == "the-new-one"
    assert await accounts.parking("omsk") == Parking("refused too", LATER)


async def test_webhooks_are_told_without_their_address(
    browser: httpx.AsyncClient, container: Container
) -> None:
    assert "None are set up" in await card(browser, "m")
    states = container.webhook_states()
    for state, words in (
        (WebhookState("m", HOOK, 9, 9), "All 9 work."),
        (WebhookState("m", HOOK, 9, 7, 2), "MoySklad has switched 2 of 9 off."),
        (WebhookState("m", HOOK, 9, 0, 0, f"refused: {HOOK}"), "0 of 9 work. refused: (address)"),
        (WebhookState("m", None), "None are set up"),
    ):
        await states.put(state)
        told = await card(browser, "m")
        assert words in told
        assert "Looked at —" not in told
        assert "Last message —" in told


async def test_the_last_error_is_that_of_the_newest_task_that_failed(
    browser: httpx.AsyncClient, container: Container
) -> None:
    await put(container, "omsk")
    with container.database().engine.begin() as connection:
        connection.execute(
            text("UPDATE sync_queue SET status = 'failed', error = :error"),
            {"error": f"storage full of {SECRET}"},
        )
    await put(container, "omsk", 2)
    await container.task_list().cancel([2])
    told = await card(browser, "omsk")
    assert "Last failed task Lamp ," in told
    assert "storage full of •••" in told
    assert "Last failed task" not in await card(browser, "perm")
    assert (await container.queue().counts())[TaskStatus.FAILED] == 2
    await put(container, "omsk")  # which takes the place of the one that failed
    assert "Last failed task" not in await card(browser, "omsk")


def test_abilities_are_told_as_far_as_they_are_known() -> None:
    assert abilities_in_words(Abilities()) == []
    told = " ".join(
        abilities_in_words(
            Abilities(
                bulk=True,
                permanent_links=False,
                permanent_hosts=frozenset({"cdn.moysklad.ru"}),
                accepted_image_bytes=4_200_000,
                refused_formats=frozenset({"webp", "gif"}),
            )
        )
    )
    assert "many products go in one request" in told
    assert "Each image that is read costs a request" in told
    assert "4.2 MB" in told
    assert "GIF, WEBP" in told
    assert "moysklad.ru" not in told
    assert "stay" not in told  # not known


async def test_the_page_speaks_russian(browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/accounts", headers={"Accept-Language": "ru"})).text
    assert "Токен пользователя" in page
    assert "Франшиза" in page
