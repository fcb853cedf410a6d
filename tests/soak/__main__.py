"""``python -m tests.soak [--minutes N] [--seed S]``: the campaign of faults, and its table."""

import argparse
import random
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from tests.soak.campaign import Found
from tests.soak.legs import ROUNDS, legs, long_leg
from tests.soak.tables import Campaign, leg_table, summary, told_faults

LONG_MINUTES = 20.0
"""A campaign of that length has a leg beside the others that lasts as long as it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier campaign")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each leg")
    parser.add_argument("--no-long", action="store_true", help="without the leg beside the others")
    parser.add_argument("--markdown", action="store_true", help="print the summary as Markdown")
    parser.add_argument(
        "--results", type=Path, help="keep what was found here; README's table is made of it"
    )
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311
    with ExitStack() as stack:
        beside: Future[Found] | None = None
        if given.minutes >= LONG_MINUTES and not given.no_long:
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
