"""What it takes to edit a photograph: time, memory, and the bytes that come out."""

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.photographs import jpeg, photograph
from benchmarks.tables import NONE, Answer, ratio
from imgsync.adapters.pictures.editing import PillowEditor
from imgsync.adapters.pictures.workers import MEMORY_BYTES, Workers

MEGAPIXELS = (2, 12, 48)
AT_ONCE = (1, 2)
RUNS = 2
FITTED_SHARE = 0.6
MAX_SIDE, QUALITY = 1600, 80

Edit = Callable[[PillowEditor], bytes | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one picture: its seconds, of all that were made by the clock divided by their number; the
    most resident bytes of a process, None where the system does not tell; the bytes made."""

    seconds: float
    peak_bytes: int | None
    made_bytes: int


def measure(edit: Edit, at_once: int, runs: int = RUNS) -> Cost:
    """Edits a picture `runs` times in each of so many processes, which run already."""
    workers = Workers(processes=at_once)
    editor = PillowEditor(workers)
    try:
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(lambda _: _warm_up(editor), range(at_once)))
            began = time.monotonic()
            made = list(threads.map(lambda _: edit(editor), range(at_once * runs)))
            seconds = (time.monotonic() - began) / len(made)
        peaks = [peak for pid in workers.idle if (peak := _peak_bytes(pid))]
    finally:
        editor.close()
    return Cost(seconds, max(peaks, default=None), len(made[0] or b""))


def edits(megapixels: float) -> Iterator[tuple[str, int, Edit]]:
    """The name of each, the bytes it is given, and how it is done."""
    picture = photograph(megapixels)
    photo = jpeg(picture)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=90, method=2)  # a faster one fails at 48 megapixels
    webp = out.getvalue()
    del picture
    limit = int(FITTED_SHARE * len(photo))
    yield "fit", len(photo), lambda e: e.fit(photo, max_bytes=limit, drop_metadata=True)
    yield "convert", len(webp), lambda e: e.convert(webp, drop_metadata=True)
    yield (
        "optimise",
        len(photo),
        lambda e: e.optimise(photo, max_side=MAX_SIDE, quality=QUALITY, drop_metadata=True),
    )


def answer(megapixels: Sequence[float] = MEGAPIXELS, at_once: Sequence[int] = AT_ONCE) -> Answer:
    bound = MEMORY_BYTES / 1e6
    shown = Answer(
        "Editing photographs",
        (
            "Edit",
            "Megapixels",
            "MB in",
            "MB out",
            "At once",
            "ms a picture",
            "MB peak",
            "Bound",
            "Ratio",
        ),
        notes=(
            f"Real photographs, enlarged, with the noise of a sensor. fit: a JPEG to "
            f"{FITTED_SHARE:.0%} of its bytes; convert: WEBP to JPEG; optimise: to {MAX_SIDE} "
            f"pixels and quality {QUALITY}.",
            "At once: processes with work. ms a picture: by the clock, of all that were made, "
            "divided by their number. MB peak: resident memory of one process; its bound is one of "
            "address space.",
        ),
    )
    for size in megapixels:
        for name, given, edit in edits(size):
            for processes in at_once:
                cost = measure(edit, processes)
                peak = cost.peak_bytes
                shown.add(
                    name,
                    f"{size:g}",
                    f"{given / 1e6:.1f}",
                    f"{cost.made_bytes / 1e6:.1f}",
                    str(processes),
                    f"{cost.seconds * 1000:,.0f}",
                    f"{peak / 1e6:.0f}" if peak else NONE,
                    f"≤ {bound:.0f}",
                    ratio(peak / 1e6, bound) if peak else NONE,
                )
    return shown


def _warm_up(editor: PillowEditor) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "BMP")
    editor.convert(out.getvalue(), drop_metadata=True)
    time.sleep(0.05)  # so that the others get a process each, in place of this one


def _peak_bytes(pid: int) -> int | None:
    status = Path(f"/proc/{pid}/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return None
