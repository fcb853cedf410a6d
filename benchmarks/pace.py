"""How much of the rate limit several processes on one token use, and what they are refused.

`python -m benchmarks.pace` prints the whole table; with API_URL and DATABASE_URL it is one of the
processes, which begins at a line on stdin.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.catalogue import MAIN, Catalogue, account_id
from benchmarks.tables import Answer, ratio
from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.moysklad.limits import RATE_INTERVAL_SECONDS, RATE_LIMIT_UNITS
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.pace import pace_store
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import Account, EntityType, TokenKind
from moysklad_emulator.process import EmulatorProcess, emulator_process

PROCESSES = (1, 2, 4, 8, 12)
LATENCIES = (0.0, 0.3)
WEIGHTS = (1, 4)
GOAL = 0.95
"""Least share of the units while there is work."""
SHORT_PROCESSES, SHORT_LATENCIES, SHORT_INTERVALS = (1, 2, 4), (0.3,), 2
"""What is measured beside the other parts."""
_AT_ONCE = 8
"""Requests that each process would have under way: more than the API lets it."""
_WARM_UP_INTERVALS, _MEASURED_INTERVALS = 2, 4
_PRODUCTS = Catalogue(entities=1, images=1, image_bytes=1000, children=0)


@dataclass(frozen=True, slots=True)
class Use:
    """Of the rate limit while there was work: `share` of its units; `refused`: answers 429 from
    the very first request on; `most_at_once`: requests under way."""

    share: float
    refused: int
    most_at_once: int


def measure(
    processes: int,
    latency: float,
    weight: int,
    database_url: str,
    intervals: int = _MEASURED_INTERVALS,
) -> Use:
    """Use of a bucket of 45 units by processes that have always more to ask."""
    account = _PRODUCTS.account(MAIN)
    # Each is stored as a published solution's, so that a weight of 4 has to be learnt.
    account["users"][0]["weight"] = weight
    with emulator_process({"accounts": [account]}) as emulator:
        if latency:
            emulator.add_fault(path_regex=".", times=10**9, delay=latency, method="ANY")
        with _started(emulator, database_url, processes):
            time.sleep(_WARM_UP_INTERVALS * RATE_INTERVAL_SECONDS)
            began, before = time.monotonic(), emulator.stats()
            time.sleep(intervals * RATE_INTERVAL_SECONDS)
            seconds, after = time.monotonic() - began, emulator.stats()
        stats = emulator.stats()
    calls = (after["api_calls"] - after["throttled"]) - (before["api_calls"] - before["throttled"])
    # As many requests as fit the bucket: of 45 units, 44 can be used at a weight of 4.
    whole = RATE_LIMIT_UNITS // weight * seconds / RATE_INTERVAL_SECONDS
    return Use(calls / whole, stats["throttled"], max(stats["max_parallel"].values()))


@contextmanager
def _started(emulator: EmulatorProcess, database_url: str, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.pace", emulator.api_url, database_url]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(count)
        ]
        for process in running:
            if not process.stdout or not process.stdout.readline():
                raise RuntimeError("a process of the benchmark did not start")
        for process in running:
            print("go", file=process.stdin, flush=True)
        try:
            yield
        finally:
            for process in running:
                process.terminate()


async def _ask_on_and_on(api_url: str, database_url: str) -> None:
    database = Database.open(database_url)
    factory = HttpMoySkladFactory(api_url, [], SystemClock(), pace_store(database))
    client = factory.for_account(Account(account_id(MAIN), MAIN, TokenKind.SOLUTION, MAIN))
    product = EntityType("product")

    async def asks() -> None:
        while True:
            with suppress(ImgsyncError):
                async for _ in client.list_entities(product, with_images=False):
                    pass

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(asks() for _ in range(_AT_ONCE)))


def answer(
    processes: Sequence[int] = SHORT_PROCESSES,
    latencies: Sequence[float] = SHORT_LATENCIES,
    intervals: int = SHORT_INTERVALS,
) -> Answer:
    shown = Answer(
        "Share of the rate limit that processes on one token use (45 units in 3 s)",
        (
            "Latency",
            "Weight",
            "Processes",
            "Units used",
            "Limit",
            "Ratio",
            "Goal",
            "429",
            "At once",
        ),
        notes=(
            f"Each process has always more to ask; measured for {intervals * 3} s after two "
            "intervals of 3 s. Weight: units of a request. 429: from the first request on, none is "
            "the goal. At once: requests under way, at most 5.",
        ),
    )
    for latency in latencies:
        for weight in WEIGHTS:
            for count in processes:
                with tempfile.TemporaryDirectory(prefix="imgsync-pace-") as folder:
                    url = f"sqlite:///{Path(folder) / 'q.db'}"
                    use = measure(count, latency, weight, url, intervals)
                shown.add(
                    f"{latency * 1000:.0f} ms",
                    str(weight),
                    str(count),
                    f"{use.share:.1%}",
                    "100%",
                    ratio(use.share, 1),
                    f"≥ {GOAL}",
                    str(use.refused),
                    str(use.most_at_once),
                )
    return shown


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(_ask_on_and_on(*sys.argv[1:]))
    else:
        answer(PROCESSES, LATENCIES, _MEASURED_INTERVALS).show(markdown=False)
