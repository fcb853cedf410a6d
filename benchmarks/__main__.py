"""`make bench`: imgsync beside the delete-each-then-POST baseline, on the same emulator."""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import pace
from benchmarks.measure import Measurement, measure
from benchmarks.workload import Workload

_CODES = {
    "imgsync": "benchmarks.imgsync_copy",
    "baseline": "benchmarks.baseline_copy",
}
_CATALOGUE = Workload(entities=12, images=10, image_bytes=200_000)
_GROWING = [
    Workload(entities=products, images=images, image_bytes=1_400_000)
    for products, images in ((4, 1), (4, 10), (40, 10))
]
_QUICK_INTERVAL = 0.3
"""Seconds; memory does not depend on the pace."""


def main() -> None:
    console = Console(markup=False)
    console.print(
        f"{_CATALOGUE.entities} products of {_CATALOGUE.images} images "
        f"of {_CATALOGUE.image_bytes // 1000} kB; each counterpart has one old image.\n"
        "Solution tokens, documented limits (45 requests in 3 s, 5 at once); surveys and\n"
        "answers 429 are not counted as calls."
    )
    console.print(_speed({name: measure(code, _CATALOGUE) for name, code in _CODES.items()}))
    pace.main()
    console.print("Peak memory of the copying process in MB, for images of 1.4 MB:")
    console.print(
        _memory(
            {
                name: [measure(code, w, _QUICK_INTERVAL) for w in _GROWING]
                for name, code in _CODES.items()
            }
        )
    )


def _speed(found: dict[str, Measurement]) -> Table:
    columns = ("Calls/entity", "Uploads+deletions/entity", "Images/s", "Peak MB", "429")
    table = _table("", *columns)
    for name, m in found.items():
        table.add_row(
            name,
            f"{m.calls_per_entity:.1f}",
            f"{m.changes_per_entity:.1f}",
            f"{m.images_per_second:.1f}",
            _megabytes(m),
            str(m.throttled),
        )
    return table


def _memory(found: dict[str, list[Measurement]]) -> Table:
    table = _table("", *(f"{w.entities} x {w.images} images" for w in _GROWING))
    for name, measurements in found.items():
        table.add_row(name, *map(_megabytes, measurements))
    return table


def _table(*columns: str) -> Table:
    table = Table(*columns, box=SIMPLE, padding=0)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _megabytes(measurement: Measurement) -> str:
    return f"{measurement.peak_bytes / 1e6:.0f}"


if __name__ == "__main__":
    main()
