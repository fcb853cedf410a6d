"""What a copy reports of itself, as one line of JSON."""

import json
import resource
import sys
import time
from collections.abc import Callable

from imgsync.adapters.emulator.process import EmulatorProcess

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ru_maxrss."""


def finish(copy: Callable[[EmulatorProcess], int]) -> None:
    """Runs a copy against the API URL of the command line and prints images, seconds, peak."""
    emulator = EmulatorProcess(sys.argv[1])
    started = time.monotonic()
    images = copy(emulator)
    report = {
        "images": images,
        "seconds": time.monotonic() - started,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT,
    }
    print(json.dumps(report))
