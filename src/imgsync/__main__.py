"""python -m imgsync, and the command imgsync."""

import signal
import sys


def run() -> None:
    """Runs the command line; a signal while it is being loaded is one line too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from imgsync.entrypoints.cli.main import main

        main(prog_name="imgsync")
    except KeyboardInterrupt:
        sys.stderr.write("Error: told to stop before the end\n")
        sys.exit(1)


if __name__ == "__main__":
    run()
