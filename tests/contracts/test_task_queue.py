"""Contract of the port TaskQueue, on SQLite and on a real PostgreSQL."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.model import Account, Parking, TokenKind
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.tasks import Task, TaskStatus

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=2)
LATER = NOW + LEASE + timedelta(seconds=1)


@dataclass
class QueueClock:
    """The time that the store is told to have."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment


CLOCK = QueueClock()


@pytest.fixture
def queue(engine: Engine) -> TaskQueue:
    CLOCK.moment = NOW
    return SqlTaskQueue(engine, CLOCK)


def put(queue: TaskQueue, payload: Any = None, key: str | None = None, **options: Any) -> int:
    return queue.enqueue(
        {"n": 1} if payload is None else payload, dedupe_key=key, **options
    ).task_id


def take(queue: TaskQueue, now: datetime = NOW, **options: Any) -> Task:
    task = claim(queue, now, **options)
    assert task is not None
    return task


def claim(queue: TaskQueue, now: datetime = NOW, **options: Any) -> Task | None:
    CLOCK.moment = now
    return queue.claim(lease=LEASE, **options)


def stored(queue: TaskQueue, task_id: int) -> Task:
    task = queue.get(task_id)
    assert task is not None
    return task


def test_a_new_task_has_the_documented_defaults(queue: TaskQueue) -> None:
    payload = {"имя": "Ж", "nested": [1, None, {"a": "\x00\ud800"}]}
    task = stored(queue, put(queue, payload))
    assert task.payload == payload
    assert (task.status, task.priority) == (TaskStatus.PENDING, 50)
    assert (task.attempts, task.max_attempts) == (0, 3)
    assert task.scheduled_at == task.created_at == NOW
    assert (task.lease_token, task.lease_expires_at) == (None, None)
    assert (task.error, task.result) == (None, None)
    assert task.warnings == ()


@pytest.mark.parametrize("payload", ["text", [1], 5, False])
def test_a_payload_may_be_any_json(queue: TaskQueue, payload: object) -> None:
    put(queue, payload)
    assert take(queue).payload == payload


def test_a_claim_counts_the_attempt_and_holds_the_task(queue: TaskQueue) -> None:
    task_id = put(queue)
    task = take(queue)
    assert (task.id, task.status, task.attempts) == (task_id, TaskStatus.PROCESSING, 1)
    assert task.lease_expires_at == NOW + LEASE
    assert task == stored(queue, task_id)
    assert claim(queue) is None


def test_an_empty_queue_gives_nothing(queue: TaskQueue) -> None:
    assert claim(queue) is None
    assert queue.get(1) is None


def test_higher_priority_then_earlier_schedule_goes_first(queue: TaskQueue) -> None:
    first, urgent, second = put(queue), put(queue, priority=90), put(queue)
    assert [take(queue).id for _ in range(3)] == [urgent, first, second]


def test_only_takes_these_tasks(queue: TaskQueue) -> None:
    _, chosen = put(queue), put(queue)
    assert take(queue, only=[chosen]).id == chosen
    assert claim(queue, only=[chosen]) is None
    assert claim(queue, only=[]) is None


def test_only_takes_lapsed_tasks_in_the_way_of_these(queue: TaskQueue) -> None:
    held, other = put(queue, key="c/product/1"), put(queue, key="c/product/2")
    take(queue, only=[held])
    take(queue, only=[other])
    chosen = put(queue, key="c/product/1")
    assert claim(queue, only=[chosen]) is None
    lapsed = take(queue, NOW + 2 * LEASE, only=[chosen])
    assert (lapsed.id, lapsed.crashes) == (held, 1)
    assert claim(queue, NOW + 2 * LEASE, only=[chosen]) is None
    queue.complete(lapsed, result="completed", warnings=())
    assert take(queue, NOW + 2 * LEASE, only=[chosen]).id == chosen


def test_completion_is_stored(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    CLOCK.moment = LATER
    queue.complete(task, result="done", warnings=["a\x00\ud800: b", "c"])
    done = stored(queue, task.id)
    assert (done.status, done.result) == (TaskStatus.COMPLETED, "done")
    assert done.warnings == ("a?: b", "c")
    assert done.updated_at == LATER
    assert (done.lease_token, done.lease_expires_at) == (None, None)
    assert claim(queue, LATER) is None


def test_a_rescheduled_task_waits_for_its_time(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    at = NOW + timedelta(minutes=1)
    queue.reschedule(task, delay=at - NOW, error="503 \x00")
    waiting = stored(queue, task.id)
    assert (waiting.status, waiting.error) == (TaskStatus.PENDING, "503 ")
    assert claim(queue, at - timedelta(microseconds=1)) is None
    again = take(queue, at)
    assert (again.id, again.attempts) == (task.id, 2)


def test_a_failed_task_is_not_taken_again(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    queue.fail(task, error="401")
    assert (stored(queue, task.id).status, stored(queue, task.id).error) == (
        TaskStatus.FAILED,
        "401",
    )
    assert claim(queue, LATER) is None


def test_a_released_task_is_due_at_once_and_its_attempt_uncounted(queue: TaskQueue) -> None:
    put(queue)
    queue.reschedule(take(queue), delay=timedelta(0), error="503")
    task = take(queue)
    queue.release(task)
    assert (stored(queue, task.id).attempts, stored(queue, task.id).error) == (1, "503")
    assert take(queue).attempts == 2


def test_a_lapsed_lease_lets_another_take_the_task(queue: TaskQueue) -> None:
    put(queue)
    lost = take(queue)
    assert claim(queue, NOW + LEASE - timedelta(seconds=1)) is None
    taken = take(queue, NOW + LEASE)
    assert (taken.id, taken.attempts, taken.crashes) == (lost.id, 1, 1)
    assert taken.lease_token != lost.lease_token


def test_whoever_lost_the_lease_changes_nothing(queue: TaskQueue) -> None:
    put(queue)
    lost = take(queue)
    taken = take(queue, LATER)
    with pytest.raises(LeaseLostError):
        queue.renew(lost, lease=LEASE)
    with pytest.raises(LeaseLostError):
        queue.complete(lost, result="x", warnings=[])
    with pytest.raises(LeaseLostError):
        queue.fail(lost, error="x")
    with pytest.raises(LeaseLostError):
        queue.reschedule(lost, delay=timedelta(0), error="x")
    with pytest.raises(LeaseLostError):
        queue.release(lost)
    assert stored(queue, lost.id) == taken


def test_a_renewed_lease_does_not_lapse(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    CLOCK.moment = NOW + timedelta(minutes=1)
    queue.renew(task, lease=LEASE)
    assert claim(queue, LATER) is None
    queue.complete(task, result="done", warnings=[])


def test_a_task_that_kills_every_worker_fails_after_four(queue: TaskQueue) -> None:
    task_id, other = put(queue), put(queue, priority=1)
    for crashes in range(4):
        task = take(queue, NOW + crashes * 2 * LEASE, only=[task_id])
        assert (task.attempts, task.crashes) == (1, crashes)
    assert take(queue, NOW + 8 * LEASE).id == other
    dead = stored(queue, task_id)
    assert (dead.status, dead.attempts, dead.crashes) == (TaskStatus.FAILED, 1, 4)
    assert "worker was lost 4 times" in (dead.error or "")


def test_a_pending_task_of_the_same_key_takes_the_new_payload(queue: TaskQueue) -> None:
    first = queue.enqueue({"v": 1}, dedupe_key="k")
    queue.reschedule(take(queue), delay=LATER - NOW, error="503")
    second = queue.enqueue({"v": 2}, dedupe_key="k")
    assert (first.created, second.created) == (True, False)
    assert first.task_id == second.task_id
    task = take(queue)
    assert (task.payload, task.attempts, task.error) == ({"v": 2}, 1, None)
    assert queue.counts()[TaskStatus.PENDING] == 0


def test_tasks_of_one_key_never_run_at_once(queue: TaskQueue) -> None:
    put(queue, key="k")
    running = take(queue)
    newer = put(queue, key="k")
    other = put(queue, key="other")
    assert newer != running.id
    assert take(queue).id == other
    assert claim(queue) is None
    queue.complete(running, result="done", warnings=[])
    assert take(queue).id == newer


def test_a_lapsed_task_goes_before_a_newer_one_of_its_key(queue: TaskQueue) -> None:
    put(queue, key="k")
    lost = take(queue)
    put(queue, key="k", priority=90)
    assert take(queue, LATER).id == lost.id
    assert claim(queue, LATER) is None


@pytest.mark.parametrize("give_back", ["reschedule", "release"])
def test_a_task_put_back_yields_to_a_newer_pending_one(queue: TaskQueue, give_back: str) -> None:
    put(queue, key="k")
    old = take(queue)
    newer = put(queue, key="k")
    if give_back == "release":
        queue.release(old)
    else:
        queue.reschedule(old, delay=timedelta(0), error="503")
    ended = stored(queue, old.id)
    assert ended.status is TaskStatus.FAILED
    assert f"superseded by the newer task {newer}" in (ended.error or "")
    assert take(queue).id == newer


def test_counts_name_every_status(queue: TaskQueue) -> None:
    assert queue.counts() == dict.fromkeys(TaskStatus, 0)
    for _ in range(3):
        put(queue)
    queue.fail(take(queue), error="x")
    take(queue)
    assert queue.counts() == {
        TaskStatus.PENDING: 1,
        TaskStatus.PROCESSING: 1,
        TaskStatus.COMPLETED: 0,
        TaskStatus.FAILED: 1,
    }


def test_find_is_newest_first_with_pages(queue: TaskQueue) -> None:
    ids = [put(queue) for _ in range(5)]
    queue.fail(take(queue), error="x")
    assert [t.id for t in queue.find(limit=2, offset=1)] == [ids[3], ids[2]]
    assert [t.id for t in queue.find(TaskStatus.FAILED)] == [ids[0]]


def failed(queue: TaskQueue, key: str | None = None) -> int:
    task_id = put(queue, key=key)
    queue.fail(take(queue, only=[task_id]), error="x")
    return task_id


def test_retry_gives_failed_tasks_fresh_attempts(queue: TaskQueue) -> None:
    first, second, untouched = failed(queue), failed(queue), put(queue)
    CLOCK.moment = LATER
    assert queue.retry([first, untouched, 999]) == [first]
    task = stored(queue, first)
    assert (task.status, task.attempts, task.error) == (TaskStatus.PENDING, 0, None)
    assert task.scheduled_at == LATER
    assert queue.retry(None) == [second]


def test_retry_leaves_a_task_whose_entity_has_a_newer_one(queue: TaskQueue) -> None:
    old, newest = failed(queue, "k"), failed(queue, "k")
    pending = failed(queue, "p")
    newer = put(queue, key="p")
    assert queue.retry(None) == [newest]
    assert stored(queue, old).status is TaskStatus.FAILED
    assert stored(queue, pending).status is TaskStatus.FAILED
    assert stored(queue, newer).status is TaskStatus.PENDING


def test_other_kinds_of_rows_are_left_alone(queue: TaskQueue, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO sync_queue (entity_type, payload) VALUES ('price_sync', '{}')")
        )
    assert claim(queue, NOW + timedelta(days=9999)) is None
    assert queue.find() == []
    assert sum(queue.counts().values()) == 0
    assert queue.retry(None) == []


def test_another_program_may_insert_a_task(queue: TaskQueue, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO sync_queue (entity_type, payload) VALUES ('image_sync', :payload)"),
            {"payload": '{"image_url": "https://x/1"}'},
        )
    task = take(queue, datetime.now(UTC) + timedelta(minutes=1))
    assert task.payload == {"image_url": "https://x/1"}
    assert (task.priority, task.max_attempts, task.warnings) == (50, 3, ())
    assert abs(task.created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_row_marked_processing_without_a_lease_is_not_lost(
    queue: TaskQueue, engine: Engine
) -> None:
    task_id = put(queue)
    with engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'processing'"))
    assert take(queue).id == task_id


def test_many_workers_take_each_task_once(queue: TaskQueue) -> None:
    keys = [None, "a", "b", "c"]
    ids = {put(queue, key=keys[n % 4] and f"{keys[n % 4]}{n}") for n in range(60)}
    taken: Counter[int] = Counter()
    lock, barrier, errors = threading.Lock(), threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        try:
            while task := claim(queue):
                with lock:
                    taken[task.id] += 1
                queue.complete(task, result="done", warnings=[])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert taken == Counter(ids)


def test_programs_that_enqueue_one_entity_at_once_make_one_task(queue: TaskQueue) -> None:
    barrier, made = threading.Barrier(6), []

    def work(number: int) -> None:
        barrier.wait()
        made.append(queue.enqueue({"n": number}, dedupe_key="k"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({m.task_id for m in made}) == 1
    assert sum(m.created for m in made) == 1
    assert queue.counts()[TaskStatus.PENDING] == 1


FOREIGN = "INSERT INTO sync_queue (entity_type, payload, dedupe_key) VALUES ('x', '{}', :k)"


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("give_back", ["reschedule", "release"])
def test_a_task_put_back_is_not_superseded_by_one_of_another_key_or_kind(
    queue: TaskQueue, engine: Engine, give_back: str, key: str | None
) -> None:
    task_id = put(queue, key=key)
    task = take(queue)
    put(queue, key=None)
    put(queue, key="other")
    with engine.begin() as connection:
        connection.execute(text(FOREIGN), {"k": key and f"{key}-foreign"})
    if give_back == "release":
        queue.release(task)
    else:
        queue.reschedule(task, delay=timedelta(0), error="503")
    assert stored(queue, task_id).status is TaskStatus.PENDING


def test_a_task_without_a_key_never_takes_the_place_of_another(queue: TaskQueue) -> None:
    assert put(queue) != put(queue)


def test_a_lost_task_names_its_earlier_error_too(queue: TaskQueue) -> None:
    put(queue)
    queue.reschedule(take(queue), delay=timedelta(0), error="503")
    lost = take(queue)
    for lapses in range(1, 4):
        take(queue, NOW + lapses * LEASE)
    assert claim(queue, NOW + 4 * LEASE) is None
    dead = stored(queue, lost.id)
    assert dead.status is TaskStatus.FAILED
    assert "worker was lost" in (dead.error or "")
    assert "503" in (dead.error or "")
    assert (dead.lease_token, dead.lease_expires_at) == (None, None)


def test_the_number_of_attempts_is_an_option(queue: TaskQueue) -> None:
    assert stored(queue, put(queue, max_attempts=7)).max_attempts == 7


def test_completion_after_a_retry_clears_the_error(queue: TaskQueue) -> None:
    put(queue)
    queue.reschedule(take(queue), delay=timedelta(0), error="503")
    task = take(queue)
    queue.complete(task, result="done", warnings=[])
    assert stored(queue, task.id).error is None


def test_an_ended_task_cannot_be_settled_again(queue: TaskQueue, engine: Engine) -> None:
    put(queue)
    task = take(queue)
    with engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'failed'"))
    with pytest.raises(LeaseLostError):
        queue.complete(task, result="done", warnings=[])


def test_equal_priorities_go_by_schedule_then_by_number(queue: TaskQueue) -> None:
    late, first, second = (put(queue, key=k) for k in "abc")
    at = NOW + timedelta(seconds=1)
    queue.reschedule(take(queue, only=[late]), delay=at - NOW, error="503")
    assert [take(queue, LATER).id for _ in range(3)] == [first, second, late]


def test_a_lapsed_task_takes_its_turn_by_priority(queue: TaskQueue) -> None:
    low = put(queue, priority=10)
    assert take(queue).id == low
    high = put(queue, priority=90)
    assert [take(queue, LATER).id for _ in range(2)] == [high, low]


def test_the_database_itself_refuses_an_unknown_status_and_two_running_of_one_key(
    queue: TaskQueue, engine: Engine
) -> None:
    put(queue)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'done'"))
    insert = "INSERT INTO sync_queue (payload, dedupe_key, status) VALUES ('{}', 'k', :status)"
    for status in ("pending", "processing"):
        with engine.begin() as connection:
            connection.execute(text(insert), {"status": status})
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(insert), {"status": status})


def test_a_failed_task_that_another_program_wrote_is_retried_alone(queue: TaskQueue) -> None:
    first, second = failed(queue), failed(queue)
    assert queue.retry([second]) == [second]
    assert stored(queue, first).status is TaskStatus.FAILED


def test_a_delayed_task_waits(queue: TaskQueue) -> None:
    task_id = put(queue, delay=timedelta(minutes=6))
    assert claim(queue, NOW + timedelta(minutes=6, microseconds=-1)) is None
    assert take(queue, NOW + timedelta(minutes=6)).id == task_id


def test_an_attempt_is_counted_and_a_crash_is_kept_when_a_task_is_taken_over_and_retried(
    queue: TaskQueue,
) -> None:
    put(queue)
    take(queue)
    queue.reschedule(take(queue, LATER), delay=timedelta(0), error="503")
    again = take(queue, LATER)
    assert (again.attempts, again.crashes, again.check_again) == (2, 1, True)


def check_of(queue: TaskQueue) -> Task | None:
    """The only pending task."""
    found = queue.find(TaskStatus.PENDING)
    assert len(found) <= 1
    return found[0] if found else None


def test_an_entity_whose_task_changed_hands_is_checked_again_once(queue: TaskQueue) -> None:
    put(queue, {"v": 1}, key="k", priority=70)
    take(queue)
    queue.complete(take(queue, LATER), result="done", warnings=[])
    check = check_of(queue)
    assert check is not None
    assert (check.payload, check.dedupe_key, check.priority) == ({"v": 1}, "k", 70)
    assert (check.scheduled_at, check.attempts) == (LATER + timedelta(minutes=6), 0)
    assert (check.crashes, check.check_again) == (0, False)
    assert claim(queue, LATER + timedelta(minutes=5)) is None
    queue.complete(take(queue, check.scheduled_at), result="unchanged", warnings=[])
    assert check_of(queue) is None


def test_a_task_that_kept_its_worker_is_not_checked_again(queue: TaskQueue) -> None:
    put(queue, key="k")
    queue.complete(take(queue), result="done", warnings=[])
    assert check_of(queue) is None


def test_a_newer_payload_is_not_replaced_by_the_check_but_checked_itself(queue: TaskQueue) -> None:
    put(queue, {"v": 1}, key="k")
    take(queue)
    taken = take(queue, LATER)
    newer = put(queue, {"v": 2}, key="k")
    queue.complete(taken, result="done", warnings=[])
    pending = check_of(queue)
    assert pending is not None
    assert (pending.id, pending.payload) == (newer, {"v": 2})
    queue.complete(take(queue, LATER), result="done", warnings=[])
    check = check_of(queue)
    assert check is not None
    assert check.payload == {"v": 2}


@pytest.mark.parametrize("end", ["release", "reschedule"])
def test_a_check_is_owed_by_the_task_that_supersedes_or_replaces(
    queue: TaskQueue, end: str
) -> None:
    put(queue, {"v": 1}, key="k")
    take(queue)
    taken = take(queue, LATER)
    if end == "reschedule":  # and the payload of the waiting row is replaced
        queue.reschedule(taken, delay=timedelta(0), error="503")
        put(queue, {"v": 2}, key="k")
    else:
        put(queue, {"v": 2}, key="k")
        queue.release(taken)
    newer = take(queue, LATER)
    assert (newer.payload, newer.check_again) == ({"v": 2}, True)


def test_whoever_gives_a_task_back_may_ask_for_the_check(queue: TaskQueue) -> None:
    put(queue)
    queue.release(take(queue), check_again=True)
    task = take(queue)
    assert (task.attempts, task.check_again) == (1, True)
    queue.reschedule(task, delay=timedelta(0), error="x", check_again=True)
    queue.complete(take(queue), result="done", warnings=[])
    assert check_of(queue) is not None


def test_a_parked_task_waits_uncounted_until_its_account_is_free(queue: TaskQueue) -> None:
    parked, other = put(queue), put(queue, priority=1)
    until = NOW + timedelta(hours=1)
    queue.park(take(queue), account_id="child", until=until, error="401")
    task = stored(queue, parked)
    assert (task.status, task.attempts, task.parked_for) == (TaskStatus.PENDING, 0, "child")
    assert (task.scheduled_at, task.error, task.lease_token) == (until, "401", None)
    assert queue.parked() == 1
    queue.complete(take(queue, until - timedelta(seconds=1)), result="done", warnings=[])
    assert stored(queue, other).status is TaskStatus.COMPLETED
    assert claim(queue, until - timedelta(seconds=1)) is None
    again = take(queue, until)
    assert (again.id, again.attempts, again.parked_for) == (parked, 1, None)
    assert queue.parked() == 0


ACCOUNT = "a\u0439_%'\\" + '"'
"""An id with all that could go wrong in a search for it."""


def of_account(**fields: object) -> dict[str, object]:
    return {"main_account_id": "main", "child_account_id": "child", **fields}


def test_due_tasks_that_name_the_account_are_parked_with_it(
    queue: TaskQueue, engine: Engine
) -> None:
    first = put(queue, priority=99)
    named = [
        put(queue, of_account(main_account_id=ACCOUNT)),
        put(queue, of_account(child_account_id=ACCOUNT)),
        put(queue, {"of": "a plugin"}, key=f"{ACCOUNT}/product/1"),
    ]
    text_of = json.dumps(of_account(child_account_id=ACCOUNT), ensure_ascii=False)
    with engine.begin() as connection:
        for written in (text_of, text_of.replace(": ", ":")):
            row = {"payload": written, "at": NOW.strftime("%Y-%m-%d %H:%M:%S+00:00")}
            connection.execute(
                text("INSERT INTO sync_queue (payload, scheduled_at) VALUES (:payload, :at)"), row
            )
    named += [task.id for task in queue.find()[:2]]
    others = [
        put(queue, of_account()),
        put(queue, of_account(main_account_id=ACCOUNT + "b"), key=f"{ACCOUNT}b/product/1"),
        put(queue, of_account(name=json.dumps(of_account(main_account_id=ACCOUNT)))),
        put(queue, of_account(main_account_id="a\u0439xx'\\" + '"')),
    ]
    later = put(queue, of_account(main_account_id=ACCOUNT), delay=timedelta(minutes=6))
    until = NOW + timedelta(hours=1)
    along = queue.park(take(queue), account_id=ACCOUNT, until=until, error="401")
    assert along == len(named)
    for task_id in (first, *named):
        task = stored(queue, task_id)
        assert (task.scheduled_at, task.parked_for, task.error) == (until, ACCOUNT, "401")
        assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)
    assert {stored(queue, task_id).parked_for for task_id in (*others, later)} == {None}
    assert stored(queue, later).scheduled_at == NOW + timedelta(minutes=6)
    assert queue.unpark(ACCOUNT) == 1 + len(named)


def test_rows_of_other_kinds_and_running_tasks_are_not_parked_along(
    queue: TaskQueue, engine: Engine
) -> None:
    payload = of_account(child_account_id="a")
    first, running, foreign = (put(queue, payload, key=f"a/product/{n}") for n in range(3))
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE sync_queue SET entity_type = 'price_sync' WHERE id = :id"), {"id": foreign}
        )
    held, other = take(queue, only=[first]), take(queue, only=[running])
    assert queue.park(held, account_id="a", until=LATER, error="401") == 0
    queue.complete(other, result="done", warnings=[])
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT parked_for, error FROM sync_queue WHERE id = :id"), {"id": foreign}
        ).one()
    assert tuple(row) == (None, None)


def test_tasks_of_an_account_that_was_stored_anew_are_due_at_once(
    queue: TaskQueue, engine: Engine
) -> None:
    accounts = SqlAccountRepository(engine, CLOCK)
    account = Account("a", "A", TokenKind.SOLUTION, "token")
    accounts.add(account)
    first = put(queue, of_account(child_account_id="a"))
    waiting = put(queue, of_account(child_account_id="a"))
    accounts.park("a", Parking("401", LATER))
    task = take(queue)
    accounts.add(account)
    assert queue.park(task, account_id="a", until=LATER, error="401") == 0
    assert [take(queue).id, take(queue).id] == [first, waiting]
    assert stored(queue, first).attempts == 1


def test_an_account_cannot_be_stored_anew_between_its_parking_and_that_of_its_tasks(
    queue: TaskQueue, engine: Engine
) -> None:
    """Or the tasks would wait for an account that nobody frees again."""
    accounts = SqlAccountRepository(engine, CLOCK)
    account = Account("a", "A", TokenKind.SOLUTION, "token")
    accounts.add(account)
    accounts.park("a", Parking("401", LATER))
    for n in range(2):
        put(queue, of_account(child_account_id="a"), key=f"a/product/{n}")
    task, renewing = take(queue), list[threading.Thread]()

    def renew() -> None:
        accounts.add(account)
        queue.unpark("a")

    def meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE sync_queue") and not renewing:
            renewing.append(threading.Thread(target=renew))
            renewing[0].start()
            renewing[0].join(0.3)

    event.listen(engine, "before_cursor_execute", meanwhile)
    queue.park(task, account_id="a", until=LATER, error="401")
    renewing[0].join(10)
    event.remove(engine, "before_cursor_execute", meanwhile)
    assert queue.parked() == 0
    assert claim(queue) is not None


def test_tasks_of_an_account_that_is_free_again_are_due_now(queue: TaskQueue) -> None:
    ids = [put(queue) for _ in range(3)]
    for account in ("a", "a", "b"):
        queue.park(take(queue), account_id=account, until=LATER, error="401")
    assert queue.unpark("a") == 2
    assert queue.unpark("nobody") == 0
    assert queue.parked() == 1
    assert [take(queue).id, take(queue).id] == ids[:2]
    assert claim(queue) is None


def test_a_new_payload_ends_the_wait_of_a_parked_task(queue: TaskQueue) -> None:
    put(queue, key="k")
    queue.park(take(queue), account_id="a", until=LATER, error="401")
    put(queue, {"v": 2}, key="k")
    assert queue.parked() == 0
    assert take(queue).payload == {"v": 2}


def test_tasks_held_for_years_by_a_wrong_clock_are_freed(queue: TaskQueue) -> None:
    held, kept = put(queue), put(queue)
    CLOCK.moment = NOW + timedelta(days=2000)
    queue.claim(lease=LEASE, only=[held])
    CLOCK.moment = NOW
    take(queue, only=[kept])
    assert claim(queue) is None
    assert queue.free(None) == [held]
    task = take(queue)
    assert (task.id, task.attempts, task.crashes, task.check_again) == (held, 1, 0, True)


def test_chosen_tasks_are_freed_and_their_workers_have_lost_them(queue: TaskQueue) -> None:
    first, second, waiting = put(queue), put(queue), put(queue)
    held = take(queue, only=[first])
    take(queue, only=[second])
    assert queue.free([first, waiting, 999]) == [first]
    with pytest.raises(LeaseLostError):
        queue.complete(held, result="done", warnings=[])
    assert stored(queue, second).status is TaskStatus.PROCESSING


def test_a_freed_task_yields_to_a_newer_pending_one(queue: TaskQueue) -> None:
    put(queue, {"v": 1}, key="k")
    held = take(queue)
    newer = put(queue, {"v": 2}, key="k")
    assert queue.free([held.id]) == [held.id]
    assert stored(queue, held.id).status is TaskStatus.FAILED
    assert (take(queue).id, stored(queue, newer).check_again) == (newer, True)


def test_the_time_is_the_database_s_whatever_the_host_s(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind = SqlTaskQueue(engine), SqlTaskQueue(engine)
    ahead.enqueue({})
    task = behind.claim(lease=LEASE)
    assert task is not None
    with monkeypatch.context() as host:
        host.setattr(time, "time", lambda: 4e9)
        assert ahead.claim(lease=LEASE) is None
    assert task.lease_expires_at is not None
    left = task.lease_expires_at - datetime.now(UTC)
    assert LEASE - timedelta(seconds=30) < left <= LEASE + timedelta(seconds=1)


def test_a_lease_of_the_database_s_time_lapses(engine: Engine) -> None:
    queue = SqlTaskQueue(engine)
    queue.enqueue({})
    lost = queue.claim(lease=timedelta(seconds=0.05))
    time.sleep(0.1)
    taken = queue.claim(lease=LEASE)
    assert lost is not None
    assert taken is not None
    assert (taken.id, taken.crashes) == (lost.id, 1)
