"""Runs a copying program in a process of its own, step by step."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.catalogue import NO_LIMIT, Catalogue, Shop, opened
from benchmarks.report import Report

IMGSYNC = "benchmarks.imgsync_copy"
PLAIN = "benchmarks.scripts plain"
BULK = "benchmarks.scripts bulk"
"""Programs, by module and argument: imgsync itself; a script of parallel requests, which copies
entity by entity; and one of permanent links and requests for many entities."""

ENQUEUE, WORK = "enqueue", "work"
"""Steps: lists both accounts and finds what is to be done (count: entities that differ; imgsync may
be told how it adopts the images that are there); does it (count: images uploaded)."""
SURVEY, PAYLOADS = "survey", "payloads"
"""Steps of imgsync alone: lists only (count: entities); queues an array of payloads (count: tasks
that wait then)."""


class ProgramError(RuntimeError):
    """A program ended where it was to report."""


class Program:
    """A running program."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self._name = name
        self._process = process

    def do(self, step: str, argument: str = "") -> Report:
        """Does a step; ProgramError where it fails, whose error is on stderr."""
        print(step, argument, file=self._process.stdin, flush=True)
        return Report(**json.loads(self.line()))

    def line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise ProgramError(f"{self._name} ended with status {self._process.wait()}")
        return line


@contextmanager
def started(name: str, shop: Shop, rate_interval: float = NO_LIMIT) -> Iterator[Program]:
    """Starts `python -m name API_URL CHILDREN RATE_INTERVAL`, which is ready then."""
    shown = (shop.emulator.api_url, str(shop.catalogue.children), str(rate_interval))
    with subprocess.Popen(
        [sys.executable, "-m", *name.split(), *shown],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            program = Program(name, process)
            program.line()
            yield program
            if process.stdin:
                process.stdin.close()
            process.wait(60)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a whole catalogue by one program, from its first request to its last; what is
    counted is the main account's and the children's together, but for `units`: of the account
    that spent most."""

    catalogue: Catalogue
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    requests: int
    units: int
    throttled: int

    @property
    def images_per_second(self) -> float:
        return self.catalogue.total_images * self.catalogue.children / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """Of image files, as they are before they are encoded."""
        return self.images_per_second * self.catalogue.image_bytes / 1e6

    @property
    def cpu_milliseconds(self) -> float:
        """Of the program's process for one image."""
        return 1000 * self.cpu_seconds / (self.catalogue.total_images * self.catalogue.children)


def copy(
    name: str, catalogue: Catalogue, *, rate_interval: float = NO_LIMIT, latency: float = 0.0
) -> Copy:
    """Copies a catalogue once at a new emulator. WrongCopyError where the children do not have
    main's images then, or the program says that it uploaded another number of them."""
    with opened(catalogue, rate_interval=rate_interval) as shop:
        shop.delay(latency)
        with started(name, shop, rate_interval) as program:
            reports = [program.do(ENQUEUE), program.do(WORK)]
            stats = shop.emulator.stats()
        shop.judge(uploaded=reports[-1].count)
    accounts = stats["accounts"].values()
    return Copy(
        catalogue=catalogue,
        seconds=sum(report.seconds for report in reports),
        cpu_seconds=sum(report.cpu_seconds for report in reports),
        peak_bytes=reports[-1].peak_bytes,
        requests=sum(account["requests"] for account in accounts),
        units=max(account["units"] for account in accounts),
        throttled=stats["throttled"],
    )
