"""Installs plugins into folders of their own, as pip installs them for a user."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunImgsync = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def installed_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which the wheel of the content cards was built and installed by pip."""
    return _installed("imgsync-contentcard", tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def installed_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the example that brings parts of the runner."""
    return _installed("imgsync-example-runner", tmp_path_factory.mktemp("site"))


def _installed(name: str, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), str(EXAMPLES / name)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


@pytest.fixture
def run_imgsync(tmp_path: Path) -> RunImgsync:
    """Runs the command line in a process that sees the folder's packages as installed."""

    def run(
        *arguments: str, site: Path | None = None, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        base = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
        base |= {
            "IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'q.db'}",
            "IMGSYNC_TEMP_DIR": str(tmp_path / "temp"),
        }
        if site:
            paths = [str(site), *base.get("PYTHONPATH", "").split(os.pathsep)]
            base["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return subprocess.run(
            [sys.executable, "-m", "imgsync", *arguments],
            env=base | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def installed_module(site: Path, source: str) -> None:
    """A plugin called ``broken``, without pip."""
    info = site / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imgsync]\nbroken = broken_plugin\n")
    (site / "broken_plugin.py").write_text(source)
