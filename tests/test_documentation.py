"""The documents as pages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

PROJECT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["'](?:https?:)?//""", re.I)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("pages")
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", str(folder / "html")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_the_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    found = sorted(pages.rglob("*.html"))
    assert len(found) > 50
    for page in found:
        assert LOADED.findall(page.read_text(encoding="utf-8")) == [], page


def test_the_reference_has_every_command_and_every_value(pages: Path) -> None:
    commands = (pages / "reference" / "commands.html").read_text(encoding="utf-8")
    for one in ("imgsync sync", "imgsync account add", "imgsync queue retry"):
        assert f">{one}<a" in commands.replace("\n", ""), one
    assert "--dry-run" in commands
    values = (pages / "reference" / "configuration.html").read_text(encoding="utf-8")
    assert "IMGSYNC_CONCURRENCY" in values
    assert "From 1 to 64" in values
