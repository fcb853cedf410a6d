"""A lock that lives exactly as long as the process that holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"


def make_held(folder: Path) -> int:
    """Makes a private folder and locks it for this process by a file in it; closing the
    descriptor frees it.

    The kernel drops the lock however the process ends, and keeps it while the process is stopped.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # a cleanup found the folder without its lock
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(folder / LOCK_NAME, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a cleanup took the file before it was locked


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def if_abandoned(folder: Path) -> Iterator[bool]:
    """Whether no process holds the folder; while True is given, none can."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield True  # of a version without locks, or its owner is about to make it
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
