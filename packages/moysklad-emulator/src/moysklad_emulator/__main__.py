"""``python -m moysklad_emulator``: the emulator as a process of its own."""

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from moysklad_emulator.dialect import SWITCHES, parse_switch
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.seeding import Seed, explained
from moysklad_emulator.server import EmulatorServer, EmulatorServerError
from moysklad_emulator.state import Emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints ``{"api_url", "storage_url"}`` when ready; runs until SIGTERM or SIGINT."""
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    emulator = Emulator(EmulatorLimits(rate_interval=options.rate_interval))
    try:
        for text in options.dialect:
            emulator.dialect = emulator.dialect.changed(parse_switch(text))
        if options.state is not None:
            Seed.model_validate_json(options.state.read_bytes()).apply(emulator)
        with EmulatorServer(
            emulator, port=options.port, storage_port=options.storage_port
        ) as server:
            urls = {"api_url": server.api_url, "storage_url": server.storage_url}
            print(json.dumps(urls), flush=True)
            stopped.wait()
    except (EmulatorServerError, ValueError, OSError) as error:
        print(explained(error), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m moysklad_emulator")
    parser.add_argument("--port", type=_port, default=0, help="port of the API; 0: a free one")
    parser.add_argument("--storage-port", type=_port, default=0, help="port of the file storage")
    parser.add_argument("--state", type=Path, help="JSON file in the form of POST /_emulator/seed")
    parser.add_argument(
        "--rate-interval", type=_seconds, default=EmulatorLimits().rate_interval, help="seconds"
    )
    switches = ", ".join(SWITCHES)
    parser.add_argument(
        "--dialect",
        action="append",
        default=[],
        metavar="SWITCH=VALUE",
        help=f"how to play what is documented nowhere; may be repeated. Switches: {switches}",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
