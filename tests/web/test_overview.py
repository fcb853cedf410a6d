"""Whether all pictures are right, everywhere, now: what the first page says of that, and why."""

import asyncio
import itertools
import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from typing import Any

import pytest
from sqlalchemy import event

from imgsync.adapters.sql.events import SqlEventStore
from imgsync.domain.model import NO_END, Account, LinkSettings, Parking, StoredLink, TokenKind
from imgsync.domain.ports.overview import ChildState
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.runs import ChildProof, Usage
from imgsync.domain.webhooks import Event, EventAction, WebhookState
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.web import pages
from imgsync.entrypoints.web.cards import AccountCard, Card
from tests.web.test_pages import browser as browser
from tests.web.test_pages import container as container

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like another HTTP client better
    from starlette.testclient import TestClient

pytestmark = pytest.mark.database

NAMES = ("Omsk", "Perm")
RUSSIAN = {"Accept-Language": "ru"}


@pytest.fixture
def call(browser: TestClient, container: Container) -> Callable[..., Any]:
    """Runs a coroutine in the server's loop, once two children are linked and equal."""
    assert browser.portal is not None
    run = browser.portal.call
    run(container.accounts().add, Account("main", "Main", TokenKind.USER, "secret-m"))
    for name in NAMES:
        run(container.accounts().add, Account(name, name, TokenKind.USER, f"secret-{name}"))
        run(container.settings().link, "main", name, LinkSettings(sync_images=True))
        now = datetime.now(UTC)
        run(container.proofs().put, ChildProof(name, "main", now, now, {"equal": 3}))
    return run


def first_line(browser: TestClient, **headers: str) -> str:
    page = unescape(browser.get("/", headers=headers).text)
    return page.partition('<p class="headline ')[2].partition("</p>")[0]


def test_without_a_link_it_says_so(browser: TestClient) -> None:
    assert "No franchise is linked yet" in first_line(browser)


def test_all_is_well(browser: TestClient, call: Callable[..., Any]) -> None:
    assert call is not None
    assert first_line(browser).startswith('good">All 2 franchises show the right pictures, as of')
    page = browser.get("/").text
    assert page.count('<span class="badge good">Equal</span>') == 2
    assert "Not set up: changes are found when the accounts are compared" in page
    assert "Все 2 франшизы показывают верные изображения" in first_line(browser, **RUSSIAN)


def test_what_was_not_compared_for_long_is_not_called_right(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    for number, hours in enumerate((35, 37)):
        before = datetime.now(UTC) - timedelta(hours=hours)
        call(container.proofs().forget, NAMES[number])
        call(container.proofs().put, ChildProof(NAMES[number], "main", before, before, {}))
    assert first_line(browser).startswith('care">Of 1 of 2 franchises nobody knows')
    page = browser.get("/").text
    assert "Not compared for long" in page
    # It comes first, as somebody should look at it.
    assert page.index("/children/Perm") < page.index("/children/Omsk")
    call(container.proofs().forget, "Perm")
    assert "Never compared" in browser.get("/").text


def test_what_was_compared_with_a_former_main_account_counts_for_nothing(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    now = datetime.now(UTC)
    call(container.proofs().put, ChildProof("Omsk", "former", now, now, {"equal": 3}))
    assert first_line(browser).startswith('care">Of 1 of 2 franchises nobody knows')
    assert "Never compared" in browser.get("/").text


def test_what_is_being_copied_is_told_with_what_is_left(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    queue = container.queue()
    call(queue.enqueue, [NewTask({"n": n}, f"k{n}", "Omsk") for n in range(5)])
    assert first_line(browser).startswith('care">Pictures are being copied now: to 1 of 2')

    async def end_two() -> None:
        for task in await queue.claim(lease=timedelta(minutes=1), limit=2):
            await queue.complete(task, result="done", warnings=[])

    call(end_two)
    page = browser.get("/").text
    assert "<dd>3; 2 a minute, about 2 min left</dd>" in page
    assert '<span class="badge care">Being copied</span>' in page


def test_what_differs_is_told_in_red_with_a_number(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    now = datetime.now(UTC)
    found = {"different": 2, "missing": 3, "left": 5, "unmatched": 7}
    call(container.proofs().put, ChildProof("Omsk", "main", now, None, found))
    assert first_line(browser).startswith('bad">Franchises that may show wrong pictures: 1 of 2')
    badge = '<a class="badge bad" href="/children/Omsk/differences">5 differ</a>'
    assert badge in browser.get("/").text
    assert "5 отличаются" in browser.get("/", headers=RUSSIAN).text


def test_what_has_no_counterpart_is_told_beside_what_is_equal(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    """As `check` tells it, which ends with 1 for it: nobody can say that it is right there."""
    now = datetime.now(UTC)
    found = {"equal": 3, "unmatched": 2}
    call(container.proofs().put, ChildProof("Perm", "main", now, now, found))
    there = "/children/Perm/differences?kind=unmatched"
    headline = first_line(browser)
    assert headline.startswith('good">All 2 franchises show the right pictures, as of')
    said = f'Without a counterpart there, so not compared: 2 (<a href="{there}">Perm</a>).'
    assert headline.endswith(f". {said}")
    badge = f'<a class="badge care" href="{there}">2 without a counterpart</a>'
    for path, count in (("/", 1), ("/children/Perm", 1), ("/children/Omsk", 0)):
        page = browser.get(path).text
        assert page.count(badge) == count
        assert '<span class="badge good">Equal</span>' in page
    assert "не сравнить: 2 (" in first_line(browser, **RUSSIAN)
    assert "без пары: 2" in browser.get("/children/Perm", headers=RUSSIAN).text
    # What is wrong elsewhere does not hide it.
    call(container.proofs().put, ChildProof("Omsk", "main", now, None, {"missing": 1, "left": 1}))
    assert first_line(browser).startswith('bad">')
    assert first_line(browser).endswith(said)
    assert badge in browser.get("/").text
    # Of one that receives nothing nobody asks.
    call(partial(container.change_settings(), "Perm", first_only=False, all_images=False))
    assert "counterpart" not in browser.get("/").text


def test_of_many_children_with_something_without_a_counterpart_some_are_named(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    link_more(container, call, 5, unmatched=1)
    headline = first_line(browser)
    assert "so not compared: 5 (" in headline
    assert headline.count("/differences?kind=unmatched") == 3
    assert headline.endswith(">c02</a> and 2 more).")
    assert first_line(browser, **RUSSIAN).endswith(" и ещё 2).")


def test_an_account_that_takes_no_requests_makes_nobody_sure(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    call(container.accounts().park, "main", Parking("refused by https://api.moysklad.ru/x", until))
    assert first_line(browser).startswith('bad">Franchises that may show wrong pictures: 2 of 2')
    page = browser.get("/children/Omsk").text
    assert "The main account takes no requests: refused by …" in page
    assert "moysklad.ru" not in page + browser.get("/").text


def test_an_account_whose_token_was_taken_is_not_said_to_be_tried_again(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    for account_id, said in (("Omsk", "The account takes"), ("main", "The main account takes")):
        call(container.accounts().park, account_id, Parking("the solution was removed", NO_END))
        for path in ("/", f"/children/{'Omsk' if account_id == 'Omsk' else 'Perm'}"):
            page = browser.get(path).text
            assert f"{said} no requests: the solution was removed. It does again once" in page
            assert "tried again by itself" not in page
    page = browser.get("/accounts").text
    assert page.count("Nothing is tried by itself") == 2
    assert "Try now" not in page
    assert "9999" not in page
    assert "Он снова заработает" in browser.get("/", headers=RUSSIAN).text
    until = datetime.now(UTC) + timedelta(hours=1)
    call(container.accounts().park, "Omsk", Parking("refused", until))
    assert "refused. It is tried again by itself" in browser.get("/children/Omsk").text


NOW = datetime.now(UTC)
COMPARED = {
    "never": ChildState(),
    "equal": ChildState(compared_at=NOW, equal_at=NOW),
    "settled": ChildState(compared_at=NOW),
    "differs": ChildState(compared_at=NOW, equal_at=NOW, different=2),
    "copied": ChildState(compared_at=NOW, different=2, is_copied=True),
    "old": ChildState(compared_at=NOW - timedelta(days=2), equal_at=NOW - timedelta(days=2)),
}
PARKED = {"": None, "an hour": NOW + timedelta(hours=1), "for good": NO_END}


def card_of(
    compared: str, busy: bool, failed: int, own: str, mains: str, is_on: bool, damage: str | None
) -> Card:
    known = COMPARED[compared]
    state = ChildState(
        3 if busy else 0,
        0,
        0,
        known.compared_at,
        known.equal_at,
        known.different,
        known.is_copied,
        PARKED[own],
        own,
    )
    main = ChildState(parked_until=PARKED[mains], parked_reason=mains)
    link = StoredLink("main", "Omsk", LinkSettings(sync_images=is_on), damage)
    return Card(
        "Omsk",
        link,
        AccountCard("Omsk", state, None, None),
        AccountCard("Main", main, None, None),
        failed,
        NOW,
    )


@pytest.mark.slow
def test_the_headline_and_the_cards_never_contradict_each_other(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every state that a child can be in: red above is red below, and green is green."""
    states = itertools.product(
        COMPARED, (False, True), (0, 1), PARKED, ("", "for good"), (True, False), (None, "torn")
    )
    seen: set[str] = set()
    for state in states:
        card = card_of(*state)

        async def cards(_: Container, card: Card = card) -> list[Card]:
            return [card]

        monkeypatch.setattr(pages, "cards_of", cards)
        page = browser.get("/").text
        found = re.search(r'<p class="headline (\w+)">(.*?)</p>', page, re.DOTALL)
        assert found
        (_, _, below) = page.partition('<li class="card">')
        below = below.partition("</li>")[0]
        tones = set(re.findall(r'class="(?:badge )?(bad|care|good|soft)"', below))
        seen.add(found[1])
        if "all are switched off" in found[2]:
            assert tones == {"soft"}, state
        elif found[1] == "good":
            assert tones == {"good"}, state
            assert ">Equal<" in below, state
        elif found[1] == "care":
            assert tones == {"care"}, state
        else:
            assert "bad" in tones, state
            assert "good" not in tones, state
        assert "0 differ" not in below, state
        if found[1] == "good":  # when it was found equal, or why that is not known
            is_proved = card.state.equal_at == card.state.compared_at
            assert ("copied since it was compared" in below) != is_proved, state
        if card.failed:
            assert "copied since it was compared" not in below, state
        # What has failed is told, however little else is known.
        on = is_on_and_whole(card)
        assert ("1 image is missing" in below) == (on and card.failed == 1), state
    assert seen == {"good", "care", "bad"}


def is_on_and_whole(card: Card) -> bool:
    return card.link.settings.enabled and not card.link.damage


def test_one_that_is_switched_off_is_counted_apart(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    call(container.settings().put, "Omsk", LinkSettings())
    assert 'good">The 1 franchise shows the right pictures' in first_line(browser)
    assert "1 more is switched off." in browser.get("/").text
    call(container.settings().put, "Perm", LinkSettings())
    assert "all are switched off" in first_line(browser)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (WebhookState("main", "https://x/secret", 9, 9), "none has arrived yet"),
        (WebhookState("main", "https://x/secret", 9, 7, 2), "has switched off 2 webhooks"),
        (WebhookState("main", "https://x/secret", 9, 8, 0, "1 is missing"), "work: 1 is missing"),
        (WebhookState("main", None), "Not set up"),
    ],
)
def test_whether_webhooks_arrive_is_told_without_their_address(
    browser: TestClient,
    container: Container,
    call: Callable[..., Any],
    state: WebhookState,
    said: str,
) -> None:
    call(container.webhook_states().put, state)
    page = browser.get("/").text
    assert said in page
    assert "https://x" not in page


def test_the_last_webhook_is_told(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    call(container.webhook_states().put, WebhookState("main", "https://x/secret", 9, 9))
    changed = Event("main", "product", "p1", EventAction.UPDATE)
    store, at_once = SqlEventStore(container.database()), timedelta()

    async def come() -> None:
        await store.receive("r1", [changed])
        assert await store.claim(quiet=at_once, longest=at_once, lease=timedelta(minutes=1))

    call(come)
    assert "Webhooks arrive; the last <time" in browser.get("/").text


def test_the_rate_limit_of_this_hour_is_told_of_each_account(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    assert "in use" not in browser.get("/").text
    call(container.usage().add, {"main": Usage(requests=1, units=10**9)})
    call(container.usage().add, {"Omsk": Usage(requests=1, units=1)})
    page = browser.get("/").text
    assert "100 % in use" in page
    assert "1 % in use" in page
    assert "занято 100 %" in browser.get("/", headers=RUSSIAN).text


def link_more(container: Container, call: Callable[..., Any], count: int, **found: int) -> None:
    """Children that are equal, beside the two."""
    now = datetime.now(UTC)
    for number in range(count):
        name = f"c{number:02}"
        call(container.accounts().add, Account(name, name, TokenKind.USER, f"secret-{name}"))
        call(container.settings().link, "main", name, LinkSettings(sync_images=True))
        call(container.proofs().put, ChildProof(name, "main", now, now, {"equal": 3, **found}))


def test_of_many_children_the_equal_ones_are_folded_below_those_that_need_somebody(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    link_more(container, call, 7)
    assert "<details class" not in browser.get("/").text.partition("<main")[2]  # nine are few
    link_more(container, call, 28)
    found = {"different": 2, "left": 2}
    call(container.proofs().put, ChildProof("Omsk", "main", datetime.now(UTC), None, found))
    page = browser.get("/").text
    shown, folded, rest = page.partition('<details class="folded">')
    assert folded
    inside, _, after = rest.partition("</details>")
    assert "<summary>29 are equal</summary>" in inside
    assert inside.count('<li class="card">') == inside.count(">Equal</span>") == 29
    assert shown.count('<li class="card">') == 1
    assert '<a href="/children/Omsk">' in shown
    assert '<a href="/children/Perm">' in inside
    assert "Main account: Main" in after
    assert shown.index('data-live="overview"') < shown.index('<ul class="cards">')
    assert "29 совпадают" in browser.get("/", headers=RUSSIAN).text


def test_where_all_of_many_are_equal_there_is_no_empty_list(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    link_more(container, call, 28)
    page = browser.get("/").text
    assert 'class="headline good">All 30 franchises' in page
    assert "<summary>30 are equal</summary>" in page
    assert page.count('<ul class="cards">') == 1


def test_a_hundred_children_take_few_statements(
    browser: TestClient, container: Container, call: Callable[..., Any]
) -> None:
    async def link_all() -> None:
        await asyncio.gather(
            *(
                container.accounts().add(Account(f"c{n}", f"c{n}", TokenKind.USER, "x"))
                for n in range(100)
            )
        )
        for number in range(100):
            await container.settings().link("main", f"c{number}", LinkSettings(sync_images=True))

    call(link_all)
    statements: list[str] = []
    listener = lambda *told: statements.append(told[2])  # noqa: E731
    event.listen(container.database().engine, "before_cursor_execute", listener)
    assert browser.get("/").text.count("Never compared") == 100
    assert len([one for one in statements if one.lstrip().startswith("SELECT")]) < 20
