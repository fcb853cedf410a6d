"""Webhooks of accounts: made, looked after, removed; and which of our writes fire none."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.events import SqlWebhookStates
from imgsync.adapters.sql.web import SqlWebSecrets
from imgsync.application.accounts import UnlinkAccounts
from imgsync.application.webhooks import (
    CheckWebhooks,
    DropWebhooks,
    InstallWebhooks,
    KeepWebhooks,
    NoWebhooksWantedError,
    OwnPrefixes,
    RemoveWebhooks,
    WebhooksOutcome,
)
from imgsync.domain.errors import (
    AuthorisationError,
    ImgsyncError,
    NoWebhookRightError,
    StoreError,
    UnavailableError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    Account,
    AccountName,
    EntityType,
    EntityTypes,
    LinkSettings,
    Parking,
    StoredLink,
    TokenKind,
)
from imgsync.domain.ports.runner import NoListeners
from imgsync.domain.webhooks import (
    RECEPTION_SECRET,
    Webhook,
    WebhookState,
    plan_webhooks,
    reception_prefix,
)
from imgsync.testing import (
    MemoryAccounts,
    MemoryMoySklad,
    MemoryMoySkladFactory,
    MemorySettings,
    MemoryStore,
    SetClock,
)

pytestmark = pytest.mark.anyio
BASE = "https://sync.example"
PREFIX = f"{BASE}/webhooks/moysklad/"
TYPES = EntityTypes([EntityType("product"), EntityType("bundle")])
ALL = 6
FOREIGN = Webhook("f1", "https://crm.example/hook", "product", "UPDATE")


class Told(NoListeners):
    def __init__(self) -> None:
        self.told: list[tuple[AccountName, int]] = []

    async def webhooks_off(self, account: AccountName, count: int) -> None:
        self.told.append((account, count))


@dataclass
class Desk:
    """Two main accounts with a child each."""

    keep: KeepWebhooks
    moysklad: MemoryMoySkladFactory
    clock: SetClock
    told: Told = field(default_factory=Told)
    guarded: set[str] = field(default_factory=set)

    async def install(self, *names: str, base: str = BASE) -> list[WebhooksOutcome]:
        return await InstallWebhooks(self.keep)(base, names)

    async def check(self) -> list[WebhooksOutcome]:
        return await CheckWebhooks(self.keep, self.told)()

    async def remove(self, *names: str) -> list[WebhooksOutcome]:
        return await RemoveWebhooks(self.keep)(names)

    def shop(self, account_id: str) -> MemoryMoySklad:
        return self.moysklad.accounts.setdefault(account_id, MemoryMoySklad())

    def hooks(self, account_id: str) -> list[Webhook]:
        return list(self.shop(account_id).hooks.values())

    async def url(self) -> str:
        return PREFIX + await self.keep.known_secret()

    async def states(self) -> dict[str, WebhookState]:
        return await self.keep.by_account()


@pytest.fixture
async def desk(sqlite_database: Database) -> Desk:
    store = MemoryStore(SetClock())
    accounts, settings = MemoryAccounts(store), MemorySettings(store)
    for account_id, name in (("m1", "Main"), ("m2", "Other"), ("c1", "North"), ("c2", "South")):
        await accounts.add(Account(account_id, name, TokenKind.SOLUTION, f"token-{account_id}"))
    await settings.link("m1", "c1", LinkSettings(sync_images_all=True))
    await settings.link("m2", "c2", LinkSettings(sync_images_all=True))
    moysklad = MemoryMoySkladFactory()
    guarded: set[str] = set()

    def guards(link: StoredLink) -> bool:
        return link.child_id in guarded

    clock = SetClock()
    keep = KeepWebhooks(
        accounts,
        settings,
        SqlWebhookStates(sqlite_database, clock),
        SqlWebSecrets(sqlite_database),
        moysklad,
        TYPES,
        guards,
    )
    return Desk(keep, moysklad, clock, guarded=guarded)


@pytest.mark.parametrize(
    ("base", "prefix"),
    [
        ("https://sync.example", PREFIX),
        (" https://Sync.Example/ ", PREFIX),
        ("https://sync.example:8443/a/b/", "https://sync.example:8443/a/b/webhooks/moysklad/"),
        ("https://магазин.рф", "https://xn--80aairftm.xn--p1ai/webhooks/moysklad/"),
        ("http://127.0.0.1:8425", "http://127.0.0.1:8425/webhooks/moysklad/"),
    ],
)
async def test_the_address_of_the_reception(base: str, prefix: str) -> None:
    assert reception_prefix(base) == prefix


@pytest.mark.parametrize(
    "base",
    [
        "",
        "sync.example",
        "ftp://sync.example",
        "http://sync.example",
        "https://sync",
        "https://localhost",
        "https://user:secret@sync.example",
        "https://sync.example?x=1",
        "https://sync.example/a b",
        "https://sync.example\nX: y",
        "https://sync.example:99999",
        "https://sync.example/а",
        "https://sync..example",
        f"https://sync.example/{'a' * 240}",
    ],
)
async def test_what_is_no_address_of_the_reception(base: str, desk: Desk) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        await desk.install(base=base)
    assert "\n" not in str(caught.value)
    assert desk.moysklad.accounts == {}
    assert await desk.states() == {}


async def test_each_type_and_action_of_each_main_account(desk: Desk) -> None:
    outcomes = await desk.install()
    assert [(o.account.name, o.made, o.problem) for o in outcomes] == [
        ("Main", ALL, ""),
        ("Other", ALL, ""),
    ]
    url = await desk.url()
    for main in ("m1", "m2"):
        hooks = desk.hooks(main)
        assert {hook.subject for hook in hooks} == {
            (kind, action)
            for kind in ("product", "bundle")
            for action in ("CREATE", "UPDATE", "DELETE")
        }
        assert {hook.url for hook in hooks} == {url}
        assert all(hook.fields == (hook.action == "UPDATE") for hook in hooks)
    assert len(url) <= 255
    assert "c1" not in desk.moysklad.accounts
    state = (await desk.states())["m1"]
    assert (state.url, state.wanted, state.working) == (PREFIX, ALL, ALL)
    assert state.checked_at is not None


async def test_installed_again_nothing_is_sent(desk: Desk) -> None:
    await desk.install()
    before, secret = desk.hooks("m1"), await desk.keep.known_secret()
    calls = list(desk.shop("m1").calls)
    (first, _) = await desk.install()
    assert (first.made, first.changed, first.removed) == (0, 0, 0)
    assert desk.hooks("m1") == before
    assert desk.shop("m1").calls == [*calls, "webhooks"]
    assert await desk.keep.known_secret() == secret


async def test_others_are_never_touched(desk: Desk) -> None:
    desk.shop("m1").hooks["f1"] = FOREIGN
    near = replace(FOREIGN, id="f2", url=f"{BASE}/webhooks/other", action="DELETE")
    desk.shop("m1").hooks["f2"] = near
    await desk.install()
    await desk.install(base="https://new.example")
    await desk.check()
    await desk.remove()
    assert desk.shop("m1").hooks == {"f1": FOREIGN, "f2": near}


async def test_a_new_address_replaces_the_former_one_without_more_than_one(desk: Desk) -> None:
    desk.shop("m1").most_webhooks = 1  # as a solution may have
    await desk.install("Main")
    ids = {hook.id for hook in desk.hooks("m1")}
    (outcome,) = await desk.install("Main", base="https://new.example/sync")
    assert (outcome.problem, outcome.changed, outcome.made) == ("", ALL, 0)
    assert {hook.id for hook in desk.hooks("m1")} == ids
    assert all(
        hook.url.startswith("https://new.example/sync/webhooks/") for hook in desk.hooks("m1")
    )


async def test_what_died_half_way_is_mended(desk: Desk) -> None:
    """The state names the new address, and the webhooks lead to the former one still."""
    await desk.install("Main")
    secret = await desk.keep.known_secret()
    await desk.keep.states.put(WebhookState("m1", "https://new.example/webhooks/moysklad/"))
    await desk.check()
    assert {hook.url for hook in desk.hooks("m1")} == {
        f"https://new.example/webhooks/moysklad/{secret}"
    }


async def test_two_hosts_at_once_make_one_of_each(desk: Desk) -> None:
    """The second makes them between the first one's look and its request."""
    shop = desk.shop("m1")
    again = InstallWebhooks(desk.keep)
    begun = False

    async def save(webhooks: list[Webhook]) -> list[ImgsyncError | None]:
        nonlocal begun
        if not begun:
            begun = True
            await again(BASE, ["Main"])
        return await MemoryMoySklad.save_webhooks(shop, webhooks)

    shop.save_webhooks = save  # type: ignore[method-assign, assignment]
    (outcome,) = await desk.install("Main")
    assert outcome.problem == ""
    assert len(desk.hooks("m1")) == ALL
    assert (await desk.states())["m1"].working == ALL


async def test_an_answer_that_lies_is_not_believed(desk: Desk) -> None:
    shop = desk.shop("m1")

    async def save(webhooks: list[Webhook]) -> list[ImgsyncError | None]:
        return [None for _ in webhooks]

    shop.save_webhooks = save  # type: ignore[method-assign, assignment]
    (outcome,) = await desk.install("Main")
    assert outcome.problem == f"account 'Main': MoySklad does not show {ALL} of them"
    assert outcome.state.working == 0
    assert shop.count("webhooks") <= 4


def _no_right(shop: MemoryMoySklad) -> None:
    shop.webhook_plan = "no right"


def _no_tariff(shop: MemoryMoySklad) -> None:
    shop.webhook_plan = "none"


def _full(shop: MemoryMoySklad) -> None:
    shop.most_webhooks = 1
    shop.hooks["f1"] = FOREIGN


def _gone(shop: MemoryMoySklad) -> None:
    shop.fail = lambda _: UnavailableError("no answer for 'Main'")


@pytest.mark.parametrize(
    ("trouble", "said", "working"),
    [
        (_no_right, "administrator", 0),
        (_no_tariff, "its tariff has no webhooks", 0),
        (_full, "for 1 of those that are wanted", ALL - 1),
        (_gone, "no answer", 0),
    ],
)
async def test_one_account_that_cannot_have_them(
    desk: Desk, trouble: Callable[[MemoryMoySklad], None], said: str, working: int
) -> None:
    trouble(desk.shop("m1"))
    bad, good = await desk.install()
    assert said in bad.problem
    assert "'Main'" in bad.problem
    assert good.problem == ""
    state = (await desk.states())["m1"]
    assert (state.working, state.problem, state.url) == (working, bad.problem, PREFIX)


async def test_no_error_shows_the_secret(desk: Desk) -> None:
    await desk.install("Main")
    secret = await desk.keep.known_secret()
    desk.shop("m1").fail = lambda _: UnavailableError(f"url: {PREFIX}{secret} is refused")
    (outcome,) = await desk.install("Main", base="https://new.example")
    assert secret not in repr(outcome)
    assert "is refused" in outcome.problem


async def test_accounts_that_need_none(desk: Desk) -> None:
    with pytest.raises(NoWebhooksWantedError, match="'North'"):
        await desk.install("Main", "North")
    with pytest.raises(UnknownAccountError):
        await desk.install("Main", "nobody")
    assert await desk.states() == {}
    for child in ("c1", "c2"):
        await desk.keep.settings.unlink(child)
    with pytest.raises(NoWebhooksWantedError, match="none is linked"):
        await desk.install()


async def test_a_guarded_child_has_its_own(desk: Desk) -> None:
    await desk.install()
    desk.guarded.add("c1")
    await desk.check()
    assert len(desk.hooks("c1")) == ALL
    desk.guarded.clear()
    await desk.check()
    assert desk.hooks("c1") == []
    assert "c1" not in await desk.states()


async def test_a_check_does_nothing_before_anything_is_installed(desk: Desk) -> None:
    assert await desk.check() == []
    assert desk.moysklad.accounts == {}


async def test_a_check_mends_what_is_gone_and_off(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await desk.install("Main")
    shop = desk.shop("m1")
    gone, off, also = list(shop.hooks.values())[:3]
    del shop.hooks[gone.id]
    for hook in (off, also):
        shop.hooks[hook.id] = replace(hook, enabled=False)
    (outcome,) = await desk.check()
    assert (outcome.made, outcome.switched_on, outcome.found_off) == (1, 2, 2)
    assert len(shop.hooks) == ALL
    assert all(hook.enabled for hook in shop.hooks.values())
    assert desk.told.told == [(AccountName("m1", "Main"), 2)]
    state = (await desk.states())["m1"]
    assert (state.working, state.switched_off, state.problem) == (ALL, 0, "")
    said = caplog.text
    assert "account 'Main': MoySklad had switched 2 webhooks off; they are on again" in said
    assert "account 'Main': 1 webhooks were gone and are there again" in said
    await desk.check()
    assert len(desk.told.told) == 1


async def test_the_same_trouble_is_told_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.install("Main")
    shop = desk.shop("m1")
    shop.hooks = {key: replace(hook, enabled=False) for key, hook in shop.hooks.items()}
    shop.webhook_plan = "none"
    for _ in range(3):
        (outcome,) = await desk.check()
        assert "tariff" in outcome.problem
    assert (await desk.states())["m1"].switched_off == ALL
    assert desk.told.told == [(AccountName("m1", "Main"), ALL)]
    assert caplog.text.count("do not all work") == 1
    shop.webhook_plan = "webhooks"
    (outcome,) = await desk.check()
    assert (outcome.problem, outcome.switched_on) == ("", ALL)


async def test_an_outage_tells_nothing_of_the_webhooks(desk: Desk) -> None:
    await desk.install("Main")
    desk.shop("m1").fail = lambda _: UnavailableError("no answer")
    (outcome,) = await desk.check()
    assert (outcome.problem, outcome.state.working) == ("no answer", ALL)
    desk.shop("m1").fail = lambda _: None
    assert (await desk.check())[0].problem == ""


async def test_a_parked_account_is_left_alone(desk: Desk) -> None:
    await desk.install("Main")
    until = desk.clock.now() + timedelta(days=30_000)
    await desk.keep.accounts.park("m1", Parking("its token is refused", until))
    calls = list(desk.shop("m1").calls)
    (outcome,) = await desk.check()
    assert "its token is refused" in outcome.problem
    assert desk.shop("m1").calls == calls
    assert (await desk.states())["m1"].working == ALL


async def test_those_that_were_not_named_are_not_made_by_the_check(desk: Desk) -> None:
    await desk.install("Main")
    assert [one.account.id for one in await desk.check()] == ["m1"]
    assert desk.hooks("m2") == []


async def test_a_main_account_that_is_linked_later_has_its_own(desk: Desk) -> None:
    await desk.install()
    await desk.keep.accounts.add(Account("m3", "Third", TokenKind.SOLUTION, "token-3"))
    await desk.keep.accounts.add(Account("c3", "West", TokenKind.SOLUTION, "token-4"))
    await desk.keep.settings.link("m3", "c3", LinkSettings(sync_images_all=True))
    await desk.check()
    assert len(desk.hooks("m3")) == ALL


async def test_removed_they_stay_away(desk: Desk) -> None:
    await desk.install()
    (outcome,) = await desk.remove("Main")
    assert (outcome.removed, outcome.problem) == (ALL, "")
    assert desk.hooks("m1") == []
    await desk.check()
    assert desk.hooks("m1") == []
    assert len(desk.hooks("m2")) == ALL
    await desk.remove()
    assert desk.hooks("m2") == []
    assert await desk.check() == []


async def test_what_cannot_be_removed_stays_as_it_was(desk: Desk) -> None:
    await desk.install("Main")
    before = await desk.states()
    desk.shop("m1").fail = lambda _: UnavailableError("no answer")
    (outcome,) = await desk.remove("Main")
    assert outcome.problem == "no answer"
    assert await desk.states() == before
    assert len(desk.hooks("m1")) == ALL


async def _unlink(desk: Desk, *children: str) -> None:
    ended = DropWebhooks(desk.keep)
    await UnlinkAccounts(desk.keep.accounts, desk.keep.settings, ended=ended)(children)


async def test_of_a_main_account_without_children_they_go(desk: Desk) -> None:
    await desk.install()
    await _unlink(desk, "c1")
    assert desk.hooks("m1") == []
    assert len(desk.hooks("m2")) == ALL
    assert sorted(await desk.states()) == ["m2"]


async def test_what_unlinking_could_not_remove_the_check_does(desk: Desk) -> None:
    await desk.install()
    desk.shop("m1").fail = lambda _: UnavailableError("no answer")
    await _unlink(desk, "c1")
    assert sorted(await desk.states()) == ["m1", "m2"]
    desk.shop("m1").fail = lambda _: None
    await desk.check()
    assert desk.hooks("m1") == []
    assert sorted(await desk.states()) == ["m2"]


@pytest.mark.parametrize("error", [AuthorisationError("1056"), NoWebhookRightError("30004")])
async def test_what_is_beyond_reach_is_forgotten(desk: Desk, error: ImgsyncError) -> None:
    await desk.install()
    desk.shop("m1").fail = lambda _: error
    await _unlink(desk, "c1")
    assert sorted(await desk.states()) == ["m2"]


async def test_the_state_of_an_account_that_is_gone_is_forgotten(desk: Desk) -> None:
    await desk.install("Main")
    await desk.keep.states.put(WebhookState("gone", PREFIX, 6, 6))
    await desk.check()
    assert "gone" not in await desk.states()


async def test_of_two_that_are_ours_one_goes() -> None:
    new, old = (f"https://{host}.example/webhooks/moysklad/s" for host in ("new", "old"))
    want = Webhook("", new, "product", "CREATE")
    found = [
        replace(want, id="1", url=old),
        replace(want, id="2", enabled=False),
        replace(want, id="3", entity_type="service"),
        replace(want, id="4", entity_type="service", url=old),
    ]
    plan = plan_webhooks(found, [want], lambda _: True)
    assert plan.save == [replace(want, id="2")]
    assert [hook.id for hook in plan.delete] == ["1", "4"]
    assert (plan.off, plan.missing) == (1, 0)


class _States(SqlWebhookStates):
    asked = 0
    fails = False

    async def all(self) -> list[WebhookState]:
        self.asked += 1
        if self.fails:
            raise StoreError("the store is gone")
        return await super().all()


async def test_our_prefixes_are_known_for_a_minute(sqlite_database: Database) -> None:
    states, now = _States(sqlite_database), 0.0
    prefixes = OwnPrefixes(states, ["https://old.example"], lambda: now)
    assert await prefixes() == ["https://old.example"]
    await states.put(WebhookState("m1", PREFIX))
    await states.put(WebhookState("m2", PREFIX))
    await states.put(WebhookState("m3", None))
    now = 59.0
    assert await prefixes() == ["https://old.example"]
    assert states.asked == 1
    now = 60.0
    assert await prefixes() == ["https://old.example", PREFIX]
    states.fails, now = True, 1000.0
    assert await prefixes() == ["https://old.example", PREFIX]


async def test_prefixes_that_were_never_known_let_nothing_be_written(
    sqlite_database: Database,
) -> None:
    states = _States(sqlite_database)
    states.fails = True
    with pytest.raises(StoreError):
        await OwnPrefixes(states)()


async def test_writes_are_silent_before_there_is_anything_to_fire(desk: Desk) -> None:
    known: list[Any] = []
    shop = desk.shop("m1")

    async def save(webhooks: list[Webhook]) -> list[ImgsyncError | None]:
        known.append(await OwnPrefixes(desk.keep.states)())
        return await MemoryMoySklad.save_webhooks(shop, webhooks)

    shop.save_webhooks = save  # type: ignore[method-assign, assignment]
    await desk.install("Main")
    assert known == [[PREFIX]]


async def test_the_secret_is_kept_by_its_name(desk: Desk) -> None:
    await desk.keep.web_secrets.put(RECEPTION_SECRET, "known-before")
    await desk.install("Main")
    assert {hook.url for hook in desk.hooks("m1")} == {f"{PREFIX}known-before"}
