"""Events of webhooks in a database: doubled, quiet, held, lapsed, left to some children."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.events import SqlEndedEntities, SqlEventStore, SqlWebhookStates
from imgsync.adapters.sql.repositories import SqlSyncRecordRepository
from imgsync.domain.changes import Change, ChangeAction
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.webhooks import ClaimedEvents, Event, EventAction, WebhookState
from imgsync.testing import SetClock

pytestmark = pytest.mark.anyio
QUIET, LONGEST, LEASE = timedelta(seconds=2), timedelta(seconds=10), timedelta(seconds=60)


def event(entity: str, account: str = "main", action: EventAction = EventAction.UPDATE) -> Event:
    return Event(account, "product", entity, action)


async def claim(store: SqlEventStore) -> ClaimedEvents | None:
    return await store.claim(quiet=QUIET, longest=LONGEST, lease=LEASE)


async def test_a_request_that_comes_again_is_dropped(database: Database) -> None:
    store = SqlEventStore(database)
    came = await asyncio.gather(*(store.receive("r", [event("a"), event("b")]) for _ in range(4)))
    assert sorted(came) == [False, False, False, True]
    assert (await store.backlog()).events == 2
    assert await store.receive("other", [event("a")])
    assert (await store.backlog()).events == 3
    assert await store.receive("r\x00\ud800", [event("\x00\ud800")])


async def test_events_of_an_entity_become_one_once_it_is_quiet(database: Database) -> None:
    clock = SetClock()
    store = SqlEventStore(database, clock)
    await store.receive("1", [event("a", action=EventAction.CREATE), event("b")])
    assert await claim(store) is None
    clock.advance(timedelta(seconds=1.5))
    await store.receive("2", [event("a"), event("c", "another")])
    clock.advance(timedelta(seconds=1))
    claimed = await claim(store)
    assert claimed is not None
    assert [e.entity_id for e in claimed.events] == ["b"]  # 'a' has just changed again
    assert await claim(store) is None
    await store.done(claimed.token)
    clock.advance(timedelta(seconds=1))
    both = [await claim(store), await claim(store)]
    found = {(c.account_id, e.entity_id, e.action) for c in both if c for e in c.events}
    assert found == {
        ("main", "a", EventAction.UPDATE),
        ("another", "c", EventAction.UPDATE),
    }


async def test_an_entity_that_changes_all_the_time_waits_for_ten_seconds(
    database: Database,
) -> None:
    clock = SetClock()
    store = SqlEventStore(database, clock)
    for second in range(10):
        await store.receive(str(second), [event("a")])
        assert await claim(store) is None
        clock.advance(timedelta(seconds=1))
    await store.receive("last", [event("a")])
    claimed = await claim(store)
    assert claimed is not None
    await store.done(claimed.token)
    assert (await store.backlog()).events == 0


async def test_what_comes_while_events_are_held_waits_for_them(database: Database) -> None:
    clock = SetClock()
    store = SqlEventStore(database, clock)
    await store.receive("1", [event("a")])
    clock.advance(timedelta(seconds=3))
    first = await claim(store)
    assert first is not None
    await store.receive("2", [event("a")])
    clock.advance(timedelta(seconds=30))
    assert await claim(store) is None
    assert await store.renew(first.token, LEASE)
    clock.advance(timedelta(seconds=59))
    assert await claim(store) is None
    clock.advance(timedelta(seconds=2))
    assert not await store.renew(first.token, LEASE)
    heir = await claim(store)  # of one that was stopped, and of what came meanwhile
    assert heir is not None
    assert [e.entity_id for e in heir.events] == ["a"]
    await store.done(first.token)  # which goes on, and has lost it
    assert (await store.backlog()).events == 2
    await store.done(heir.token)
    assert (await store.backlog()).events == 0


async def test_hosts_side_by_side_never_take_the_same(database: Database) -> None:
    stores = [SqlEventStore(database) for _ in range(4)]
    for account in range(10):
        await stores[0].receive(str(account), [event(str(n), f"a{account}") for n in range(5)])

    async def take(store: SqlEventStore) -> list[tuple[str, str]]:
        taken: list[tuple[str, str]] = []
        while found := await store.claim(quiet=timedelta(0), longest=LONGEST, lease=LEASE):
            taken += [(e.account_id, e.entity_id) for e in found.events]
            await asyncio.sleep(0)
        return taken

    taken = [one for some in await asyncio.gather(*map(take, stores)) for one in some]
    assert sorted(taken) == sorted({(f"a{a}", str(n)) for a in range(10) for n in range(5)})


async def test_events_are_put_off_and_left_to_children(database: Database) -> None:
    clock = SetClock()
    store = SqlEventStore(database, clock)
    await store.receive("1", [event("a"), event("a"), event("b", action=EventAction.DELETE)])
    clock.advance(timedelta(seconds=3))
    first = await claim(store)
    assert first is not None
    await store.put_off(first.token, timedelta(seconds=30))
    clock.advance(timedelta(seconds=29))
    assert await claim(store) is None
    clock.advance(timedelta(seconds=2))
    second = await claim(store)
    assert second is not None
    assert len(second.events) == 2
    await store.leave_to(second.token, ["child 1", "child 2"], timedelta(seconds=30))
    assert (await store.backlog()).events == 4
    assert await claim(store) is None
    await store.receive("2", [event("c")])
    clock.advance(timedelta(seconds=3))
    of_all = await claim(store)  # children that wait keep no others waiting
    assert of_all is not None
    assert of_all.child_id == ""
    await store.done(of_all.token)
    clock.advance(timedelta(seconds=30))
    left = [await claim(store), await claim(store)]
    assert {c.child_id for c in left if c} == {"child 1", "child 2"}
    for one in left:
        assert one is not None
        assert (one.of_type("product", deleted=False), one.of_type("product", deleted=True)) == (
            ["a"],
            ["b"],
        )
        assert one.oldest == first.oldest


async def test_what_is_old_is_pruned(database: Database) -> None:
    clock = SetClock()
    store = SqlEventStore(database, clock)
    for number in range(5):
        await store.receive(str(number), [event(str(number))])
    clock.advance(timedelta(seconds=3600))
    await store.receive("new", [event("new")])
    assert await store.prune(timedelta(minutes=30), limit=8) == 8
    assert await store.prune(timedelta(minutes=30), limit=8) == 2
    assert await store.prune(timedelta(minutes=30)) == 0
    assert (await store.backlog()).events == 1
    assert await store.receive("0", [event("0")])
    assert not await store.receive("new", [event("new")])


async def test_states_are_kept_with_the_time_of_the_last_event(database: Database) -> None:
    clock = SetClock()
    states, store = SqlWebhookStates(database, clock), SqlEventStore(database, clock)
    await states.put(WebhookState("main", "https://a.example/x", 15, 14, 1, "one is off"))
    await store.receive("1", [event("a"), event("b", "another")])
    came = clock.now()
    clock.advance(timedelta(seconds=5))
    assert await claim(store)
    assert await claim(store)
    await states.put(WebhookState("main", "https://a.example/x", 15, 15))
    another, main = await states.all()
    assert (another.account_id, another.url, another.checked_at) == ("another", None, None)
    assert (another.last_event_at, main.last_event_at) == (came, came)
    assert (main.working, main.problem, main.checked_at) == (15, "", clock.now())
    with database.engine.begin() as connection:
        damage = "UPDATE webhook_states SET state = '[5]' WHERE account_id = 'main'"
        connection.execute(text(damage))
    assert [(state.account_id, state.wanted) for state in await states.all()] == [
        ("another", 0),
        ("main", 0),
    ]
    await states.forget("main")
    assert [state.account_id for state in await states.all()] == ["another"]


async def test_the_record_of_a_deleted_main_entity_goes_but_not_that_of_its_heir(
    database: Database,
) -> None:
    log, records = SqlChangeLog(database), SqlSyncRecordRepository(database)
    ended = SqlEndedEntities(database)
    gone, heir, other = (EntityKey("child", "product", name) for name in ("gone", "heir", "other"))
    for key, main_id in ((gone, "m1"), (heir, "m1"), (heir, "m2"), (other, "m3")):
        await log.begin(Change("run", ChangeAction.SET, "main", key, main_id, "Lamp", ()))
        await records.put(key, SyncRecord((), (), ("i",), True))
    assert await ended.of_main("another", "product", ["m1"]) == 0
    assert await ended.of_main("main", "product", ["m1", "m9"]) == 1
    assert await records.get(gone) is None
    assert await records.get(heir) is not None
    assert await ended.of_child("child", "product", ["other"]) == 1
    assert await records.get(other) is None
