"""Many main accounts, children and hosts, with imgsync's own schedule, survey, diff, queue and pace
under a virtual clock.

What is simulated in full: each request to the API (its turn in the pace of its account, its
latency, its units), each job of the schedule, each question to the database (how many, and a fixed
time for each), and the processor's time of each page, which is measured first and of which a host
has one core. In samples: the entities of a page, of which one in `THINNED` is made, and compared
by the real diff.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import virtual_time
from benchmarks.tables import Answer
from imgsync.adapters.moysklad.pace import Pacer
from imgsync.application.accounts import FindLinks
from imgsync.application.enqueue import Enqueue
from imgsync.application.runs import NoteRuns
from imgsync.application.schedule import Scheduler
from imgsync.application.survey import Survey
from imgsync.domain.errors import LeaseLostError
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
    TokenKind,
)
from imgsync.domain.ports.pace import Step
from imgsync.domain.ports.schedule import ClaimedJob, JobState, NewJob
from imgsync.domain.runs import ChildProof, Run
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.tasks import TaskStatus
from imgsync.testing import (
    MemoryAccounts,
    MemoryFailedImages,
    MemoryRecords,
    MemorySettings,
    MemoryStore,
    MemoryStoreClock,
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
_SURVEYED_DENSE = 2_000


@dataclass(frozen=True, slots=True)
class Size:
    """What is simulated. `cpu_seconds` of a page: of the process that surveys."""

    mains: int
    hosts: int
    weight: int
    cpu_seconds: float
    entities: int = ENTITIES
    children: int = CHILDREN
    thinned: int = THINNED

    @property
    def pages(self) -> int:
        """Requests for an account's list of the one type that has entities."""
        return -(-self.entities // PAGE)


@dataclass
class Outcome:
    """What a night's sweep of everything came to. Seconds are virtual, but for `took`."""

    size: Size
    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    statements: Counter[str] = field(default_factory=Counter)
    ends: dict[str, float] = field(default_factory=dict)
    cpu_seconds: list[float] = field(default_factory=list)
    tasks: int = 0
    differing: int = 0
    answers_429: int = 0
    took: float = 0.0

    @property
    def most_of_main(self) -> int:
        return max(n for who, n in self.requests.items() if who.startswith("main"))

    @property
    def most_of_child(self) -> int:
        return max(n for who, n in self.requests.items() if who.startswith("child"))

    @property
    def least_seconds(self) -> float:
        """Whatever the hosts: what the limit of one account takes for its list."""
        return self.size.pages * self.size.weight / UNITS_PER_SECOND

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
        self.outcome.statements["queue, records, accounts, links"] += 1
        await asyncio.sleep(STORE_SECONDS)
        return self.clock.now()


class SharedPace:
    """Implements `PaceStore` for all hosts."""

    def __init__(self, outcome: Outcome) -> None:
        self._texts: dict[str, str] = {}
        self._outcome = outcome

    async def change(self, key: str, step: Step[Any]) -> Any:
        self._outcome.statements["pace"] += 1
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
        self._spent: dict[str, list[float]] = {}

    def request(self, account_id: str) -> None:
        at = virtual_time.now()
        spent = [one for one in self._spent.get(account_id, ()) if one > at - 3.0]
        if (len(spent) + 1) * self._weight > 45:
            self._outcome.answers_429 += 1
        self._spent[account_id] = [*spent, at]


class MemorySchedule:
    """Implements `Schedule`."""

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
            and (name not in self._held or self._held[name][1] <= now)
            and self._jobs[name].subject not in busy
        ]
        if not free:
            return None
        name = min(free, key=lambda one: (self._due[one], one))
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
        self._outcome.statements["schedule"] += 1
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
        self._outcome.statements["runs, proofs"] += 1
        await asyncio.sleep(STORE_SECONDS)


class Host:
    """A machine with one core for surveys; implements `MoySkladFactory` as far as these ask."""

    has_spare = False

    def __init__(self, size: Size, outcome: Outcome, paces: SharedPace, api: Meter429) -> None:
        self.size = size
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
        holds = entity_type.name == "product"
        for page in range(size.pages if holds else 1):
            await self._request()
            await self.host.compute(size.cpu_seconds)
            made = range(page * PAGE, min((page + 1) * PAGE, size.entities), size.thinned)
            found = [entity_of(self.account_id, number) for number in made] if holds else []
            total = -(-size.entities // size.thinned) if holds else 0
            yield EntityPage(found, [], total)

    async def _request(self) -> None:
        async with self.pacer.slot() as slot:
            slot.sending(small=True)
            self.host.outcome.requests[self.account_id] += 1
            await asyncio.sleep(LATENCY_SECONDS / 2)
            self.host.api.request(self.account_id)
            await asyncio.sleep(LATENCY_SECONDS / 2)
            slot.answered = virtual_time.now()


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


def simulate(size: Size) -> Outcome:
    """One sweep of everything, from the moment it is due until the last main account is done."""
    began = time.monotonic()
    outcome = virtual_time.run(_sweep(size))
    outcome.took = time.monotonic() - began
    return outcome


async def _sweep(size: Size) -> Outcome:
    outcome = Outcome(size)
    store = CountedStore(outcome)
    kind = TokenKind.SOLUTION if size.weight == 1 else TokenKind.USER
    settings = LinkSettings(
        sync_images_all=True, schedule=LinkSchedule(sweep="00:01", survey_minutes=None)
    )
    for m in range(size.mains):
        main = f"main{m}"
        store.accounts[main] = Account(main, main, kind, "token")
        for c in range(size.children):
            child = f"child{m}-{c}"
            store.accounts[child] = Account(child, child, kind, "token")
            store.mains[child], store.settings[child] = main, settings
    queue, clock = MemoryTaskQueue(store), MemoryStoreClock(store)
    schedule, paces, runs = MemorySchedule(outcome), SharedPace(outcome), Runs(outcome)
    api = Meter429(outcome, size.weight)
    accounts, links = MemoryAccounts(store), MemorySettings(store)
    hosts = [Host(size, outcome, paces, api) for _ in range(size.hosts)]
    stop = asyncio.Event()
    ids = itertools.count()

    def scheduler_of(host: Host) -> Scheduler:
        survey = Survey(accounts, MemoryRecords(store), host, TYPES)  # type: ignore[arg-type]
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
    while len(outcome.ends) < size.mains:
        await asyncio.sleep(1.0)
        for task in running:
            if task.done():
                task.result()
    outcome.seconds = max(outcome.ends.values()) - 60
    stop.set()
    await asyncio.gather(*running)
    outcome.cpu_seconds = [host.cpu_seconds for host in hosts]
    counts = await queue.counts()
    outcome.tasks = counts[TaskStatus.PENDING]
    made = range(0, size.entities, size.thinned)
    differing = sum(entity_of("child", n).images[0].size == 1000 for n in made)
    outcome.differing = differing * size.mains * size.children
    return outcome


def cpu_of_a_page() -> float:
    """Seconds that a survey takes of a processor for a page of an account, everything included but
    HTTP: measured here, at full density, without waiting for anything."""
    size = Size(1, 1, 1, 0.0, entities=_SURVEYED_DENSE, children=4, thinned=1)
    began = time.process_time()
    outcome = simulate(size)
    return (time.process_time() - began) / sum(outcome.requests.values())


JSON_SECONDS = 0.004
"""What httpx and the JSON of a page with a hundred entities take of a processor: assumed, as
nothing of this is simulated."""


def answer(*, full: bool = False) -> Answer:
    """A table of a night's sweep at growing sizes."""
    cpu = cpu_of_a_page() + JSON_SECONDS
    told = Answer(
        f"A sweep of N main accounts with {CHILDREN} children each, {ENTITIES:,} entities in each",
        (
            "main accounts, hosts, weight",
            "minutes",
            "least by limits",
            "least by CPU",
            "requests of a main; a child",
            "budget",
            "429",
            "first; last main done, min",
            "database questions/s",
            "tasks queued",
        ),
        notes=(
            f"{cpu * 1000:.1f} ms of CPU a page were charged, one core a host, of which "
            f"{JSON_SECONDS * 1000:.0f} are assumed for HTTP and JSON; a request takes "
            f"{LATENCY_SECONDS} s, a question to the database {STORE_SECONDS * 1000:.0f} ms",
            f"one in {THINNED} entities is made and compared, one in {CHANGED} of these differs: "
            f"with all of them there would be {THINNED} times as many tasks",
            "requests, units, jobs and questions of the schedule, the pace and the survey are "
            "simulated each",
        ),
    )
    sizes = [(1, 1, 1), (1, 1, 4), (10, 1, 1), (10, 10, 1)]
    if full:
        sizes += [(100, 10, 1), (100, 10, 4), (1000, 10, 1)]
    for mains, hosts, weight in sizes:
        done = simulate(Size(mains, hosts, weight, cpu))
        ends = sorted(done.ends.values())
        told.add(
            f"{mains}, {hosts}, {weight}",
            f"{done.seconds / 60:.1f}",
            f"{done.least_seconds / 60:.1f}",
            f"{done.least_cpu_seconds / 60:.1f}",
            f"{done.most_of_main}; {done.most_of_child}",
            f"{done.size.pages}",
            str(done.answers_429),
            f"{ends[0] / 60 - 1:.1f}; {ends[-1] / 60 - 1:.1f}",
            f"{sum(done.statements.values()) / done.seconds:.0f}",
            f"{done.tasks}",
        )
    return told
