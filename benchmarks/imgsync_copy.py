"""The copy as imgsync makes it: `python -m benchmarks.imgsync_copy API_URL`."""

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import finish
from benchmarks.workload import CHILD, MAIN, account_id
from imgsync.application.work import Tally
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator.process import EmulatorProcess


def copy(emulator: EmulatorProcess) -> tuple[int, float]:
    """Plans, then runs the worker on counters set to zero; images copied and seconds."""
    with tempfile.TemporaryDirectory(prefix="imgsync-bench-") as folder:
        container = Container(
            config=FixedConfig(
                api_url=emulator.api_url,
                database_url=f"sqlite:///{Path(folder) / 'q.db'}",
                temp_dir=Path(folder) / "temp",
            )
        )
        tally, settings = Tally(), LinkSettings(sync_images_all=True)

        async def run() -> float:
            main, child = (Account(account_id(n), n, TokenKind.SOLUTION, n) for n in (MAIN, CHILD))
            for account in (main, child):
                await container.accounts().add(account)
            await container.settings().put(child.id, settings)
            await container.enqueue()([Link(main, child, settings)])
            emulator.reset_stats()
            started = time.monotonic()
            await container.worker().run(drain=True, report=tally.add)
            return time.monotonic() - started

        seconds = run_async(container, run)
    return tally.uploaded, seconds


if __name__ == "__main__":
    finish(*copy(EmulatorProcess(sys.argv[1])))
