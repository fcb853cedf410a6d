"""How long a command takes to begin."""

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.tables import NONE, Answer, ratio

GOAL = 0.25
RUNS = 10
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "imgsync --version": ("-m", "imgsync", "--version"),
    "imgsync --help": ("-m", "imgsync", "--help"),
}
_WITH_GOAL = "imgsync --version"


def measure(arguments: Sequence[str], runs: int = RUNS) -> list[float]:
    """Seconds of the command, each time in a new process; one more run before fills the caches."""
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def answer(runs: int = RUNS) -> Answer:
    shown = Answer(
        f"Start-up ({runs} runs)",
        ("Command", "Seconds: min", "median", "max", "Goal", "Ratio"),
        notes=("python -c pass: what the interpreter takes by itself on this machine.",),
    )
    for name, arguments in COMMANDS.items():
        seconds = measure(arguments, runs)
        has_goal = name == _WITH_GOAL
        shown.add(
            name,
            f"{min(seconds):.3f}",
            f"{median(seconds):.3f}",
            f"{max(seconds):.3f}",
            f"≤ {GOAL} s" if has_goal else NONE,
            ratio(median(seconds), GOAL) if has_goal else NONE,
        )
    return shown
