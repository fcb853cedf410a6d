"""What it costs to begin anew beside children that are equal: after a lost database, say."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.calls import Budget
from benchmarks.catalogue import MAIN, NO_LIMIT, Catalogue, account_id, child_name, opened
from benchmarks.programs import ENQUEUE, IMGSYNC, WORK, started
from benchmarks.tables import Answer

MODES = ("size", "hash", "none")
"""How an image that is there is known for main's, as `imgsync sync --adopt` has it."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A first sync of a child that has main's images. `main` and `child`: what each account was
    asked for; `tasks`: entities that were not adopted by the survey alone."""

    mode: str
    tasks: int
    uploaded: int
    main: "Use"
    child: "Use"
    seconds: float


@dataclass(frozen=True, slots=True)
class Use:
    """Requests of an account, and the bytes of HTTP bodies, of the API and of its files."""

    requests: int
    downloaded_bytes: int
    uploaded_bytes: int

    @classmethod
    def of(cls, stats: dict[str, Any], name: str) -> "Use":
        use = stats["accounts"][account_id(name)]
        return cls(use["requests"], use["bytes_out"], use["bytes_in"])


def measure(catalogue: Catalogue, *, permanent_links: bool = True) -> Iterator[Adoption]:
    """Each mode at a new emulator and with a new database. WrongCopyError where the child does not
    have main's images then."""
    for mode in MODES:
        with (
            opened(catalogue, rate_interval=NO_LIMIT, permanent_links=permanent_links) as shop,
            started(IMGSYNC, shop) as program,
        ):
            shop.emulator.reset_stats()
            reports = [program.do(ENQUEUE, mode), program.do(WORK)]
            stats = shop.emulator.stats()
            shop.judge()
        yield Adoption(
            mode=mode,
            tasks=reports[0].count,
            uploaded=reports[1].count,
            main=Use.of(stats, MAIN),
            child=Use.of(stats, child_name(0)),
            seconds=sum(report.seconds for report in reports),
        )


def answer(catalogue: Catalogue) -> Answer:
    """With permanent links, and without them."""
    shown = Answer(
        f"A new database beside an equal child: {catalogue}",
        ("Adopted by", "Permanent links", "Tasks", "Images sent", "Requests: main",
         "Requests: child", "MB down: main", "MB down: child", "MB up: child", "Seconds"),
        notes=(
            f"The fewest requests are those of a survey: {Budget.unchanged(catalogue).main} of "
            "either account, and one of main for each other entity type, of which there are none.",
            "size: number, order, names and sizes are the same. hash: both files are downloaded "
            "and compared. none: what no record knows is sent.",
        ),
    )  # fmt: skip
    for permanent_links in (True, False):
        for one in measure(catalogue, permanent_links=permanent_links):
            shown.add(
                one.mode,
                "yes" if permanent_links else "no",
                f"{one.tasks:,}",
                f"{one.uploaded:,}",
                f"{one.main.requests:,}",
                f"{one.child.requests:,}",
                f"{one.main.downloaded_bytes / 1e6:.2f}",
                f"{one.child.downloaded_bytes / 1e6:.2f}",
                f"{one.child.uploaded_bytes / 1e6:.2f}",
                f"{one.seconds:.1f}",
            )
    return shown
