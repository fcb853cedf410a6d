"""A worker that dies, or stands still, with a temp file open."""

import signal
import subprocess
import sys
from pathlib import Path

_CODE = """
import asyncio, os, signal, sys
from pathlib import Path
from imgsync.adapters.files.local import LocalContentStore

async def main():
    async with LocalContentStore(Path(sys.argv[1])).workspace() as workspace:
        file = await workspace.create("a.png")
        await file.write(bytes.fromhex(sys.argv[2]))
        await file.close()
        os.kill(os.getpid(), int(sys.argv[3]))

asyncio.run(main())
"""


def worker(root: Path, data: bytes, end: signal.Signals) -> subprocess.Popen[bytes]:
    """Writes a file below `root` and sends itself that signal."""
    return subprocess.Popen([sys.executable, "-c", _CODE, str(root), data.hex(), str(int(end))])


def leave_behind(root: Path, data: bytes) -> None:
    """What a worker that was killed leaves."""
    assert worker(root, data, signal.SIGKILL).wait(60) == -signal.SIGKILL
