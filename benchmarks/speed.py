"""How fast one copy is, beside scripts that do nothing but copy."""

from collections.abc import Sequence
from math import ceil
from statistics import median

from benchmarks.catalogue import NO_LIMIT, Catalogue
from benchmarks.programs import BULK, IMGSYNC, PLAIN, Copy, copy
from benchmarks.tables import NONE, Answer, ratio, spread

PROGRAMS = {"imgsync": IMGSYNC, "plain script": PLAIN, "bulk script": BULK}
LATENCIES = (0.0, 0.3)
RATE_INTERVAL = 3.0
RATE_UNITS = 45
AT_ONCE = 5
GOAL = 0.8
"""Least images per second of imgsync, as a share of the plain script's."""
TIME_GOAL = 1.2
"""Most seconds of a copy, as a multiple of those in which its units can be spent."""
_BINDING_SECONDS = 1.0
"""Where units can be spent sooner, it is not they that a copy waits for."""


def measure(
    catalogue: Catalogue, runs: int, *, rate_interval: float, latency: float
) -> dict[str, list[Copy]]:
    """Copies by each program in turn, so that all of them meet the same machine."""
    found: dict[str, list[Copy]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, program in PROGRAMS.items():
            found[name].append(
                copy(program, catalogue, rate_interval=rate_interval, latency=latency)
            )
    return found


def least_seconds(units: int, latency: float) -> float:
    """Seconds in which so many units can be spent, one by each request; those of a full bucket at
    once."""
    paced = max(0, units - RATE_UNITS) / (RATE_UNITS / RATE_INTERVAL)
    return max(paced, latency * ceil(units / AT_ONCE))


def answers(
    catalogue: Catalogue,
    runs: int,
    latencies: Sequence[float] = LATENCIES,
    large: Catalogue | None = None,
) -> tuple[Answer, Answer]:
    """Without a rate limit, and with the documented one; `large` is copied where there is neither
    a limit nor latency."""
    shown = "min / median / max" if runs > 1 else "one run"
    of = f"{runs} runs" if runs > 1 else "one run"
    free = Answer(
        f"Speed without a rate limit ({of})",
        ("Latency", "Catalogue", "Program", f"Images/s: {shown}", "MB/s", f"CPU ms/image: {shown}",
         "Of the plain script", "Goal", "Peak MB"),
        notes=(
            "From the first request to the last, lists included; CPU of the program's process. "
            "Latency: what each answer of the API and of the storage waits. At most 5 requests "
            "of an account at once, as documented.",
            "Plain script: parallel requests by httpx, each image by the API's download, a request "
            "for each entity; bulk script: permanent links, a request for 100 entities. Neither "
            "has a queue, a record or a check of the pictures. Every copy is compared with main.",
        ),
    )  # fmt: skip
    limited = Answer(
        f"Speed with the rate limit of 45 units in 3 s ({catalogue}; {of})",
        ("Latency", "Program", f"Images/s: {shown}", "Of the plain script", "Units", "Seconds",
         "Least seconds", "Ratio", "Goal", "429"),
        notes=(
            "Units: of the account that spent most. Least seconds: in which they can be spent, the "
            "45 of a full bucket at once and 15 in each second, and 5 requests at once with their "
            "latency. Where that is under a second, the limit is no limit: the machine is, and the "
            "latency of the storage.",
        ),
    )  # fmt: skip
    for latency in latencies:
        copied = catalogue if latency or large is None else large
        fast = measure(copied, runs, rate_interval=NO_LIMIT, latency=latency)
        plain = _rate(fast["plain script"])
        for name, copies in fast.items():
            free.add(
                _milliseconds(latency),
                str(copied),
                name,
                spread([one.images_per_second for one in copies]),
                f"{median(one.megabytes_per_second for one in copies):.2f}",
                spread([one.cpu_milliseconds for one in copies]),
                ratio(_rate(copies), plain),
                f"≥ {GOAL}" if name == "imgsync" else NONE,
                f"{max(one.peak_bytes for one in copies) / 1e6:.0f}",
            )
        paced = measure(catalogue, runs, rate_interval=RATE_INTERVAL, latency=latency)
        plain = _rate(paced["plain script"])
        for name, copies in paced.items():
            units = round(median(one.units for one in copies))
            seconds, least = median(one.seconds for one in copies), least_seconds(units, latency)
            binds = least >= _BINDING_SECONDS
            limited.add(
                _milliseconds(latency),
                name,
                spread([one.images_per_second for one in copies]),
                ratio(_rate(copies), plain),
                str(units),
                f"{seconds:.1f}",
                f"{least:.1f}",
                ratio(seconds, least) if binds else NONE,
                f"≤ {TIME_GOAL}" if name == "imgsync" and binds else NONE,
                str(sum(one.throttled for one in copies)),
            )
    return free, limited


def _rate(copies: Sequence[Copy]) -> float:
    return median(one.images_per_second for one in copies)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
