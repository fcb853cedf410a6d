"""SIGTERM and Ctrl-C to commands that wait, or that hear nothing."""

import signal
import subprocess
import sys
import time

import pytest

from imgsync.__main__ import run
from tests.e2e.conftest import DEADLINE_SECONDS, Popen, StartHost, wait_until
from tests.shop import MAIN_TOKEN, Shop, pictures

BOTH = ("--main", "Main", "--child", "Child")
DEAF = """
import asyncio, time
from imgsync.entrypoints.cli.signals import last_resort, stopped_by_signals

async def main():
    with stopped_by_signals(lambda: None, lambda: None, {grace}):
        print("ready", flush=True)
        while True:
            time.sleep(0.1)

with last_resort():
    asyncio.run(main())
"""


def ended(process: Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command", [("sync", *BOTH), ("enqueue", *BOTH), ("account", "add"), ("sync", *BOTH, "--json")]
)
def test_a_command_that_waits_for_the_api_ends_at_once(
    shop: Shop,
    start_host: StartHost,
    sqlite_url: str,
    command: tuple[str, ...],
    number: signal.Signals,
) -> None:
    shop.pair("Lamp", pictures(1))
    host = start_host(shop, sqlite_url)
    fault = shop.emulator.faults.add(method="GET", delay=60, times=100)
    process = host.start(*command, IMGSYNC_TOKEN=MAIN_TOKEN)
    wait_until(lambda: fault.remaining < 100)
    process.send_signal(number)
    started = time.monotonic()
    status, stdout, stderr = ended(process)
    assert time.monotonic() - started < 10
    assert status == 1
    assert stderr.strip().splitlines()[-1] == "Error: told to stop before the end"
    assert "Traceback" not in stderr
    assert ('"exit_status": 1' in stdout) == ("--json" in command)


def deaf(grace: float) -> Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF.format(grace=grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_code_that_blocks_the_event_loop_ends_after_the_grace_time() -> None:
    process = deaf(0.1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status, _, stderr = ended(process)
    assert time.monotonic() - started < 10
    assert status == 1
    assert stderr.strip() == (
        "Error: ended the hard way; tasks under way run again when their lease lapses"
    )


def test_a_third_signal_ends_such_code_at_once() -> None:
    process = deaf(3600)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    status, _, stderr = ended(process)
    assert status == 1
    assert "the hard way" in stderr


def test_ctrl_c_while_the_program_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: str) -> None:
        raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("imgsync.entrypoints.cli.main.main", interrupted)
    left_with: list[int] = []
    monkeypatch.setattr("os._exit", left_with.append)
    interrupt = signal.getsignal(signal.SIGINT)
    run()
    signal.signal(signal.SIGTERM, previous)
    signal.signal(signal.SIGINT, interrupt)
    assert left_with == [1]
    assert capsys.readouterr().err == "Error: told to stop before the end\n"
