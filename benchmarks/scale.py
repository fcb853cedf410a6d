"""Many main accounts, children and hosts, with imgsync's own schedule, survey, diff, queue and pace
under a virtual clock.

What is simulated in full: each request to the API (its turn in the pace of its account, its
latency, its units, and how many are read ahead), each job of the schedule, each question to the
database (how many, and a fixed time for each), and the processor's time of each page and of each
link that is read, which are measured first and of which a host has one core. In samples: the
entities of a page, of which one in `THINNED` is made, and compared by the real diff.
"""

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import virtual_time
from benchmarks.tables import Answer
from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.pace import Pacer
from imgsync.adapters.moysklad.rows import RoomAhead, rows_of
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository, SqlSettingsRepository
from imgsync.application.accounts import FindLinks
from imgsync.application.enqueue import Enqueue
from imgsync.application.runs import NoteRuns
from imgsync.application.schedule import Scheduler
from imgsync.application.survey import Survey, SurveyMemory
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import LeaseLostError
from imgsync.domain.matching import FieldMatcher
from imgsync.domain.model import (
    Abilities,
    Account,
    Entity,
    EntityPage,
    EntityType,
    EntityTypes,
    LinkSettings,
    MatchField,
    RemoteImage,
    StoredLink,
    TokenKind,
)
from imgsync.domain.ports.pace import Step
from imgsync.domain.ports.schedule import ClaimedJob, JobState, NewJob
from imgsync.domain.runs import ChildProof, Run
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.surveys import PastSurvey, SurveyKey
from imgsync.domain.tasks import Task, TaskId, TaskStatus
from imgsync.testing import (
    MemoryAbilities,
    MemoryAccounts,
    MemoryFailedImages,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
    MemorySurveys,
    MemoryTaskQueue,
)

BEGIN = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
ENTITIES = 10_000
CHILDREN = 30
PAGE = 100
THINNED = 100
"""Of so many entities of a page one is made."""
CHANGED = 100
"""Of so many entities that are made one differs in each child."""
LATENCY_SECONDS = 0.3
STORE_SECONDS = 0.002
UNITS_PER_SECOND = 45 / 3
TYPES = EntityTypes([EntityType("product"), EntityType("bundle"), EntityType("variant")])
SURVEY_MINUTES = 15
CHANGED_BETWEEN = 2
"""Entities of a main account that change between two surveys."""
_SURVEYED_DENSE = 2_000
KEPT = 1_000
"""Types of children whose records are kept: those under way, and more."""
_MEASURED_LINKS = 2_000
_MEASURED_ACCOUNTS = 100


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a processor: of a page for the process that surveys, of a stored link or account
    that is read among many."""

    page: float = 0.0
    link: float = 0.0
    account: float = 0.0


@dataclass(frozen=True, slots=True)
class Size:
    """What is simulated: a sweep of everything, or `incremental` surveys."""

    mains: int
    hosts: int
    weight: int
    costs: Costs = Costs()
    entities: int = ENTITIES
    children: int = CHILDREN
    thinned: int = THINNED
    incremental: bool = False
    reads_ahead: bool = True

    @property
    def pages(self) -> int:
        """Requests for an account's list of the one type that has entities."""
        return -(-self.entities // PAGE)


@dataclass
class Outcome:
    """What came of it. Seconds are virtual, but for `took`; those of `begun` and `ends`, by job,
    count from the moment at which all were due, or the interval of surveys began in which each is
    due once. `statements`: questions to the database, `by_second` of virtual time."""

    size: Size
    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    statements: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)
    begun: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    cpu_seconds: list[float] = field(default_factory=list)
    tasks: int = 0
    differing: int = 0
    answers_429: int = 0
    took: float = 0.0

    def asked(self, of: str) -> None:
        """The database was asked something."""
        self.statements[of] += 1
        self.by_second[int(virtual_time.now())] += 1

    def begin(self) -> None:
        """What was asked until now has nothing to do with it."""
        self.statements.clear()
        self.by_second.clear()

    @property
    def most_of_main(self) -> int:
        return max(n for who, n in self.requests.items() if who.startswith("main"))

    @property
    def most_of_child(self) -> int:
        return max(n for who, n in self.requests.items() if who.startswith("child"))

    @property
    def least_seconds(self) -> float:
        """Whatever the hosts: what the limit of one account takes for its requests."""
        return max(self.requests.values()) * self.size.weight / UNITS_PER_SECOND

    @property
    def lasted(self) -> list[float]:
        """Seconds that each main account took from its beginning to its end, in order."""
        return sorted(end - self.begun[name] for name, end in self.ends.items())

    @property
    def questions_a_second(self) -> float:
        return sum(self.statements.values()) / self.seconds

    @property
    def busiest_second(self) -> int:
        """Questions to the database in the second with most of them."""
        return max(self.by_second.values())

    @property
    def least_cpu_seconds(self) -> float:
        """Whatever the limits: what the processors of the hosts take."""
        return sum(self.cpu_seconds) / len(self.cpu_seconds)


class VirtualClock:
    """Implements `Clock`."""

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=virtual_time.now())


class CountedStore(MemoryStore):
    """Each question takes a while, as of a database over a network, and is counted."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(clock=VirtualClock())
        self.outcome = outcome

    async def now(self) -> datetime:
        self.outcome.asked("queue, records, accounts, links")
        await asyncio.sleep(STORE_SECONDS)
        return self.clock.now()


class SharedPace:
    """Implements `PaceStore` for all hosts."""

    def __init__(self, outcome: Outcome) -> None:
        self._texts: dict[str, str] = {}
        self._outcome = outcome

    async def change(self, key: str, step: Step[Any]) -> Any:
        self._outcome.asked("pace")
        await asyncio.sleep(STORE_SECONDS)
        self._texts[key], result = step(self._texts.get(key), virtual_time.now())
        return result

    async def close(self) -> None:
        return


class Meter429:
    """The API's own count of units, so that a pace that is too fast is found out."""

    def __init__(self, outcome: Outcome, weight: int) -> None:
        self._outcome = outcome
        self._weight = weight
        self._spent: dict[str, deque[float]] = {}

    def request(self, account_id: str, at: float) -> None:
        """`at`: when it comes there, which is in the order of these calls."""
        spent = self._spent.setdefault(account_id, deque())
        while spent and spent[0] <= at - 3.0:
            spent.popleft()
        spent.append(at)
        if len(spent) * self._weight > 45:
            self._outcome.answers_429 += 1


class MemorySchedule:
    """Implements `Schedule`; what has been done once is not begun again."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._jobs: dict[str, NewJob] = {}
        self._due: dict[str, float] = {}
        self._held: dict[str, tuple[str, float]] = {}
        self._tokens = itertools.count()

    async def plan(self, jobs: Sequence[NewJob]) -> None:
        await self._turn()
        for job in jobs:
            if job.name not in self._jobs:
                self._due[job.name] = (job.first_at - BEGIN).total_seconds()
            self._jobs[job.name] = job

    async def claim(self, names: Collection[str], *, lease: timedelta) -> ClaimedJob | None:
        await self._turn()
        now = virtual_time.now()
        busy = {self._jobs[name].subject for name, (_, until) in self._held.items() if until > now}
        free = [
            name
            for name in names
            if self._due[name] <= now
            and name not in self._outcome.ends
            and (name not in self._held or self._held[name][1] <= now)
            and self._jobs[name].subject not in busy
        ]
        if not free:
            return None
        name = min(free, key=lambda one: (self._due[one], one))
        self._outcome.begun[name] = now
        token = str(next(self._tokens))
        self._held[name] = (token, now + lease.total_seconds())
        return ClaimedJob(name, BEGIN + timedelta(seconds=self._due[name]), token)

    async def renew(self, job: ClaimedJob, *, lease: timedelta) -> None:
        await self._turn()
        self._check(job)
        self._held[job.name] = (job.token, virtual_time.now() + lease.total_seconds())

    async def end(self, job: ClaimedJob, next_at: datetime) -> None:
        await self._turn()
        self._check(job)
        self._due[job.name] = (next_at - BEGIN).total_seconds()
        del self._held[job.name]
        self._outcome.ends[job.name] = virtual_time.now()

    async def release(self, job: ClaimedJob) -> None:
        await self._turn()
        self._check(job)
        del self._held[job.name]

    async def jobs(self) -> list[JobState]:
        await self._turn()
        return [
            JobState(name, BEGIN + timedelta(seconds=self._due[name]), name in self._held)
            for name in sorted(self._jobs)
        ]

    def _check(self, job: ClaimedJob) -> None:
        if self._held.get(job.name, ("", 0.0))[0] != job.token:
            raise LeaseLostError(f"{job.name} is another host's")

    async def _turn(self) -> None:
        self._outcome.asked("schedule")
        await asyncio.sleep(STORE_SECONDS)


class Runs:
    """Implements `RunHistory` and `Proofs` as far as a sweep uses them; each call is counted."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._proofs: dict[str, ChildProof] = {}

    async def begin(self, run: Run) -> None:
        await self._turn()

    async def note(self, run_id: str, numbers: Any, *more: Any) -> None:
        await self._turn()

    async def end(
        self, run_id: str, numbers: Any, error: str | None = None, by_child: Any = None
    ) -> None:
        await self._turn()
        if error:
            raise AssertionError(error)

    async def put(self, proof: ChildProof) -> None:
        await self._turn()
        self._proofs[proof.child_id] = proof

    async def get(self, child_id: str) -> ChildProof | None:
        await self._turn()
        return self._proofs.get(child_id)

    async def _turn(self) -> None:
        self._outcome.asked("runs, proofs")
        await asyncio.sleep(STORE_SECONDS)


class Host:
    """A machine with one core for surveys; implements `MoySkladFactory` as far as these ask."""

    has_spare = False

    def __init__(self, size: Size, outcome: Outcome, paces: SharedPace, api: Meter429) -> None:
        self.size = size
        self.room = RoomAhead() if size.reads_ahead else RoomAhead(0)
        self.outcome = outcome
        self.api = api
        self.core = asyncio.Lock()
        self.cpu_seconds = 0.0
        self._paces = paces
        self._ports: dict[str, PacedLists] = {}

    def for_account(self, account: Account) -> "PacedLists":
        if account.id not in self._ports:
            pacer = Pacer(
                lambda: self.size.weight,
                store=self._paces,
                credential=account.id,
                monotonic=virtual_time.now,
                name=account.name,
            )
            pacer._key = account.id  # to hash it takes 10 ms, thirty thousand times
            self._ports[account.id] = PacedLists(account.id, self, pacer)
        return self._ports[account.id]

    async def compute(self, seconds: float) -> None:
        async with self.core:
            self.cpu_seconds += seconds
            await asyncio.sleep(seconds)


@dataclass
class PacedLists:
    """The lists of one account, each page a request; implements `MoySkladPort` so far."""

    account_id: str
    host: Host
    pacer: Pacer
    shown: Abilities = field(default_factory=Abilities)

    async def list_entities(
        self,
        entity_type: EntityType,
        *,
        with_images: bool,
        permanent_links: bool = False,
        updated_since: datetime | None = None,
        having: tuple[MatchField, Sequence[str]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> AsyncIterator[EntityPage]:
        size = self.host.size
        chosen = updated_since is not None or having is not None
        if chosen or not with_images:
            # Few: those that changed, or those with some keys. Without a filter one page is read.
            await self._request()
            numbers = range(CHANGED_BETWEEN if chosen and entity_type.name == "product" else 0)
            found = [entity_of(self.account_id, number) for number in numbers]
            await self.host.compute(size.costs.page * len(found) / PAGE)
            yield EntityPage(found, [], len(found), VirtualClock().now())
            return
        entities = size.entities if entity_type.name == "product" else 0
        total = -(-entities // size.thinned)

        async def get(offset: int) -> Any:
            await self._request()
            return _page(offset, entities)

        first = 0
        async for rows, _ in rows_of("entities", PAGE, get, self.host.room):
            await self.host.compute(size.costs.page)
            made = range(first, first + len(rows), size.thinned)
            first += len(rows)
            yield EntityPage([entity_of(self.account_id, n) for n in made], [], total)
        if not entities:
            await self.host.compute(size.costs.page)
            yield EntityPage([], [], 0)

    async def _request(self) -> None:
        async with self.pacer.slot() as slot:
            slot.sending(small=True)
            self.host.outcome.requests[self.account_id] += 1
            self.host.api.request(self.account_id, virtual_time.now() + LATENCY_SECONDS / 2)
            await asyncio.sleep(LATENCY_SECONDS)
            slot.answered = virtual_time.now()


@cache
def _page(offset: int, entities: int) -> dict[str, Any]:
    """The answer of the API, of rows that have an id and nothing else; nobody changes it."""
    rows = [{"id": str(n)} for n in range(offset, min(offset + PAGE, entities))]
    return {"meta": {"size": entities}, "rows": rows}


def entity_of(account_id: str, number: int) -> Entity:
    """An entity with one image, which differs in a child where `CHANGED` says so."""
    is_main = account_id.startswith("main")
    # By its place among those that are made, whatever these are a sample of.
    size = 2000 if is_main or (number // THINNED) % CHANGED else 1000
    image = RemoteImage(
        f"https://api.test/{account_id}/{number}",
        f"{number}.png",
        size,
        "2026-01-01 00:00:00.000",
        f"https://api.test/download/{account_id}/{number}",
    )
    return Entity(f"e{number}", f"Lamp {number}", external_code=f"x{number}", images=(image,))


class RecentRecords(MemoryRecords):
    """Those of the children that were surveyed last: a sweep asks for no other ones, and three
    million of them would take gigabytes. They are found as by an index."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._by_child: dict[tuple[str, str], dict[str, SyncRecord]] = {}

    async def get_many(
        self, child_account_id: str, entity_type: str, child_entity_ids: Sequence[str]
    ) -> dict[str, SyncRecord]:
        await self.store.now()
        known = self._by_child.get((child_account_id, entity_type), {})
        return {i: known[i] for i in child_entity_ids if i in known}

    async def put(self, key: EntityKey, record: SyncRecord) -> None:
        await self.store.now()
        of = key.child_account_id, key.entity_type
        self._by_child.setdefault(of, {})[key.child_entity_id] = record
        if len(self._by_child) > KEPT:
            del self._by_child[next(iter(self._by_child))]

    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        await self.store.now()
        known = self._by_child.get((child_account_id, entity_type), {})
        return {i for i, record in known.items() if record.has_copies}


class GrowingQueue(MemoryTaskQueue):
    """Of which nobody takes anything. It finds keys as an index does: of tens of thousands of
    tasks all would be looked at for each one more."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._by_key: dict[str, TaskId] = {}
        self._indexed: set[TaskId] = set()

    async def waiting(self, keys: Collection[str]) -> set[str]:
        await self._now()
        self._index()
        return {key for key in keys if key in self._by_key}

    def _of_key(self, key: str | None, status: TaskStatus) -> Task | None:
        self._index()
        if key is None or key not in self._by_key:
            return None
        found = self.store.tasks[self._by_key[key]]
        return found if found.status is status else None

    def _index(self) -> None:
        for task in reversed(self.store.tasks.values()):
            if task.id in self._indexed:
                return
            self._indexed.add(task.id)
            if task.dedupe_key is not None:
                self._by_key[task.dedupe_key] = task.id


class HostSettings(MemorySettings):
    """Links cost the host that reads them."""

    def __init__(self, store: MemoryStore, host: Host) -> None:
        super().__init__(store)
        self._host = host
        self._by_main: dict[str, list[StoredLink]] = {}

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        if not self._by_main:  # they do not change, and to sort them takes long
            for link in await super().links():
                self._by_main.setdefault(link.main_id, []).append(link)
        else:
            await self.store.now()
        if main_id is None:
            found = [link for links in self._by_main.values() for link in links]
        else:
            found = self._by_main.get(main_id, [])
        await self._host.compute(len(found) * self._host.size.costs.link)
        return found


class HostAccounts(MemoryAccounts):
    """As do all accounts, whose tokens are decrypted."""

    def __init__(self, store: MemoryStore, host: Host) -> None:
        super().__init__(store)
        self._host = host

    async def all(self) -> list[Account]:
        await self.store.now()
        await self._host.compute(len(self.store.accounts) * self._host.size.costs.account)
        return list(self.store.accounts.values())


def simulate(size: Size, *, told: bool = False) -> Outcome:
    """One sweep of everything, from the moment it is due until the last main account is done, or
    one survey of each main account, from the beginning of an interval on. `told`: how far it is,
    each virtual minute."""
    began = time.monotonic()
    outcome = virtual_time.run(_simulated(size, told))
    outcome.took = time.monotonic() - began
    return outcome


async def _simulated(size: Size, told: bool) -> Outcome:
    outcome = Outcome(size)
    store = CountedStore(outcome)
    _fill(store, size)
    queue, clock = GrowingQueue(store), MemoryStoreClock(store)
    schedule, paces, runs = MemorySchedule(outcome), SharedPace(outcome), Runs(outcome)
    api = Meter429(outcome, size.weight)
    hosts = [Host(size, outcome, paces, api) for _ in range(size.hosts)]
    stop = asyncio.Event()
    ids = itertools.count()
    abilities, records = MemoryAbilities(store), RecentRecords(store)
    memory = SurveyMemory(MemorySurveys(store), abilities, clock) if size.incremental else None

    def scheduler_of(host: Host) -> Scheduler:
        accounts, links = HostAccounts(store, host), HostSettings(store, host)
        survey = Survey(
            accounts,
            records,
            host,  # type: ignore[arg-type]
            TYPES,
            abilities if memory else None,
            memory,
        )
        return Scheduler(
            schedule,
            links,
            FindLinks(accounts, links),
            lambda: Enqueue(survey, queue),
            lambda: None,  # type: ignore[arg-type,return-value]
            NoteRuns(
                runs,  # type: ignore[arg-type]
                runs,  # type: ignore[arg-type]
                queue,
                MemoryFailedImages(store),
                clock,
                lambda: f"run{next(ids)}",
            ),
            clock,
            UTC,
            elapsed=virtual_time.now,
        )

    running = [asyncio.ensure_future(scheduler_of(host).run(stop)) for host in hosts]
    due = 0.0 if size.incremental else 60.0
    while len(outcome.ends) < size.mains:
        await asyncio.sleep(1.0)
        if told and not int(virtual_time.now()) % 60:
            _tell(outcome, virtual_time.now())
        if virtual_time.now() <= due:
            outcome.begin()
            for host in hosts:
                host.cpu_seconds = 0.0
        for task in running:
            if task.done():
                task.result()
    outcome.ends = {name: at - due for name, at in outcome.ends.items()}
    outcome.begun = {name: at - due for name, at in outcome.begun.items()}
    outcome.seconds = max(outcome.ends.values())
    stop.set()
    await asyncio.gather(*running)
    outcome.cpu_seconds = [host.cpu_seconds for host in hosts]
    counts = await queue.counts()
    outcome.tasks = counts[TaskStatus.PENDING]
    made = range(CHANGED_BETWEEN) if size.incremental else range(0, size.entities, size.thinned)
    differing = sum(entity_of("child", n).images[0].size == 1000 for n in made)
    outcome.differing = differing * size.mains * size.children
    return outcome


def _tell(outcome: Outcome, now: float) -> None:
    done, requests = len(outcome.ends), sum(outcome.requests.values())
    print(
        f"{time.strftime('%H:%M:%S')} {label(outcome.size)}: minute {now / 60:.0f}, {done:,} main "
        f"accounts done, {requests:,} requests, {time.process_time():.0f} s of CPU",
        file=sys.stderr,
        flush=True,
    )


def _fill(store: MemoryStore, size: Size) -> None:
    """Accounts and links; for incremental surveys also what a sweep has left behind."""
    kind = TokenKind.SOLUTION if size.weight == 1 else TokenKind.USER
    wanted = LinkSchedule(None, SURVEY_MINUTES) if size.incremental else LinkSchedule("00:01", None)
    settings = LinkSettings(sync_images_all=True, schedule=wanted)
    past = PastSurvey(BEGIN, f"{settings!r} {FieldMatcher(MatchField.EXTERNAL_CODE).name}")
    for m in range(size.mains):
        main = f"main{m}"
        children = [f"child{m}-{c}" for c in range(size.children)]
        for account in (main, *children):
            store.accounts[account] = Account(account, account, kind, "token")
        for child in children:
            store.mains[child], store.settings[child] = main, settings
        if size.incremental:
            store.abilities[main] = Abilities(images_move_updated=True)
            for kind_of_entity in TYPES:
                name = kind_of_entity.name
                seen = bytes(24) if name == "product" else b""
                store.surveys[SurveyKey(main, "", name)] = PastSurvey(BEGIN, seen=seen)
                for child in children:
                    store.surveys[SurveyKey(main, child, name)] = past


JSON_SECONDS = 0.004
"""What httpx and the JSON of a page with a hundred entities take of a processor: assumed, as
nothing of this is simulated."""


def measured_costs() -> Costs:
    """What this machine takes: for a page at full density and without waiting for anything, all
    included but HTTP and JSON; for links and accounts as an SQLite database has them."""
    size = Size(1, 1, 1, entities=_SURVEYED_DENSE, children=4, thinned=1)
    pages = []
    for _ in range(3):  # the least: what else runs on the machine makes a processor slower
        began = time.process_time()
        outcome = simulate(size)
        pages.append((time.process_time() - began) / sum(outcome.requests.values()))
    page = min(pages)
    with tempfile.TemporaryDirectory(prefix="imgsync-scale-") as folder:
        link, account = asyncio.run(_cost_of_reading(f"sqlite:///{Path(folder) / 'q.db'}"))
    return Costs(page + JSON_SECONDS, link, account)


async def _cost_of_reading(url: str) -> tuple[float, float]:
    database = Database.open(url)
    accounts, links = SqlAccountRepository(database), SqlSettingsRepository(database)
    for n in range(_MEASURED_LINKS):
        await accounts.add(Account(f"child{n}", f"child{n}", TokenKind.SOLUTION, "token"))
        await links.link(f"main{n // CHILDREN}", f"child{n}", LinkSettings())
    costs = []
    for read in (links.links, accounts.all):
        began = time.process_time()
        found = await read()
        costs.append((time.process_time() - began) / len(found))
    database.close()
    return costs[0], costs[1]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: of an entity that a survey holds or makes, at the most; of an account's client."""

    entity: float
    client: float


def measured_memory() -> Memory:
    tracemalloc.start()
    try:
        size = Size(1, 1, 1, entities=_SURVEYED_DENSE // 2, children=8, thinned=1)
        simulate(size)
        entity = tracemalloc.get_traced_memory()[1] / (size.entities * (size.children + 1))
        factory = HttpMoySkladFactory("https://api.moysklad.ru/api/remap/1.2", [], SystemClock())
        before = tracemalloc.get_traced_memory()[0]
        for n in range(_MEASURED_ACCOUNTS):
            factory.for_account(Account(f"a{n}", f"a{n}", TokenKind.SOLUTION, f"token{n}"))
        client = (tracemalloc.get_traced_memory()[0] - before) / _MEASURED_ACCOUNTS
        asyncio.run(factory.close())
    finally:
        tracemalloc.stop()
    return Memory(entity, client)


SIZES = (
    Size(1, 1, 1, reads_ahead=False),
    Size(1, 1, 1),
    Size(1, 1, 4),
    Size(10, 1, 1, entities=1_000),
)
FULL_SIZES = (
    Size(10, 1, 1),
    Size(1000, 10, 1, entities=PAGE),
    Size(1000, 10, 1, incremental=True),
    Size(100, 10, 1),
)
WHOLE = Size(1000, 10, 1)
DERIVED_FROM = FULL_SIZES[-1]
COLUMNS = (
    "main accounts, hosts, weight",
    "how",
    "minutes",
    "least by the limit",
    "requests",
    "most of a main; of a child",
    "429",
    "median; last main done, min",
    "slowest main / median",
    "tasks queued",
    "database questions/s; of these pace",
    "CPU of a host",
)


def label(size: Size) -> str:
    """The first cell of a size's row."""
    what = "survey" if size.incremental else f"sweep of {size.entities:,}"
    how = "" if size.reads_ahead else ", a page at a time"
    return f"{what}: {size.mains:,}, {size.hosts}, {size.weight}{how}"


_TIMES_MAINS, _TIMES_HOSTS = WHOLE.mains // DERIVED_FROM.mains, WHOLE.hosts // DERIVED_FROM.hosts
_TIMES_A_HOST = _TIMES_MAINS // _TIMES_HOSTS
"""How many more main accounts a host has where the whole size is derived."""


def sizes(*, full: bool = False, whole: bool = False) -> list[Size]:
    """What is simulated."""
    return [*SIZES, *(FULL_SIZES if full else ()), *([WHOLE] if whole else [])]


def labels(*, full: bool) -> list[str]:
    """The first cells of all rows; those of the whole size are the same where it is derived."""
    return [label(size) for size in sizes(full=full, whole=full)]


def row(done: Outcome) -> tuple[str, ...]:
    """The cells of what was simulated."""
    ends, lasted = sorted(done.ends.values()), done.lasted
    cpu = max(done.cpu_seconds)
    return (
        label(done.size),
        "simulated",
        f"{done.seconds / 60:.1f}",
        f"{done.least_seconds / 60:.1f}",
        f"{sum(done.requests.values()):,}",
        f"{done.most_of_main}; {done.most_of_child}",
        str(done.answers_429),
        f"{statistics.median(ends) / 60:.1f}; {ends[-1] / 60:.1f}",
        f"{lasted[-1] / statistics.median(lasted):.1f}",
        f"{done.tasks:,}",
        f"{done.questions_a_second:.0f}; {done.statements['pace'] / done.seconds:.0f}",
        f"{cpu / 60:.1f} min, {cpu / done.seconds:.0%}",
    )


def derived_row(done: Outcome) -> tuple[str, ...]:
    """More main accounts on each host. They share nothing but the processor of their host and the
    database: a host that was busy all the time takes ten times as long for ten times as many, and
    asks as often in a second; the last of them waits for all the others."""
    cells = list(row(done))
    minutes = _TIMES_A_HOST * done.seconds / 60
    pace = done.statements["pace"] / done.seconds
    cpu = max(done.cpu_seconds)
    cells[:5] = [
        label(WHOLE),
        f"derived from {done.size.mains} on {done.size.hosts}",
        f"{minutes:.1f}",
        cells[3],
        f"{_TIMES_MAINS * sum(done.requests.values()):,}",
    ]
    cells[7] = f"{minutes / 2:.1f}; {minutes:.1f}"
    cells[9] = f"{_TIMES_MAINS * done.tasks:,}"
    cells[10] = f"{_TIMES_HOSTS * done.questions_a_second:.0f}; {_TIMES_HOSTS * pace:.0f}"
    cells[11] = f"{_TIMES_A_HOST * cpu / 60:.1f} min, {cpu / done.seconds:.0%}"
    return tuple(cells)


def answer(*, full: bool = False, whole: bool = False) -> Answer:
    """A table of sweeps and surveys at growing sizes. `whole`: the size that was looked at, too,
    with every request, which takes half an hour of a processor and more."""
    costs, memory = measured_costs(), measured_memory()
    chosen = [replace(size, costs=costs) for size in sizes(full=full, whole=whole)]
    return table(costs, memory, [simulate(size, told=size.mains >= 100) for size in chosen])


def table(costs: Costs, memory: Memory, outcomes: Sequence[Outcome]) -> Answer:
    """What `answer` shows of these."""
    held = 4 * 9 * ENTITIES * memory.entity / 1e6
    told = Answer(
        f"A sweep or a survey of N main accounts with {CHILDREN} children each",
        COLUMNS,
        notes=(
            f"sweep of {ENTITIES:,}: of so many entities in each account; survey: the incremental "
            f"one every {SURVEY_MINUTES} minutes, {CHANGED_BETWEEN} entities of each main account "
            "have changed. All sweeps are due at the same moment, surveys of main accounts at "
            "moments of their own: minutes are those of the interval",
            f"{costs.page * 1000:.1f} ms of CPU a page of {PAGE} were charged, one core a host, of "
            f"which {JSON_SECONDS * 1000:.0f} are assumed for HTTP and JSON; "
            f"{costs.link * 1e6:.0f} µs a link that is read; a request takes {LATENCY_SECONDS} s, "
            f"a question to the database {STORE_SECONDS * 1000:.0f} ms",
            f"one in {THINNED} entities is made and compared, one in {CHANGED} of these differs: a "
            f"sweep with all of them would queue {THINNED} times as many tasks",
            f"memory of a host, measured: {memory.entity:.0f} bytes an entity of a survey, with 4 "
            f"jobs of 9 lists at most {held:.0f} MB; {memory.client / 1000:.0f} kB a client, which "
            "a host keeps for each account that it has asked",
            "least by the limit: of the account with the most requests; 429: judged by a count of "
            "units of the simulated API's own; slowest main: from its beginning to its end",
            f"derived: each host with {_TIMES_A_HOST} times as many main accounts, as these share "
            "only its processor and the database; times, processor time, requests and tasks "
            "multiplied",
            *(
                f"most questions to the database in one second of the survey of "
                f"{outcome.size.mains:,}: {outcome.busiest_second:,}"
                for outcome in outcomes
                if outcome.size.incremental
            ),
        ),
    )
    for outcome in outcomes:
        told.add(*row(outcome))
    simulated = {replace(outcome.size, costs=Costs()): outcome for outcome in outcomes}
    if DERIVED_FROM in simulated and WHOLE not in simulated:
        told.add(*derived_row(simulated[DERIVED_FROM]))
    return told
