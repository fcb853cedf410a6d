"""The emulator as a process of its own, for measurements that must not include it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moysklad_emulator.gate import CONTROL_PREFIX
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.server import EmulatorServerError

_ANSWER_SECONDS = 300.0
"""A large account is not seeded at once."""


class EmulatorProcess:
    """A running process, at `api_url`."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self._address = urlsplit(api_url).netloc

    def stats(self) -> dict[str, Any]:
        """The counters, as `Stats.as_json` gives them."""
        return self._ask("GET", "stats")

    def seed(self, seed: dict[str, Any]) -> None:
        """Adds the accounts of `seed` to those that are there. ValueError for one that is none."""
        self._ask("POST", "seed", seed)

    def change_dialect(self, **switches: Any) -> None:
        """Plays some switches of `Dialect` otherwise from the next request on; ValueError."""
        self._ask("POST", "dialect", switches)

    def add_fault(self, **order: Any) -> None:
        """Adds a fault (see `moysklad_emulator.orders`). ValueError for one that is none."""
        self._ask("POST", "faults", order)

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def reset_stats(self) -> None:
        self._ask("POST", "stats/reset")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON. ValueError with the emulator's reason where it refuses."""
        # http.client heeds no proxy of the environment: the emulator is on this machine.
        with closing(HTTPConnection(self._address, timeout=_ANSWER_SECONDS)) as connection:
            connection.request(method, f"{CONTROL_PREFIX}/{path}", json.dumps(body or {}))
            response = connection.getresponse()
            answer: dict[str, Any] = json.load(response)
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


@contextmanager
def emulator_process(
    seed: dict[str, Any], *, rate_interval: float = EmulatorLimits().rate_interval
) -> Iterator[EmulatorProcess]:
    """Starts an emulator with the accounts of `seed` (see `moysklad_emulator.seeding`).

    `rate_interval`: seconds in which the rate bucket is refilled. EmulatorServerError where the
    process does not start.
    """
    with tempfile.TemporaryDirectory(prefix="moysklad-seed-") as folder:
        state = Path(folder) / "seed.json"
        state.write_text(json.dumps(seed), encoding="utf-8")
        command = [sys.executable, "-m", "moysklad_emulator", "--state", str(state)]
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
