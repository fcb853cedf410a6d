"""Legs one after another, and one that lasts as long as all of them."""

import tempfile
import time
from pathlib import Path

from moysklad_emulator import Dialect, pairwise_dialects
from tests.soak.campaign import Found, Plan, leg
from tests.soak.tables import row

ROUNDS = 6
"""Of one leg, of which every third is quiet."""
_TOLD_EVERY_SECONDS = 300.0


def name_of(dialect: Dialect, *, postgresql: bool) -> str:
    documented = Dialect().as_dict()
    others = [f"{k}={v}" for k, v in dialect.as_dict().items() if v != documented[k]]
    told = f"{len(others)} switches otherwise" if others else "as documented"
    return f"{'PostgreSQL' if postgresql else 'SQLite'}, {told}"


def long_leg(seed: int, minutes: float) -> Found:
    """Rounds until the time is over, with the same worker all the while, to see its memory."""
    ends = time.monotonic() + 60 * minutes
    told = time.monotonic()
    plan = Plan(seed, postgresql=True, workers=3, disk_mb=1_000)
    with (
        tempfile.TemporaryDirectory(prefix="imgsync-soak-") as folder,
        leg(plan, Path(folder), "PostgreSQL, one leg throughout") as one,
    ):
        while time.monotonic() < ends:
            one.run_round(quiet=one.found.rounds % 3 == 2)
            if time.monotonic() - told > _TOLD_EVERY_SECONDS:
                told = time.monotonic()
                print(f"long leg: {' '.join(row(one.found)[1:])}", flush=True)
        return one.end()


def legs(seed: int, minutes: float, rounds: int) -> list[Found]:
    """One leg after another until the time is over: each dialect on SQLite and on PostgreSQL."""
    ends = time.monotonic() + 60 * minutes
    dialects = pairwise_dialects()
    found: list[Found] = []
    while time.monotonic() < ends:
        at = len(found)
        postgresql, dialect = at % 2 == 1, dialects[at // 2 % len(dialects)]
        plan = Plan(seed + at, postgresql, dialect)
        name = name_of(dialect, postgresql=postgresql)
        with (
            tempfile.TemporaryDirectory(prefix="imgsync-soak-") as folder,
            leg(plan, Path(folder), name) as one,
        ):
            for number in range(1, rounds + 1):
                one.run_round(quiet=number % 3 == 0)
                if time.monotonic() > ends and number >= 3:
                    break
            found.append(one.end())
        told = ", ".join(f"{kind} {n}" for kind, n in sorted(found[-1].faults.items()))
        print(f"seed {plan.seed}: {' '.join(row(found[-1]))}: {told}", flush=True)
        for violation in found[-1].violations:
            print(f"  VIOLATION {violation}", flush=True)
    return found
