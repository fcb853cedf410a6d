"""``python -m tests.soak [--minutes N] [--seed S]``: the campaign of faults, and its table."""

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from moysklad_emulator import Dialect, pairwise_dialects
from tests.soak.campaign import Found, Plan, leg
from tests.soak.tables import Campaign, leg_table, row, summary, told_faults

ROUNDS = 6
"""Of one leg, of which every third is quiet."""
LONG_MINUTES = 20.0
"""A campaign of that length has a leg beside the others that lasts as long as it."""
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier campaign")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each leg")
    parser.add_argument("--markdown", action="store_true", help="print the summary as Markdown")
    parser.add_argument(
        "--results", type=Path, help="keep what was found here; README's table is made of it"
    )
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311
    with ExitStack() as stack:
        beside: Future[Found] | None = None
        if given.minutes >= LONG_MINUTES:
            # A process of its own: the emulators of two legs would take turns in one.
            pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            beside = stack.enter_context(pool).submit(long_leg, seed, given.minutes)
        found = legs(seed, given.minutes, given.rounds)
        campaign = Campaign(found, beside.result() if beside else None)
    for violation in campaign.long.violations if campaign.long else ():
        print(f"  VIOLATION of the long leg: {violation}")
    if given.results:
        campaign.save(given.results)
    print()
    print(summary(campaign) if given.markdown else leg_table(campaign.all))
    print(f"\n{told_faults(campaign)}")
    bad = len(campaign.violations)
    print(f"\nSeed {seed}; {bad} violations.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
