"""Every command of the README, in its order, and every answer that the README shows."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moysklad_emulator import SWITCHES

pytestmark = pytest.mark.process

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PORTS = ("8800", "8801")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def told() -> list[tuple[str, Any]]:
    """The commands, each with the JSON that stands next below it in the README, if any does."""
    found: list[tuple[str, Any]] = []
    for language, block in re.findall(
        r"^```(sh|json)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
    ):
        if language == "sh":
            found.append((block, None))
        else:
            found[-1] = found[-1][0], json.loads(block)
    return found


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@pytest.fixture
def ports() -> Iterator[dict[str, str]]:
    """The ports that stand for the README's, where the emulator runs as the README starts it."""
    ports = dict(zip(PORTS, (free_port(), free_port()), strict=True))
    (command, answer), *_ = told()
    program, *arguments = shlex.split(moved(command, ports))
    assert program == "python"
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert json.loads(run.stdout.readline()) == json.loads(moved(json.dumps(answer), ports))
            yield ports
        finally:
            run.terminate()


def moved(text: str, ports: dict[str, str]) -> str:
    return re.sub("|".join(ports), lambda found: ports[found[0]], text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_commands_answer_what_the_readme_shows(ports: dict[str, str]) -> None:
    _, *commands = told()
    assert len(commands) == 9
    for command, answer in commands:
        # --fail: curl's status tells of an answer 400.
        script = moved(command, ports).replace("curl ", "curl --fail --noproxy '*' ")
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        if answer is not None:
            assert json.loads(done.stdout) == answer
        if "context/application" in command:
            assert json.loads(done.stdout)["meta"]["type"] == "application"
        if "dialect" in command:
            changed = json.loads(done.stdout)
            assert (changed["refused_array"], changed["head"]) == ("drops", False)


def test_the_table_names_every_switch_and_value() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert rows == {
        name: ", ".join(f"`{_text(value)}`" for value in values)
        for name, values in SWITCHES.items()
    }


def test_the_program_in_python_runs() -> None:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("/api/remap/1.2 ['chair.jpg'] 0\n")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
