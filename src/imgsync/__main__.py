"""python -m imgsync, and the command imgsync."""

import contextlib
import gc
import os
import signal
import sys

_GARBAGE_EVERY = 20_000
"""Objects made and not freed after which the young ones are looked through; Python's own is 700."""


def run() -> None:
    """Runs the command line; a signal while it is being loaded is one line too."""
    status: object = 1
    # Imports make more than a hundred thousand objects that stay; to look through them again and
    # again is an eighth of the time that a command takes to start.
    gc.set_threshold(_GARBAGE_EVERY)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from imgsync.entrypoints.cli.main import main
        from imgsync.entrypoints.cli.signals import let_the_end_be_told, own_process

        own_process()
        let_the_end_be_told()  # once the command has ended; until then it hears signals itself
        main(prog_name="imgsync")
    except KeyboardInterrupt:
        sys.stderr.write("Error: told to stop before the end\n")
    except SystemExit as ended:
        status = ended.code
    _leave(status if isinstance(status, int) else 1)


def _leave(status: int) -> None:
    """Ends the process, though a plugin may have left threads or exit handlers that never end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
