"""What the documents show of what commands print, made by running them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping

from benchmarks.results import kept
from benchmarks.summary import summary as summary_of
from click.testing import CliRunner

from imgsync.entrypoints.cli.main import main
from tests.outputs.blocks import ROOT, elided, fenced
from tests.outputs.scene import scene
from tests.soak.tables import Campaign, summary, told_faults

SOAK = ROOT / "tests" / "outputs" / "soak.json"
"""What the last campaign of faults has found: `make soak ARGS="--minutes 60 --results …"`."""

BENCH = ROOT / "tests" / "outputs" / "bench.json"
"""What the parts of the benchmark have found: `make bench BENCH="… --results …"`."""

_CHECKS = ("ruff check .", "mypy", "lint-imports")
_LINKED = r"^Linked '"
_FRANCHISES = r"^\S+ +\d+ +\d+ +\d+ +\d+"


def demo_shown(printed: str) -> str:
    return fenced(printed)


def thirty_shown(printed: str) -> str:
    return fenced(elided(printed, (_LINKED, _FRANCHISES)))


def checks_shown(printed: str) -> str:
    """The lines that tell how it ended."""
    ends = ("All checks passed", "Success", "Contracts:")
    return fenced("\n".join(line for line in printed.splitlines() if line.startswith(ends)))


def samples() -> Mapping[str, str]:
    """Of the commands that tell of a main shop and two franchises."""
    with scene() as told:
        doctor = told.run("doctor").replace(str(told.folder), "/var/lib/imgsync")
        # It stands behind the account that has answered first.
        doctor = re.sub(r"✓ clock .* from that of MoySklad\n", "", doctor)
        queue = told.run("queue", "list")
    return {
        "doctor": fenced(elided(doctor, ("set by the variable", "disk  ", "values as by"), most=0)),
        "queue-list": fenced(queue),
    }


def help_text() -> Mapping[str, str]:
    told = CliRunner().invoke(main, ["--help"], prog_name="imgsync", env={"COLUMNS": "100"}).output
    commands = told.partition("Commands:\n")[2].partition("\n\n")[0]
    return {"help": fenced("\n".join(line.removeprefix("  ") for line in commands.splitlines()))}


def soak() -> Mapping[str, str]:
    campaign = Campaign.load(SOAK)
    return {"soak": f"{summary(campaign)}\n", "soak-faults": f"{told_faults(campaign)}.\n"}


def bench() -> Mapping[str, str]:
    parts = kept(BENCH)
    tables = [
        f"## {name}\n\n{part.machine}.\n\n"
        + "\n".join(answer.markdown() for answer in part.answers)
        for name, part in parts.items()
    ]
    return {"bench": summary_of(parts).table(), "bench-tables": "\n".join(tables)}


def _demo() -> Mapping[str, str]:
    return {"demo": demo_shown(_printed("-m", "imgsync", "demo"))}


def _thirty() -> Mapping[str, str]:
    printed = _printed("-m", "imgsync", "demo", "--children", "30")
    return {"demo-thirty": thirty_shown(printed)}


def _checks() -> Mapping[str, str]:
    bin_folder = os.path.dirname(sys.executable)
    told = "".join(_run(f"{bin_folder}/{command}".split()) for command in _CHECKS)
    return {"checks": checks_shown(told)}


QUICK: tuple[Callable[[], Mapping[str, str]], ...] = (help_text, samples, soak, bench)
"""A test runs these each time."""

SLOW: tuple[Callable[[], Mapping[str, str]], ...] = (_demo, _thirty, _checks)
"""Tests of these commands hold what they print against the documents."""


def _printed(*arguments: str) -> str:
    return _run([sys.executable, *arguments])


def _run(command: list[str]) -> str:
    """stdout and stderr, as they come. CalledProcessError where it ends with another status."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("IMGSYNC_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=here | {"LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout
