"""The processes that edit pictures: how they start and end, and what becomes of a picture whose
process hangs, lies, or dies."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgsync.adapters.pictures import worker
from imgsync.adapters.pictures.editing import PillowEditor
from imgsync.adapters.pictures.worker import HEAD, MAGIC
from imgsync.adapters.pictures.workers import Workers
from imgsync.domain.errors import EditError

pytestmark = pytest.mark.process


def picture(width: int = 64, height: int = 48) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (230, 40, 40)).save(out, "BMP")
    return out.getvalue()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(is_so: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.02)
    return False


Make = Callable[..., Workers]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Make]:
    """Makes workers, whose program is `code` where it is given."""
    made: list[Workers] = []

    def make(code: str | None = None, **options: Any) -> Workers:
        if code is not None:
            options["program"] = tmp_path / "program.py"
            options["program"].write_text(code, encoding="utf-8")
        made.append(Workers(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def convert(workers: Workers, content: bytes | None = None) -> bytes:
    return PillowEditor(workers).convert(content or picture(), drop_metadata=True)


def test_none_is_started_before_the_first_picture_and_each_is_used_again(workers: Make) -> None:
    some = workers()
    assert some.idle == []
    convert(some)
    (first,) = some.idle
    convert(some)
    assert some.idle == [first]


def test_two_pictures_at_once_have_two_processes_and_more_wait(workers: Make) -> None:
    some = workers()
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: convert(some), range(12)))
    assert len(set(made)) == 1
    assert 1 <= len(some.idle) <= 2


def test_one_that_is_idle_is_ended(workers: Make) -> None:
    some = workers(idle_seconds=0.1)
    convert(some)
    assert eventually(lambda: some.idle == [])
    convert(some)  # a new one


def test_they_end_when_nobody_holds_them(workers: Make) -> None:
    some = Workers()
    convert(some)
    (pid,) = some.idle
    del some
    assert eventually(lambda: not is_running(pid))


@pytest.mark.slow
def test_they_end_with_a_process_that_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from imgsync.adapters.pictures.workers import Workers\n"
        "some = Workers()\n"
        f"some.ask({picture()!r}, 'convert', drop_metadata=True)\n"
        "print(*some.idle, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        assert eventually(lambda: not is_running(pid))


@pytest.mark.slow
def test_a_picture_that_takes_too_long_is_told_and_the_next_is_made(workers: Make) -> None:
    some = workers("import time; time.sleep(60)", seconds=1)
    began = time.monotonic()
    with pytest.raises(EditError, match="longer than the 1 s"):
        convert(some)
    assert time.monotonic() - began < 10
    assert some.idle == []


def says(told: bytes, *, size: int = 0, content: bytes = b"") -> str:
    """A program that writes an answer, of `size` bytes as it says, and goes on."""
    answer = HEAD.pack(MAGIC, len(told), size) + told + content
    return f"import sys; o = sys.stdout.buffer; o.write({answer!r}); o.flush(); sys.stdin.read()"


LIES = {
    "ends": ("raise SystemExit", "ended before"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended before"),
    "text": ("print('Traceback (most recent call last), and so on')", "no answer"),
    "cut": (says(b"{}", size=50, content=b"x").replace("sys.stdin.read()", ""), "ended before"),
    "no JSON": (says(b"xx"), "no answer"),
    "a list": (says(b"[]"), "no answer"),
    "endless": (says(b"{}", size=2**62), "no answer"),
    "nothing told": (says(b"{}"), "could not be made"),
    "no picture": (says(b'{"result":"made"}', size=4, content=b"text"), "neither a JPEG nor"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_process_that_lies_or_dies_is_told(workers: Make, lie: str) -> None:
    code, told = LIES[lie]
    with pytest.raises(EditError, match=told) as caught:
        convert(workers(code, seconds=20))
    assert "\n" not in str(caught.value)


def test_a_large_picture_for_a_process_that_reads_nothing(workers: Make) -> None:
    with pytest.raises(EditError, match="ended before"):
        convert(workers("import os; os.close(0)"), picture(1000, 1000))


def test_one_that_was_killed_while_it_waited_is_replaced(workers: Make) -> None:
    some = workers()
    convert(some)
    (pid,) = some.idle
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(pid))
    convert(some)
    assert some.idle not in ([], [pid])


def test_one_that_is_killed_at_its_work_costs_that_picture_alone(workers: Make) -> None:
    """As the kernel does when memory is short."""
    some = workers(
        "import os, signal, sys\n"
        "head = sys.stdin.buffer.read(16)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(2):
        with pytest.raises(EditError, match="ended before"):
            convert(some)
    assert some.idle == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system bounds no memory")
def test_a_picture_that_takes_too_much_memory_is_told(workers: Make) -> None:
    some = workers(memory_bytes=300_000_000)
    out = io.BytesIO()
    Image.new("P", (9000, 9000)).save(out, "GIF")
    with pytest.raises(EditError, match="more memory than the 300 MB"):
        convert(some, out.getvalue())
    convert(some)


def test_it_is_left_to_finish_when_the_group_is_told_to_stop(workers: Make) -> None:
    some = workers()
    convert(some)
    (pid,) = some.idle
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    convert(some)
    assert some.idle == [pid]


def test_it_knows_no_password(workers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGSYNC_PASSWORD", "secret-of-a-test")
    some = workers()
    convert(some)
    (pid,) = some.idle
    if sys.platform == "linux":
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"secret-of-a-test" not in environment


def test_it_starts_without_the_rest_of_imgsync() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    program = worker.__file__
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, program], capture_output=True, text=True, check=True
    )
    assert "PIL" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith(("imgsync", "asyncio"))]


def test_threads_are_not_left(workers: Make) -> None:
    before = threading.active_count()
    some = workers()
    for _ in range(5):
        convert(some)
    some.close()
    assert eventually(lambda: threading.active_count() <= before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_48_megapixels_are_fitted_in_600_mb(workers: Make) -> None:
    width, height = 8000, 6000
    out = io.BytesIO()
    noise = Image.effect_noise((1000, 750), 60).resize((width, height))
    Image.merge("RGB", (noise, noise.transpose(Image.Transpose.ROTATE_180), noise)).save(
        out, "JPEG", quality=95
    )
    content = out.getvalue()
    some = workers()
    made = PillowEditor(some).fit(content, max_bytes=len(content) // 4, drop_metadata=True)
    assert len(made) <= len(content) // 4
    (pid,) = some.idle
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 600_000
