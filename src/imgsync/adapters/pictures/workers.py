"""Processes that decode and encode pictures for this one.

What a decoder makes of a file that was made to harm it (its memory, its time, its crash) is the
other process's: that one is ended, and the next picture gets a new one.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgsync.adapters.pictures.worker import HEAD, MAGIC
from imgsync.domain.errors import (
    EditError,
    ImpossibleEditError,
    NotAnImageError,
    TooManyPixelsError,
)
from imgsync.domain.formats import image_format

MOST_PROCESSES = 2
SECONDS_A_PICTURE = 60
MEMORY_BYTES = 1_500_000_000
"""Address space of one process, where the system can bound it. A picture of 100 megapixels that is
turned takes 0.8 GB."""

IDLE_SECONDS = 30.0
MAX_PICTURE_PIXELS = 100_000_000
"""Pixels of one picture; a small file may claim any number."""

_MOST_ANSWER_BYTES = 400_000_000
_PROGRAM = Path(__file__).with_name("worker.py")
# Whoever takes a decoder over finds no password in its environment.
_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`told`: what the process says; `content`: the file that it made."""

    told: dict[str, Any]
    content: bytes


class Workers:
    """At most `processes` of them, started when they are needed, used again, and ended after
    `idle_seconds` without work, with this object, and with this process."""

    def __init__(
        self,
        processes: int = MOST_PROCESSES,
        seconds: int = SECONDS_A_PICTURE,
        memory_bytes: int = MEMORY_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        program: Path = _PROGRAM,
    ) -> None:
        self._free = threading.BoundedSemaphore(processes)
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._idle_seconds = idle_seconds
        self._program = program
        self._lock = threading.Lock()
        self._idle: list[tuple[_Process, threading.Timer]] = []
        self._end = weakref.finalize(self, _end_idle, self._lock, self._idle)

    @property
    def idle(self) -> list[int]:
        """Ids of the processes that wait for work."""
        with self._lock:
            return [process.id for process, _ in self._idle]

    def close(self) -> None:
        """Ends the processes that wait. Others are started where there is more work after all."""
        _end_idle(self._lock, self._idle)

    def ask(self, content: bytes, verb: str, **arguments: Any) -> Answer:
        """The answer of one of them, whose result is one of those that are no error.

        NotAnImageError, TooManyPixelsError, EditError as `PictureEditor` tells.
        """
        request = {
            "verb": verb,
            "kind": image_format(content),
            "max_pixels": MAX_PICTURE_PIXELS,
            **arguments,
        }
        if request["kind"] is None:
            raise NotAnImageError("it is no picture of a format that is known")
        with self._free:
            process = self._taken()
            try:
                answer = process.ask(request, content, self._seconds)
            except BaseException:
                process.kill()
                raise
            self._put_back(process)
        detail = str(answer.told.get("detail", ""))[:300]
        match answer.told.get("result"):
            case "made" | "none" | "looked":
                return answer
            case "broken":
                raise NotAnImageError(detail)
            case "huge":
                raise TooManyPixelsError(detail)
            case "impossible":
                raise ImpossibleEditError(detail)
            case "memory":
                most = self._memory_bytes // 1_000_000
                raise EditError(f"the picture takes more memory than the {most} MB that it may")
            case _:
                raise EditError(detail or "the picture could not be made another one")

    def _taken(self) -> "_Process":
        with self._lock:
            while self._idle:
                process, timer = self._idle.pop()
                timer.cancel()
                if process.is_alive:
                    return process
                process.kill()
        return _Process(self._program, self._memory_bytes, self._seconds)

    def _put_back(self, process: "_Process") -> None:
        timer = threading.Timer(self._idle_seconds, _end_process, (self._lock, self._idle, process))
        timer.daemon = True
        with self._lock:
            self._idle.append((process, timer))
        timer.start()


def _end_process(
    lock: threading.Lock, idle: "list[tuple[_Process, threading.Timer]]", process: "_Process"
) -> None:
    with lock:
        found = [pair for pair in idle if pair[0] is process]
        for pair in found:
            idle.remove(pair)
    if found:
        process.kill()


def _end_idle(lock: threading.Lock, idle: "list[tuple[_Process, threading.Timer]]") -> None:
    with lock:
        ended = list(idle)
        idle.clear()
    for process, timer in ended:
        timer.cancel()
        process.kill()


class _Process:
    """One process, asked by one thread at a time."""

    def __init__(self, program: Path, memory_bytes: int, seconds: int) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603 (a program of ours)
                [sys.executable, "-P", str(program), str(memory_bytes), str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise EditError(f"no process could be started for the picture: {error}") from error

    @property
    def id(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """It holds nothing that would be lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # Bytes that it did not take are of no use any more.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def ask(self, request: dict[str, Any], content: bytes, seconds: float) -> Answer:
        """EditError where it has not answered in time, has ended, or what came is no answer."""
        with self._killed_after(seconds) as is_late:
            try:
                self._send(request, content)
                return self._received()
            except (OSError, EOFError, ValueError) as error:
                if is_late.is_set():
                    problem = f"the picture takes longer than the {seconds:g} s that it may"
                elif isinstance(error, ValueError):
                    problem = "the process for the picture gave no answer that can be read"
                else:
                    problem = "the process for the picture ended before it was done"
                raise EditError(problem) from error

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[threading.Event]:
        is_late, is_done, lock = threading.Event(), threading.Event(), threading.Lock()

        def kill() -> None:
            with lock:  # once it is done, the process is another picture's
                if not is_done.is_set():
                    is_late.set()
                    self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield is_late
        finally:
            with lock:
                is_done.set()
            timer.cancel()

    def _send(self, request: dict[str, Any], content: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 (it was asked for)
        text = json.dumps(request).encode()
        pipe.write(HEAD.pack(MAGIC, len(text), len(content)) + text)
        pipe.write(content)
        pipe.flush()

    def _received(self) -> Answer:
        magic, length, size = HEAD.unpack(self._read(HEAD.size))
        if magic != MAGIC or length > 10_000 or size > _MOST_ANSWER_BYTES:
            raise ValueError("no head of an answer")
        told = json.loads(self._read(length))
        if not isinstance(told, dict):
            raise ValueError("no answer")
        return Answer(told, self._read(size))

    def _read(self, size: int) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 (it was asked for)
        data = pipe.read(size)
        if len(data) < size:
            raise EOFError
        return data
