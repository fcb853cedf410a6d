"""The emulator is useful without the program that it was written for, and knows nothing of it."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import moysklad_emulator

pytestmark = pytest.mark.process

PROJECT = Path(__file__).parents[1]
FOLDER = Path(moysklad_emulator.__file__).parent
OWN = "moysklad_emulator"
DEPENDENCIES = {"pydantic", "starlette", "uvicorn"}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever it does; "" for a relative one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("" if node.level else node.module or "")
    return {name.partition(".")[0] for name in found}


def test_it_imports_itself_its_dependencies_and_the_standard_library() -> None:
    files = list(FOLDER.rglob("*.py"))
    assert len(files) > 20
    allowed = {OWN, *DEPENDENCIES, *sys.stdlib_module_names}
    strangers = {(path.name, name) for path in files for name in imported(path) - allowed}
    assert strangers == set()


def test_running_it_loads_nothing_of_imgsync() -> None:
    script = f"import sys, {OWN}.__main__, {OWN}.process\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert OWN in loaded
    assert "imgsync" not in loaded


def test_the_wheel_holds_the_emulator_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        required = [
            line.split()[1]
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
    assert f"{OWN}/__main__.py" in names
    assert f"{OWN}/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {OWN}
    assert {name.split(">")[0] for name in required} == DEPENDENCIES
