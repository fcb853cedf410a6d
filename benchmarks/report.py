"""What a copying program tells of each of its steps: a line of JSON for every line that asks."""

import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Report:
    """Of one step: how many (tasks, images or entities, as the step says), its seconds by the clock
    and of this process's CPU, and the most resident bytes of the process so far."""

    count: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


Step = Callable[[str], Awaitable[int]]
"""Of the rest of the line that asks for it."""


async def serve(steps: Mapping[str, Step]) -> None:
    """Does the step that the first word of each line of stdin names, until stdin ends."""
    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        step, _, rest = line.partition(" ")
        began, cpu = time.monotonic(), time.process_time()
        count = await steps[step](rest)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        print(json.dumps(asdict(Report(count, seconds, cpu, peak_bytes()))), flush=True)


def peak_bytes() -> int:
    """Most resident memory of this process so far."""
    # Linux hands ru_maxrss on from the parent process; VmHWM is this process's own.
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
