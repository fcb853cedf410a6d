"""`python -m benchmarks [PART…]`: imgsync beside its limits, and beside scripts that only copy."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    adopt,
    calls,
    growth,
    pace,
    pictures,
    queues,
    reception,
    scale,
    speed,
    startup,
)
from benchmarks.catalogue import Catalogue
from benchmarks.results import keep
from benchmarks.tables import Answer

_ASKED_FOR = ("queues", "listing", "scale")
"""Parts that take long, and are run where they are named."""

_FEW_CHILDREN = 2
"""Of the copy without permanent links, which change nothing for a child."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    known: dict[str, Callable[[argparse.Namespace], Iterable[Answer]]] = {
        "startup": _startup,
        "calls": _calls,
        "adopt": _adopt,
        "speed": _speed,
        "growth": _growth,
        "pace": _pace,
        "pictures": _pictures,
        "reception": _reception,
        "queues": _queues,
        "listing": _listing,
        "scale": _scale,
    }
    if unknown := set(options.parts) - known.keys():
        sys.exit(f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    print(f"{machine}. A ratio is what was measured, divided by its limit or goal.\n", flush=True)
    for name in options.parts or [one for one in known if one not in _ASKED_FOR]:
        began = time.monotonic()
        found = []
        for answer in known[name](options):
            answer.show(markdown=options.markdown)
            found.append(answer)
        if options.results:
            keep(options.results, name, machine, found)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _scale(options: argparse.Namespace) -> Iterable[Answer]:
    yield scale.answer(full=options.full, whole=options.whole)


def _queues(options: argparse.Namespace) -> Iterable[Answer]:
    yield from queues.answers(options.postgresql)


def _listing(options: argparse.Namespace) -> Iterable[Answer]:
    yield queues.long_answer(options.postgresql)


def _startup(options: argparse.Namespace) -> Iterable[Answer]:
    yield startup.answer()


def _calls(options: argparse.Namespace) -> Iterable[Answer]:
    full = options.full
    linked = Catalogue(
        options.entities or (1000 if full else 500),
        options.images or (3 if full else 2),
        options.image_bytes,
        options.children,
    )
    unlinked = replace(linked, children=min(linked.children, _FEW_CHILDREN))
    surveyed = Catalogue(
        options.surveyed or (10_000 if full else 1000), 3, 200, options.children, copied=True
    )
    yield calls.answer(linked, unlinked, surveyed)


def _adopt(options: argparse.Namespace) -> Iterable[Answer]:
    entities = options.entities or (1000 if options.full else 500)
    yield adopt.answer(Catalogue(entities, options.images or 2, options.image_bytes, copied=True))


def _speed(options: argparse.Namespace) -> Iterable[Answer]:
    catalogue = Catalogue(60, 3, options.image_bytes)
    large = replace(catalogue, entities=200)
    yield from speed.answers(catalogue, options.runs, large=large)


def _growth(options: argparse.Namespace) -> Iterable[Answer]:
    yield growth.answer(growth.FULL_SIZES if options.full else growth.SIZES)
    yield growth.copy_answer()


def _pace(options: argparse.Namespace) -> Iterable[Answer]:
    if options.full:
        yield pace.answer(latencies=pace.LATENCIES)
    else:
        yield pace.answer()


def _pictures(options: argparse.Namespace) -> Iterable[Answer]:
    yield pictures.answer()


def _reception(_: argparse.Namespace) -> Iterable[Answer]:
    yield reception.answer()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Parts: startup, calls, adopt, speed, growth, pace, pictures, reception; "
        "those by default, some thirteen minutes on two quiet cores. Where they are named: queues, "
        "listing (of a million tasks) and scale.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--runs", type=int, default=3, help="of each copy in the part speed")
    parser.add_argument("--full", action="store_true", help="large catalogues; an hour")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--results", type=Path, help="keep the tables here; those of the documents are made of it"
    )
    parser.add_argument(
        "--postgresql", metavar="URL", help="a server for queues and listing, not one of their own"
    )
    parser.add_argument("--image-bytes", type=int, default=12_000, help="in calls, adopt and speed")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="in scale: 1,000 main accounts with every request, half an hour of a core and more",
    )
    of_calls = parser.add_argument_group("the parts calls and adopt")
    of_calls.add_argument("--entities", type=int, help="by default 500, in full 1000")
    of_calls.add_argument("--images", type=int, help="of each entity; by default 2, in full 3")
    of_calls.add_argument("--children", type=int, default=20)
    of_calls.add_argument(
        "--surveyed", type=int, help="entities of the survey alone; by default 1000, in full 10,000"
    )
    return parser


if __name__ == "__main__":
    main()
