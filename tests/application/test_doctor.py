"""The checks of the doctor, each by itself: what is well, wrong, and not known."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from imgsync.application.doctor import (
    Check,
    ExamineAccounts,
    Finding,
    Health,
    check_webhooks,
    check_workers,
    clock_finding,
    duration,
    examine,
)
from imgsync.domain.errors import (
    PermissionDeniedError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.model import Account, Identity, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.webhooks import WebhookState
from imgsync.testing import MemoryMoySklad, MemoryMoySkladFactory, picture
from imgsync.testing.memory import MemoryAbilities, MemoryAccounts, MemoryTaskQueue

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
WELL = Finding("a", "", Health.WELL, "it is well")


async def test_a_check_that_hangs_or_breaks_is_a_finding_among_others() -> None:
    async def well() -> Sequence[Finding]:
        return [WELL]

    async def hangs() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    async def refuses() -> Sequence[Finding]:
        raise StoreError("the disk is gone")

    async def breaks() -> Sequence[Finding]:
        raise ValueError("secret-token")

    found = await examine(
        [
            Check("a", well),
            Check("b", hangs, 0.05, "Omsk", "wait"),
            Check("c", refuses),
            Check("d", breaks),
            Check("a", well),
        ]
    )
    assert found == [
        WELL,
        Finding("b", "Omsk", Health.WRONG, "no answer within 0.05 s", "wait"),
        Finding("c", "", Health.WRONG, "the disk is gone"),
        Finding("d", "", Health.UNKNOWN, "the check itself failed: ValueError"),
        WELL,
    ]


async def test_workers_are_seen_by_their_leases() -> None:
    queue = MemoryTaskQueue()
    clock = datetime.now(UTC)
    none, oldest = await check_workers(queue, clock, 0.0)
    assert (none.health, oldest.said) == (Health.UNKNOWN, "no task is due")
    none, oldest = await check_workers(queue, clock, 3 * 3600.0)
    assert (none.health, oldest.health) == (Health.WRONG, Health.WRONG)
    assert oldest.said == "the oldest due task has waited for 3 hours"
    await queue.enqueue([NewTask({"a": 1})])
    (task,) = await queue.claim(lease=timedelta(minutes=2))
    assert task.lease_expires_at is not None
    alive, oldest = await check_workers(queue, task.lease_expires_at - timedelta(seconds=1), 30.0)
    assert (alive.health, alive.said) == (Health.WELL, "alive: 1 task under way")
    assert oldest.health is Health.WELL
    lost, _ = await check_workers(queue, task.lease_expires_at + timedelta(seconds=1), 30.0)
    assert lost.health is Health.WRONG
    assert lost.said == "1 task taken by a worker that is gone, and none runs"
    _, untold = await check_workers(queue, clock, None)
    assert untold.health is Health.UNKNOWN


class States:
    """Implements `WebhookStates`, as far as the check asks it."""

    def __init__(self, *states: WebhookState) -> None:
        self.states = list(states)

    async def all(self) -> list[WebhookState]:
        return self.states

    async def put(self, state: WebhookState) -> None:
        raise AssertionError("a look changes nothing")

    async def forget(self, account_id: str) -> None:
        raise AssertionError("a look changes nothing")


async def test_webhooks_stand_as_they_were_last_seen() -> None:
    url, hour = "https://sync.example/", timedelta(hours=1)
    states = States(
        WebhookState("well", url, 9, 9, 0, "", NOW - hour, NOW),
        WebhookState("off", url, 9, 8, 1, "", NOW, NOW),
        WebhookState("old", url, 9, 9, 0, "", NOW - 30 * hour, None),
        WebhookState("none", None, 0, 0, 0, "", None, None),
        WebhookState("another's", url, 9, 1, 0, "", NOW, NOW),
    )
    names = {name: name.title() for name in ("well", "off", "old", "none")}
    found = {one.about: one.health for one in await check_webhooks(states, names, NOW)}
    assert found == {"Well": Health.WELL, "Off": Health.WRONG, "Old": Health.UNKNOWN}
    (none,) = await check_webhooks(States(), names, NOW)
    assert none.health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("seconds", "health", "way"),
    [(59, "well", "59 s from"), (61, "wrong", "61 s behind"), (-61, "wrong", "61 s ahead of")],
)
async def test_clocks(seconds: int, health: str, way: str) -> None:
    found = clock_finding("MoySklad", NOW + timedelta(seconds=seconds), NOW)
    assert (found.health, way in found.said) == (health, True)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 minute"), (7199, "119 minutes"), (172_800, "2 days")],
)
async def test_durations(seconds: int, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


async def look(shop: MemoryMoySklad, identity: Identity | None = None) -> list[Finding]:
    class Clock:
        def now(self) -> datetime:
            return NOW

    account = Account("1", "Omsk", TokenKind.SOLUTION, "secret")
    identity = identity or Identity("1", "omsk", TokenKind.SOLUTION)
    factory = MemoryMoySkladFactory({"1": shop}, {"secret": identity})
    use = ExamineAccounts(MemoryAccounts(), MemoryAbilities(), factory, Clock())
    return await examine(use.checks([account]))


async def test_an_account_that_is_well_and_one_without_rights() -> None:
    shop = MemoryMoySklad(clock=lambda: NOW)
    shop.add("product", "Lamp", [("1.png", picture(1))])
    found = await look(shop)
    assert {one.health for one in found} == {Health.WELL}
    assert [one.check for one in found] == ["account", "abilities", "clock", "storage"]
    assert found[0].said == "it is 'omsk', 1 product in sight; may manage webhooks"
    shop.webhook_plan = "no right"
    assert "no right to manage webhooks" in (await look(shop))[0].said
    shop.fail = lambda call: PermissionDeniedError("403") if call == "list_entities" else None
    wrong, *rest = await look(shop)
    assert (wrong.health, wrong.todo[:4]) == (Health.WRONG, "give")
    assert any(one.said.startswith("it is 'omsk'") for one in rest)


async def test_an_account_that_cannot_be_asked() -> None:
    shop = MemoryMoySklad(fail=lambda _: UnavailableError("no way there"))
    shop.add("product", "Lamp")
    (found,) = await look(shop)
    assert (found.health, found.said) == (Health.WRONG, "no way there")
    another = Identity("2", "tomsk", TokenKind.SOLUTION)
    (found,) = await look(MemoryMoySklad(), another)
    assert found.said == "its token belongs to account 2 ('tomsk')"
    found, *_ = await look(MemoryMoySklad(), Identity("1", "omsk", TokenKind.USER))
    assert found.said == "it is stored as 'solution', and is 'user'"


async def test_images_that_are_out_of_reach() -> None:
    shop = MemoryMoySklad()
    shop.add("product", "Lamp", [("1.png", picture(1))])

    def fail(call: str) -> Exception | None:
        return UnavailableError("a firewall") if call.startswith("storage_of") else None

    shop.fail = fail
    found = await look(shop)
    assert found[-1].said == "an image cannot be fetched: a firewall"
    assert found[-1].health is Health.WRONG
