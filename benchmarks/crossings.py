"""How many files of imgsync one sync of one product crosses, and how many calls between them.

Run ``python -m benchmarks.crossings``. Threads are counted too; calls within a file are not, and a
coroutine or generator that goes on is not called anew.
"""

import inspect
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

import imgsync
from imgsync.entrypoints.cli.main import main
from moysklad_emulator import Emulator, EmulatorServer
from moysklad_emulator.pictures import padded_png

_ROOT = str(Path(imgsync.__file__).parent)
_GOES_ON = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Crossings:
    """Counts the calls from one file of imgsync to another while it is switched on."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._begun: set[FrameType] = set()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or frame.f_code.co_name == "<module>":
            return
        here = frame.f_code.co_filename
        caller = frame.f_back
        while caller is not None and not self._ours(caller.f_code.co_filename):
            caller = caller.f_back
        if self._ours(here) and caller is not None and caller.f_code.co_filename != here:
            if frame.f_code.co_flags & _GOES_ON:
                if frame in self._begun:
                    return
                self._begun.add(frame)
            self.calls[caller.f_code.co_filename, here] += 1

    @staticmethod
    def _ours(path: str) -> bool:
        return path.startswith(_ROOT)

    @property
    def files(self) -> int:
        return len({path for pair in self.calls for path in pair})


def measure() -> Crossings:
    """The crossings of ``imgsync sync`` for one product with three images."""
    images = [(f"{n}.png", padded_png(n, 1000)) for n in range(3)]
    crossings = Crossings()
    with EmulatorServer(Emulator()) as server, tempfile.TemporaryDirectory() as folder:
        environment = {
            "IMGSYNC_API_URL": server.api_url,
            "IMGSYNC_DATABASE_URL": f"sqlite:///{folder}/imgsync.db",
            "IMGSYNC_TEMP_DIR": f"{folder}/temp",
        }
        for name in ("Main", "Child"):
            account = server.emulator.add_account(name)
            account.add_user(token=name)
            account.add_entity(
                "product", name="Lamp", external_code="x", images=images if name == "Main" else []
            )
            _run("account", "add", "--name", name, env=environment | {"IMGSYNC_TOKEN": name})
        _run("settings", "set", "--child", "Child", "--sync-images-all", env=environment)
        threading.setprofile(crossings)
        sys.setprofile(crossings)
        try:
            _run("sync", "--main", "Main", "--child", "Child", env=environment)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return crossings


def _run(*arguments: str, env: dict[str, str]) -> None:
    result = CliRunner().invoke(main, arguments, env=env)
    if result.exit_code:
        raise SystemExit(result.output)


if __name__ == "__main__":
    found = measure()
    print(f"{found.files} files, {sum(found.calls.values())} calls between them")
