"""What imgsync's users install."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

PROJECT = Path(__file__).parents[1]
REGISTRY = re.compile(r"index[-_]url|find[-_]links|pypi|registry", re.IGNORECASE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that hatchling has built; it asks no registry for anything."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_imgsync_and_no_emulator(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"imgsync"}
    assert [name for name in wheel_names if "emulator" in name] == []


def test_the_wheel_holds_every_migration_and_the_mark_of_types(wheel_names: set[str]) -> None:
    folder = PROJECT / "src" / "imgsync" / "adapters" / "sql" / "migrations"
    migrations = {str(path.relative_to(PROJECT / "src")) for path in folder.rglob("*.py")}
    assert len(migrations) > 3
    assert migrations <= wheel_names
    assert "imgsync/py.typed" in wheel_names


@pytest.mark.slow
def test_what_pip_installs_of_the_wheel_runs_without_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """The libraries are those of this environment, so that no registry is asked."""
    home = tmp_path / "home"
    venv.create(home, with_pip=False)
    python = str(home / "bin" / "python")
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, str(wheel))
    (site,) = home.glob("lib/python*/site-packages")
    # A path in a .pth file is taken as it is: the .pth files in it, which lead to the checkout of
    # an editable install, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean |= {"IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}"}

    def told(*command: str) -> str:
        return run(*command, env=clean, cwd=tmp_path).stdout

    where = told(python, "-c", "import imgsync; print(imgsync.__file__)").strip()
    assert Path(where).is_relative_to(site)
    imgsync = str(home / "bin" / "imgsync")
    assert told(imgsync, "--version").startswith("imgsync, version ")
    assert json.loads(told(imgsync, "account", "list", "--json")) == []
    assert (tmp_path / "shop.db").exists()


def run(*command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def test_the_wheel_says_what_it_is_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = message_from_bytes(archive.read(name))
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(licence) == (PROJECT / "LICENSE").read_bytes()
    assert told["License-Expression"] == "MIT"
    assert "Typing :: Typed" in told.get_all("Classifier", [])


def test_no_file_of_the_build_names_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    build = [
        PROJECT / name
        for name in listed.stdout.split("\0")
        if name.endswith((".toml", ".lock", ".cfg", ".ini")) or Path(name).name == "Makefile"
    ]
    assert PROJECT / "packages" / "moysklad-emulator" / "pyproject.toml" in build
    named = [path for path in build if REGISTRY.search(path.read_text(encoding="utf-8"))]
    assert named == []
