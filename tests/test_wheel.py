"""What imgsync's users install."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROJECT = Path(__file__).parents[1]
REGISTRY = re.compile(r"index[-_]url|find[-_]links|pypi|registry", re.IGNORECASE)


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that hatchling has built; it asks no registry for anything."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = folder.iterdir()
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
