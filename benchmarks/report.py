"""What a copy reports of itself, as one line of JSON."""

import json
import re
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Report:
    """Images copied, seconds that took without the survey, peak resident bytes of the process."""

    images: int
    seconds: float
    peak_bytes: int


def finish(images: int, seconds: float) -> None:
    """Prints the report of the copy that this process made."""
    print(json.dumps(asdict(Report(images, seconds, _peak_bytes()))))


def _peak_bytes() -> int:
    # Linux hands ru_maxrss on from the parent process; VmHWM is this process's own.
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
