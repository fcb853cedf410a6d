"""Rounds of changes and faults, and what must be true after each."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sqlalchemy import text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.tasks import Task, TaskStatus
from moysklad_emulator import Dialect, Emulator, EmulatorLimits, EmulatorServer
from tests.soak.estate import Estate
from tests.soak.machines import PostgreSql, Relay, SmallDisk, Workers, trouble_the_api

LEASE_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
MOST_GROWTH_MB = 30.0
LEAST_FAULTS = 4
"""Of a round, however long the machine takes for one."""
SPANS = 6
"""Parts of a leg whose memory is told."""


_LATE = re.compile("lease|another worker holds|write was allowed")
"""In a line of a worker's log: it has lost a task to another."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one leg of a campaign does. Every third round is quiet: without faults nothing may be
    done twice."""

    seed: int
    postgresql: bool
    dialect: Dialect = field(default_factory=Dialect)
    workers: int = 4
    children: int = 3
    entities: int = 12
    fault_seconds: float = 6.0
    disk_mb: int = 24


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker holds of the machine's memory, `seconds` after the leg began."""

    seconds: float
    megabytes: float
    process: int


@dataclass
class Found:
    """What a leg has come to. `violations` are what must not be."""

    name: str
    rounds: int = 0
    entities: int = 0
    images: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    doubles: int = 0
    quiet_doubles: int = 0
    late_leases: int = 0
    """Entities of whose tasks workers lost the lease in quiet rounds, as the machine did not let
    them run in time."""
    restarts: int = 0
    held: list[Held] = field(default_factory=list)
    """Of the one worker that nobody kills or stops, after each round."""
    violations: list[str] = field(default_factory=list)

    @property
    def lives(self) -> int:
        """How many processes were that worker, one after another."""
        return len({one.process for one in self.held})

    def spans(self) -> list[float]:
        """The megabytes that it held in each sixth of the leg: the median of the rounds."""
        size = len(self.held) / SPANS
        parts = [self.held[round(size * n) : round(size * (n + 1))] for n in range(SPANS)]
        return [median(one.megabytes for one in part) for part in parts if part]


class Leg:
    """Worker processes on one database against one dialect."""

    def __init__(self, plan: Plan, folder: Path, name: str, stack: ExitStack) -> None:
        self.plan = plan
        self.found = Found(name)
        self.chance = random.Random(plan.seed)  # noqa: S311
        self._folder = folder
        emulator = Emulator(EmulatorLimits(rate_units=100_000), dialect=plan.dialect)
        server = stack.enter_context(EmulatorServer(emulator))
        # Downloads and writes take their time, so that there are moments to be hit at.
        self.estate = Estate(server, self.chance, plan.children, plan.entities)
        self._server: PostgreSql | None = None
        self._relay: Relay | None = None
        self._disk = SmallDisk(folder / "disk", plan.disk_mb)
        stack.callback(self._disk.close)
        if plan.postgresql:
            self._server = stack.enter_context(PostgreSql.running())
            self.url = self._server.new_database()
            self._relay = stack.enter_context(Relay(self.url).running())
            urls = [self.url, self._relay.url_of()]
        else:
            # The database's disk and the store's are one, and full at once.
            self.url = f"sqlite:///{self._disk.folder / 'imgsync.db'}"
            urls = [self.url]
        environments = [self._environment(urls[n % len(urls)], n) for n in range(plan.workers)]
        self.workers = Workers(folder, list(environments))
        stack.callback(self._end)
        self._database = Database.open(self.url)
        stack.callback(self._database.close)
        self._queue = SqlTaskQueue(self._database)
        self._add_accounts()

    def run_round(self, *, quiet: bool) -> None:
        """Changes, faults where it is not quiet, peace, judgement."""
        began, mark = time.monotonic(), self.workers.mark()
        self.workers.start()
        self.found.entities += self.estate.churn() * len(self.estate.children)
        if quiet:
            self._imgsync("enqueue")
        else:
            self._campaign()
        self._settle(quiet=quiet)
        sent = sum(self.estate.watch.uploads.values())
        self.found.images += sent
        if quiet:
            self.found.quiet_doubles += self.estate.watch.doubles
        else:
            self.found.doubles += self.estate.watch.doubles
        self._judge(self.workers.texts(mark), quiet=quiet)
        self.found.rounds += 1
        self.estate.settled()
        self.found.seconds += time.monotonic() - began
        if (held := self.workers.held(0)) is not None:
            self.found.held.append(Held(self.found.seconds, *held))

    def end(self) -> Found:
        """Ends the workers, and looks at what they leave."""
        statuses = self._end()
        if any(statuses):
            self._violated(f"workers ended with {statuses} when they were told to stop")
        self.found.restarts = self.workers.ended_alone
        told = self.workers.texts()
        if "Traceback" in told:
            at = told.index("Traceback")
            self._violated(f"a worker told of a fault of its own: {told[at : at + 2000]}")
        self._look_for_tokens()
        spans = self.found.spans()
        # The first sixth loads what a worker needs only now and then.
        if len(spans) == SPANS and (growth := spans[-1] - spans[1]) > MOST_GROWTH_MB:
            self._violated(f"a worker grew by {growth:.0f} MB")
        if self.estate.emulator.stats.authorization_leaks:
            self._violated("a token was sent to the storage")
        return self.found

    def _campaign(self) -> None:
        """Faults at random moments, one after another, while tasks are made and run."""
        survey = self._start("enqueue")
        ends = time.monotonic() + self.plan.fault_seconds
        enough = self.found.faults.total() + LEAST_FAULTS
        while time.monotonic() < ends or self.found.faults.total() < enough:
            time.sleep(self.chance.uniform(0.1, 0.8))
            name, act = self.chance.choice(self._kinds())
            kind = act()
            self.found.faults[kind or name] += 1
            self.workers.start()
        self.estate.emulator.faults.clear()
        self._disk.empty()
        if self._relay is not None:
            self._relay.mend()
        self.workers.wake()
        survey.communicate(timeout=PATIENCE_SECONDS)  # what became of it: the next one mends

    def _kinds(self) -> list[tuple[str, Callable[[], str | None]]]:
        victim = self.chance.randrange(1, len(self.workers))  # the first tells of memory

        def api() -> str:
            return trouble_the_api(self.estate.emulator, self.chance)

        def stop() -> None:
            self.workers.stop(victim)

        def full() -> None:
            self._disk.fill()
            time.sleep(self.chance.uniform(0.3, 1.0))
            self._disk.empty()

        kinds: list[tuple[str, Callable[[], str | None]]] = [
            ("kill -9", lambda: self.workers.kill(victim)),
            ("SIGSTOP", stop),
            ("woken", self.workers.wake),
            *([("api", api)] * 5),
        ]
        if self._disk.is_there:
            kinds.append(("full disk", full))
        if self._relay is not None and self._server is not None:
            relay, server = self._relay, self._server

            def broken(cut: Callable[[], None]) -> Callable[[], None]:
                def act() -> None:
                    cut()
                    time.sleep(self.chance.uniform(0.2, LEASE_SECONDS + 1))
                    relay.mend()

                return act

            kinds += [
                ("database cut", broken(relay.cut)),
                ("database hangs", broken(relay.hang)),
                ("database slow", broken(lambda: relay.slow(self.chance.uniform(0.05, 0.5)))),
                ("database restarts", lambda: server.restart(in_order=True)),
                ("database killed", lambda: server.restart(in_order=False)),
            ]
            if relay.can_lose():
                kinds.append(("database lost", relay.lose))
        return kinds

    def _settle(self, *, quiet: bool) -> None:
        """Waits until nothing is left to do: what waits for later is due, and one more survey
        finds what those under faults could not."""
        self._wait_for_rest()
        for _ in range(4):
            self._make_due()
            self._wait_for_rest()
            if quiet and not self.estate.differing() and not self._open_tasks():
                return
            self._imgsync("enqueue")
            self._wait_for_rest()
            if not self.estate.differing() and not self._open_tasks():
                return
            self._wake_accounts()

    def _judge(self, told_by_workers: str = "", *, quiet: bool) -> None:
        for told in self.estate.differing():
            self._violated(f"not equal: {told}")
        watch = self.estate.watch
        for told in watch.emptied:
            self._violated(f"emptied in between: {told}")
        for told in watch.strangers:
            self._violated(f"given a picture that main never had: {told}")
        watch.emptied.clear()
        watch.strangers.clear()
        for told in self._open_tasks():
            self._violated(f"left in the queue: {told}")
        late = self._late(told_by_workers) if quiet else set()
        self.found.late_leases += len(late)
        # A worker that stood still for longer than its lease has another do its work: on a machine
        # that is busy nobody has to stop it for that.
        causeless = sum(
            count - 1
            for (_, entity, _), count in watch.uploads.items()
            if count > 1 and self.estate.main_of(entity).id not in late
        )
        if quiet and causeless:
            self._violated(
                f"{causeless} images were sent twice, and nothing was wrong"
                + (f" but {told_by_workers[-1000:]}" if told_by_workers else "")
            )

    def _late(self, told_by_workers: str) -> set[str]:
        """Ids of main's entities of whose tasks a worker has told that it lost the lease."""
        tasks = late_tasks(told_by_workers)
        payloads = [str(task.payload) for task in self._tasks() if task.id in tasks]
        return {
            entity.id
            for entity in self.estate.entities
            if any(entity.id in payload for payload in payloads)
        }

    def _open_tasks(self) -> list[str]:
        """Tasks that wait, run, or failed though no newer one of their entity has ended well."""
        done: set[str | None] = set()
        found = []
        for task in self._tasks():  # the newest first
            if task.status is TaskStatus.COMPLETED:
                done.add(task.dedupe_key)
            elif task.status is not TaskStatus.FAILED or task.dedupe_key not in done:
                found.append(f"{task.id} {task.kind} {task.status} {task.error or ''}")
        return found

    def _tasks(self, status: TaskStatus | None = None) -> list[Task]:
        return asyncio.run(self._queue.find(status, limit=10_000))

    def _wait_for_rest(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._at_rest():
            if time.monotonic() > deadline:
                self._violated("the workers did not come to rest")
                return
            time.sleep(0.1)
            self.workers.start()

    def _at_rest(self) -> bool:
        now = datetime.now(UTC)
        waiting = [t for t in self._tasks(TaskStatus.PENDING) if t.scheduled_at <= now]
        return not waiting and not self._tasks(TaskStatus.PROCESSING)

    def _make_due(self) -> None:
        with self._database.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE sync_queue SET scheduled_at = '2020-01-01 00:00:00' "
                    "WHERE status = 'pending'"
                )
            )

    def _wake_accounts(self) -> None:
        """As an operator who puts a token in again."""
        for name, token in self._accounts():
            self._imgsync("account", "add", name, "--offline", "--name", name, token=token)

    def _add_accounts(self) -> None:
        estate = self.estate
        for account, token in (
            (estate.main, estate.main_token),
            *((child.account, child.token) for child in estate.children),
        ):
            add = ("account", "add", account.id, "--offline", "--name", account.name)
            self._imgsync(*add, token=token)
        names = [child.account.name for child in estate.children]
        self._imgsync("link", "Main", *names, "--sync-images-all")

    def _accounts(self) -> Iterator[tuple[str, str]]:
        yield self.estate.main.id, self.estate.main_token
        for child in self.estate.children:
            yield child.account.id, child.token

    def _environment(self, url: str, number: int) -> dict[str, str]:
        outer = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
        # Two hosts, each with a store of its own.
        store = self._disk.folder / f"store-{number % 2}"
        return outer | {
            "IMGSYNC_API_URL": self.estate.server.api_url,
            "IMGSYNC_DATABASE_URL": url,
            "IMGSYNC_TEMP_DIR": str(store),
            "IMGSYNC_LEASE_SECONDS": str(LEASE_SECONDS),
            "IMGSYNC_POLL_SECONDS": "0.1",
            "IMGSYNC_LOG_LEVEL": "WARNING",
        }

    def _start(self, *arguments: str, token: str | None = None) -> "subprocess.Popen[str]":
        environment = self._environment(self.url, 0)
        if token is not None:
            environment["IMGSYNC_TOKEN"] = token
        return subprocess.Popen(
            [sys.executable, "-m", "imgsync", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _imgsync(self, *arguments: str, token: str | None = None) -> None:
        process = self._start(*arguments, token=token)
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
        if process.returncode:
            self._violated(f"imgsync {arguments[0]} ended with {process.returncode}: {told}")

    def _look_for_tokens(self) -> None:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        for path in files:
            if path.name.startswith("imgsync.db"):
                continue
            content = path.read_bytes()
            if any(token.encode() in content for token in self.estate.tokens):
                self._violated(f"a token is in {path.name}")
        for task in self._tasks():
            told = f"{task.payload} {task.error} {task.warnings}"
            if any(token in told for token in self.estate.tokens):
                self._violated(f"a token is in task {task.id}")

    def _violated(self, told: str) -> None:
        self.found.violations.append(f"round {self.found.rounds + 1}: {told}")

    def _end(self) -> list[int]:
        return self.workers.end()


def late_tasks(told_by_workers: str) -> set[int]:
    """Of which a worker's log says that it has lost the lease, or broken off a write before it
    was over."""
    lines = [line for line in told_by_workers.splitlines() if _LATE.search(line)]
    named = (re.search(r"\btask (\d+)", line, re.IGNORECASE) for line in lines)
    return {int(found[1]) for found in named if found}


@contextmanager
def leg(plan: Plan, folder: Path, name: str) -> Iterator[Leg]:
    with ExitStack() as stack:
        yield Leg(plan, folder, name, stack)
