"""Queues in memory that break one sentence of the port `TaskQueue` each."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imgsync.domain.errors import StoreError
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.tasks import Task, TaskId, TaskStatus
from imgsync.testing import MemoryStore, MemoryTaskQueue
from tests.testing.mutants.registry import mutant

NOW = timedelta(0)


@mutant("test_tasks_of_a_batch_have_their_results_in_order")
class ResultsOutOfOrder(MemoryTaskQueue):
    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return (await super().enqueue(tasks))[::-1]


@mutant("test_tasks_of_a_batch_go_in_its_order")
class BatchOutOfOrder(MemoryTaskQueue):
    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return (await super().enqueue(tasks[::-1]))[::-1]


@mutant("test_a_pending_task_of_the_same_key_takes_the_new_task_over")
class TwoPendingOfAKey(MemoryTaskQueue):
    def _put(self, new: NewTask, payload: str, now: datetime) -> Enqueued:
        return Enqueued(self._add(new, payload, now), created=True)


class _Keeps(MemoryTaskQueue):
    """A pending task keeps a value of its own."""

    name: str

    def _put(self, new: NewTask, payload: str, now: datetime) -> Enqueued:
        pending = self._of_key(new.dedupe_key, TaskStatus.PENDING)
        put = super()._put(new, payload, now)
        if pending:
            self._store(self.store.tasks[put.task_id], **{self.name: getattr(pending, self.name)})
        return put


_TAKEN_OVER = "test_a_pending_task_of_the_same_key_takes_the_new_task_over"
for _name in ("payload", "priority", "scheduled_at", "attempts", "error"):
    mutant(_TAKEN_OVER)(type(f"Keeps_{_name}", (_Keeps,), {"name": _name}))
mutant("test_a_new_payload_ends_the_wait_of_a_parked_task")(
    type("Keeps_parked_for", (_Keeps,), {"name": "parked_for"})
)


@mutant("test_tasks_of_a_batch_have_their_results_in_order")
class EveryTaskIsNew(MemoryTaskQueue):
    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return [replace(put, created=True) for put in await super().enqueue(tasks)]


@mutant("test_a_payload_is_what_it_was_when_it_was_queued")
class KeepsTheCallersPayload(MemoryTaskQueue):
    given: dict[TaskId, Any]

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        put = await super().enqueue(tasks)
        self.given = {one.task_id: task.payload for one, task in zip(put, tasks, strict=True)}
        return put

    async def claim(self, **options: Any) -> list[Task]:
        return [replace(t, payload=self.given[t.id]) for t in await super().claim(**options)]


@mutant("test_a_claim_takes_as_many_as_it_may")
class TakesOneMore(MemoryTaskQueue):
    async def claim(self, *, limit: int = 1, **options: Any) -> list[Task]:
        return await super().claim(limit=limit + 1, **options)


@mutant("test_a_claim_takes_as_many_as_it_may")
class TakesOneAtATime(MemoryTaskQueue):
    async def claim(self, *, limit: int = 1, **options: Any) -> list[Task]:
        return await super().claim(limit=min(1, limit), **options)


class _Sorts(MemoryTaskQueue):
    """Takes tasks by another rule."""

    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        kept = self.store.tasks
        changed = {i: self.changed(task) for i, task in kept.items()}
        self.store.tasks = changed
        try:
            found = super()._next(now, only, claimed)
        finally:
            self.store.tasks = kept
        return None if found is None else kept[found.id]

    def changed(self, task: Task) -> Task:
        raise NotImplementedError


@mutant("test_a_higher_priority_goes_first")
class NoPriorities(_Sorts):
    def changed(self, task: Task) -> Task:
        return replace(task, priority=0)


@mutant("test_of_equal_priorities_the_earlier_schedule_goes_first")
class NoSchedule(_Sorts):
    def changed(self, task: Task) -> Task:
        return replace(task, scheduled_at=datetime(2000, 1, 1, tzinfo=UTC))


@mutant("test_of_equal_priorities_the_earlier_schedule_goes_first")
class LatestFirst(MemoryTaskQueue):
    def _own(self, *statuses: TaskStatus) -> list[Task]:
        found = super()._own(*statuses)
        return found[::-1] if TaskStatus.PROCESSING in statuses and len(statuses) == 2 else found


@mutant("test_a_claim_of_many_takes_one_of_a_key")
class TakesAKeyThatRuns(_Sorts):
    def changed(self, task: Task) -> Task:
        pending = task.status is TaskStatus.PENDING
        return replace(task, dedupe_key=None) if pending else task


@mutant("test_only_takes_these_tasks")
class TakesAny(MemoryTaskQueue):
    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        return super()._next(now, None, claimed)


@mutant("test_only_takes_lapsed_tasks_in_the_way_of_these")
class LeavesWhatIsInTheWay(MemoryTaskQueue):
    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        found = super()._next(now, only, claimed)
        return found if found and (only is None or found.id in only) else None


class _Claims(MemoryTaskQueue):
    """Stores a claim otherwise."""

    async def claim(self, **options: Any) -> list[Task]:
        before = dict(self.store.tasks)
        claimed = []
        for task in await super().claim(**options):
            self._store(self.store.tasks[task.id], **self.wrong(before[task.id], task))
            found = await self.get(task.id)
            assert found
            claimed.append(found)
        return claimed

    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        raise NotImplementedError


@mutant("test_a_lapsed_lease_lets_another_take_the_task")
class CountsALapseAsAnAttempt(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        return {"attempts": before.attempts + 1}


@mutant("test_a_claim_counts_the_attempt_and_holds_the_task")
class CountsNoAttempt(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        return {"attempts": before.attempts}


@mutant("test_a_lapsed_lease_lets_another_take_the_task")
class CountsNoCrash(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        return {"crashes": 0}


@mutant("test_a_lapsed_lease_lets_another_take_the_task")
class AsksForNoCheck(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        return {"check_again": before.check_again}


@mutant("test_every_claim_has_a_token_of_its_own")
class OneTokenForAll(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        return {"lease_token": "token"}


@mutant("test_the_time_is_the_store_s_whatever_the_host_s")
class LeaseByTheHostsClock(_Claims):
    def wrong(self, before: Task, task: Task) -> dict[str, Any]:
        assert task.lease_expires_at
        ahead = timedelta(days=9) if time.time() > 3e9 else NOW
        return {"lease_expires_at": task.lease_expires_at + ahead}


@mutant("test_a_claim_counts_the_attempt_and_holds_the_task")
class ShowsNoToken(MemoryTaskQueue):
    async def get(self, task_id: TaskId) -> Task | None:
        task = await super().get(task_id)
        return task and replace(task, lease_token=None)


@mutant("test_a_task_that_kills_every_worker_fails")
class TriesForEver(MemoryTaskQueue):
    def _give_up(self, task: Task, now: datetime) -> None:
        self._end(task, now, TaskStatus.PENDING)


@mutant("test_a_task_that_kills_every_worker_fails")
class GivesUpWithoutAWord(MemoryTaskQueue):
    def _give_up(self, task: Task, now: datetime) -> None:
        self._end(task, now, TaskStatus.FAILED, crashes=task.crashes + 1, error=None)


@mutant("test_a_task_that_cannot_be_read_is_taken_and_tells_why")
class HidesDamage(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        return [replace(task, damage=None) for task in await super().claim(**options)]


@mutant("test_a_task_that_cannot_be_read_is_taken_and_tells_why")
class StumblesOverDamage(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        claimed = await super().claim(**options)
        if any(task.damage for task in claimed):
            raise ValueError("no JSON")
        return claimed


@mutant("test_a_lease_is_renewed_from_now")
class RenewsFromTheOldEnd(MemoryTaskQueue):
    async def renew(self, task: Task, *, lease: timedelta) -> None:
        await super().renew(task, lease=lease)
        held = self.store.tasks[task.id]
        assert task.lease_expires_at
        self._store(held, lease_expires_at=task.lease_expires_at + lease)


@mutant("test_whoever_lost_the_lease_changes_nothing")
class RenewsWhatIsLost(MemoryTaskQueue):
    async def renew(self, task: Task, *, lease: timedelta) -> None:
        await super().renew(self.store.tasks[task.id], lease=lease)


@mutant("test_a_lapsed_task_that_nobody_took_is_still_its_worker_s")
class LapsedIsLost(MemoryTaskQueue):
    async def renew(self, task: Task, *, lease: timedelta) -> None:
        held, now = self.store.tasks[task.id], await self._now()
        lapsed = held.lease_expires_at is not None and held.lease_expires_at <= now
        await super().renew(replace(task, lease_token="lost") if lapsed else task, lease=lease)


@mutant("test_whoever_lost_the_lease_changes_nothing")
class AnybodySettles(MemoryTaskQueue):
    def _held(self, task: Task) -> Task:
        return self.store.tasks[task.id]


@mutant("test_an_entity_whose_task_changed_hands_is_checked_again_once")
class ChecksNothing(MemoryTaskQueue):
    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        self._store(self._held(task), check_again=False)
        await super().complete(task, result=result, warnings=warnings)


@mutant("test_an_entity_whose_task_changed_hands_is_checked_again_once")
class ChecksAtOnce(MemoryTaskQueue):
    def _add(self, new: NewTask, payload: str, now: datetime) -> int:
        short = replace(new, delay=NOW) if new.delay == timedelta(minutes=6) else new
        return super()._add(short, payload, now)


@mutant("test_an_entity_whose_task_changed_hands_is_checked_again_once")
class ChecksForEver(MemoryTaskQueue):
    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        last = self.store.last_id
        await super().complete(task, result=result, warnings=warnings)
        if self.store.last_id > last:
            self._store(self.store.tasks[last + 1], check_again=True)


@mutant("test_completion_is_stored")
class ForgetsWarnings(MemoryTaskQueue):
    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        await super().complete(task, result=result, warnings=[])


@mutant("test_a_rescheduled_task_waits_for_its_time")
class ReschedulesAtOnce(MemoryTaskQueue):
    async def reschedule(self, task: Task, *, delay: timedelta, **options: Any) -> None:
        await super().reschedule(task, delay=NOW, **options)


@mutant("test_whoever_gives_a_task_back_may_ask_for_the_check")
class ForgetsTheCheckAskedFor(MemoryTaskQueue):
    async def reschedule(self, task: Task, *, check_again: bool = False, **options: Any) -> None:
        await super().reschedule(task, **options)


@mutant("test_a_task_put_back_yields_to_a_newer_pending_one")
class OldTaskBesideTheNewer(MemoryTaskQueue):
    def _put_back(self, task: Task, now: datetime, **values: Any) -> None:
        values.pop("check_again", None)
        self._end(task, now, TaskStatus.PENDING, **values)


@mutant("test_a_released_task_is_due_at_once_and_its_attempt_uncounted")
class ReleaseCounts(MemoryTaskQueue):
    async def release(self, task: Task, *, check_again: bool = False) -> None:
        await super().release(task, check_again=check_again)
        self._store(self.store.tasks[task.id], attempts=task.attempts)


@mutant("test_a_released_task_is_due_at_once_and_its_attempt_uncounted")
class ReleasesLater(MemoryTaskQueue):
    async def release(self, task: Task, *, check_again: bool = False) -> None:
        await super().release(task, check_again=check_again)
        kept = self.store.tasks[task.id]
        self._store(kept, scheduled_at=kept.scheduled_at + timedelta(seconds=1))


@mutant("test_a_failed_task_is_not_taken_again")
class FailedIsTriedAgain(MemoryTaskQueue):
    async def fail(self, task: Task, *, error: str) -> None:
        await super().reschedule(task, delay=NOW, error=error)


@mutant("test_a_parked_task_waits_uncounted_until_its_account_is_free")
class ParkingCounts(MemoryTaskQueue):
    async def park(self, task: Task, **options: Any) -> int:
        along = await super().park(task, **options)
        self._store(self.store.tasks[task.id], attempts=task.attempts)
        return along


@mutant("test_due_tasks_that_name_the_account_are_parked_with_it")
class ParksItAlone(MemoryTaskQueue):
    async def park(self, task: Task, **options: Any) -> int:
        own, self._kinds = self._kinds, frozenset()
        try:
            return await super().park(task, **options)
        finally:
            self._kinds = own


@mutant("test_due_tasks_that_name_the_account_are_parked_with_it")
class ParksWhatIsDueLater(MemoryTaskQueue):
    async def park(self, task: Task, **options: Any) -> int:
        now = await self._now()
        for waiting in self._own(TaskStatus.PENDING):
            self._store(waiting, scheduled_at=min(now, waiting.scheduled_at))
        return await super().park(task, **options)


@mutant("test_tasks_of_an_account_that_was_stored_anew_are_due_at_once")
class ParksAlthoughStoredAnew(MemoryTaskQueue):
    async def park(self, task: Task, **options: Any) -> int:
        kept, self.store.accounts = self.store.accounts, {}
        try:
            return await super().park(task, **options)
        finally:
            self.store.accounts = kept


@mutant("test_tasks_of_an_account_that_is_free_again_are_due_now")
class UnparksAll(MemoryTaskQueue):
    async def unpark(self, account_id: str) -> int:
        for task in self._own(TaskStatus.PENDING):
            if task.parked_for is not None:
                self._store(task, parked_for=account_id)
        return await super().unpark(account_id)


@mutant("test_tasks_of_an_account_that_is_free_again_are_due_now")
class UnparksLater(MemoryTaskQueue):
    async def unpark(self, account_id: str) -> int:
        before = dict(self.store.tasks)
        number = await super().unpark(account_id)
        for task in self._own(TaskStatus.PENDING):
            self._store(task, scheduled_at=before[task.id].scheduled_at)
        return number


@mutant("test_a_parked_task_waits_uncounted_until_its_account_is_free")
class ParkedCountsAll(MemoryTaskQueue):
    async def parked(self) -> int:
        return (await self.counts())[TaskStatus.PENDING]


@mutant("test_tasks_held_for_years_by_a_wrong_clock_are_freed")
class FreesAll(MemoryTaskQueue):
    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        running = [task.id for task in self._own(TaskStatus.PROCESSING)]
        return await super().free(running if ids is None else ids)


@mutant("test_tasks_held_for_years_by_a_wrong_clock_are_freed")
class FreedIsNotChecked(MemoryTaskQueue):
    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        freed = await super().free(ids)
        for task_id in freed:
            self._store(self.store.tasks[task_id], check_again=False)
        return freed


@mutant("test_counts_name_every_status")
class CountsWhatThereIs(MemoryTaskQueue):
    async def counts(self) -> dict[TaskStatus, int]:
        return {status: n for status, n in (await super().counts()).items() if n}


class _Waits(MemoryTaskQueue):
    statuses: Sequence[TaskStatus] = tuple(TaskStatus)

    async def waiting(self, keys: Collection[str]) -> set[str]:
        there = {task.dedupe_key for task in self._own(*self.statuses)}
        return {key for key in keys if key in there}


@mutant("test_keys_of_tasks_that_wait_or_run_are_told")
class EndedTasksWait(_Waits):
    pass


@mutant("test_keys_of_tasks_that_wait_or_run_are_told")
class RunningTasksDoNotWait(_Waits):
    statuses = (TaskStatus.PENDING,)


@mutant("test_keys_of_tasks_that_wait_or_run_are_told")
class EveryKeyThatWaits(MemoryTaskQueue):
    async def waiting(self, keys: Collection[str]) -> set[str]:
        waiting = self._own(TaskStatus.PENDING, TaskStatus.PROCESSING)
        return {task.dedupe_key for task in waiting if task.dedupe_key is not None}


@mutant("test_find_is_newest_first_with_pages")
class OldestFirst(MemoryTaskQueue):
    async def find(self, status: TaskStatus | None = None, **page: int) -> list[Task]:
        return (await super().find(status, **page))[::-1]


@mutant("test_find_is_newest_first_with_pages")
class FirstPageOnly(MemoryTaskQueue):
    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        return await super().find(status, limit=limit)


@mutant("test_find_is_newest_first_with_pages")
class FindsAnyStatus(MemoryTaskQueue):
    async def find(self, status: TaskStatus | None = None, **page: int) -> list[Task]:
        return await super().find(None, **page)


@mutant("test_tasks_of_other_kinds_are_left_alone")
class GetsOtherKinds(MemoryTaskQueue):
    async def get(self, task_id: TaskId) -> Task | None:
        return await MemoryTaskQueue(self.store, ["image_sync", "price_sync"]).get(task_id)


class _OtherKinds(MemoryTaskQueue):
    def __init__(self, store: MemoryStore | None = None, kinds: Sequence[str] = ()) -> None:
        super().__init__(store, ["image_sync", "price_sync"])


@mutant("test_tasks_of_other_kinds_are_left_alone")
class TakesOtherKinds(_OtherKinds):
    pass


@mutant("test_retry_gives_failed_tasks_fresh_attempts")
class RetriesWithOldAttempts(MemoryTaskQueue):
    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        before = dict(self.store.tasks)
        changed = await super().retry(ids)
        for task_id in changed:
            attempts = before[task_id].attempts
            self._store(self.store.tasks[task_id], attempts=attempts)
        return changed


@mutant("test_retry_leaves_a_task_whose_entity_has_a_newer_one")
class RetriesWhatIsOutOfDate(MemoryTaskQueue):
    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        kept = self.store.tasks
        self.store.tasks = {i: replace(task, dedupe_key=None) for i, task in kept.items()}
        changed = await super().retry(ids)
        for i, task in self.store.tasks.items():
            self._store(task, dedupe_key=kept[i].dedupe_key)
        return changed


@mutant("test_retry_gives_failed_tasks_fresh_attempts")
class RetriesAll(MemoryTaskQueue):
    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        return await super().retry(None)


@mutant("test_retry_tells_the_ids_in_order")
class RetriedOutOfOrder(MemoryTaskQueue):
    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        return (await super().retry(ids))[::-1]


@mutant("test_a_queue_that_is_closed_leaves_the_store_to_others")
class ClosesTheStore(MemoryTaskQueue):
    async def close(self) -> None:
        self.store.fault = StoreError("The queue is closed")


@mutant("test_a_queue_that_is_closed_leaves_the_store_to_others")
class ClosingLosesTasks(MemoryTaskQueue):
    async def close(self) -> None:
        self.store.tasks.clear()


@mutant("test_a_store_that_cannot_be_used_is_a_store_error")
class TranslatesNoErrors(MemoryTaskQueue):
    async def counts(self) -> dict[TaskStatus, int]:
        try:
            return await super().counts()
        except StoreError as error:
            raise OSError(error) from error


@mutant("test_times_are_in_utc")
class NaiveTimes(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        claimed = await super().claim(**options)
        return [replace(t, created_at=t.created_at.replace(tzinfo=None)) for t in claimed]


class _NoTurns(dict[str | None, int]):
    def __setitem__(self, child: str | None, turn: int) -> None:
        """Forgets it."""


@mutant("test_children_take_turns")
class FirstInFirstOut(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        self.store.turns = _NoTurns()
        return await super().claim(**options)


@mutant("test_hosts_keep_to_one_order_of_turns")
class TurnsOfItsOwn(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        shared, self.store.turns = self.store.turns, vars(self).setdefault("turns", {})
        try:
            return await super().claim(**options)
        finally:
            self.store.turns = shared


@mutant("test_a_claim_of_many_is_of_one_child")
class ClaimsOfSeveralChildren(MemoryTaskQueue):
    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        return super()._next(now, only, ())


@mutant("test_a_turn_goes_before_a_priority_which_counts_within_the_child")
class PriorityBeforeTurn(MemoryTaskQueue):
    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        waiting = [t for t in self._own(TaskStatus.PENDING) if t.scheduled_at <= now]
        if only is None and waiting:
            highest = max(task.priority for task in waiting)
            only = [task.id for task in waiting if task.priority == highest]
        return super()._next(now, only, claimed)


@mutant("test_a_child_saves_up_no_turns")
class TurnsAreCounted(MemoryTaskQueue):
    async def claim(self, **options: Any) -> list[Task]:
        before = dict(self.store.turns)
        claimed = await super().claim(**options)
        self.store.turns = before
        for task in claimed[:1]:
            before[task.account_id] = before.get(task.account_id, 0) + 1
        return claimed


@mutant("test_ended_tasks_are_deleted_by_age")
class PrunesWhatWaits(MemoryTaskQueue):
    def _own(self, *statuses: TaskStatus) -> list[Task]:
        pruned = set(statuses) == {TaskStatus.COMPLETED, TaskStatus.FAILED}
        return super()._own(*(TaskStatus if pruned else statuses))


@mutant("test_they_are_deleted_in_portions")
class PrunesAllAtOnce(MemoryTaskQueue):
    async def prune(self, *, limit: int = 500, **ages: Any) -> int:
        return await super().prune(**ages)


@mutant("test_a_task_is_as_old_as_its_end")
class OldFromItsBeginning(MemoryTaskQueue):
    def _is_past(self, task: Task, completed: datetime, failed: datetime) -> bool:
        return super()._is_past(replace(task, updated_at=task.created_at), completed, failed)


@mutant("test_no_outdated_failed_task_is_left_to_be_retried")
class PrunesByAgeAlone(MemoryTaskQueue):
    def _is_past(self, task: Task, completed: datetime, failed: datetime) -> bool:
        return task.updated_at < (failed if task.status is TaskStatus.FAILED else completed)


class _Putting(MemoryTaskQueue):
    """Asks for something else than what it was asked for."""

    def changed(self, task: NewTask) -> NewTask:
        raise NotImplementedError

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        return await super().enqueue([self.changed(task) for task in tasks])


@mutant("test_a_task_takes_the_place_of_the_kinds_that_it_names")
class GivesWayToAnyKind(_Putting):
    def changed(self, task: NewTask) -> NewTask:
        return replace(task, takes_over=(), yields=True)


@mutant("test_a_task_of_a_kind_that_does_not_give_way_is_left_alone")
class TakesOverAnyKind(_Putting):
    def changed(self, task: NewTask) -> NewTask:
        return replace(task, takes_over=(*task.takes_over, *self._kinds))


@mutant("test_a_task_that_yields_leaves_one_of_another_kind_as_it_is")
class NeverYields(_Putting):
    def changed(self, task: NewTask) -> NewTask:
        over = tuple(self._kinds) if task.yields else task.takes_over
        return replace(task, takes_over=over)


@mutant("test_a_task_that_yields_takes_over_one_of_its_own_kind")
class YieldsToItsOwnKind(MemoryTaskQueue):
    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        for task in tasks:
            if task.yields and (own := self._of_key(task.dedupe_key, TaskStatus.PENDING)):
                return [Enqueued(own.id, created=False)]
        return await super().enqueue(tasks)


@mutant("test_what_a_newer_task_of_another_kind_supersedes_is_to_be_checked")
class LosesTheWorkOfWhatIsSuperseded(MemoryTaskQueue):
    async def reschedule(self, task: Task, **options: Any) -> None:
        newer = self._of_key(task.dedupe_key, TaskStatus.PENDING)
        await super().reschedule(task, **options)
        if newer is not None:
            self._store(newer)
