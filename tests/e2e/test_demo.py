"""imgsync demo as its users run it."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_copies_photographs_and_verifies_them(tmp_path: Path) -> None:
    own_database = tmp_path / "mine.db"
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo", "--json"],
        env=os.environ | {"IMGSYNC_DATABASE_URL": f"sqlite:///{own_database}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, unchanged, added = json.loads(done.stdout)
    assert all(r["verified"] and not r["errors"] and not r["throttled"] for r in (first, added))
    assert first["uploaded"] == sum((1, 2, 3, 4, 5, 6, 8, 10, 2, 5, 1, 3))
    assert first["uploaded_bytes"] > first["downloaded_bytes"] > 10_000_000
    assert [w.partition(": ")[2] for w in first["warnings"]] == [
        "no_time_for_that_tiny.gif: it is neither a JPEG nor a PNG file"
    ]
    assert (unchanged["uploaded"], unchanged["kept"]) == (0, first["uploaded"])
    assert unchanged["downloaded_bytes"] < 100_000
    assert (added["uploaded"], added["kept"]) == (1, first["uploaded"])
    assert not own_database.exists()


def test_the_table_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgsync", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for word in ("Entities", "Images", "API calls", "MB up", "Warnings", "Seconds", "Verified"):
        assert word in done.stdout
