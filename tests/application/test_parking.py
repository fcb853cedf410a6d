"""Accounts that refuse everything: their tasks wait, and cost next to nothing."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from imgsync.application.parking import PAUSED, Pause, RecentAccounts, park
from imgsync.application.payloads import batch_payload
from imgsync.application.work import Tally, TaskEnd, TaskReport
from imgsync.domain.errors import (
    AccountParkedError,
    AuthorisationError,
    ImgsyncError,
    NotFoundError,
    StorageFullError,
)
from imgsync.domain.model import (
    NO_END,
    NO_TOKEN,
    TOKEN_ENDED,
    Account,
    AccountName,
    Parking,
    TokenKind,
)
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.runner import NoListeners
from imgsync.domain.tasks import TaskStatus
from imgsync.testing import MemoryStore, MemoryStoreClock
from tests.application.world import World, png

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


async def queue_many(world: World, count: int) -> None:
    for n in range(count):
        world.main.add("product", f"P{n}", [(f"{n}.png", png(n))], external_code=f"x{n}")
        world.child.add("product", f"P{n}", external_code=f"x{n}")
    async for planned in world.plan("main", "child"):
        assert planned.request
        await world.put(batch_payload(planned.request), planned.request.dedupe_key)
    world.main.calls.clear()
    world.child.calls.clear()


async def drain(world: World, concurrency: int = 4) -> list[TaskReport]:
    reports: list[TaskReport] = []
    await world.worker(concurrency).run(drain=True, report=reports.append)
    return reports


def refuse(world: World, side: str, error: ImgsyncError) -> None:
    fake = world.child if side == "child" else world.main
    fake.fail = lambda _: error


def free_all(world: World) -> None:
    world.child.fail = world.main.fail = lambda _: None


@pytest.mark.parametrize("side", ["main", "child"])
async def test_a_refused_token_costs_a_request_for_each_task_at_once_and_parks_all_in_one(
    world: World, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    await queue_many(world, 60)
    refuse(world, side, AuthorisationError(f"MoySklad account '{side}': 401", side))
    with caplog.at_level(logging.INFO):
        reports = await drain(world, concurrency=4)
    assert {report.end for report in reports} == {TaskEnd.PARKED}
    assert len(reports) <= 4
    assert sum(1 + report.parked_along for report in reports) == 60
    refused = world.child if side == "child" else world.main
    assert 1 <= len(refused.calls) <= 4
    assert await world.queue.parked() == 60
    tasks = await world.queue.find()
    assert {task.status for task in tasks} == {TaskStatus.PENDING}
    assert {task.attempts for task in tasks} == {0}
    assert {task.scheduled_at for task in tasks} == {world.clock.moment + HOUR}
    assert {task.parked_for for task in tasks} == {side}
    assert f"waits for account '{side}': MoySklad account" in (tasks[0].error or "")
    said = [r.getMessage() for r in caplog.records if f"account '{side}'" in r.getMessage()]
    assert len(said) == 1
    assert "2026-11-24 13:00:00 UTC" in said[0]


async def test_a_new_token_lets_the_tasks_run_again(world: World) -> None:
    await queue_many(world, 6)
    refuse(world, "child", AuthorisationError("401", "child"))
    await drain(world)
    free_all(world)
    assert await drain(world) == []
    await world.accounts.add(Account("child", "child", TokenKind.SOLUTION, "new-token"))
    assert await world.queue.unpark("child") == 6
    assert [report.end for report in await drain(world)] == [TaskEnd.COMPLETED] * 6
    assert {task.attempts for task in await world.queue.find()} == {1}


async def test_a_token_refused_that_was_replaced_meanwhile_parks_nothing(world: World) -> None:
    await queue_many(world, 1)

    def replaced(_: str) -> ImgsyncError | None:
        world.store.accounts["child"] = Account("child", "child", TokenKind.SOLUTION, "new-token")
        free_all(world)
        return AuthorisationError("401", "child")

    world.child.fail = replaced
    assert [r.end for r in await drain(world)] == [TaskEnd.GIVEN_BACK, TaskEnd.COMPLETED]
    assert await world.accounts.parking("child") is None
    assert (await world.queue.find())[0].attempts == 1


async def test_what_was_under_way_does_not_end_a_pause_by_being_refused(world: World) -> None:
    """Its parking would be over in an hour, and the tasks go on by themselves."""
    accounts, clock = world.accounts, MemoryStoreClock(MemoryStore())
    child = await accounts.get("child")
    assert await Pause(accounts)("child")
    assert not await Pause(accounts)("child")
    refused = AuthorisationError("401", account_id="child")
    parking = await park(accounts, clock, "child", refused, child)
    assert parking is not None
    assert (parking.reason, parking.until) == (PAUSED, NO_END)
    known = await accounts.parking("child")
    assert known is not None
    assert known.reason == PAUSED


async def test_after_the_parking_one_task_tries_for_all(world: World) -> None:
    await queue_many(world, 12)
    refuse(world, "child", AuthorisationError("401", "child"))
    worker, reports = world.worker(concurrency=4), list[TaskReport]()
    await worker.run(drain=True, report=reports.append)
    world.child.calls.clear()
    world.clock.moment += HOUR
    await worker.run(drain=True, report=reports.append)
    assert len(world.child.calls) == 1
    assert await world.queue.parked() == 12
    world.clock.moment += HOUR
    free_all(world)
    async with asyncio.timeout(10):
        await worker.run(drain=True, report=reports.append)
    assert (await world.queue.counts())[TaskStatus.COMPLETED] == 12


async def test_a_try_that_fails_for_another_reason_ends_the_wait(world: World) -> None:
    await queue_many(world, 4)
    refuse(world, "child", AuthorisationError("401", "child"))
    worker = world.worker(concurrency=2)
    await worker.run(drain=True)
    world.clock.moment += HOUR
    refuse(world, "child", NotFoundError("the entity is gone"))
    async with asyncio.timeout(10):
        await worker.run(drain=True)
    assert (await world.queue.counts())[TaskStatus.FAILED] == 4


async def test_full_storage_parks_the_child_even_where_it_is_not_named(world: World) -> None:
    await queue_many(world, 3)
    world.child.fail = lambda call: (
        StorageFullError("storage full (51003)") if call in ("set_images", "set_many") else None
    )
    assert {r.end for r in await drain(world, 1)} == {TaskEnd.PARKED}
    assert world.child.count("set_") == 1
    assert await world.accounts.parking("child") == Parking(
        "storage full (51003)", world.clock.moment + HOUR
    )
    assert await world.accounts.parking("main") is None


async def test_an_account_held_back_by_the_adapter_waits_a_minute(world: World) -> None:
    await queue_many(world, 3)
    refuse(world, "main", AccountParkedError("too many failing requests", "main"))
    assert {r.end for r in await drain(world)} == {TaskEnd.PARKED}
    parking = await world.accounts.parking("main")
    assert parking is not None
    assert parking.until == world.clock.moment + timedelta(minutes=1)
    # A parking that is known already is not made shorter by it.
    later = Parking("401", world.clock.moment + HOUR)
    await world.accounts.park("child", later)
    refuse(world, "child", AccountParkedError("too many", "child"))
    world.clock.moment += timedelta(minutes=1)
    await drain(world)
    assert await world.accounts.parking("child") == later


async def test_a_parking_noted_by_another_host_costs_no_request(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await queue_many(world, 5)
    await world.accounts.park("main", Parking("401", world.clock.moment + HOUR))
    assert {r.end for r in await drain(world)} == {TaskEnd.PARKED}
    assert world.main.calls == world.child.calls == []
    assert caplog.text.count("account 'main': 401") == 1


async def test_a_refusal_of_nobody_in_particular_fails_its_task(world: World) -> None:
    await queue_many(world, 1)
    refuse(world, "child", AuthorisationError("401"))
    assert [r.end for r in await drain(world)] == [TaskEnd.FAILED]


@pytest.mark.slow
async def test_ten_thousand_tasks_of_a_refused_account_are_parked_with_the_first(
    world: World,
) -> None:
    await queue_many(world, 1)
    (task,) = await world.queue.find()
    more = [NewTask(task.payload, f"child/product/{n}") for n in range(9999)]
    await world.queue.enqueue(more)
    refuse(world, "child", AuthorisationError("401", "child"))
    reports = await drain(world)
    assert len(reports) <= 4
    assert len(world.child.calls) <= 4
    assert await world.queue.parked() == 10_000
    tally = Tally()
    for report in reports:
        tally.add(report)
    assert tally.parked == 10_000


@pytest.mark.parametrize("stopped_in", ["accounts", "queue"])
async def test_a_process_that_stops_before_it_notes_a_refusal_parks_no_new_token(
    world: World, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    await queue_many(world, 3)
    refuse(world, "child", AuthorisationError("401", "child"))
    stopped = world.accounts if stopped_in == "accounts" else world.queue
    park = stopped.park

    async def replaced_meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        free_all(world)
        await world.accounts.add(Account("child", "child", TokenKind.SOLUTION, "new-token"))
        await world.queue.unpark("child")
        return await park(*args, **kwargs)

    monkeypatch.setattr(stopped, "park", replaced_meanwhile)
    await drain(world, concurrency=1)
    assert await world.accounts.parking("child") is None
    assert (await world.queue.counts())[TaskStatus.COMPLETED] == 3
    assert {task.attempts for task in await world.queue.find()} == {1}


async def test_who_waits_for_an_account_calls_it_by_its_name(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.accounts.add(Account("child", "Corner shop", TokenKind.SOLUTION, "token"))
    await queue_many(world, 1)
    refuse(world, "child", AuthorisationError("401", "child"))
    await drain(world)
    assert (await world.queue.find())[0].error == "waits for account 'Corner shop': 401"
    assert "account 'Corner shop': 401; its tasks wait until" in caplog.text


class Hearing(NoListeners):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    async def account_parked(self, account: AccountName, reason: str, until: datetime) -> None:
        assert until.tzinfo is not None
        self.heard.append((account.id, reason))


async def test_listeners_hear_once_of_an_account_that_a_person_must_see_to(world: World) -> None:
    listening = Hearing()
    world.accounts = RecentAccounts(world.accounts, listeners=listening)
    await queue_many(world, 12)
    refuse(world, "child", AuthorisationError("401", "child"))
    await drain(world, concurrency=4)
    assert listening.heard == [("child", "401")]
    world.clock.moment += HOUR
    await drain(world, concurrency=4)
    assert listening.heard == [("child", "401")] * 2
    world.clock.moment += HOUR
    refuse(world, "child", AccountParkedError("too many failing requests", "child"))
    await drain(world)
    assert len(listening.heard) == 2


async def test_listeners_hear_of_an_account_that_is_stored_parked(world: World) -> None:
    listening = Hearing()
    recent = RecentAccounts(world.accounts, listeners=listening)
    assert await recent.parking("child") is None
    account = await recent.get("child")
    await recent.add(account, Parking(PAUSED, NO_END))
    assert await recent.parking("child") == Parking(PAUSED, NO_END)
    await recent.add(account)
    assert await recent.parking("child") is None
    assert listening.heard == [("child", PAUSED)]


@pytest.mark.parametrize("side", ["main", "child"])
async def test_an_account_without_a_token_is_asked_nothing_until_it_has_one(
    world: World, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    await queue_many(world, 3)
    stored = world.store.accounts[side]
    ended = Account(side, side, stored.token_kind, NO_TOKEN)
    await world.accounts.add(ended)
    for parking in (Parking(TOKEN_ENDED, NO_END), Parking("the solution was removed", NO_END)):
        assert {report.end for report in await drain(world)} == {TaskEnd.PARKED}
        assert await world.queue.parked() == 3
        assert await world.accounts.parking(side) == parking
        assert parking.reason in ((await world.queue.find())[0].error or "")
        await world.accounts.park(side, Parking("the solution was removed", NO_END))
        await world.queue.unpark(side)
    assert world.main.calls + world.child.calls == []
    assert "wait until it is stored anew" in caplog.text
    assert "9999" not in caplog.text
    await world.accounts.add(Account(side, side, stored.token_kind, "new-token"))
    await world.queue.unpark(side)
    assert {report.end for report in await drain(world)} == {TaskEnd.COMPLETED}


async def test_that_an_account_was_not_parked_is_forgotten_with_its_token(world: World) -> None:
    recent = RecentAccounts(world.accounts)
    assert await recent.parking("child") is None
    stored = world.store.accounts["child"]
    await world.accounts.add(Account("child", "child", stored.token_kind, NO_TOKEN))
    await world.accounts.park("child", Parking("removed", NO_END))
    assert not (await recent.get("child")).has_token
    assert await recent.parking("child") == Parking("removed", NO_END)
