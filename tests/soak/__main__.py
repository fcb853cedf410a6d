"""``python -m tests.soak [--minutes N] [--seed S]``: the campaign of faults, and its table."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from moysklad_emulator import Dialect, pairwise_dialects
from tests.soak.campaign import COLUMNS, Found, Plan, leg

ROUNDS = 6
"""Of one leg, of which every third is quiet."""


def name_of(dialect: Dialect, *, postgresql: bool) -> str:
    documented = Dialect().as_dict()
    others = [f"{k}={v}" for k, v in dialect.as_dict().items() if v != documented[k]]
    told = f"{len(others)} switches otherwise" if others else "as documented"
    return f"{'PostgreSQL' if postgresql else 'SQLite'}, {told}"


def table(found: list[Found]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(one.row()) + " |" for one in found])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier campaign")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each leg")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311
    ends = time.monotonic() + 60 * given.minutes
    dialects = pairwise_dialects()
    found: list[Found] = []
    at = 0
    while time.monotonic() < ends:
        postgresql, dialect = at % 2 == 1, dialects[at // 2 % len(dialects)]
        plan = Plan(seed + at, postgresql, dialect)
        name = name_of(dialect, postgresql=postgresql)
        with (
            tempfile.TemporaryDirectory(prefix="imgsync-soak-") as folder,
            leg(plan, Path(folder), name) as one,
        ):
            for number in range(1, given.rounds + 1):
                one.run_round(quiet=number % 3 == 0)
                if time.monotonic() > ends and number >= 3:
                    break
            found.append(one.end())
        told = ", ".join(f"{kind} {n}" for kind, n in sorted(found[-1].faults.items()))
        print(f"seed {plan.seed}: {' '.join(found[-1].row())}: {told}", flush=True)
        for violation in found[-1].violations:
            print(f"  VIOLATION {violation}", flush=True)
        at += 1
    print()
    print(table(found))
    bad = sum(len(one.violations) for one in found)
    print(f"\nSeed {seed}; {bad} violations.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
