"""Runs one copy in a process of its own against a fresh emulator."""

import json
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.workload import Workload
from imgsync.adapters.emulator.process import emulator_process
from imgsync.domain.limits import RATE_INTERVAL_SECONDS


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one copy, without planning: calls are answers other than 429, `peak_bytes` is the
    resident memory of the copying process."""

    workload: Workload
    api_calls: int
    change_calls: int
    throttled: int
    seconds: float
    peak_bytes: int

    @property
    def calls_per_entity(self) -> float:
        return self.api_calls / self.workload.entities

    @property
    def changes_per_entity(self) -> float:
        """Uploads and deletions."""
        return self.change_calls / self.workload.entities

    @property
    def images_per_second(self) -> float:
        return self.workload.total_images / self.seconds


def measure(
    module: str, workload: Workload, rate_interval: float = RATE_INTERVAL_SECONDS
) -> Measurement:
    """Runs `python -m module API_URL`. RuntimeError where it did not copy every image."""
    with emulator_process(workload.seed(), rate_interval=rate_interval) as emulator:
        done = subprocess.run(
            [sys.executable, "-m", module, emulator.api_url],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        report, stats = json.loads(done.stdout), emulator.stats()
    if report["images"] != workload.total_images:
        raise RuntimeError(f"{module} copied {report['images']} of {workload.total_images} images")
    throttled = int(stats["throttled"])
    return Measurement(
        workload=workload,
        api_calls=stats["api_calls"] - throttled,
        change_calls=stats["uploads"] + stats["deletions"],
        throttled=throttled,
        seconds=report["seconds"],
        peak_bytes=report["peak_bytes"],
    )
