"""The store and the temp files in memory: whole adapters, for tests and for trying things out.

Nothing outlasts the process. Every method gives other coroutines a turn before it does its work,
as a store over a network would, and does the work in one piece.
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imgsync.adapters.clock import SystemClock
from imgsync.domain.changes import (
    BackedUp,
    BackupError,
    Change,
    ListedImage,
    NoBackupError,
    SavedImage,
)
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import (
    AlreadyLinkedError,
    LeaseLostError,
    NoRoomError,
    StoreError,
    UnknownAccountError,
    UnsafePathError,
)
from imgsync.domain.failures import (
    FailedCount,
    FailedEntity,
    FailedImage,
    Failure,
    first_attempt,
    noted,
)
from imgsync.domain.formats import safe_suffix
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    LinkSettings,
    Parking,
    StoredLink,
)
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.pace import Step, T
from imgsync.domain.ports.queue import Enqueued, NewTask
from imgsync.domain.ports.storage import ContentKey, SharedFile, StaleFile, Turn
from imgsync.domain.surveys import PastSurvey, SurveyKey
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    MAX_CRASHES,
    TASK_ENTITY_TYPE,
    Task,
    TaskId,
    TaskStatus,
)
from imgsync.domain.text import natural_key

_LONGEST_LEASE = timedelta(days=1)
_READ_BYTES = 64 * 1024
_FIRST_MOMENT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class SetClock:
    """Implements `Clock`: it stands at `moment`, which a test sets or moves."""

    moment: datetime = _FIRST_MOMENT

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


@dataclass
class MemoryStore:
    """What several queues and repositories share, as hosts share a database; `clock` is its time.

    `tasks` by id, with payloads as JSON texts; `mains` by child account. `fault`: while it is set,
    every call of those that use the store raises it; a StoreError or a NoRoomError.
    """

    clock: Clock = field(default_factory=SystemClock)
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    parkings: dict[str, Parking] = field(default_factory=dict)
    abilities: dict[str, Abilities] = field(default_factory=dict)
    surveys: dict[SurveyKey, PastSurvey] = field(default_factory=dict)
    settings: dict[str, LinkSettings] = field(default_factory=dict)
    mains: dict[str, str] = field(default_factory=dict)
    records: dict[EntityKey, SyncRecord] = field(default_factory=dict)
    failures: dict[int, FailedImage] = field(default_factory=dict)
    paces: dict[str, str] = field(default_factory=dict)
    changes: dict[int, Change] = field(default_factory=dict)
    fault: Exception | None = None
    last_id: int = 0
    turns: dict[str | None, int] = field(default_factory=dict)
    """When a child's last claim was, in claims."""

    async def now(self) -> datetime:
        """The store's time, once it is this caller's turn; raises the `fault`."""
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return self.clock.now()

    def damage(self, task_id: TaskId) -> None:
        """Makes the payload of a task one that cannot be read."""
        self.tasks[task_id] = replace(self.tasks[task_id], payload="{damaged")


class MemoryStoreClock:
    """Implements `StoreClock`: the time of the store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def now(self) -> datetime:
        return await self._store.now()


class MemoryPaceStore:
    """Implements `PaceStore`: what is shared is `store.paces`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def change(self, key: str, step: Step[T]) -> T:
        now = (await self.store.now()).timestamp()
        self.store.paces[key], result = step(self.store.paces.get(key), now)
        return result

    async def close(self) -> None:
        """Nothing is open."""


class MemoryTaskQueue:
    """Implements `TaskQueue`. Each claim looks at every task, so it is for thousands of them.

    `kinds`: the kinds of tasks that it is opened for.
    """

    def __init__(
        self, store: MemoryStore | None = None, kinds: Sequence[str] = (TASK_ENTITY_TYPE,)
    ) -> None:
        self.store = MemoryStore() if store is None else store
        self._kinds = frozenset(kinds)
        self._closed = False

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        texts = [json.dumps(task.payload) for task in tasks]
        now = await self._now()
        return [self._put(new, payload, now) for new, payload in zip(tasks, texts, strict=True)]

    async def claim(
        self, *, lease: timedelta, limit: int = 1, only: Sequence[TaskId] | None = None
    ) -> list[Task]:
        now = await self._now()
        claimed: list[Task] = []
        while len(claimed) < limit and (due := self._next(now, only, claimed)):
            lapsed = due.status is TaskStatus.PROCESSING
            if lapsed and due.crashes + 1 >= MAX_CRASHES:
                self._give_up(due, now)
                continue
            # The lapsed attempt is the one that goes on; its owner's last request may still come.
            task = replace(
                due,
                status=TaskStatus.PROCESSING,
                lease_token=uuid.uuid4().hex,
                lease_expires_at=now + lease,
                updated_at=now,
                parked_for=None,
                attempts=due.attempts + (not lapsed),
                crashes=due.crashes + lapsed,
                check_again=due.check_again or lapsed,
            )
            self._store(task)
            claimed.append(_read(task))
        if claimed:
            turns = self.store.turns
            turns[claimed[0].account_id] = max(turns.values(), default=0) + 1
        return claimed

    async def renew(self, task: Task, *, lease: timedelta) -> None:
        now = await self._now()
        self._store(self._held(task), lease_expires_at=now + lease, updated_at=now)

    async def complete(self, task: Task, *, result: str, warnings: Sequence[str]) -> None:
        now = await self._now()
        held = self._held(task)
        self._end(
            held, now, TaskStatus.COMPLETED, result=result, warnings=tuple(warnings), error=None
        )
        if not held.check_again:
            return
        if newer := self._pending(held):
            self._store(newer, check_again=True)
            return
        self._add(
            NewTask(
                held.payload,
                held.dedupe_key,
                held.account_id,
                held.entity_id,
                held.priority,
                held.max_attempts,
                CHECK_AGAIN_DELAY,
                held.kind,
            ),
            held.payload,
            now,
        )

    async def reschedule(
        self, task: Task, *, delay: timedelta, error: str, check_again: bool = False
    ) -> None:
        now = await self._now()
        held = self._held(task)
        self._put_back(held, now, check_again=check_again, scheduled_at=now + delay, error=error)

    async def fail(self, task: Task, *, error: str) -> None:
        now = await self._now()
        self._end(self._held(task), now, TaskStatus.FAILED, error=error)

    async def release(self, task: Task, *, check_again: bool = False) -> None:
        now = await self._now()
        held = self._held(task)
        self._put_back(held, now, check_again=check_again, scheduled_at=now, **_uncounted(held))

    async def park(self, task: Task, *, account_id: str, until: datetime, error: str) -> int:
        now = await self._now()
        held = self._held(task)
        if account_id in self.store.accounts:
            parking = self.store.parkings.get(account_id)
            if parking is None:  # it has been stored anew meanwhile
                self._put_back(held, now, scheduled_at=now, **_uncounted(held))
                return 0
            until = parking.until
        values: dict[str, Any] = {"scheduled_at": until, "parked_for": account_id, "error": error}
        self._put_back(held, now, **values, **_uncounted(held))
        along = [
            waiting
            for waiting in self._own(TaskStatus.PENDING)
            if waiting.id != held.id and waiting.scheduled_at <= now and _names(waiting, account_id)
        ]
        for waiting in along:
            self._store(waiting, **values, updated_at=now)
        return len(along)

    async def unpark(self, account_id: str) -> int:
        now = await self._now()
        parked = [t for t in self._own(TaskStatus.PENDING) if t.parked_for == account_id]
        for task in parked:
            self._store(task, scheduled_at=now, parked_for=None, updated_at=now)
        return len(parked)

    async def parked(self) -> int:
        await self._now()
        return sum(task.parked_for is not None for task in self._own(TaskStatus.PENDING))

    async def free(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        now = await self._now()
        longest = now + _LONGEST_LEASE
        held = [
            task
            for task in self._own(TaskStatus.PROCESSING)
            if (
                task.lease_expires_at is not None and task.lease_expires_at > longest
                if ids is None
                else task.id in ids
            )
        ]
        for task in held:
            # Whoever held it may be alive and have sent a request.
            self._put_back(task, now, check_again=True, scheduled_at=now, **_uncounted(task))
        return [task.id for task in held]

    async def counts(self) -> dict[TaskStatus, int]:
        await self._now()
        return {status: len(self._own(status)) for status in TaskStatus}

    async def waiting(self, keys: Collection[str]) -> set[str]:
        await self._now()
        there = {t.dedupe_key for t in self._own(TaskStatus.PENDING, TaskStatus.PROCESSING)}
        return {key for key in keys if key in there}

    async def find(
        self, status: TaskStatus | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Task]:
        await self._now()
        newest_first = self._own(*TaskStatus if status is None else [status])[::-1]
        return [_read(task) for task in newest_first[offset : offset + limit]]

    async def get(self, task_id: TaskId) -> Task | None:
        await self._now()
        task = self.store.tasks.get(task_id)
        return _read(task) if task and task.kind in self._kinds else None

    async def retry(self, ids: Sequence[TaskId] | None) -> list[TaskId]:
        now = await self._now()
        newest = {task.dedupe_key: task.id for task in self.store.tasks.values()}
        changed = [
            task
            for task in self._own(TaskStatus.FAILED)
            if (ids is None or task.id in ids)
            and (task.dedupe_key is None or newest[task.dedupe_key] == task.id)
            and self._pending(task) is None
        ]
        for task in changed:
            self._store(
                task,
                status=TaskStatus.PENDING,
                attempts=0,
                crashes=0,
                warnings=(),
                scheduled_at=now,
                parked_for=None,
                error=None,
                updated_at=now,
            )
        return [task.id for task in changed]

    async def prune(self, *, completed: timedelta, failed: timedelta, limit: int = 500) -> int:
        now = await self._now()
        ended = self._own(TaskStatus.COMPLETED, TaskStatus.FAILED)
        goes = [t.id for t in ended if self._is_past(t, now - completed, now - failed)][:limit]
        for task_id in goes:
            del self.store.tasks[task_id]
        return len(goes)

    async def close(self) -> None:
        """A call after it raises a StoreError; other queues of the store go on."""
        self._closed = True

    async def _now(self) -> datetime:
        if self._closed:
            raise StoreError("The queue is closed")
        return await self.store.now()

    def _own(self, *statuses: TaskStatus) -> list[Task]:
        """Those of the queue's kinds, oldest first."""
        tasks = self.store.tasks.values()
        return [task for task in tasks if task.kind in self._kinds and task.status in statuses]

    def _store(self, task: Task, **changes: Any) -> None:
        self.store.tasks[task.id] = replace(task, **changes)

    def _put(self, new: NewTask, payload: str, now: datetime) -> Enqueued:
        pending = self._of_key(new.dedupe_key, TaskStatus.PENDING)
        if pending is None:
            return Enqueued(self._add(new, payload, now), created=True)
        if pending.kind != new.kind and pending.kind not in self._kinds.intersection(
            new.takes_over
        ):
            if new.yields and pending.kind in self._kinds:
                return Enqueued(pending.id, created=False)
            raise StoreError(
                f"The key '{new.dedupe_key}' is that of a pending task of the kind '{pending.kind}'"
            )
        self._store(
            pending,
            kind=new.kind,
            payload=payload,
            account_id=new.account_id,
            entity_id=new.entity_id,
            priority=new.priority,
            max_attempts=new.max_attempts,
            attempts=0,
            crashes=0,
            scheduled_at=now + new.delay,
            parked_for=None,
            error=None,
            updated_at=now,
        )
        return Enqueued(pending.id, created=False)

    def _add(self, new: NewTask, payload: str, now: datetime) -> int:
        self.store.last_id += 1
        self._store(
            Task(
                self.store.last_id,
                payload,
                TaskStatus.PENDING,
                new.priority,
                attempts=0,
                max_attempts=new.max_attempts,
                scheduled_at=now + new.delay,
                created_at=now,
                updated_at=now,
                dedupe_key=new.dedupe_key,
                account_id=new.account_id,
                entity_id=new.entity_id,
                kind=new.kind,
            )
        )
        return self.store.last_id

    def _next(
        self, now: datetime, only: Sequence[TaskId] | None, claimed: Sequence[Task]
    ) -> Task | None:
        """The next due task; of the child of those that were `claimed`, if any were."""
        tasks, turns = self.store.tasks, self.store.turns
        running = {t.dedupe_key for t in tasks.values() if t.status is TaskStatus.PROCESSING}
        running.discard(None)
        keys = {tasks[i].dedupe_key for i in only or () if i in tasks} - {None}

        def is_due(task: Task) -> bool:
            if task.status is TaskStatus.PENDING:
                due = task.scheduled_at <= now and task.dedupe_key not in running
                return due and (only is None or task.id in only)
            lapsed = task.lease_expires_at is None or task.lease_expires_at <= now
            return lapsed and (only is None or task.id in only or task.dedupe_key in keys)

        def is_of_child(task: Task) -> bool:
            return not claimed or task.account_id == claimed[0].account_id

        # Of equals, `min` takes the first, which is the one that was added first.
        return min(
            filter(
                lambda task: is_of_child(task) and is_due(task),
                self._own(TaskStatus.PENDING, TaskStatus.PROCESSING),
            ),
            key=lambda task: (turns.get(task.account_id, 0), -task.priority, task.scheduled_at),
            default=None,
        )

    def _give_up(self, task: Task, now: datetime) -> None:
        crashes = task.crashes + 1
        error = (
            f"its worker was lost {crashes} times while it ran (killed, stopped or out of memory); "
            "it is not tried again"
        )
        if task.error:
            error += f"; before it: {task.error}"
        self._end(task, now, TaskStatus.FAILED, error=error, crashes=crashes)

    def _held(self, task: Task) -> Task:
        """The task as it is stored, where this claim still holds it."""
        held = self.store.tasks.get(task.id)
        if (
            held is None
            or held.status is not TaskStatus.PROCESSING
            or held.lease_token != task.lease_token
        ):
            raise LeaseLostError("another worker holds the task now")
        return held

    def _end(self, task: Task, now: datetime, status: TaskStatus, **values: Any) -> None:
        self._store(
            task,
            status=status,
            lease_token=None,
            lease_expires_at=None,
            updated_at=now,
            **values,
        )

    def _put_back(
        self, task: Task, now: datetime, *, check_again: bool = False, **values: Any
    ) -> None:
        """Makes the task pending; failed where a newer pending task does its work."""
        check_again = check_again or task.check_again
        newer = self._pending(task)
        if newer is None:
            self._end(task, now, TaskStatus.PENDING, check_again=check_again, **values)
            return
        error = values.get("error", task.error) or "given back"
        reason = f"{error}; superseded by the newer task {newer.id}"
        self._end(task, now, TaskStatus.FAILED, error=reason)
        if check_again or newer.kind != task.kind:
            self._store(newer, check_again=True)

    def _is_past(self, task: Task, completed: datetime, failed: datetime) -> bool:
        tasks = list(self.store.tasks.values())
        of_key = [t for t in tasks if task.dedupe_key and t.dedupe_key == task.dedupe_key]
        superseded = any(other.id > task.id for other in of_key)  # type: ignore[operator]
        lasts = task.status is TaskStatus.FAILED and not superseded
        older = (t for t in of_key[: of_key.index(task)]) if task in of_key else iter(())
        return task.updated_at < (failed if lasts else completed) and not any(
            t.status is TaskStatus.FAILED for t in older
        )

    def _pending(self, task: Task) -> Task | None:
        """The pending task that writes the same child entity, if any."""
        return self._of_key(task.dedupe_key, TaskStatus.PENDING)

    def _of_key(self, key: str | None, status: TaskStatus) -> Task | None:
        if key is None:
            return None
        tasks = self.store.tasks.values()
        return next((t for t in tasks if t.dedupe_key == key and t.status is status), None)


def _read(task: Task) -> Task:
    try:
        return replace(task, payload=json.loads(task.payload))
    except ValueError as error:
        return replace(task, damage=f"payload is no JSON that can be read: {error}")


def _uncounted(task: Task) -> dict[str, Any]:
    return {"attempts": max(0, task.attempts - 1)}


def _names(task: Task, account_id: str) -> bool:
    """Whether the task says that it is for the account, main or child."""
    payload = _read(task).payload
    if account_id in (task.account_id, *_values(payload, "main_account_id")):
        return True
    if task.account_id is not None:
        return False
    key = task.dedupe_key or ""
    return key.startswith(f"{account_id}/") or account_id in _values(payload, "child_account_id")


def _values(payload: Any, name: str) -> list[Any]:
    """What stands under that name, however deep."""
    if isinstance(payload, dict):
        own = [payload[name]] if name in payload else []
        return [*own, *_each(payload.values(), name)]
    return _each(payload, name) if isinstance(payload, list) else []


def _each(values: Iterable[Any], name: str) -> list[Any]:
    return [found for value in values for found in _values(value, name)]


class MemoryAccounts:
    """Implements `AccountRepository`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await self.store.now()
        known = self.store.accounts.get(account.id)
        role = account.role if account.role or not known else known.role
        self.store.accounts[account.id] = replace(account, role=role)
        self.store.parkings.pop(account.id, None)
        if parking is not None:
            self.store.parkings[account.id] = parking

    async def get(self, account_id: str) -> Account:
        await self.store.now()
        try:
            return self.store.accounts[account_id]
        except KeyError:
            raise UnknownAccountError(account_id) from None

    async def all(self) -> list[Account]:
        await self.store.now()
        return sorted(
            self.store.accounts.values(),
            key=lambda account: (natural_key(account.name), account.id),
        )

    async def set_role(self, account_id: str, role: AccountRole) -> None:
        await self.store.now()
        if account := self.store.accounts.get(account_id):
            self.store.accounts[account_id] = replace(account, role=role)

    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        await self.store.now()
        stored = self.store.accounts.get(account_id)
        if stored is None or (used is not None and _credentials(stored) != _credentials(used)):
            return False
        self.store.parkings[account_id] = parking
        return True

    async def parking(self, account_id: str) -> Parking | None:
        now = await self.store.now()
        parking = self.store.parkings.get(account_id)
        return parking if parking and parking.until > now else None


def _credentials(account: Account) -> tuple[object, ...]:
    return account.token_kind, account.secret, account.login


class MemoryAbilities:
    """Implements `AbilityRepository`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def get(self, account_id: str) -> Abilities:
        await self.store.now()
        return self.store.abilities.get(account_id, Abilities())

    async def learn(self, account_id: str, shown: Abilities) -> None:
        await self.store.now()
        known = self.store.abilities.get(account_id, Abilities())
        self.store.abilities[account_id] = known.with_shown(shown)

    async def forget(self, account_id: str) -> None:
        await self.store.now()
        self.store.abilities.pop(account_id, None)


class MemorySurveys:
    """Implements `SurveyRepository`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def get(self, key: SurveyKey) -> PastSurvey | None:
        await self.store.now()
        return self.store.surveys.get(key)

    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        await self.store.now()
        self.store.surveys[key] = survey


class MemorySettings:
    """Implements `SettingsRepository`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def get(self, child_account_id: str) -> LinkSettings:
        await self.store.now()
        return self.store.settings.get(child_account_id, LinkSettings())

    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        await self.store.now()
        self.store.settings[child_account_id] = settings

    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        await self.store.now()
        changed = change(self.store.settings.get(child_account_id, LinkSettings()))
        self.store.settings[child_account_id] = changed
        return changed

    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        await self.store.now()
        mains = self.store.mains
        if child_id in mains.values():
            raise AlreadyLinkedError(child_id, None)
        if main_id in mains:
            raise AlreadyLinkedError(main_id, mains[main_id])
        if mains.setdefault(child_id, main_id) != main_id:
            raise AlreadyLinkedError(child_id, mains[child_id])
        self.store.settings[child_id] = settings

    async def unlink(self, child_id: str) -> bool:
        await self.store.now()
        if self.store.mains.pop(child_id, None) is None:
            return False
        self.store.settings[child_id] = LinkSettings()
        return True

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        await self.store.now()
        links = sorted(
            (main, child)
            for child, main in self.store.mains.items()
            if main_id is None or main == main_id
        )
        return [StoredLink(*ids, self.store.settings.get(ids[1], LinkSettings())) for ids in links]


class MemoryRecords:
    """Implements `SyncRecordRepository`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def get(self, key: EntityKey) -> SyncRecord | None:
        await self.store.now()
        return self.store.records.get(key)

    async def get_many(
        self, child_account_id: str, entity_type: str, child_entity_ids: Sequence[str]
    ) -> dict[str, SyncRecord]:
        await self.store.now()
        keys = {i: EntityKey(child_account_id, entity_type, i) for i in child_entity_ids}
        return {i: self.store.records[k] for i, k in keys.items() if k in self.store.records}

    async def put(self, key: EntityKey, record: SyncRecord) -> None:
        await self.store.now()
        self.store.records[key] = record

    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        await self.store.now()
        return {
            key.child_entity_id
            for key, record in self.store.records.items()
            if (key.child_account_id, key.entity_type) == (child_account_id, entity_type)
            and record.has_copies
        }


class MemoryFailedImages:
    """Implements `FailedImages`: what is shared is `store.failures`, by id."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def note(
        self,
        entity: FailedEntity,
        failures: Sequence[Failure],
        *,
        untried: Collection[str] = (),
        alone: bool = True,
    ) -> list[FailedImage]:
        now = await self.store.now()
        known = {row.failure.image_id: row for row in self._of(entity.key)}
        tried = [failure for failure in failures if failure.image_id not in untried]
        rows = noted(entity, tried, known, now, alone=alone)
        kept = {row.failure.image_id for row in rows}.union(untried)
        for image_id, row in known.items():
            if image_id not in kept:
                del self.store.failures[row.id]
        for row in rows:
            if not row.id:
                self.store.last_id += 1
                row = replace(row, id=self.store.last_id)
            self.store.failures[row.id] = row
        return self._of(entity.key)

    async def of(self, key: EntityKey) -> list[FailedImage]:
        await self.store.now()
        return self._of(key)

    async def leave(self, key: EntityKey) -> None:
        await self.store.now()
        for row in self._of(key):
            self.store.failures[row.id] = replace(row, next_attempt_at=None)

    async def ask(self, ids: Collection[int]) -> None:
        now = await self.store.now()
        for row in self._all():
            if row.id in ids:
                self.store.failures[row.id] = replace(row, next_attempt_at=now)

    async def find(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        settled: bool | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> list[FailedImage]:
        await self.store.now()
        found = [
            row
            for row in self._all(child_ids)
            if row.id > after
            and cause in (None, row.failure.cause)
            and settled in (None, row.failure.settled)
            and any(_folded(text) in _folded(value) for value in _searched(row))
        ]
        return found[:limit]

    async def groups(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        limit: int = 100,
        after: int = 0,
    ) -> list[list[FailedImage]]:
        groups: dict[tuple[str, ...], list[FailedImage]] = {}
        everything = len(self.store.failures)
        meant = await self.find(child_ids=child_ids, cause=cause, text=text, limit=everything)
        for row in meant:
            groups.setdefault(row.alike, []).append(row)
        return [of for of in groups.values() if of[0].id > after][:limit]

    async def get_many(self, ids: Collection[int]) -> list[FailedImage]:
        await self.store.now()
        return [row for row in self._all() if row.id in ids]

    async def counts(self, child_ids: Collection[str] = ()) -> list[FailedCount]:
        await self.store.now()
        groups: dict[tuple[str, str], list[FailedImage]] = {}
        for row in self._all(child_ids):
            key = row.entity.child_account_id, row.failure.cause
            groups.setdefault(key, []).append(row)
        return [
            FailedCount(
                *key,
                len(rows),
                sum(row.next_attempt_at is not None for row in rows),
                first_attempt(rows),
            )
            for key, rows in sorted(groups.items())
        ]

    async def forget(self, child_account_id: str) -> int:
        await self.store.now()
        gone = self._all([child_account_id])
        for row in gone:
            del self.store.failures[row.id]
        return len(gone)

    def _all(self, child_ids: Collection[str] = ()) -> list[FailedImage]:
        rows = sorted(self.store.failures.items())
        return [row for _, row in rows if not child_ids or row.entity.child_account_id in child_ids]

    def _of(self, key: EntityKey) -> list[FailedImage]:
        return [row for row in self._all() if row.entity.key == key]


def _searched(row: FailedImage) -> tuple[str, ...]:
    failure, entity = row.failure, row.entity
    return failure.reason, failure.cause, failure.filename, entity.name, entity.code


def _folded(text: str) -> str:
    """In lower case, ASCII letters alone."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


class MemoryChanges:
    """Implements `ChangeLog`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def begin(self, change: Change) -> int:
        now = await self.store.now()
        self.store.last_id += 1
        change_id = self.store.last_id
        self.store.changes[change_id] = replace(change, after=None, id=change_id, changed_at=now)
        return change_id

    async def finish(self, change_id: int, after: Sequence[ListedImage]) -> None:
        await self.store.now()
        if change_id in self.store.changes:
            change = self.store.changes[change_id]
            self.store.changes[change_id] = replace(change, after=tuple(after))

    async def get(self, change_id: int) -> Change | None:
        await self.store.now()
        return self.store.changes.get(change_id)

    async def find(
        self,
        *,
        run: str | None = None,
        child_account_id: str | None = None,
        entity: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Change]:
        await self.store.now()
        found = [
            change
            for change in self.store.changes.values()
            if run in (None, change.run)
            and child_account_id in (None, change.key.child_account_id)
            and entity
            in (None, change.entity_name, change.main_entity_id, change.key.child_entity_id)
            and (before is None or change.id < before)
        ]
        return found[::-1][:limit]

    async def prune(self, older: timedelta, limit: int = 500) -> int:
        until = await self.store.now() - older
        old = [i for i, c in self.store.changes.items() if c.changed_at and c.changed_at < until]
        for change_id in old[:limit]:
            del self.store.changes[change_id]
        return len(old[:limit])


class _SavedFile:
    """Implements `TempFile`."""

    def __init__(self, key: str, backups: "MemoryBackups") -> None:
        self.key = key
        self.data = bytearray()
        self.closed = False
        self._backups = backups

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        if not self.closed:
            raise ValueError("the file is not closed")
        return hashlib.sha256(self.data).hexdigest()

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self._backups.check_room()
        self.data += chunk

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._backups.check_room()
        self.closed = True

    async def discard(self) -> None:
        await asyncio.sleep(0)


class MemoryBackup:
    """Implements `Backup`."""

    def __init__(self, place: str, entity: BackedUp, backups: "MemoryBackups") -> None:
        self._place = place
        self._entity = entity
        self._backups = backups
        self._files: dict[str, _SavedFile] = {}

    async def create(self, filename: str) -> _SavedFile:
        await asyncio.sleep(0)
        self._backups.check_room()
        key = f"file-{len(self._files)}"
        file = self._files[key] = _SavedFile(key, self._backups)
        return file

    async def read(self, key: str) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        yield bytes(self._files[key].data)

    async def finish(self, images: Sequence[SavedImage]) -> str:
        await asyncio.sleep(0)
        self._backups.check_room()
        files = {image.file: bytes(self._files[image.file].data) for image in images}
        self._backups.saved[self._place] = (self._entity, list(images), files)
        return self._place


class MemoryBackups:
    """Implements `BackupStore`. `saved`: whose images, which, and their files, by place; what
    several stores share. `full`: nothing can be written."""

    def __init__(
        self,
        saved: dict[str, tuple[BackedUp, list[SavedImage], dict[str, bytes]]] | None = None,
        *,
        is_on: bool = True,
    ) -> None:
        self.saved = {} if saved is None else saved
        self.full = False
        self._is_on = is_on

    @property
    def is_on(self) -> bool:
        return self._is_on

    def check_room(self) -> None:
        if self.full:
            raise BackupError("The backup cannot be written; nothing was removed")

    @asynccontextmanager
    async def begin(
        self, entity: BackedUp, beside: str | None = None
    ) -> AsyncIterator[MemoryBackup]:
        await asyncio.sleep(0)
        if not self._is_on and beside is None:
            raise BackupError("no place for backups is configured")
        self.check_room()
        yield MemoryBackup(f"{entity.run}/{uuid.uuid4().hex}", entity, self)

    async def images(self, place: str) -> list[SavedImage]:
        await asyncio.sleep(0)
        if place not in self.saved:
            raise NoBackupError(f"there is no backup in {place}")
        return list(self.saved[place][1])

    async def read(self, place: str, image: SavedImage) -> AsyncIterator[bytes]:
        await self.images(place)
        data = self.saved[place][2].get(image.file, b"")
        yield data
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise NoBackupError(f"{image.file} is not the one that was saved")


class MemoryTempFile:
    """Implements `TempFile`. Writing to one that is closed or discarded is a ValueError."""

    def __init__(self, key: str, workspace: "MemoryWorkspace") -> None:
        self.key = key
        self.data = bytearray()
        self.closed = False
        self.modified = workspace.storage.clock.now()
        self._workspace = workspace

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        if not self.closed:
            raise ValueError("the file is not closed yet")
        return _digest(self.data).hex()

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        if self.closed:
            raise ValueError("the file is closed")
        self._workspace.storage.check_room(len(chunk))
        self.data += chunk
        self.modified = self._workspace.storage.clock.now()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True

    async def discard(self) -> None:
        await self.close()
        self._workspace.files.pop(self.key, None)


class _Held:
    """A shared file in a workspace."""

    closed = True

    def __init__(self, content: "_Content", clock: Clock) -> None:
        self.content = content
        content.users += 1
        content.used = self.modified = clock.now()

    @property
    def data(self) -> bytearray:
        return self.content.data

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(eq=False)
class _Content:
    """A shared file, and how many workspaces hold it."""

    data: bytearray
    digest: bytes
    is_picture: bool
    used: datetime
    users: int = 0


@dataclass(eq=False)
class MemoryWorkspace:
    """Implements `Workspace`. Reading a file that is not closed is a ValueError."""

    storage: "MemoryContentStore" = field(default_factory=lambda: MemoryContentStore())
    files: dict[str, MemoryTempFile] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    made: int = 0

    async def create(self, filename: str) -> MemoryTempFile:
        await asyncio.sleep(0)
        self.storage.check_room(0)
        file = MemoryTempFile(self._next_key(safe_suffix(filename)), self)
        self.files[file.key] = file
        return file

    async def read(self, key: str) -> AsyncIterator[bytes]:
        file = self._file(key)
        for start in range(0, file.size, _READ_BYTES):
            await asyncio.sleep(0)
            yield bytes(file.data[start : start + _READ_BYTES])

    async def acquire(self, source: ContentKey) -> SharedFile | Turn:
        await asyncio.sleep(0)
        self.storage.check_room(0)
        content = self.storage.intact(source)
        if content is not None:
            key = self._next_key("")
            self.held[key] = held = _Held(content, self.storage.clock)
            note = self.storage.notes.get(source, "")
            return SharedFile(key, held.size, content.is_picture, note, content.digest.hex())
        if source in self.storage.turns:
            return Turn.THEIRS
        self.storage.turns[source] = self
        return Turn.OURS

    async def share(
        self, source: ContentKey, key: str, *, is_picture: bool, note: str = ""
    ) -> None:
        await asyncio.sleep(0)
        file = self._file(key)
        if key in self.files:
            del self.files[key]
            content = self.storage.put(source, bytes(file.data), is_picture)
            self.storage.notes[source] = note
            self.held[key] = _Held(content, self.storage.clock)
            self.storage.evict()
        self.storage.end_turn(source, self)

    async def pass_turn(self, source: ContentKey) -> None:
        await asyncio.sleep(0)
        self.storage.end_turn(source, self)

    def leave(self) -> None:
        """Its own files go, and it holds no shared ones any more."""
        for source, owner in list(self.storage.turns.items()):
            if owner is self:
                del self.storage.turns[source]
        for held in self.held.values():
            held.content.users -= 1
        self.held.clear()
        self.files.clear()

    def _next_key(self, suffix: str) -> str:
        self.made += 1
        return f"{self.made - 1:04d}{suffix}"

    def _file(self, key: str) -> MemoryTempFile | _Held:
        file = self.files[key] if key in self.files else self.held[key]
        if not file.closed:
            raise ValueError("the file is not closed yet")
        return file


@dataclass
class MemoryContentStore:
    """Implements `ContentStore`. `workspaces` are those whose worker lives, `left_over` those of
    the dead; `made` counts all that ever were. `room`: bytes that all files together may have, None
    for any number; past it, or where it is 0, a write is a NoRoomError. `max_bytes`: of the shared
    files, `contents`, of which `notes` tell; `turns` are those that are out."""

    clock: Clock = field(default_factory=SystemClock)
    room: int | None = None
    max_bytes: int = 2_000_000_000
    workspaces: dict[str, MemoryWorkspace] = field(default_factory=dict)
    left_over: dict[str, MemoryWorkspace] = field(default_factory=dict)
    contents: dict[ContentKey, _Content] = field(default_factory=dict)
    notes: dict[ContentKey, str] = field(default_factory=dict)
    turns: dict[ContentKey, MemoryWorkspace] = field(default_factory=dict)
    made: int = 0

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[MemoryWorkspace]:
        name, workspace = self._new()
        self.workspaces[name] = workspace
        try:
            yield workspace
        finally:
            del self.workspaces[name]
            workspace.leave()

    async def stale(self, before: datetime) -> list[StaleFile]:
        await asyncio.sleep(0)
        return [
            *(
                StaleFile(f"{name}/{file.key}", file.size, file.modified)
                for name, workspace in self.left_over.items()
                for file in workspace.files.values()
                if file.modified < before
            ),
            *(
                StaleFile(f"content/{content.digest.hex()}", len(content.data), content.used)
                for content in self._distinct()
                if not content.users and content.used < before
            ),
        ]

    async def live(self) -> int:
        await asyncio.sleep(0)
        return len(self.workspaces)

    async def delete(self, file: StaleFile) -> int:
        await asyncio.sleep(0)
        name, _, key = file.path.partition("/")
        if "/" in key or key in ("", ".", ".."):
            raise UnsafePathError(f"'{file.path}' is outside the temp folder")
        if name == "content":
            return self._delete_content(key)
        if not name.startswith("task-"):
            raise UnsafePathError(f"'{file.path}' is outside the temp folder")
        workspace = self.left_over.get(name)
        deleted = workspace.files.pop(key, None) if workspace else None
        return deleted.size if deleted else 0

    def leave_behind(self, data: bytes) -> None:
        """A file whose worker was killed."""
        name, workspace = self._new()
        workspace.files["0000.png"] = file = MemoryTempFile("0000.png", workspace)
        file.data += data
        self.left_over[name] = workspace

    def check_room(self, size: int) -> None:
        """NoRoomError where there is no room for so many bytes more, even without the shared files
        that nobody holds."""
        if self.room is None:
            return
        every = [*self.workspaces.values(), *self.left_over.values()]
        own = sum(file.size for workspace in every for file in workspace.files.values())
        shared = sum(len(content.data) for content in self._distinct())
        if own + shared + size > self.room:
            shared = self.evict(max(self.room - own - size, 0))
        if own + shared + size > self.room or not self.room:
            raise NoRoomError(f"No room for temp files: all {self.room} bytes are used")

    def intact(self, source: ContentKey) -> _Content | None:
        """The shared file, if its bytes are those that were shared."""
        content = self.contents.get(source)
        if content is None:
            return None
        is_same = _digest(content.data) == content.digest
        if is_same and (source.made or len(content.data) == source.version.size):
            return content
        del self.contents[source]
        return None

    def put(self, source: ContentKey, data: bytes, is_picture: bool) -> _Content:
        """A new shared file, which nobody holds yet; equal bytes are one."""
        digest = _digest(data)
        known = (c for c in self._distinct() if c.digest == digest == _digest(c.data))
        content = next(known, None)
        if content is None:
            content = _Content(bytearray(data), digest, is_picture, self.clock.now())
        self.contents[source] = content
        return content

    def evict(self, most: int | None = None) -> int:
        """Bytes of the shared files, once so many go that nobody holds that `most` are left."""
        most = self.max_bytes if most is None else most
        total = sum(len(content.data) for content in self._distinct())
        for content in sorted(self._distinct(), key=lambda content: content.used):
            if total > most and not content.users:
                total -= self._forget(content)
        return total

    def end_turn(self, source: ContentKey, workspace: MemoryWorkspace) -> None:
        if self.turns.get(source) is workspace:
            del self.turns[source]

    def _delete_content(self, name: str) -> int:
        free = (c for c in self._distinct() if c.digest.hex() == name and not c.users)
        return sum(self._forget(content) for content in list(free))

    def _forget(self, content: _Content) -> int:
        for source in [s for s, c in self.contents.items() if c is content]:
            del self.contents[source]
        return len(content.data)

    def _distinct(self) -> list[_Content]:
        return list({id(content): content for content in self.contents.values()}.values())

    def _new(self) -> tuple[str, MemoryWorkspace]:
        self.made += 1
        return f"task-{self.made:032x}", MemoryWorkspace(self)


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.sha256(data).digest()
