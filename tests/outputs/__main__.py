"""``make outputs``: what the documents show of printed output, made anew."""

import argparse
import sys

from tests.outputs.blocks import ROOT, blocks, rewrite
from tests.outputs.prints import QUICK, SLOW


def main() -> int:
    parser = argparse.ArgumentParser(prog="make outputs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="not the demos and the checks")
    parser.add_argument(
        "--all", action="store_true", help="also where nothing but what is measured differs"
    )
    given = parser.parse_args()
    made: dict[str, str] = {}
    for make in QUICK if given.quick else (*QUICK, *SLOW):
        made |= make()
    for block in rewrite(made, all_of_them=given.all):
        print(f"{block.document.relative_to(ROOT)}: {block.name}")
    if unknown := {one.name for one in blocks()} - made.keys():
        print(f"left as they were: {', '.join(sorted(unknown))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
