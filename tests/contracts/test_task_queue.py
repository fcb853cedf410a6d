"""Contract of the port TaskQueue, on SQLite and on a real PostgreSQL."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.tasks import Task, TaskStatus

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=2)
LATER = NOW + LEASE + timedelta(seconds=1)


@pytest.fixture
def queue(engine: Engine) -> TaskQueue:
    return SqlTaskQueue(engine)


def put(queue: TaskQueue, payload: Any = None, key: str | None = None, **options: Any) -> int:
    return queue.enqueue(
        {"n": 1} if payload is None else payload, now=NOW, dedupe_key=key, **options
    ).task_id


def take(queue: TaskQueue, now: datetime = NOW, **options: Any) -> Task:
    task = queue.claim(now=now, lease=LEASE, **options)
    assert task is not None
    return task


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
    assert queue.claim(now=NOW, lease=LEASE) is None


def test_an_empty_queue_gives_nothing(queue: TaskQueue) -> None:
    assert queue.claim(now=NOW, lease=LEASE) is None
    assert queue.get(1) is None


def test_higher_priority_then_earlier_schedule_goes_first(queue: TaskQueue) -> None:
    first, urgent, second = put(queue), put(queue, priority=90), put(queue)
    assert [take(queue).id for _ in range(3)] == [urgent, first, second]


def test_only_takes_these_tasks(queue: TaskQueue) -> None:
    _, chosen = put(queue), put(queue)
    assert take(queue, only=[chosen]).id == chosen
    assert queue.claim(now=NOW, lease=LEASE, only=[chosen]) is None
    assert queue.claim(now=NOW, lease=LEASE, only=[]) is None


def test_completion_is_stored(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    queue.complete(task, now=LATER, result="done", warnings=["a\x00\ud800: b", "c"])
    done = stored(queue, task.id)
    assert (done.status, done.result) == (TaskStatus.COMPLETED, "done")
    assert done.warnings == ("a?: b", "c")
    assert done.updated_at == LATER
    assert (done.lease_token, done.lease_expires_at) == (None, None)
    assert queue.claim(now=LATER, lease=LEASE) is None


def test_a_rescheduled_task_waits_for_its_time(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    at = NOW + timedelta(minutes=1)
    queue.reschedule(task, now=NOW, at=at, error="503 \x00")
    waiting = stored(queue, task.id)
    assert (waiting.status, waiting.error) == (TaskStatus.PENDING, "503 ")
    assert queue.claim(now=at - timedelta(microseconds=1), lease=LEASE) is None
    again = take(queue, at)
    assert (again.id, again.attempts) == (task.id, 2)


def test_a_failed_task_is_not_taken_again(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    queue.fail(task, now=NOW, error="401")
    assert (stored(queue, task.id).status, stored(queue, task.id).error) == (
        TaskStatus.FAILED,
        "401",
    )
    assert queue.claim(now=LATER, lease=LEASE) is None


def test_a_released_task_is_due_at_once_and_its_attempt_uncounted(queue: TaskQueue) -> None:
    put(queue)
    queue.reschedule(take(queue), now=NOW, at=NOW, error="503")
    task = take(queue)
    queue.release(task, now=NOW)
    assert (stored(queue, task.id).attempts, stored(queue, task.id).error) == (1, "503")
    assert take(queue).attempts == 2


def test_a_lapsed_lease_lets_another_take_the_task(queue: TaskQueue) -> None:
    put(queue)
    lost = take(queue)
    assert queue.claim(now=NOW + LEASE - timedelta(seconds=1), lease=LEASE) is None
    taken = take(queue, NOW + LEASE)
    assert (taken.id, taken.attempts) == (lost.id, 2)
    assert taken.lease_token != lost.lease_token


def test_whoever_lost_the_lease_changes_nothing(queue: TaskQueue) -> None:
    put(queue)
    lost = take(queue)
    taken = take(queue, LATER)
    with pytest.raises(LeaseLostError):
        queue.renew(lost, now=LATER, lease=LEASE)
    with pytest.raises(LeaseLostError):
        queue.complete(lost, now=LATER, result="x", warnings=[])
    with pytest.raises(LeaseLostError):
        queue.fail(lost, now=LATER, error="x")
    with pytest.raises(LeaseLostError):
        queue.reschedule(lost, now=LATER, at=LATER, error="x")
    with pytest.raises(LeaseLostError):
        queue.release(lost, now=LATER)
    assert stored(queue, lost.id) == taken


def test_a_renewed_lease_does_not_lapse(queue: TaskQueue) -> None:
    put(queue)
    task = take(queue)
    queue.renew(task, now=NOW + timedelta(minutes=1), lease=LEASE)
    assert queue.claim(now=LATER, lease=LEASE) is None
    queue.complete(task, now=LATER, result="done", warnings=[])


def test_a_task_that_kills_every_worker_fails_after_its_attempts(queue: TaskQueue) -> None:
    task_id, other = put(queue), put(queue, priority=1)
    for attempt in range(3):
        assert take(queue, NOW + attempt * 2 * LEASE, only=[task_id]).attempts == attempt + 1
    assert take(queue, NOW + 6 * LEASE).id == other
    dead = stored(queue, task_id)
    assert (dead.status, dead.attempts) == (TaskStatus.FAILED, 3)
    assert "worker was lost" in (dead.error or "")


def test_a_pending_task_of_the_same_key_takes_the_new_payload(queue: TaskQueue) -> None:
    first = queue.enqueue({"v": 1}, now=NOW, dedupe_key="k")
    queue.reschedule(take(queue), now=NOW, at=LATER, error="503")
    second = queue.enqueue({"v": 2}, now=NOW, dedupe_key="k")
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
    assert queue.claim(now=NOW, lease=LEASE) is None
    queue.complete(running, now=NOW, result="done", warnings=[])
    assert take(queue).id == newer


def test_a_lapsed_task_goes_before_a_newer_one_of_its_key(queue: TaskQueue) -> None:
    put(queue, key="k")
    lost = take(queue)
    put(queue, key="k", priority=90)
    assert take(queue, LATER).id == lost.id
    assert queue.claim(now=LATER, lease=LEASE) is None


@pytest.mark.parametrize("give_back", ["reschedule", "release"])
def test_a_task_put_back_yields_to_a_newer_pending_one(queue: TaskQueue, give_back: str) -> None:
    put(queue, key="k")
    old = take(queue)
    newer = put(queue, key="k")
    if give_back == "release":
        queue.release(old, now=NOW)
    else:
        queue.reschedule(old, now=NOW, at=NOW, error="503")
    ended = stored(queue, old.id)
    assert ended.status is TaskStatus.FAILED
    assert f"superseded by the newer task {newer}" in (ended.error or "")
    assert take(queue).id == newer


def test_counts_name_every_status(queue: TaskQueue) -> None:
    assert queue.counts() == dict.fromkeys(TaskStatus, 0)
    for _ in range(3):
        put(queue)
    queue.fail(take(queue), now=NOW, error="x")
    take(queue)
    assert queue.counts() == {
        TaskStatus.PENDING: 1,
        TaskStatus.PROCESSING: 1,
        TaskStatus.COMPLETED: 0,
        TaskStatus.FAILED: 1,
    }


def test_find_is_newest_first_with_pages(queue: TaskQueue) -> None:
    ids = [put(queue) for _ in range(5)]
    queue.fail(take(queue), now=NOW, error="x")
    assert [t.id for t in queue.find(limit=2, offset=1)] == [ids[3], ids[2]]
    assert [t.id for t in queue.find(TaskStatus.FAILED)] == [ids[0]]


def failed(queue: TaskQueue, key: str | None = None) -> int:
    task_id = put(queue, key=key)
    queue.fail(take(queue, only=[task_id]), now=NOW, error="x")
    return task_id


def test_retry_gives_failed_tasks_fresh_attempts(queue: TaskQueue) -> None:
    first, second, untouched = failed(queue), failed(queue), put(queue)
    assert queue.retry([first, untouched, 999], now=LATER) == [first]
    task = stored(queue, first)
    assert (task.status, task.attempts, task.error) == (TaskStatus.PENDING, 0, None)
    assert task.scheduled_at == LATER
    assert queue.retry(None, now=LATER) == [second]


def test_retry_leaves_a_task_whose_entity_has_a_newer_one(queue: TaskQueue) -> None:
    old, newest = failed(queue, "k"), failed(queue, "k")
    pending = failed(queue, "p")
    newer = put(queue, key="p")
    assert queue.retry(None, now=NOW) == [newest]
    assert stored(queue, old).status is TaskStatus.FAILED
    assert stored(queue, pending).status is TaskStatus.FAILED
    assert stored(queue, newer).status is TaskStatus.PENDING


def test_other_kinds_of_rows_are_left_alone(queue: TaskQueue, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO sync_queue (entity_type, payload) VALUES ('price_sync', '{}')")
        )
    assert queue.claim(now=NOW + timedelta(days=9999), lease=LEASE) is None
    assert queue.find() == []
    assert sum(queue.counts().values()) == 0
    assert queue.retry(None, now=NOW) == []


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
            while task := queue.claim(now=NOW, lease=LEASE):
                with lock:
                    taken[task.id] += 1
                queue.complete(task, now=NOW, result="done", warnings=[])
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
        made.append(queue.enqueue({"n": number}, now=NOW, dedupe_key="k"))

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
        queue.release(task, now=NOW)
    else:
        queue.reschedule(task, now=NOW, at=NOW, error="503")
    assert stored(queue, task_id).status is TaskStatus.PENDING


def test_a_task_without_a_key_never_takes_the_place_of_another(queue: TaskQueue) -> None:
    assert put(queue) != put(queue)


def test_a_lost_task_names_its_earlier_error_too(queue: TaskQueue) -> None:
    put(queue, max_attempts=2)
    queue.reschedule(take(queue), now=NOW, at=NOW, error="503")
    lost = take(queue)
    assert queue.claim(now=LATER, lease=LEASE) is None
    dead = stored(queue, lost.id)
    assert dead.status is TaskStatus.FAILED
    assert "worker was lost" in (dead.error or "")
    assert "503" in (dead.error or "")
    assert (dead.lease_token, dead.lease_expires_at) == (None, None)


def test_the_number_of_attempts_is_an_option(queue: TaskQueue) -> None:
    assert stored(queue, put(queue, max_attempts=7)).max_attempts == 7


def test_completion_after_a_retry_clears_the_error(queue: TaskQueue) -> None:
    put(queue)
    queue.reschedule(take(queue), now=NOW, at=NOW, error="503")
    task = take(queue)
    queue.complete(task, now=NOW, result="done", warnings=[])
    assert stored(queue, task.id).error is None


def test_an_ended_task_cannot_be_settled_again(queue: TaskQueue, engine: Engine) -> None:
    put(queue)
    task = take(queue)
    with engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'failed'"))
    with pytest.raises(LeaseLostError):
        queue.complete(task, now=NOW, result="done", warnings=[])


def test_equal_priorities_go_by_schedule_then_by_number(queue: TaskQueue) -> None:
    late, first, second = (put(queue, key=k) for k in "abc")
    at = NOW + timedelta(seconds=1)
    queue.reschedule(take(queue, only=[late]), now=NOW, at=at, error="503")
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
    assert queue.retry([second], now=NOW) == [second]
    assert stored(queue, first).status is TaskStatus.FAILED
