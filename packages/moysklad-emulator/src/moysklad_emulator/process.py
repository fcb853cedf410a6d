"""The emulator as a process of its own, for measurements that must not include it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from imgsync.adapters.emulator.gate import CONTROL_PREFIX
from imgsync.adapters.emulator.limits import EmulatorLimits
from imgsync.adapters.emulator.server import EmulatorServerError


class EmulatorProcess:
    """A running process, at `api_url`."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        parts = urlsplit(api_url)
        self._control_url = f"{parts.scheme}://{parts.netloc}{CONTROL_PREFIX}"

    def stats(self) -> dict[str, Any]:
        """The counters, as `Stats.as_json` gives them."""
        answer: dict[str, Any] = httpx.get(f"{self._control_url}/stats", trust_env=False).json()
        return answer

    def change_dialect(self, **switches: Any) -> None:
        """Plays some switches of `Dialect` otherwise from the next request on."""
        self._post("dialect", switches)

    def add_fault(self, **order: Any) -> None:
        """Adds a fault (see `imgsync.adapters.emulator.orders`)."""
        self._post("faults", order)

    def clear_faults(self) -> None:
        httpx.delete(f"{self._control_url}/faults", trust_env=False).raise_for_status()

    def reset_stats(self) -> None:
        self._post("stats/reset", {})

    def _post(self, path: str, body: dict[str, Any]) -> None:
        answer = httpx.post(f"{self._control_url}/{path}", json=body, trust_env=False)
        answer.raise_for_status()


@contextmanager
def emulator_process(
    seed: dict[str, Any], *, rate_interval: float = EmulatorLimits().rate_interval
) -> Iterator[EmulatorProcess]:
    """Starts an emulator with the accounts of `seed` (see `imgsync.adapters.emulator.seeding`).

    `rate_interval`: seconds in which the rate bucket is refilled. EmulatorServerError where the
    process does not start.
    """
    with tempfile.TemporaryDirectory(prefix="moysklad-seed-") as folder:
        state = Path(folder) / "seed.json"
        state.write_text(json.dumps(seed), encoding="utf-8")
        command = [sys.executable, "-m", "imgsync.adapters.emulator", "--state", str(state)]
        command += ["--rate-interval", str(rate_interval)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                yield EmulatorProcess(_api_url(process))
            finally:
                process.terminate()


def _api_url(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise EmulatorServerError("the emulator's process did not start")
    return str(json.loads(line)["api_url"])
