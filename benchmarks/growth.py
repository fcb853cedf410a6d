"""What memory and time a catalogue takes, from size to size."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.catalogue import NO_LIMIT, Catalogue, opened
from benchmarks.programs import ENQUEUE, IMGSYNC, PLAIN, SURVEY, copy, started
from benchmarks.tables import NONE, Answer, ratio
from imgsync.domain.diff import CopiedImage, SyncRecord, Unchanged, diff
from imgsync.domain.model import RemoteImage, SourceImage

SIZES = (1000, 10_000)
FULL_SIZES = (*SIZES, 100_000)
IMAGE_BYTES = 200
LARGE_IMAGES = [Catalogue(n, images, 1_400_000) for n, images in ((4, 1), (4, 10), (40, 10))]
PEAK_GOAL = 300
"""MB at 100,000 entities."""
_PER = 10_000
_URL, _UPDATED = "https://api.invalid", "2026-01-01 00:00:00.000"


@dataclass(frozen=True, slots=True)
class Growth:
    """Of a survey that keeps nothing, and of one that queues a task for every entity;
    `diff_seconds` of the diff alone. Peaks are of the process, first and last."""

    entities: int
    survey_seconds: float
    survey_cpu_seconds: float
    diff_seconds: float
    survey_peak_bytes: int
    enqueue_seconds: float
    enqueue_peak_bytes: int

    def per(self, seconds: float) -> float:
        """Seconds for 10,000 entities."""
        return seconds * _PER / self.entities


def measure(entities: int) -> Growth:
    """One image each, and one child, whose every entity differs. RuntimeError where not all are
    found."""
    catalogue = Catalogue(entities, 1, IMAGE_BYTES)
    with (
        opened(catalogue, rate_interval=NO_LIMIT) as shop,
        started(IMGSYNC, shop) as program,
    ):
        survey, enqueue = program.do(SURVEY), program.do(ENQUEUE)
    if (survey.count, enqueue.count) != (entities, entities):
        raise RuntimeError(f"{survey.count} surveyed and {enqueue.count} queued of {entities}")
    return Growth(
        entities=entities,
        survey_seconds=survey.seconds,
        survey_cpu_seconds=survey.cpu_seconds,
        diff_seconds=diff_seconds(entities),
        survey_peak_bytes=survey.peak_bytes,
        enqueue_seconds=enqueue.seconds,
        enqueue_peak_bytes=enqueue.peak_bytes,
    )


def diff_seconds(entities: int, images: int = 3) -> float:
    """Seconds to find that so many entities with their images are unchanged."""
    remote = [
        RemoteImage(f"{_URL}/images/{n}", f"{n}.jpg", 1000, _UPDATED, f"{_URL}/download/{n}")
        for n in range(images)
    ]
    listed = SourceImage.all_listed(remote)
    prints = tuple(image.fingerprint for image in listed if image.fingerprint)
    copied = tuple(CopiedImage(p, image.id) for p, image in zip(prints, remote, strict=True))
    record = SyncRecord(prints, copied, tuple(image.id for image in remote), settled=True)
    began = time.perf_counter()
    for _ in range(entities):
        if not isinstance(diff(listed, record, remote, 10), Unchanged):
            raise RuntimeError("the diff finds a change where there is none")
    return time.perf_counter() - began


def answer(sizes: Sequence[int] = SIZES) -> Answer:
    shown = Answer(
        "Memory and time by size (1 image each, 1 child, every entity differs)",
        ("Entities", "Survey s/10,000", "of it CPU s", "Diff s/10,000", "Enqueue s/10,000",
         "Peak MB: survey", "with enqueue", "Goal", "Ratio", "MB more for 10,000 more"),
        notes=(
            "Survey and diff keep nothing of what they find; enqueue surveys again and queues a "
            "task for each. The seconds hold the emulator's, the CPU seconds do not. Diff: the "
            "pure function, for three images that are unchanged.",
        ),
    )  # fmt: skip
    before: Growth | None = None
    for size in sizes:
        one = measure(size)
        peak = one.enqueue_peak_bytes / 1e6
        more = NONE
        if before is not None:
            added = one.enqueue_peak_bytes - before.enqueue_peak_bytes
            more = f"{added / 1e6 * _PER / (size - before.entities):.1f}"
        shown.add(
            f"{size:,}",
            f"{one.per(one.survey_seconds):.2f}",
            f"{one.per(one.survey_cpu_seconds):.2f}",
            f"{one.per(one.diff_seconds):.3f}",
            f"{one.per(one.enqueue_seconds):.2f}",
            f"{one.survey_peak_bytes / 1e6:.0f}",
            f"{peak:.0f}",
            f"≤ {PEAK_GOAL} MB",
            ratio(peak, PEAK_GOAL),
            more,
        )
        before = one
    return shown


def copy_answer(catalogues: Sequence[Catalogue] = LARGE_IMAGES) -> Answer:
    """Copies of ever more large images, without a rate limit."""
    shown = Answer(
        "Peak memory of a copy by size",
        ("Catalogue", "Program", "Peak MB", "Goal", "Ratio", "Of the first catalogue", "MB/s"),
        notes=("Of the copying process. A script holds what it sends whole.",),
    )
    first: dict[str, float] = {}
    for catalogue in catalogues:
        for name, program in (("imgsync", IMGSYNC), ("plain script", PLAIN)):
            one = copy(program, catalogue)
            peak = one.peak_bytes / 1e6
            base = first.setdefault(name, peak)
            shown.add(
                str(catalogue),
                name,
                f"{peak:.0f}",
                f"≤ {PEAK_GOAL} MB" if name == "imgsync" else NONE,
                ratio(peak, PEAK_GOAL) if name == "imgsync" else NONE,
                ratio(peak, base),
                f"{one.megabytes_per_second:.1f}",
            )
    return shown
