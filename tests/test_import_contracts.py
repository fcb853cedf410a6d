"""The import contracts hold for packages that are not there yet."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EMULATOR = ROOT / "packages" / "moysklad-emulator" / "src"
ROOMS = "Entrypoints use plugins, these adapters and application, which use the domain"
IO = "The domain and the application import no I/O library"
DOMAIN = "The domain is free of concurrency, clocks and wire formats too"
ADAPTERS = "Adapters do not know one another"
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("adapters/wild/__init__.py", "import imgsync.adapters.sql.database", ADAPTERS),
        ("adapters/wild/__init__.py", "import imgsync.application.work", ROOMS),
        ("adapters/wild/__init__.py", "import imgsync.plugins", ROOMS),
        ("domain/wild.py", "import asyncio", DOMAIN),
        ("domain/wild.py", "import logging", DOMAIN),
        ("domain/wild.py", "import time", DOMAIN),
        ("domain/wild.py", "import json", DOMAIN),
        ("domain/wild.py", "import pydantic", DOMAIN),
        ("application/wild.py", "import sqlalchemy", IO),
        ("wild.py", "", ROOMS),
    ],
)
def test_a_new_module_that_breaks_a_contract_is_found(
    tmp_path: Path, module: str, source: str, broken: str
) -> None:
    package = tmp_path / "imgsync"
    shutil.copytree(ROOT / "src" / "imgsync", package)
    (package / module).parent.mkdir(exist_ok=True)
    (package / module).write_text(source + "\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(EMULATOR)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert broken in re.findall(r"^(.*) BROKEN$", done.stdout, re.MULTILINE)
