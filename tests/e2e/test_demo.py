"""imgsync demo as its users run it."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.demo import chain
from imgsync.entrypoints.demo.likeness import are_copies
from imgsync.entrypoints.demo.photographs import gif, oversized, photographs
from imgsync.entrypoints.demo.run import Demo, started
from tests.e2e.conftest import wait_until
from tests.outputs.blocks import blocks, words
from tests.outputs.prints import demo_shown, thirty_shown


def test_the_demo_copies_photographs_and_verifies_them(tmp_path: Path) -> None:
    own_database = tmp_path / "mine.db"
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo", "--json"],
        env=os.environ
        | {
            "IMGSYNC_DATABASE_URL": f"sqlite:///{own_database}",
            "IMGSYNC_MATCH_BY": "code",
            "HTTP_PROXY": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["exit_status"], told["status"]) == (0, "done")
    first, unchanged, added = told["rounds"]
    assert all(r["verified"] and not r["errors"] and not r["throttled"] for r in told["rounds"])
    photographs = sum((1, 2, 3, 4, 5, 6, 8, 10, 2, 5, 1, 3))
    assert first["uploaded"] == photographs + 2
    assert first["uploaded_bytes"] > first["downloaded_bytes"] > 16_000_000  # each distinct once
    of, _, _ = first["notes"][0].partition(": no_time")
    assert of == "Franchise: product 'Product 1' (code 00001), task 1"
    converted, scaled = (note.removeprefix(f"{of}: ") for note in first["notes"])
    assert converted == "no_time_for_that_tiny.gif: converted from GIF to JPEG"
    assert re.fullmatch(r"large-rocket.jpg: scaled from 1\d\.\d to (10|\d)\.\d MB", scaled)
    assert not any(told["notes"] for told in (unchanged, added))
    assert not any(told["warnings"] for told in told["rounds"])
    # Of each type a page of either account; permanent links cost none. Lists of all entities
    # of a type are set in one request, and the large photograph fills one of its own.
    copied, *others = (r["api_calls"] for r in told["rounds"])
    # On a busy machine the pictures of an entity may come too late for the request of the others.
    assert 6 + 4 <= copied <= 6 + 6
    assert others == [6, 6 + 1]
    assert (unchanged["uploaded"], unchanged["kept"]) == (0, 0)
    assert unchanged["downloaded_bytes"] < 100_000
    assert (added["uploaded"], added["kept"]) == (1, 2)
    assert [(r["entities"], r["changed"]) for r in told["rounds"]] == [(12, 12), (12, 0), (12, 1)]
    assert [r["skipped"] for r in (first, unchanged, added)] == [1, 1, 1]
    assert not own_database.exists()


def shown(name: str) -> set[str]:
    """What the documents show of a printed block of this name."""
    return {one.text for one in blocks() if one.name == name}


def test_the_readme_shows_what_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Verified" in done.stdout
    (there,) = shown("demo")
    now = demo_shown(done.stdout)
    assert words(there) == words(now), "make outputs"
    # How often the API is called again on a busy machine is not the same each time.
    counted = re.compile(r"^(.*?) +(\d+) +(\d+) +(\d+) +\d+ +\d+\.\d+", re.MULTILINE)
    assert counted.findall(there) == counted.findall(now), "make outputs"
    assert len(counted.findall(now)) == 3


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products, which are copied in a moment."""
    monkeypatch.setattr(chain, "COUNTS", (1, 2))


@pytest.mark.slow
@pytest.mark.usefixtures("few_pictures")
def test_thirty_franchises_are_linked_and_show_the_main_shop_s_pictures() -> None:
    done = CliRunner().invoke(main, ["demo", "--children", "30"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    rows = [line.split() for line in lines if re.match(r"\w+ +2 +\d", line)]
    assert len({name for name, *_ in rows}) == 30
    # Products, of which so many were right before; right now; pictures.
    assert {(row[1], *row[3:5]) for row in rows} == {("2", "2", "3")}
    assert {row[2] for row in rows} == {"0", "1", "2"}
    assert len(re.findall("^Linked '", done.stdout, re.MULTILINE)) == 30
    # As the documents show it, but for the numbers of more products and pictures.
    for there in shown("demo-thirty"):
        assert words(there) == words(thirty_shown(done.stdout)), "make outputs"


@pytest.mark.slow
@pytest.mark.usefixtures("few_pictures")
def test_a_franchise_with_another_picture_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chain.Chain.shown

    def spoiled(running: chain.Chain) -> list[chain.Shown]:
        running.photographer().add()  # which nobody copies
        return whole(running)

    monkeypatch.setattr(chain.Chain, "shown", spoiled)
    done = CliRunner().invoke(main, ["demo", "--children", "2", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [one["wrong"] for one in told["children"]] == [["Product 1"], ["Product 1"]]
    assert (told["main"]["products"], told["exit_status"]) == (2, 1)
    assert "2 products of 2 franchises do not show" in told["error"]
    assert "'Product 1' of 'Omsk'" in done.stderr
    assert "Run the demo once more" in done.stderr


def test_a_port_that_is_taken_is_told_of_before_anything_is_copied() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["demo", "--children", "2", "--serve", "--port", port])
    assert done.exit_code == 1
    assert f"port {port} of this machine cannot be used" in done.stderr
    assert "--port 0" in done.stderr
    assert done.stdout == ""


def test_a_full_disk_is_told_of_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(chain, "chain", full)
    done = CliRunner().invoke(main, ["demo", "--children", "2"])
    assert done.exit_code == 1
    assert "No space left on device; the demo needs 300 MB in " in done.stderr
    assert "TMPDIR" in done.stderr


def test_serve_ends_with_the_dashboard_until_it_is_told_to_stop() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "imgsync", "demo", "--serve", "--port", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            told = next(line for line in process.stdout if line.startswith("The dashboard is at"))
            address = told.split()[-1]

            def page(path: str = "") -> str:
                with urllib.request.urlopen(address + path, timeout=30) as answer:  # noqa: S310
                    return str(answer.read().decode())

            def has_states(shown: str) -> bool:
                """Two equal, one that fails, one that differs, one that nobody looked at."""
                said = ("Equal<", "1 image is missing<", "12 differ<", "Never compared<")
                return [shown.count(one) for one in said] == [2, 1, 1, 1]

            for name in ("", " Omsk", " Tomsk", " Perm", " Kazan"):
                assert f">Franchise{name}</a>" in page()
            wait_until(lambda: has_states(page()))
            assert "Webhooks are set up; none has arrived yet." in page()
            assert "Press Enter" in process.stdout.readline()
            process.stdin.write("\n\n")
            process.stdin.flush()
            added = [process.stdout.readline() for _ in range(2)]
            assert added == [
                f"Product {number}: a new photograph in the main shop\n" for number in (2, 3)
            ]
            # MoySklad tells of them, and they are copied, by nobody's doing.
            wait_until(lambda: "Webhooks arrive; the last" in page())
            wait_until(lambda: "Copy what MoySklad told of" in page("runs"))
            wait_until(lambda: "Being copied" not in page() and has_states(page()))
            assert page("queue?text=Product+3").count('class="badge good"') >= 2
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
            assert process.returncode == 0, stderr
        finally:
            process.kill()


def test_a_demo_that_serves_has_no_document_at_its_end() -> None:
    result = CliRunner().invoke(main, ["demo", "--serve", "--json"])
    assert result.exit_code == 2
    assert "--json" in result.stderr


@pytest.fixture
def running() -> Iterator[Demo]:
    with started(Container(config=FixedConfig())) as demo:
        yield demo


def test_wrong_pictures_are_told_from_right_ones() -> None:
    most, (name, large), (gif_name, moving) = 10 * 1024**2, oversized(), gif()
    assert len(large) > most

    def jpeg(content: bytes) -> bytes:
        data = BytesIO()
        with Image.open(BytesIO(content)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((300, 300))
        small.save(data, "JPEG", quality=92)
        return data.getvalue()

    photo = photographs()[0]
    for original, right in (
        (photo, photo),
        ((name, large), (name, jpeg(large))),
        ((gif_name, moving), (gif_name.replace(".gif", ".jpg"), jpeg(moving))),
    ):
        assert are_copies([right], [original], most)
        assert not are_copies([], [original], most)
        assert not are_copies([original], [right], most) or original == right
        for wrong in ((right[0], jpeg(photo[1])), (f"x{right[0]}", right[1]), (name, large)):
            assert not are_copies([wrong], [original], most)


def test_the_demo_tells_wrong_images_from_right_ones(running: Demo) -> None:
    assert not running.verify()


def test_a_wrong_result_ends_the_demo_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Demo, "verify", lambda _: False)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "does not hold the right images" in result.stderr
    assert "Verified" not in result.stdout


def without(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs imgsync where a module is not installed."""
    script = f"import sys; sys.modules[{module!r}] = None\nfrom imgsync.__main__ import run; run()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["moysklad_emulator", "skimage"])
def test_a_demo_without_its_packages_says_what_to_install(module: str) -> None:
    done = without(module, "demo")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: the demo needs the package '{module}': pip install 'imgsync[demo]'"
    ]


def test_every_other_command_is_there_without_the_emulator() -> None:
    done = without("moysklad_emulator", "plugins")
    assert done.returncode == 0, done.stderr
    assert "product" in done.stdout
