"""The emulator is useful without imgsync, and knows nothing of it."""

import ast
import subprocess
import sys
from pathlib import Path

import imgsync.adapters.emulator

FOLDER = Path(imgsync.adapters.emulator.__file__).parent
OWN = "imgsync.adapters.emulator"


def imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever it does; relative ones begin with a dot."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_nothing_of_imgsync_is_imported_but_the_emulator_itself() -> None:
    files = list(FOLDER.rglob("*.py"))
    assert len(files) > 20
    strangers = {
        (path.name, name)
        for path in files
        for name in imported(path)
        if name.split(".")[0] == "imgsync" and name != OWN and not name.startswith(f"{OWN}.")
    }
    assert strangers == set()


def test_running_it_loads_nothing_else_of_imgsync() -> None:
    script = (
        f"import sys, {OWN}.__main__, {OWN}.process\n"
        "print(*(n for n in sys.modules if n.startswith('imgsync.')), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split()) - {"imgsync.adapters"}
    assert OWN in loaded
    assert [name for name in loaded if name != OWN and not name.startswith(f"{OWN}.")] == []
