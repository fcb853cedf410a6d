"""The suite of the port `TaskQueue`."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

import pytest

from imgsync.domain.errors import LeaseLostError, NoRoomError, StoreError
from imgsync.domain.model import Account, Parking, TokenKind
from imgsync.domain.ports.queue import Enqueued, NewTask, TaskQueue
from imgsync.domain.ports.repositories import AccountRepository
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    DEFAULT_PRIORITY,
    MAX_ATTEMPTS,
    MAX_CRASHES,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)
from imgsync.testing.contracts.contract import StoreT, TimedContract

_LEASE = timedelta(minutes=2)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_OTHER_KIND = "price_sync"
_ACCOUNT = "a\u0439_%'\\" + '"'
"""An id with all that could go wrong in a search for it."""


@dataclass
class Host(Generic[StoreT]):
    """A queue as one host has it open, with short forms of what the tests do."""

    contract: "TaskQueueContract[StoreT]"
    store: StoreT
    queue: TaskQueue
    opened: list[TaskQueue] = field(default_factory=list)

    @property
    def lease(self) -> timedelta:
        return self.contract.real_lease if self.contract.real_time else _LEASE

    async def another(self, *kinds: str) -> "Host[StoreT]":
        """The same store, opened by another host, for these kinds of tasks."""
        queue = await self.contract.open(self.store, kinds or (TASK_ENTITY_TYPE,))
        self.opened.append(queue)
        return Host(self.contract, self.store, queue, self.opened)

    async def wait(self, by: timedelta) -> None:
        await self.contract.advance(self.store, by)

    async def wait_for_most_of(self, whole: timedelta) -> timedelta:
        """Waits for less than that, and returns the rest."""
        rest = whole * 0.75 if self.contract.real_time else timedelta(milliseconds=1)
        await self.wait(whole - rest)
        return rest

    def same(self, one: datetime | None, other: datetime) -> bool:
        """Whether these are one moment, as exactly as the store's clock can be set."""
        tolerance = timedelta(seconds=10 if self.contract.real_time else 0.001)
        return one is not None and abs(one - other) <= tolerance

    async def put(self, payload: Any = None, key: str | None = None, **options: Any) -> TaskId:
        (put,) = await self.queue.enqueue([NewTask(payload, key, **options)])
        return put.task_id

    async def claim(self, **options: Any) -> Task | None:
        claimed = await self.queue.claim(lease=self.lease, **options)
        assert len(claimed) <= 1
        return claimed[0] if claimed else None

    async def take(self, **options: Any) -> Task:
        task = await self.claim(**options)
        assert task is not None, "no task is due"
        return task

    async def taken(self, number: int) -> list[TaskId]:
        """The ids of so many claims."""
        return [(await self.take()).id for _ in range(number)]

    async def children(self, number: int) -> list[str | None]:
        """Whose the tasks of so many claims were."""
        return [(await self.take()).account_id for _ in range(number)]

    async def stored(self, task_id: TaskId) -> Task:
        task = await self.queue.get(task_id)
        assert task is not None, f"task {task_id} is gone"
        return task

    async def failed(self, key: str | None = None) -> TaskId:
        task_id = await self.put(key=key)
        await self.queue.fail(await self.take(only=[task_id]), error="x")
        return task_id

    async def complete(self, task: Task) -> None:
        await self.queue.complete(task, result="done", warnings=[])

    async def put_back(self, task: Task, *, check_again: bool = False) -> None:
        """For another attempt, at once."""
        await self.queue.reschedule(task, delay=timedelta(0), error="503", check_again=check_again)

    async def park(self, task: Task, account_id: str, until: datetime | None = None) -> int:
        moment = until or self.now(task) + _HOUR
        return await self.queue.park(task, account_id=account_id, until=moment, error="401")

    def now(self, task: Task) -> datetime:
        """The store's time when the task was claimed."""
        assert task.lease_expires_at is not None
        return task.lease_expires_at - self.lease

    async def only_pending(self) -> Task | None:
        found = await self.queue.find(TaskStatus.PENDING)
        assert len(found) <= 1
        return found[0] if found else None


def _unknown(known: TaskId) -> TaskId:
    """An id of no task."""
    return known + 999 if isinstance(known, int) else f"{known}-unknown"


def _of_account(**fields: object) -> dict[str, object]:
    return {"main_account_id": "main", "child_account_id": "child", **fields}


class TaskQueueContract(TimedContract[StoreT]):
    """Proves a `TaskQueue`. A test class gives the fixture `store`, `open` and `advance`, or says
    `real_time = True`; `accounts`, `damage` and `disable` for the tests that ask for them."""

    async def open(self, store: StoreT, kinds: Sequence[str]) -> TaskQueue:
        """To be overridden: opens the store's queue for these kinds of tasks, as one host does."""
        raise NotImplementedError("the test class has no method 'open'")

    def accounts(self, store: StoreT) -> AccountRepository:
        """The accounts of a store that keeps them beside the tasks."""
        pytest.skip("the test class has no 'accounts': the queue knows nothing of accounts")

    async def damage(self, store: StoreT, task_id: TaskId) -> None:
        """Makes what is stored of a task one that cannot be read."""
        pytest.skip("the test class has no 'damage': nothing else writes to this store")

    async def disable(self, store: StoreT) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    @pytest.fixture
    async def host(self, store: StoreT) -> AsyncIterator[Host[StoreT]]:
        host = Host(self, store, await self.open(store, (TASK_ENTITY_TYPE,)))
        yield host
        for queue in (host.queue, *host.opened):
            await queue.close()

    # What is queued

    async def test_a_new_task_has_the_documented_defaults(self, host: Host[StoreT]) -> None:
        task = await host.stored(await host.put({"n": 1}))
        assert (task.status, task.kind) == (TaskStatus.PENDING, TASK_ENTITY_TYPE)
        assert (task.priority, task.max_attempts) == (DEFAULT_PRIORITY, MAX_ATTEMPTS)
        assert (task.attempts, task.crashes, task.check_again) == (0, 0, False)
        assert (task.dedupe_key, task.account_id, task.entity_id) == (None, None, None)
        assert (task.lease_token, task.lease_expires_at) == (None, None)
        assert (task.error, task.result, task.damage, task.parked_for) == (None,) * 4
        assert task.warnings == ()

    async def test_a_new_task_keeps_what_it_was_given(self, host: Host[StoreT]) -> None:
        (put,) = await host.queue.enqueue(
            [NewTask([1], "child/product/1", "child", "1", 70, 7, _HOUR, TASK_ENTITY_TYPE)]
        )
        assert put.created
        task = await host.stored(put.task_id)
        assert (task.payload, task.dedupe_key) == ([1], "child/product/1")
        assert (task.account_id, task.entity_id) == ("child", "1")
        assert (task.priority, task.max_attempts) == (70, 7)
        assert host.same(task.scheduled_at, task.created_at + _HOUR)

    @pytest.mark.parametrize(
        "payload",
        [
            {"имя": "Ж", "nested": [1, None, {"a": "\x00\ud800"}]},
            "text",
            [1, 2.5, -7],
            5,
            False,
            None,
            {},
        ],
        ids=["object", "text", "array", "number", "false", "null", "empty"],
    )
    async def test_a_payload_may_be_any_json(self, host: Host[StoreT], payload: object) -> None:
        task_id = await host.put(payload)
        assert (await host.stored(task_id)).payload == payload
        assert (await host.take()).payload == payload

    async def test_a_payload_is_what_it_was_when_it_was_queued(self, host: Host[StoreT]) -> None:
        payload = {"n": [1]}
        task_id = await host.put(payload)
        payload["n"].append(2)
        (await host.stored(task_id)).payload["n"].append(3)
        assert (await host.take()).payload == {"n": [1]}

    async def test_times_are_in_utc(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        for moment in (task.scheduled_at, task.created_at, task.updated_at, task.lease_expires_at):
            assert moment is not None
            assert moment.utcoffset() == timedelta(0)

    async def test_tasks_of_a_batch_have_their_results_in_order(self, host: Host[StoreT]) -> None:
        assert await host.queue.enqueue([]) == []
        waiting = await host.put({"v": 0}, "k")
        put = await host.queue.enqueue(
            [NewTask({"v": n}, key) for n, key in enumerate(["a", "k", None, "b", None])]
        )
        assert [one.created for one in put] == [True, False, True, True, True]
        assert put[1] == Enqueued(waiting, created=False)
        assert len({one.task_id for one in put}) == 5
        for n, one in enumerate(put):
            assert (await host.stored(one.task_id)).payload == {"v": n}

    async def test_tasks_of_a_batch_go_in_its_order(self, host: Host[StoreT]) -> None:
        put = await host.queue.enqueue([NewTask(n) for n in range(30)])
        ids = [one.task_id for one in put]
        assert await host.taken(30) == ids
        assert [task.id for task in await host.queue.find()] == ids[::-1]

    async def test_a_later_task_of_a_batch_takes_the_place_of_one_of_its_key(
        self, host: Host[StoreT]
    ) -> None:
        first, other, second = await host.queue.enqueue(
            [NewTask({"v": 1}, "k"), NewTask(None), NewTask({"v": 2}, "k", priority=70)]
        )
        assert (first.created, second.created) == (True, False)
        assert first.task_id == second.task_id != other.task_id
        task = await host.take()
        assert (task.id, task.payload) == (first.task_id, {"v": 2})
        assert await host.taken(1) == [other.task_id]
        assert await host.claim() is None

    async def test_a_pending_task_of_the_same_key_takes_the_new_task_over(
        self, host: Host[StoreT]
    ) -> None:
        (first,) = await host.queue.enqueue([NewTask({"v": 1}, "k")])
        await host.queue.reschedule(await host.take(), delay=_HOUR, error="503")
        other = await host.put()
        (second,) = await host.queue.enqueue([NewTask({"v": 2}, "k", priority=70)])
        assert (first.created, second.created) == (True, False)
        assert first.task_id == second.task_id != other
        task = await host.take()
        assert (task.id, task.payload, task.priority) == (first.task_id, {"v": 2}, 70)
        assert (task.attempts, task.error) == (1, None)
        assert (await host.queue.counts())[TaskStatus.PENDING] == 1

    async def test_a_pending_task_takes_a_later_due_time_too(self, host: Host[StoreT]) -> None:
        await host.put(key="k")
        task_id = await host.put(key="k", delay=host.lease)
        assert await host.claim() is None
        await host.wait(host.lease)
        assert await host.taken(1) == [task_id]

    async def test_a_task_without_a_key_takes_the_place_of_no_other(
        self, host: Host[StoreT]
    ) -> None:
        assert await host.put() != await host.put()
        assert await host.put(key="") != await host.put(key="k")
        assert (await host.queue.counts())[TaskStatus.PENDING] == 4

    async def test_a_task_that_has_ended_is_not_taken_over(self, host: Host[StoreT]) -> None:
        ended = [await host.failed("k"), await host.put(key="k")]
        await host.complete(await host.take())
        assert await host.put(key="k") not in ended

    async def test_programs_that_enqueue_one_entity_at_once_make_one_task(
        self, host: Host[StoreT]
    ) -> None:
        hosts = [host, await host.another(), await host.another()]
        made = await asyncio.gather(
            *(hosts[n % 3].queue.enqueue([NewTask({"n": n}, "k")]) for n in range(9))
        )
        assert len({one.task_id for (one,) in made}) == 1
        assert sum(one.created for (one,) in made) == 1
        assert (await host.queue.counts())[TaskStatus.PENDING] == 1

    # Which is taken

    async def test_an_empty_queue_gives_nothing(self, host: Host[StoreT]) -> None:
        assert await host.queue.claim(lease=host.lease, limit=5) == []
        assert await host.queue.get(1) is None
        assert await host.queue.get("1") is None
        assert await host.queue.find() == []

    async def test_a_claim_counts_the_attempt_and_holds_the_task(self, host: Host[StoreT]) -> None:
        task_id = await host.put()
        put = await host.stored(task_id)
        task = await host.take()
        assert (task.id, task.status, task.attempts) == (task_id, TaskStatus.PROCESSING, 1)
        assert host.same(task.lease_expires_at, put.created_at + host.lease)
        assert task == await host.stored(task_id)
        assert await (await host.another()).claim() is None

    async def test_every_claim_has_a_token_of_its_own(self, host: Host[StoreT]) -> None:
        await host.put()
        tokens = set()
        for _ in range(3):
            task = await host.take()
            tokens.add(task.lease_token)
            await host.queue.release(task)
        assert len(tokens) == 3
        assert None not in tokens

    async def test_a_higher_priority_goes_first(self, host: Host[StoreT]) -> None:
        first, urgent, second = (
            await host.put(),
            await host.put(priority=90),
            await host.put(),
        )
        assert await host.taken(3) == [urgent, first, second]

    async def test_of_equal_priorities_the_earlier_schedule_goes_first(
        self, host: Host[StoreT]
    ) -> None:
        late = await host.put(delay=host.lease / 4)
        first, second = await host.put(), await host.put()
        await host.wait(host.lease)
        assert await host.taken(3) == [first, second, late]

    async def test_a_claim_takes_as_many_as_it_may(self, host: Host[StoreT]) -> None:
        low, *others = [await host.put(priority=p) for p in (10, 50, 50, 90)]
        first = await host.queue.claim(lease=host.lease, limit=3)
        assert [task.id for task in first] == [others[2], others[0], others[1]]
        assert len({task.lease_token for task in first}) == 3
        assert all(task.status is TaskStatus.PROCESSING for task in first)
        for task in first:
            assert task == await host.stored(task.id)
        rest = await host.queue.claim(lease=host.lease, limit=3)
        assert [task.id for task in rest] == [low]
        assert await host.queue.claim(lease=host.lease, limit=3) == []

    async def test_a_claim_takes_one_unless_it_says_otherwise(self, host: Host[StoreT]) -> None:
        await host.put()
        await host.put()
        assert len(await host.queue.claim(lease=host.lease)) == 1

    async def test_a_claim_of_many_takes_one_of_a_key(self, host: Host[StoreT]) -> None:
        lost = await host.put(key="k")
        await host.take()
        await host.put(key="k", priority=90)
        other = await host.put(priority=10)
        await host.wait(host.lease)
        both = await host.queue.claim(lease=host.lease, limit=5)
        assert [task.id for task in both] == [lost, other]

    async def test_only_takes_these_tasks(self, host: Host[StoreT]) -> None:
        await host.put()
        chosen = await host.put()
        await host.put()
        assert await host.claim(only=[]) is None
        assert await host.claim(only=[_unknown(chosen)]) is None
        claimed = await host.queue.claim(lease=host.lease, limit=5, only=[chosen, _unknown(chosen)])
        assert [task.id for task in claimed] == [chosen]
        assert await host.claim(only=[chosen]) is None

    async def test_only_takes_lapsed_tasks_in_the_way_of_these(self, host: Host[StoreT]) -> None:
        held, other = await host.put(key="c/product/1"), await host.put(key="c/product/2")
        await host.take(only=[held])
        await host.take(only=[other])
        chosen = await host.put(key="c/product/1")
        assert await host.claim(only=[chosen]) is None
        await host.wait(host.lease)
        lapsed = await host.take(only=[chosen])
        assert (lapsed.id, lapsed.crashes) == (held, 1)
        assert await host.claim(only=[chosen]) is None
        await host.complete(lapsed)
        assert (await host.take(only=[chosen])).id == chosen

    async def test_tasks_of_one_key_never_run_at_once(self, host: Host[StoreT]) -> None:
        await host.put(key="k")
        running = await host.take()
        newer = await host.put(key="k", priority=90)
        other = await host.put(key="other")
        assert newer != running.id
        assert await (await host.another()).taken(1) == [other]
        assert await host.claim() is None
        await host.complete(running)
        assert await host.taken(1) == [newer]

    async def test_a_delayed_task_waits(self, host: Host[StoreT]) -> None:
        task_id = await host.put(delay=host.lease)
        rest = await host.wait_for_most_of(host.lease)
        assert await host.claim() is None
        await host.wait(rest)
        assert await host.taken(1) == [task_id]

    async def test_many_workers_take_each_task_once(self, host: Host[StoreT]) -> None:
        """And never two of one key at once, though each key comes back while it runs."""
        hosts = [host, await host.another(), await host.another()]
        tasks = [NewTask(n, f"k{n}" if n % 2 else None) for n in range(60)]
        put = {one.task_id for one in await host.queue.enqueue(tasks)}
        taken: Counter[TaskId] = Counter()
        running: set[str] = set()

        async def do(own: Host[StoreT], task: Task) -> None:
            taken[task.id] += 1
            if (key := task.dedupe_key) is not None:
                assert key not in running
                running.add(key)
                if task.payload < 60:
                    put.add(await own.put(task.payload + 100, key))
                running.remove(key)
            await own.complete(task)

        async def work(own: Host[StoreT], limit: int) -> None:
            while claimed := await own.queue.claim(lease=_HOUR, limit=limit):
                for task in claimed:
                    await do(own, task)

        await asyncio.gather(*(work(hosts[n % 3], 1 + n % 4) for n in range(6)))
        # Of a key that ran still, there may be one that nobody has looked for since.
        await work(host, 5)
        assert len(put) == 90
        assert taken == Counter(put)

    async def test_a_task_that_cannot_be_read_is_taken_and_tells_why(
        self, host: Host[StoreT]
    ) -> None:
        damaged, good = await host.put(), await host.put({"n": 2})
        await self.damage(host.store, damaged)
        task = await host.take()
        assert (task.id, task.status) == (damaged, TaskStatus.PROCESSING)
        assert task.damage
        await host.queue.fail(task, error=task.damage)
        assert (await host.stored(damaged)).status is TaskStatus.FAILED
        assert {found.id for found in await host.queue.find()} == {damaged, good}
        assert (await host.take()).damage is None

    # Whose turn it is

    async def test_children_take_turns(self, host: Host[StoreT]) -> None:
        for child, number in (("a", 4), ("b", 2), (None, 2), ("c", 1)):
            for _ in range(number):
                await host.put(account_id=child)
        assert await host.children(9) == ["a", "b", None, "c", "a", "b", None, "a", "a"]
        assert await host.claim() is None

    async def test_hosts_keep_to_one_order_of_turns(self, host: Host[StoreT]) -> None:
        for child in "aaabbb":
            await host.put(account_id=child)
        another = await host.another()
        taken = [await one.children(1) for one in (host, another, another, host, another)]
        assert taken == [["a"], ["b"], ["a"], ["b"], ["a"]]
        assert await (await host.another()).children(1) == ["b"]

    async def test_a_turn_goes_before_a_priority_which_counts_within_the_child(
        self, host: Host[StoreT]
    ) -> None:
        for child, priority in (("a", 50), ("a", 90), ("b", 1), ("b", 5), ("a", 99)):
            await host.put((child, priority), account_id=child, priority=priority)
        taken = [tuple((await host.take()).payload) for _ in range(5)]
        assert taken == [("a", 99), ("b", 5), ("a", 90), ("b", 1), ("a", 50)]

    async def test_of_children_that_had_no_turn_the_highest_priority_goes_first(
        self, host: Host[StoreT]
    ) -> None:
        for child, priority in (("a", 50), ("b", 50), ("c", 90)):
            await host.put(account_id=child, priority=priority)
        assert await host.children(3) == ["c", "a", "b"]

    async def test_a_child_saves_up_no_turns(self, host: Host[StoreT]) -> None:
        for child in "aaaaab":
            await host.put(account_id=child)
        assert await host.children(6) == ["a", "b", "a", "a", "a", "a"]
        for child in "abababb":
            await host.put(account_id=child)
        assert await host.children(7) == ["b", "a", "b", "a", "b", "a", "b"]

    async def test_a_claim_of_many_is_of_one_child(self, host: Host[StoreT]) -> None:
        for child in "abab":
            await host.put(account_id=child)
        await host.put(account_id="a", priority=90)
        claims = [await host.queue.claim(lease=host.lease, limit=3) for _ in range(3)]
        taken = [[task.account_id for task in claim] for claim in claims]
        assert taken == [["a", "a", "a"], ["b", "b"], []]
        assert claims[0][0].priority == 90

    async def test_a_child_that_waits_has_no_turn_and_keeps_no_other_from_theirs(
        self, host: Host[StoreT]
    ) -> None:
        """Parked, delayed, or of a key that runs."""
        running = await host.take(only=[await host.put(key="k", account_id="runs")])
        for _ in range(3):
            await host.put(_of_account(child_account_id="parked"), account_id="parked", priority=99)
            await host.put(account_id="late", priority=98, delay=_HOUR)
            await host.put(account_id="free", priority=1)
        await host.put(key="k", account_id="runs", priority=97)
        task = await host.take()
        assert task.account_id == "parked"
        assert await host.park(task, "parked") == 2
        assert await host.queue.parked() == 3
        claimed = await host.queue.claim(lease=host.lease, limit=2)
        assert [task.account_id for task in claimed] == ["free", "free"]
        assert await host.children(1) == ["free"]
        assert await host.claim() is None
        await host.complete(running)
        assert await host.queue.unpark("parked") == 3
        assert await host.children(2) == ["runs", "parked"]

    async def test_within_a_child_what_waits_goes_aside_for_what_is_due(
        self, host: Host[StoreT]
    ) -> None:
        low, _, middle = [
            await host.put(account_id="a", priority=priority, delay=delay)
            for priority, delay in ((10, timedelta(0)), (90, _HOUR), (50, timedelta(0)))
        ]
        claimed = await host.queue.claim(lease=host.lease, limit=5)
        assert [task.id for task in claimed] == [middle, low]

    async def test_only_takes_turns_too(self, host: Host[StoreT]) -> None:
        ids = [await host.put(account_id=child) for child in "aabab"]
        only = ids[1:]
        claims = [await host.queue.claim(lease=host.lease, limit=2, only=only) for _ in range(3)]
        taken = [[task.id for task in claim] for claim in claims]
        assert taken == [[ids[1], ids[3]], [ids[2], ids[4]], []]

    async def test_kinds_of_one_child_have_one_turn(self, host: Host[StoreT]) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        for n, (child, kind) in enumerate(
            [("a", TASK_ENTITY_TYPE), ("b", _OTHER_KIND), ("a", _OTHER_KIND), ("b", _OTHER_KIND)]
        ):
            await both.put(n, account_id=child, kind=kind)
        claims = [await both.queue.claim(lease=both.lease, limit=5) for _ in range(2)]
        assert [[task.payload for task in claim] for claim in claims] == [[0, 2], [1, 3]]

    async def test_a_lapsed_task_has_the_turn_of_its_child(self, host: Host[StoreT]) -> None:
        for child in "ab":
            await host.put(account_id=child)
        lost = [(await host.take()).id for _ in range(2)]
        await host.wait(host.lease)
        new = [await host.put(account_id=child, priority=90) for child in "ac"]
        claims = [await host.queue.claim(lease=host.lease, limit=5) for _ in range(4)]
        assert [[task.id for task in claim] for claim in claims] == [
            [new[1]],
            [new[0], lost[0]],
            [lost[1]],
            [],
        ]

    # Leases

    async def test_a_lapsed_lease_lets_another_take_the_task(self, host: Host[StoreT]) -> None:
        await host.put()
        lost = await host.take()
        rest = await host.wait_for_most_of(host.lease)
        another = await host.another()
        assert await another.claim() is None
        await host.wait(rest)
        taken = await another.take()
        assert (taken.id, taken.attempts, taken.crashes) == (lost.id, 1, 1)
        assert taken.check_again
        assert taken.lease_token != lost.lease_token

    async def test_whoever_lost_the_lease_changes_nothing(self, host: Host[StoreT]) -> None:
        await host.put(key="k")
        lost = await host.take()
        await host.wait(host.lease)
        taken = await (await host.another()).take()
        queue = host.queue
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: queue.renew(lost, lease=_HOUR),
            lambda: queue.complete(lost, result="x", warnings=[]),
            lambda: queue.fail(lost, error="x"),
            lambda: queue.reschedule(lost, delay=timedelta(0), error="x", check_again=True),
            lambda: queue.release(lost, check_again=True),
            lambda: host.park(lost, "a"),
        ]
        for call in calls:
            with pytest.raises(LeaseLostError):
                await call()
        assert await host.stored(lost.id) == taken

    async def test_an_ended_task_cannot_be_settled_again(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        await host.complete(task)
        ended = await host.stored(task.id)
        for call in (host.complete, host.put_back, host.queue.release):
            with pytest.raises(LeaseLostError):
                await call(task)
        with pytest.raises(LeaseLostError):
            await host.queue.renew(task, lease=host.lease)
        assert await host.stored(task.id) == ended

    async def test_a_renewed_lease_does_not_lapse(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        rest = await host.wait_for_most_of(host.lease)
        await host.queue.renew(task, lease=host.lease * 2)
        await host.wait(rest + host.lease / 2)
        assert await host.claim() is None
        await host.wait(host.lease * 2)
        assert (await host.take()).crashes == 1

    async def test_a_lease_is_renewed_from_now(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        await host.queue.renew(task, lease=host.lease / 4)
        await host.wait(host.lease / 2)
        assert (await host.take()).crashes == 1

    async def test_a_lapsed_task_that_nobody_took_is_still_its_worker_s(
        self, host: Host[StoreT]
    ) -> None:
        first, second = await host.put(), await host.put()
        tasks = await host.queue.claim(lease=host.lease, limit=2)
        await host.wait(host.lease)
        await host.queue.renew(tasks[0], lease=_HOUR)
        await host.complete(tasks[1])
        assert await host.claim() is None
        assert (await host.stored(first)).status is TaskStatus.PROCESSING
        assert (await host.stored(second)).status is TaskStatus.COMPLETED

    async def test_a_task_that_kills_every_worker_fails(self, host: Host[StoreT]) -> None:
        task_id = await host.put()
        await host.put_back(await host.take())
        other = await host.put(priority=1)
        for crashes in range(MAX_CRASHES):
            task = await host.take(only=[task_id])
            assert (task.attempts, task.crashes) == (2, crashes)
            await host.wait(host.lease)
        assert await host.taken(1) == [other]
        dead = await host.stored(task_id)
        assert (dead.status, dead.attempts, dead.crashes) == (TaskStatus.FAILED, 2, MAX_CRASHES)
        assert dead.error
        assert (dead.lease_token, dead.lease_expires_at) == (None, None)
        await host.wait(host.lease)
        assert (await host.take()).id == other

    async def test_a_claim_of_many_goes_past_a_task_that_kills_every_worker(
        self, host: Host[StoreT]
    ) -> None:
        task_id = await host.put()
        for _ in range(MAX_CRASHES):
            await host.take()
            await host.wait(host.lease)
        others = [await host.put(), await host.put()]
        claimed = await host.queue.claim(lease=host.lease, limit=2)
        assert [task.id for task in claimed] == others
        assert (await host.stored(task_id)).status is TaskStatus.FAILED

    async def test_a_lapsed_task_goes_before_a_newer_one_of_its_key(
        self, host: Host[StoreT]
    ) -> None:
        await host.put(key="k")
        lost = await host.take()
        await host.put(key="k", priority=90)
        await host.wait(host.lease)
        assert await host.taken(1) == [lost.id]
        assert await host.claim() is None

    async def test_a_lapsed_task_takes_its_turn_by_priority(self, host: Host[StoreT]) -> None:
        low = await host.put(priority=10)
        await host.take()
        high = await host.put(priority=90)
        await host.wait(host.lease)
        assert await host.taken(2) == [high, low]

    async def test_the_time_is_the_store_s_whatever_the_host_s(
        self, host: Host[StoreT], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await host.put()
        behind = await host.another()
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda: 4e9)
            clock.setattr(time, "time_ns", lambda: 4 * 10**18)
            task = await host.take()
        assert host.same(task.lease_expires_at, task.created_at + host.lease)
        assert await behind.claim() is None

    # How it ends

    async def test_completion_is_stored(self, host: Host[StoreT]) -> None:
        task_id = await host.put()
        await host.put_back(await host.take())
        task = await host.take()
        await host.wait(host.lease / 4)
        await host.queue.complete(task, result="готово", warnings=["a: b", "c"])
        done = await host.stored(task_id)
        assert (done.status, done.result, done.error) == (TaskStatus.COMPLETED, "готово", None)
        assert (done.warnings, done.attempts) == (("a: b", "c"), 2)
        assert done.updated_at > task.updated_at
        assert (done.lease_token, done.lease_expires_at) == (None, None)
        await host.wait(host.lease)
        assert await host.claim() is None

    async def test_text_that_a_store_may_not_take_ends_a_task_all_the_same(
        self, host: Host[StoreT]
    ) -> None:
        """NUL and lone surrogates may be left out; file names of others hold such."""
        for end in ("complete", "reschedule", "fail"):
            task_id = await host.put()
            task = await host.take(only=[task_id])
            text = "<\x00\ud800>"
            if end == "complete":
                await host.queue.complete(task, result=text, warnings=[text])
            elif end == "reschedule":
                await host.queue.reschedule(task, delay=_HOUR, error=text)
            else:
                await host.queue.fail(task, error=text)
            ended = await host.stored(task_id)
            told = [ended.result, *ended.warnings] if end == "complete" else [ended.error]
            assert all(t and t.startswith("<") and t.endswith(">") for t in told)

    async def test_a_rescheduled_task_waits_for_its_time(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        await host.queue.reschedule(task, delay=host.lease, error="503")
        waiting = await host.stored(task.id)
        assert (waiting.status, waiting.error) == (TaskStatus.PENDING, "503")
        assert (waiting.lease_token, waiting.lease_expires_at) == (None, None)
        assert (waiting.attempts, waiting.check_again) == (1, False)
        rest = await host.wait_for_most_of(host.lease)
        assert await host.claim() is None
        await host.wait(rest)
        again = await host.take()
        assert (again.id, again.attempts, again.crashes) == (task.id, 2, 0)

    async def test_a_failed_task_is_not_taken_again(self, host: Host[StoreT]) -> None:
        task_id = await host.failed()
        task = await host.stored(task_id)
        assert (task.status, task.error, task.attempts) == (TaskStatus.FAILED, "x", 1)
        assert (task.lease_token, task.lease_expires_at) == (None, None)
        await host.wait(host.lease)
        assert await host.claim() is None

    async def test_a_released_task_is_due_at_once_and_its_attempt_uncounted(
        self, host: Host[StoreT]
    ) -> None:
        await host.put()
        await host.put_back(await host.take())
        await host.queue.release(await host.take())
        waiting = await host.only_pending()
        assert waiting is not None
        assert (waiting.attempts, waiting.error, waiting.check_again) == (1, "503", False)
        assert (await host.take()).attempts == 2

    @pytest.mark.parametrize("give_back", ["reschedule", "release", "park"])
    async def test_a_task_put_back_yields_to_a_newer_pending_one(
        self, host: Host[StoreT], give_back: str
    ) -> None:
        await host.put({"v": 1}, key="k")
        old = await host.take()
        newer = await host.put({"v": 2}, key="k")
        if give_back == "release":
            await host.queue.release(old)
        elif give_back == "park":
            await host.park(old, "another")
        else:
            await host.put_back(old)
        ended = await host.stored(old.id)
        assert ended.status is TaskStatus.FAILED
        assert ended.error
        task = await host.take()
        assert (task.id, task.payload) == (newer, {"v": 2})

    @pytest.mark.parametrize("key", [None, "k"])
    @pytest.mark.parametrize("give_back", ["reschedule", "release"])
    async def test_a_task_put_back_yields_to_none_of_another_key(
        self, host: Host[StoreT], give_back: str, key: str | None
    ) -> None:
        task_id = await host.put(key=key)
        task = await host.take()
        await host.put()
        await host.put(key="other")
        if give_back == "release":
            await host.queue.release(task)
        else:
            await host.put_back(task)
        assert (await host.stored(task_id)).status is TaskStatus.PENDING

    # The check of an entity whose task changed hands

    async def test_an_entity_whose_task_changed_hands_is_checked_again_once(
        self, host: Host[StoreT]
    ) -> None:
        await host.put({"v": 1}, key="k", priority=70, account_id="child", entity_id="1")
        await host.take()
        await host.wait(host.lease)
        task = await host.take()
        await host.complete(task)
        check = await host.only_pending()
        assert check is not None
        assert check.id != task.id
        assert (check.payload, check.dedupe_key, check.priority) == ({"v": 1}, "k", 70)
        assert (check.account_id, check.entity_id) == ("child", "1")
        assert host.same(check.scheduled_at, host.now(task) + CHECK_AGAIN_DELAY)
        assert (check.attempts, check.crashes, check.check_again) == (0, 0, False)
        assert await host.claim() is None
        rest = await host.wait_for_most_of(CHECK_AGAIN_DELAY)
        assert await host.claim() is None
        await host.wait(rest)
        await host.complete(await host.take())
        assert await host.only_pending() is None

    async def test_a_task_that_kept_its_worker_is_not_checked_again(
        self, host: Host[StoreT]
    ) -> None:
        await host.put(key="k")
        await host.complete(await host.take())
        assert await host.only_pending() is None

    async def test_a_newer_payload_is_not_replaced_by_the_check_but_checked_itself(
        self, host: Host[StoreT]
    ) -> None:
        await host.put({"v": 1}, key="k")
        await host.take()
        await host.wait(host.lease)
        taken = await host.take()
        newer = await host.put({"v": 2}, key="k")
        await host.complete(taken)
        pending = await host.only_pending()
        assert pending is not None
        assert (pending.id, pending.payload, pending.check_again) == (newer, {"v": 2}, True)
        await host.complete(await host.take())
        check = await host.only_pending()
        assert check is not None
        assert (check.payload, check.check_again) == ({"v": 2}, False)

    @pytest.mark.parametrize("end", ["release", "reschedule", "replace"])
    async def test_a_check_is_owed_by_the_task_that_supersedes_or_replaces(
        self, host: Host[StoreT], end: str
    ) -> None:
        await host.put({"v": 1}, key="k")
        await host.take()
        await host.wait(host.lease)
        taken = await host.take()
        if end == "replace":  # the payload of the waiting task
            await host.put_back(taken)
        await host.put({"v": 2}, key="k")
        if end == "release":
            await host.queue.release(taken)
        elif end == "reschedule":
            await host.put_back(taken)
        newer = await host.take()
        assert (newer.payload, newer.check_again) == ({"v": 2}, True)

    @pytest.mark.parametrize("end", ["release", "reschedule"])
    async def test_whoever_gives_a_task_back_may_ask_for_the_check(
        self, host: Host[StoreT], end: str
    ) -> None:
        await host.put()
        task = await host.take()
        if end == "release":
            await host.queue.release(task, check_again=True)
        else:
            await host.put_back(task, check_again=True)
        # It stays, whoever gives it back after.
        await host.put_back(await host.take())
        task = await host.take()
        assert task.check_again
        await host.complete(task)
        assert await host.only_pending() is not None

    async def test_a_check_that_is_asked_for_stands_by_the_newer_task(
        self, host: Host[StoreT]
    ) -> None:
        await host.put({"v": 1}, key="k")
        old = await host.take()
        newer = await host.put({"v": 2}, key="k")
        await host.put_back(old, check_again=True)
        task = await host.take()
        assert (task.id, task.check_again) == (newer, True)

    # Parking

    async def test_a_parked_task_waits_uncounted_until_its_account_is_free(
        self, host: Host[StoreT]
    ) -> None:
        parked, other = await host.put(), await host.put(priority=1)
        task = await host.take()
        until = host.now(task) + host.lease
        assert await host.park(task, "child", until) == 0
        task = await host.stored(parked)
        assert (task.status, task.attempts, task.parked_for) == (TaskStatus.PENDING, 0, "child")
        assert (task.error, task.lease_token) == ("401", None)
        assert host.same(task.scheduled_at, until)
        assert await host.queue.parked() == 1
        await host.complete(await host.take())
        assert (await host.stored(other)).status is TaskStatus.COMPLETED
        rest = await host.wait_for_most_of(host.lease)
        assert await host.claim() is None
        await host.wait(rest)
        again = await host.take()
        assert (again.id, again.attempts, again.parked_for) == (parked, 1, None)
        assert await host.queue.parked() == 0

    async def test_due_tasks_that_name_the_account_are_parked_with_it(
        self, host: Host[StoreT]
    ) -> None:
        first = await host.put(priority=99)
        named = [
            await host.put(_of_account(main_account_id=_ACCOUNT)),
            await host.put(_of_account(child_account_id=_ACCOUNT)),
            await host.put(_of_account(child_account_id=_ACCOUNT), key="some key"),
            await host.put({"of": "a plugin"}, key=f"{_ACCOUNT}/product/1"),
            await host.put({"of": "a plugin"}, account_id=_ACCOUNT),
        ]
        others = [
            await host.put(_of_account()),
            await host.put(
                _of_account(main_account_id=_ACCOUNT + "b"), key=f"{_ACCOUNT}b/product/1"
            ),
            await host.put(_of_account(name=json.dumps(_of_account(main_account_id=_ACCOUNT)))),
            await host.put(_of_account(main_account_id="a\u0439xx'\\" + '"')),
            await host.put(_ACCOUNT, key=f"x/{_ACCOUNT}/1"),
        ]
        later = await host.put(_of_account(main_account_id=_ACCOUNT), delay=_MINUTE)
        task = await host.take()
        until = host.now(task) + _HOUR
        assert await host.park(task, _ACCOUNT, until) == len(named)
        for task_id in (first, *named):
            task = await host.stored(task_id)
            assert host.same(task.scheduled_at, until)
            assert (task.parked_for, task.error) == (_ACCOUNT, "401")
            assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)
        for task_id in (*others, later):
            task = await host.stored(task_id)
            assert (task.parked_for, task.error) == (None, None)
        assert await host.queue.parked() == 1 + len(named)
        assert await host.queue.unpark(_ACCOUNT) == 1 + len(named)

    async def test_running_tasks_are_not_parked_along(self, host: Host[StoreT]) -> None:
        for n in range(2):
            await host.put(_of_account(child_account_id="a"), key=f"a/product/{n}")
        held, other = await host.queue.claim(lease=host.lease, limit=2)
        assert await host.park(held, "a") == 0
        await host.complete(other)

    async def test_tasks_of_an_account_that_is_free_again_are_due_now(
        self, host: Host[StoreT]
    ) -> None:
        ids = [await host.put() for _ in range(3)]
        for account in ("a", "a", "b"):
            await host.park(await host.take(), account)
        assert await host.queue.unpark("a") == 2
        assert await host.queue.unpark("a") == 0
        assert await host.queue.unpark("nobody") == 0
        assert await host.queue.parked() == 1
        assert await host.taken(2) == ids[:2]
        assert await host.claim() is None

    async def test_a_new_payload_ends_the_wait_of_a_parked_task(self, host: Host[StoreT]) -> None:
        await host.put(key="k")
        await host.park(await host.take(), "a")
        await host.put({"v": 2}, key="k")
        assert await host.queue.parked() == 0
        assert (await host.take()).payload == {"v": 2}

    async def test_tasks_of_an_account_that_was_stored_anew_are_due_at_once(
        self, host: Host[StoreT]
    ) -> None:
        accounts = self.accounts(host.store)
        account = Account("a", "A", TokenKind.SOLUTION, "token")
        await accounts.add(account)
        first = await host.put(_of_account(child_account_id="a"))
        waiting = await host.put(_of_account(child_account_id="a"))
        task = await host.take()
        until = host.now(task) + _HOUR
        await accounts.park("a", Parking("401", until))
        await accounts.add(account)
        assert await host.park(task, "a", until) == 0
        assert await host.queue.parked() == 0
        assert await host.taken(2) == [first, waiting]
        assert (await host.stored(first)).attempts == 1

    async def test_tasks_of_an_account_that_is_parked_are_parked(self, host: Host[StoreT]) -> None:
        accounts = self.accounts(host.store)
        await accounts.add(Account("a", "A", TokenKind.SOLUTION, "token"))
        for _ in range(2):
            await host.put(_of_account(child_account_id="a"))
        task = await host.take()
        until = host.now(task) + _HOUR
        await accounts.park("a", Parking("401", until))
        assert await host.park(task, "a", until) == 1
        assert await host.queue.parked() == 2
        assert await host.claim() is None

    # By hand

    async def test_tasks_held_for_years_by_a_wrong_clock_are_freed(
        self, host: Host[StoreT]
    ) -> None:
        held, kept, running = [await host.put(key=str(n)) for n in range(3)]
        for task_id, lease in (
            (held, timedelta(days=2000)),
            (kept, timedelta(hours=23)),
            (running, host.lease * 10),
        ):
            await host.queue.claim(lease=lease, only=[task_id])
        assert await host.queue.free(None) == [held]
        assert await host.queue.free(None) == []
        task = await host.take()
        # Whoever held it may have sent a request.
        assert (task.id, task.attempts, task.crashes, task.check_again) == (held, 1, 0, True)
        assert await host.claim() is None

    async def test_chosen_tasks_are_freed_and_their_workers_have_lost_them(
        self, host: Host[StoreT]
    ) -> None:
        first, second, waiting = [await host.put() for _ in range(3)]
        held = await host.take(only=[first])
        await host.take(only=[second])
        chosen = [first, waiting, _unknown(waiting)]
        assert await (await host.another()).queue.free(chosen) == [first]
        with pytest.raises(LeaseLostError):
            await host.complete(held)
        assert (await host.stored(first)).status is TaskStatus.PENDING
        assert (await host.stored(second)).status is TaskStatus.PROCESSING
        assert await host.queue.free([]) == []

    async def test_a_freed_task_yields_to_a_newer_pending_one(self, host: Host[StoreT]) -> None:
        await host.put({"v": 1}, key="k")
        held = await host.take()
        newer = await host.put({"v": 2}, key="k")
        assert await host.queue.free([held.id]) == [held.id]
        assert (await host.stored(held.id)).status is TaskStatus.FAILED
        task = await host.take()
        assert (task.id, task.check_again) == (newer, True)

    async def test_counts_name_every_status(self, host: Host[StoreT]) -> None:
        assert await host.queue.counts() == dict.fromkeys(TaskStatus, 0)
        await host.queue.enqueue([NewTask(n) for n in range(7)])
        tasks = await host.queue.claim(lease=host.lease, limit=5)
        await host.complete(tasks[0])
        for task in tasks[1:3]:
            await host.queue.fail(task, error="x")
        assert await host.queue.counts() == {
            TaskStatus.PENDING: 2,
            TaskStatus.PROCESSING: 2,
            TaskStatus.COMPLETED: 1,
            TaskStatus.FAILED: 2,
        }

    async def test_keys_of_tasks_that_wait_or_run_are_told(self, host: Host[StoreT]) -> None:
        assert await host.queue.waiting(["pending"]) == set()
        ended, failed, held = [await host.put(key=key) for key in ("ended", "failed", _ACCOUNT)]
        await host.complete(await host.take(only=[ended]))
        await host.queue.fail(await host.take(only=[failed]), error="x")
        await host.take(only=[held])
        await host.put(key="pending")
        await host.put(key="later", delay=_HOUR)
        await host.put()
        asked = ["later", "ended", "pending", "pend", "PENDING", _ACCOUNT, "failed", "pending", ""]
        assert await host.queue.waiting(asked) == {"later", "pending", _ACCOUNT}
        assert await host.queue.waiting(["ended"]) == set()
        assert await host.queue.waiting([]) == set()
        many = [f"key {n}" for n in range(999)]
        assert await host.queue.waiting([*many, "pending"]) == {"pending"}

    async def test_find_is_newest_first_with_pages(self, host: Host[StoreT]) -> None:
        ids = [await host.put() for _ in range(5)]
        await host.queue.fail(await host.take(), error="x")
        assert [task.id for task in await host.queue.find()] == ids[::-1]
        page = await host.queue.find(limit=2, offset=1)
        assert [task.id for task in page] == [ids[3], ids[2]]
        assert page[0] == await host.stored(ids[3])
        assert [task.id for task in await host.queue.find(TaskStatus.FAILED)] == [ids[0]]
        assert await host.queue.find(TaskStatus.PENDING, limit=2, offset=4) == []
        pending = await host.queue.find(TaskStatus.PENDING, limit=2, offset=2)
        assert [task.id for task in pending] == [ids[2], ids[1]]

    async def test_find_gives_a_hundred_unless_it_says_otherwise(self, host: Host[StoreT]) -> None:
        await host.queue.enqueue([NewTask(n) for n in range(101)])
        assert [task.payload for task in await host.queue.find()] == list(range(100, 0, -1))

    async def test_an_unknown_task_is_none(self, host: Host[StoreT]) -> None:
        assert await host.queue.get(_unknown(await host.put())) is None

    async def test_retry_gives_failed_tasks_fresh_attempts(self, host: Host[StoreT]) -> None:
        first, second, untouched = await host.failed(), await host.failed(), await host.put()
        before = await host.stored(first)
        await host.wait(host.lease / 4)
        assert await host.queue.retry([first, untouched, _unknown(untouched)]) == [first]
        assert await host.queue.retry([]) == []
        task = await host.stored(first)
        assert (task.status, task.attempts, task.error) == (TaskStatus.PENDING, 0, None)
        assert task.scheduled_at > before.scheduled_at
        assert (await host.stored(second)).status is TaskStatus.FAILED
        assert await host.queue.retry(None) == [second]
        assert await host.queue.retry(None) == []
        assert (await host.take(only=[first])).attempts == 1

    async def test_retry_tells_the_ids_in_order(self, host: Host[StoreT]) -> None:
        ids = [await host.failed() for _ in range(12)]
        assert await host.queue.retry(ids[5::-1]) == ids[:6]
        assert await host.queue.retry(None) == ids[6:]

    async def test_a_retried_task_may_lose_workers_anew(self, host: Host[StoreT]) -> None:
        task_id = await host.put()
        for _ in range(MAX_CRASHES):
            await host.take()
            await host.wait(host.lease)
        assert await host.claim() is None
        assert await host.queue.retry([task_id]) == [task_id]
        task = await host.take()
        assert (task.attempts, task.crashes) == (1, 0)
        await host.wait(host.lease)
        assert (await host.take()).crashes == 1

    async def test_retry_leaves_a_task_whose_entity_has_a_newer_one(
        self, host: Host[StoreT]
    ) -> None:
        old, newest = await host.failed("k"), await host.failed("k")
        before_pending = await host.failed("p")
        pending = await host.put(key="p")
        before_completed = await host.failed("c")
        await host.complete(await host.take(only=[await host.put(key="c")]))
        assert await host.queue.retry(None) == [newest]
        for task_id in (old, before_pending, before_completed):
            assert await host.queue.retry([task_id]) == []
            assert (await host.stored(task_id)).status is TaskStatus.FAILED
        assert (await host.stored(pending)).status is TaskStatus.PENDING

    # What is deleted by age

    async def ends(self, host: Host[StoreT]) -> dict[str, TaskId]:
        """A completed and a failed task, and one of each other status."""
        waiting, held, done, failed = [await host.put() for _ in range(4)]
        await host.take(only=[held])
        await host.complete(await host.take(only=[done]))
        await host.queue.fail(await host.take(only=[failed]), error="x")
        return {"waiting": waiting, "held": held, "done": done, "failed": failed}

    async def test_ended_tasks_are_deleted_by_age(self, host: Host[StoreT]) -> None:
        ids = await self.ends(host)
        age = host.lease / 2
        assert await host.queue.prune(completed=age, failed=age) == 0
        await host.wait(age * 1.5)
        assert await host.queue.prune(completed=_HOUR, failed=_HOUR) == 0
        assert await host.queue.prune(completed=age, failed=_HOUR) == 1
        assert await host.queue.get(ids["done"]) is None
        assert await host.queue.prune(completed=_HOUR, failed=age) == 1
        assert await host.queue.get(ids["failed"]) is None
        assert await host.queue.prune(completed=age, failed=age) == 0
        assert (await host.stored(ids["waiting"])).status is TaskStatus.PENDING
        assert (await host.stored(ids["held"])).status is TaskStatus.PROCESSING

    async def test_a_task_is_as_old_as_its_end(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        age = host.lease / 2
        await host.wait(age * 1.5)
        await host.complete(task)
        assert await host.queue.prune(completed=age, failed=age) == 0
        await host.wait(age * 1.5)
        assert await host.queue.prune(completed=age, failed=age) == 1

    async def test_they_are_deleted_in_portions(self, host: Host[StoreT]) -> None:
        await host.queue.enqueue([NewTask(n) for n in range(5)])
        for task in await host.queue.claim(lease=host.lease, limit=5):
            await host.complete(task)
        await host.wait(host.lease / 4)
        zero = timedelta(0)
        portions = [await host.queue.prune(completed=zero, failed=zero, limit=2) for _ in range(4)]
        assert portions == [2, 2, 1, 0]
        assert await host.queue.find() == []

    async def test_no_outdated_failed_task_is_left_to_be_retried(self, host: Host[StoreT]) -> None:
        """While it is there, what superseded it stays, however old that is."""
        failed = await host.failed("k")
        await host.complete(await host.take(only=[await host.put(key="k")]))
        await host.wait(host.lease / 4)
        zero = timedelta(0)
        # The failed one goes as early as the completed one, and first.
        assert await host.queue.prune(completed=zero, failed=_HOUR, limit=1) == 1
        assert await host.queue.get(failed) is None
        assert await host.queue.prune(completed=zero, failed=_HOUR) == 1
        assert await host.queue.retry(None) == []

    async def test_what_superseded_a_task_that_failed_later_stays_with_it(
        self, host: Host[StoreT]
    ) -> None:
        old = await host.put({"v": 1}, key="k")
        task = await host.take()
        newer = await host.put({"v": 2}, key="k")
        age = host.lease / 2
        await host.queue.fail(task, error="x")
        await host.complete(await host.take(only=[newer]))
        assert await host.queue.prune(completed=age, failed=_HOUR) == 0
        await host.wait(age * 1.5)
        while await host.queue.prune(completed=age, failed=_HOUR, limit=1):
            assert await host.queue.retry(None) == []
        assert await host.queue.get(old) is None
        assert await host.queue.get(newer) is None

    async def test_a_failed_task_before_a_newer_one_that_waits_goes_early(
        self, host: Host[StoreT]
    ) -> None:
        superseded, waiting = await host.failed("k"), await host.put(key="k")
        kept = await host.failed("other")
        await host.wait(host.lease / 4)
        assert await host.queue.prune(completed=timedelta(0), failed=_HOUR) == 1
        assert await host.queue.get(superseded) is None
        assert {task.id for task in await host.queue.find()} == {waiting, kept}

    # Other kinds, other hosts

    async def test_tasks_of_other_kinds_are_left_alone(self, host: Host[StoreT]) -> None:
        other = await host.another(_OTHER_KIND)
        payload = _of_account(child_account_id="a")
        waiting, failed, held, parked = [
            await other.put(payload, key=f"a/price/{n}", kind=_OTHER_KIND) for n in range(4)
        ]
        await other.queue.fail(await other.take(only=[failed]), error="x")
        await other.queue.claim(lease=timedelta(days=9), only=[held])
        await other.park(await other.take(only=[parked]), "b")
        before = [await other.stored(i) for i in (waiting, failed, held, parked)]

        ids = [waiting, failed, held, parked]
        assert await host.claim() is None
        assert await host.claim(only=ids) is None
        assert [await host.queue.get(task_id) for task_id in ids] == [None] * 4
        assert await host.queue.find() == []
        assert sum((await host.queue.counts()).values()) == 0
        assert await host.queue.retry(None) == await host.queue.retry(ids) == []
        assert await host.queue.free(None) == await host.queue.free(ids) == []
        assert await host.queue.parked() == 0
        assert await host.queue.waiting([f"a/price/{n}" for n in range(4)]) == set()
        assert await host.queue.unpark("b") == 0
        await host.wait(host.lease / 4)
        assert await host.queue.prune(completed=timedelta(0), failed=timedelta(0)) == 0
        own = await host.put(payload)
        assert await host.park(await host.take(), "a") == 0
        assert [await other.stored(i) for i in ids] == before
        assert [task.id for task in await host.queue.find()] == [own]

    async def test_lapsed_tasks_of_other_kinds_are_left_alone(self, host: Host[StoreT]) -> None:
        other = await host.another(_OTHER_KIND)
        await other.put(kind=_OTHER_KIND)
        task = await other.take()
        await host.wait(host.lease)
        assert await host.claim() is None
        await other.complete(task)

    async def test_a_queue_of_several_kinds_takes_them_in_one_order(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(_OTHER_KIND, TASK_ENTITY_TYPE)
        kinds = [_OTHER_KIND, TASK_ENTITY_TYPE, _OTHER_KIND, TASK_ENTITY_TYPE]
        put = await both.queue.enqueue(
            [NewTask(n, kind=kind, priority=90 if n == 3 else 50) for n, kind in enumerate(kinds)]
        )
        claimed = await both.queue.claim(lease=both.lease, limit=4)
        assert [task.id for task in claimed] == [put[n].task_id for n in (3, 0, 1, 2)]
        assert [task.kind for task in claimed] == [kinds[n] for n in (3, 0, 1, 2)]

    async def test_a_task_takes_the_place_of_the_kinds_that_it_names(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        waiting = await both.put({"v": 1}, "k", kind=_OTHER_KIND, delay=_HOUR, account_id="a")
        (put,) = await both.queue.enqueue(
            [NewTask({"v": 2}, "k", "b", takes_over=("unknown", _OTHER_KIND))]
        )
        assert put == Enqueued(waiting, created=False)
        task = await both.take()
        assert (task.id, task.kind, task.payload) == (waiting, TASK_ENTITY_TYPE, {"v": 2})
        assert task.account_id == "b"
        assert await both.claim() is None

    async def test_a_task_that_is_to_be_checked_is_taken_over_as_such(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        waiting = await both.put({"v": 1}, "k", kind=_OTHER_KIND)
        await both.put_back(await both.take(), check_again=True)
        await both.put({"v": 2}, "k", takes_over=(_OTHER_KIND,))
        task = await both.take()
        assert (task.id, task.kind, task.check_again) == (waiting, TASK_ENTITY_TYPE, True)

    async def test_a_task_of_a_kind_that_does_not_give_way_is_left_alone(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        waiting = await both.put({"v": 1}, "k", kind=_OTHER_KIND)
        for queue, new in (
            (both.queue, NewTask({"v": 2}, "k")),
            (both.queue, NewTask({"v": 2}, "k", takes_over=("unknown",))),
            (host.queue, NewTask({"v": 2}, "k", takes_over=(_OTHER_KIND,))),
            (host.queue, NewTask({"v": 2}, "k", yields=True)),
        ):
            with pytest.raises(StoreError):
                await queue.enqueue([new])
        task = await both.take()
        assert (task.id, task.kind, task.payload) == (waiting, _OTHER_KIND, {"v": 1})

    async def test_a_task_that_yields_leaves_one_of_another_kind_as_it_is(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        waiting = await both.put({"v": 1}, "k")
        before = await both.stored(waiting)
        put = await both.queue.enqueue(
            [
                NewTask({"v": 2}, "k", kind=_OTHER_KIND, yields=True, priority=90),
                NewTask({"v": 3}, "k2", kind=_OTHER_KIND, yields=True),
                NewTask({"v": 4}, "k2", kind=_OTHER_KIND, yields=True),
            ]
        )
        assert [one.created for one in put] == [False, True, False]
        assert put[0].task_id == waiting
        assert put[1].task_id == put[2].task_id
        assert await both.stored(waiting) == before
        assert [task.payload for task in await both.queue.find()] == [{"v": 4}, {"v": 1}]

    async def test_a_task_that_yields_takes_over_one_of_its_own_kind(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        waiting = await both.put({"v": 1}, "k", kind=_OTHER_KIND, delay=_HOUR, yields=True)
        assert await both.claim() is None
        assert await both.put({"v": 2}, "k", kind=_OTHER_KIND, yields=True) == waiting
        assert (await both.take()).payload == {"v": 2}

    async def test_a_task_that_yields_waits_for_one_that_runs(self, host: Host[StoreT]) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        running = await both.put({"v": 1}, "k")
        task = await both.take()
        waiting = await both.put({"v": 2}, "k", kind=_OTHER_KIND, yields=True)
        assert waiting != running
        assert await both.claim() is None
        await both.complete(task)
        task = await both.take()
        assert (task.id, task.check_again) == (waiting, False)

    async def test_what_a_newer_task_of_another_kind_supersedes_is_to_be_checked(
        self, host: Host[StoreT]
    ) -> None:
        both = await host.another(TASK_ENTITY_TYPE, _OTHER_KIND)
        await both.put({"v": 1}, "k")
        task = await both.take()
        newer = await both.put({"v": 2}, "k", kind=_OTHER_KIND, yields=True)
        await both.put_back(task)
        assert (await both.stored(task.id)).status is TaskStatus.FAILED
        task = await both.take()
        assert (task.id, task.kind, task.check_again) == (newer, _OTHER_KIND, True)

    async def test_of_tasks_put_at_once_one_that_yields_replaces_none(
        self, host: Host[StoreT]
    ) -> None:
        kinds = (TASK_ENTITY_TYPE, _OTHER_KIND)
        hosts = [await host.another(*kinds) for _ in range(4)]
        for n in range(5):
            await asyncio.gather(
                *(
                    one.put(n, f"k{n}", kind=_OTHER_KIND, yields=True)
                    if place % 2
                    else one.put(n, f"k{n}", takes_over=(_OTHER_KIND,))
                    for place, one in enumerate(hosts)
                )
            )
        found = await hosts[0].queue.find()
        assert [(task.kind, task.dedupe_key) for task in found] == [
            (TASK_ENTITY_TYPE, f"k{n}") for n in reversed(range(5))
        ]

    async def test_a_queue_that_is_closed_leaves_the_store_to_others(
        self, host: Host[StoreT]
    ) -> None:
        another = await host.another()
        waiting, held = await another.put({"v": 1}), await another.put(priority=90)
        task = await another.take()
        await another.queue.close()
        host.opened.clear()
        assert await host.stored(held) == task
        assert await host.taken(1) == [waiting]
        assert await (await host.another()).stored(waiting) == await host.stored(waiting)

    async def test_a_store_that_cannot_be_used_is_a_store_error(self, host: Host[StoreT]) -> None:
        await host.put()
        task = await host.take()
        await self.disable(host.store)
        queue = host.queue
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: queue.enqueue([NewTask(1)]),
            lambda: queue.claim(lease=host.lease),
            lambda: queue.renew(task, lease=host.lease),
            lambda: queue.complete(task, result="x", warnings=[]),
            lambda: queue.reschedule(task, delay=timedelta(0), error="x"),
            lambda: queue.fail(task, error="x"),
            lambda: queue.release(task),
            lambda: queue.park(task, account_id="a", until=datetime.now(UTC), error="x"),
            lambda: queue.unpark("a"),
            queue.parked,
            lambda: queue.free(None),
            queue.counts,
            lambda: queue.waiting(["a"]),
            queue.find,
            lambda: queue.get(task.id),
            lambda: queue.retry(None),
            lambda: queue.prune(completed=timedelta(0), failed=timedelta(0)),
        ]
        for call in calls:
            with pytest.raises((StoreError, NoRoomError)):
                await call()
