"""The demonstration's dashboard, as a process of its own."""

import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import DEADLINE_SECONDS, Popen, wait_until


def read_line(process: Popen, beginning: str) -> str:
    """What follows `beginning` on the first line of stdout that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line.removeprefix(beginning).strip()
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    raise AssertionError(stderr)


def page_text(address: str) -> str:
    """A page's source, in English."""
    with urllib.request.urlopen(address, timeout=DEADLINE_SECONDS) as answer:  # noqa: S310
        return str(answer.read().decode())


@dataclass
class RunningDemo:
    """`imgsync demo --serve`, at rest. `base`: the address of its dashboard."""

    base: str
    process: Popen

    def is_at_rest(self) -> bool:
        """Whether all children are in the states that are to be seen."""
        page = page_text(self.base)
        said = ("Equal<", "1 image is missing<", "12 differ<", "Never compared<")
        return [page.count(one) for one in said] == [2, 1, 1, 1]

    def take_photograph(self) -> None:
        """Gives the main shop a new photograph."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert "new photograph" in read_line(self.process, "")


def start_demo(stack: ExitStack, stderr: Path) -> RunningDemo:
    log = stack.enter_context(stderr.open("w"))
    process = subprocess.Popen(
        [sys.executable, "-m", "imgsync", "demo", "--serve", "--port", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    stack.callback(_end, process)
    demo = RunningDemo(read_line(process, "The dashboard is at ").rstrip("/"), process)
    wait_until(demo.is_at_rest)
    return demo


def _end(process: Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
