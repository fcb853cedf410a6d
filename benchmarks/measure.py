"""Runs one copy in a process of its own against a fresh emulator."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx

from benchmarks.report import Report
from benchmarks.workload import CHILD, MAIN, Workload
from imgsync.adapters.moysklad.limits import RATE_INTERVAL_SECONDS
from moysklad_emulator.process import emulator_process


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one copy, without the survey: calls are answers other than 429, `peak_bytes` is the
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
    """Runs `python -m module API_URL`. RuntimeError where the child's images are not the main's."""
    with emulator_process(workload.seed(), rate_interval=rate_interval) as emulator:
        done = subprocess.run(
            [sys.executable, "-m", module, emulator.api_url],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        report, stats = Report(**json.loads(done.stdout)), emulator.stats()
        right = _images(emulator.api_url, MAIN) == _images(emulator.api_url, CHILD)
    if not right or report.images != workload.total_images:
        raise RuntimeError(f"{module} copied {report.images} of {workload.total_images} images")
    throttled = int(stats["throttled"])
    return Measurement(
        workload=workload,
        api_calls=stats["api_calls"] - throttled,
        change_calls=stats["uploads"] + stats["deletions"] + _of_many(stats["requests"]),
        throttled=throttled,
        seconds=report.seconds,
        peak_bytes=report.peak_bytes,
    )


def _of_many(requests: dict[str, int]) -> int:
    """Requests that set the lists of many entities."""
    return requests.get("POST entity/{type}", 0)


def _images(api_url: str, token: str) -> dict[str, list[tuple[str, int]]]:
    """File names and sizes of every product of an account, by external code."""
    time.sleep(RATE_INTERVAL_SECONDS)  # the copy may have spent the bucket
    answer = httpx.get(
        f"{api_url}/entity/product",
        params={"expand": "images", "limit": 100},
        headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"},
        trust_env=False,
    )
    return {
        row["externalCode"]: [(i["filename"], i["size"]) for i in row["images"]["rows"]]
        for row in answer.raise_for_status().json()["rows"]
    }
