"""What tasks remember of accounts and settings for a second, and what is heeded all the same."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgsync.application.parking import RecentAccounts, RecentSettings
from imgsync.domain.model import Account, LinkSettings, Parking, TokenKind
from imgsync.testing import MemoryAccounts, MemorySettings, MemoryStore, SetClock

pytestmark = pytest.mark.anyio
OLD = Account("a", "A", TokenKind.SOLUTION, "old")
NEW = replace(OLD, secret="new")


class Uptime:
    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(SetClock())


async def test_what_another_process_changes_is_heeded_after_a_second(store: MemoryStore) -> None:
    uptime, other = Uptime(), MemoryAccounts(store)
    accounts = RecentAccounts(MemoryAccounts(store), uptime)
    settings = RecentSettings(MemorySettings(store), uptime)
    await other.add(OLD)
    await MemorySettings(store).put("a", LinkSettings(sync_images=True))
    assert (await accounts.get("a"), await accounts.parking("a")) == (OLD, None)
    assert (await settings.get("a")).enabled
    await other.add(NEW)
    parking = Parking("401", store.clock.now() + timedelta(hours=1))
    await other.park("a", parking)
    await MemorySettings(store).put("a", LinkSettings())
    uptime.seconds += 0.9
    assert (await accounts.get("a"), await accounts.parking("a")) == (OLD, None)
    uptime.seconds += 0.2
    assert (await accounts.get("a"), await accounts.parking("a")) == (NEW, parking)
    assert not (await settings.get("a")).enabled
    assert await settings.links() == []
    await MemorySettings(store).link("b", "a", LinkSettings())
    assert await settings.links() == []
    uptime.seconds += 1.1
    assert [(one.main_id, one.child_id) for one in await settings.links()] == [("b", "a")]
    await other.add(OLD)
    assert await accounts.parking("a") is None  # that it is parked is not remembered


async def test_what_this_process_changes_is_heeded_at_once(store: MemoryStore) -> None:
    accounts = RecentAccounts(MemoryAccounts(store), Uptime())
    settings = RecentSettings(MemorySettings(store), Uptime())
    await accounts.add(OLD)
    assert (await accounts.get("a"), await accounts.parking("a")) == (OLD, None)
    parking = Parking("401", store.clock.now() + timedelta(hours=1))
    assert await accounts.park("a", parking, OLD)
    assert await accounts.parking("a") == parking
    await accounts.add(NEW)
    assert (await accounts.get("a"), await accounts.parking("a")) == (NEW, None)
    assert not (await settings.get("a")).enabled
    await settings.put("a", LinkSettings(sync_images=True))
    assert (await settings.get("a")).enabled
    assert await settings.links() == []
    await settings.link("b", "a", LinkSettings())
    assert [one.child_id for one in await settings.links()] == ["a"]
    await settings.unlink("a")
    assert await settings.links() == []


async def test_credentials_that_were_replaced_are_neither_parked_nor_used_again(
    store: MemoryStore,
) -> None:
    accounts = RecentAccounts(MemoryAccounts(store), Uptime())
    await accounts.add(OLD)
    used = await accounts.get("a")
    await MemoryAccounts(store).add(NEW)
    parking = Parking("401", store.clock.now() + timedelta(hours=1))
    assert not await accounts.park("a", parking, used)
    assert (await accounts.get("a"), await accounts.parking("a")) == (NEW, None)
